# sources [PATTERN...] - the C++ sources of the project, relative to its root,
# one a line. Sourced by bash. Works without git (tests run it too).
sources() {
  (cd "$ROOT" && find src tests bench -type f \( -name '*.cc' -o -name '*.h' \) | sort)
}
