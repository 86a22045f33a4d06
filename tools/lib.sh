# Shared by ./dev and the scripts in tools/. Sourced by bash, never run.

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
JOBS=${GRAFTFS_JOBS:-$(nproc)}

die() {
  echo "graftfs: $*" >&2
  exit 1
}

note() { echo "graftfs: $*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# packages_of GROUP... - the packages of the groups, one a line.
packages_of() {
  local line group=
  while IFS= read -r line; do
    line=${line%%#*}
    line=${line//[[:space:]]/}
    case $line in
      '') ;;
      '['*) group=${line:1:-1} ;;
      *) case " $* " in *" $group "*) echo "$line" ;; esac ;;
    esac
  done <"$ROOT/tools/packages.txt"
}

# need GROUP... - install what is missing of these groups. Says nothing and
# takes a few milliseconds when nothing is.
need() {
  local wanted missing=() name status log
  mapfile -t wanted < <(packages_of "$@" | sort -u)
  declare -A have=()
  while read -r name status; do
    if [ "$status" = installed ]; then have[$name]=1; fi
  done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
  for name in "${wanted[@]}"; do
    if [ -z "${have[$name]:-}" ]; then missing+=("$name"); fi
  done
  if [ ${#missing[@]} = 0 ]; then return 0; fi

  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    die "missing: ${missing[*]}. Installing them needs root, and there is no sudo: run './dev install' as root once."
  fi
  mkdir -p "$ROOT/build"
  log=$ROOT/build/apt.log
  note "installing ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
  # A failed update is not fatal by itself: the lists may be good enough.
  as_root "${apt[@]}" update </dev/null >"$log" 2>&1 || true
  if ! as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" \
    </dev/null >>"$log" 2>&1; then
    local why
    why=$(grep -E '^E: ' "$log" | tail -1 || true)
    die "apt could not install ${missing[*]} (${why#E: }): see build/apt.log, repair it and run the same command again."
  fi
}

# configure PRESET - run CMake when there is no build tree yet, or what it read
# has changed.
configure() {
  local dir=$ROOT/build/$1
  if [ ! -f "$dir/build.ninja" ] || [ "$ROOT/CMakePresets.json" -nt "$dir/build.ninja" ]; then
    (cd "$ROOT" && cmake --preset "$1" -Wno-dev >&2) ||
      die "CMake could not configure the preset '$1': the message above says why."
  else
    ninja --quiet -C "$dir" build.ninja >&2 ||
      die "CMake could not configure the preset '$1' anew: the message above says why."
  fi
}

# build PRESET [TARGET...] - everything is said on standard error.
build() {
  local preset=$1 target args=()
  shift
  configure "$preset"
  for target in "$@"; do args+=(--target "$target"); done
  (cd "$ROOT" && cmake --build --preset "$preset" -j"$JOBS" "${args[@]}" >&2) ||
    die "the build failed: the first error above is the one to look at."
}

# has_target PRESET TARGET
has_target() {
  configure "$1"
  ninja -C "$ROOT/build/$1" -t query "$2" >/dev/null 2>&1
}
