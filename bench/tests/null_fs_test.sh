#!/bin/bash
# Puts a real tree on the null file system and checks that it is the same tree:
# contents, modes, times, links; then git, cp -a, rename, hard links, seekable
# listings and rm -rf. Usage: null_fs_test.sh NULL_FS [THREADS] (77: no FUSE).
set -euo pipefail
null_fs=$1
threads=${2:-1}
[ -w /dev/fuse ] || { echo "/dev/fuse cannot be opened: skipped"; exit 77; }

work=$(mktemp -d)
mnt=$work/mnt
mkdir "$mnt" "$work/source"
finish() {
  fusermount3 -u -z "$mnt" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }
# Types, modes, owners, times (whole seconds, as tar keeps them), sizes of
# files, link targets and checksums of everything below a directory.
summary() {
  (cd "$1" && find . ! -type d -printf '%p %y %m %U %G %Ts %s %l %n\n' | sed 's/\.[0-9]* / /' | sort
   find . -type d -printf '%p %y %m %U %G %Ts\n' | sed 's/\.[0-9]*$//' | sort
   find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

"$null_fs" --threads "$threads" "$mnt" &
for _ in $(seq 100); do mountpoint -q "$mnt" && break; sleep 0.05; done
mountpoint -q "$mnt" || fail "not mounted within 5 s"

cp -aL /usr/include/linux "$work/source/linux"
cd "$work/source"
ln -s linux/fs.h symlink
ln linux/fs.h hardlink
mkfifo fifo
head -c 3000000 /dev/urandom > big
truncate -s 1000000 sparse
printf 'end' >> sparse
mkdir -m 2775 empty
chmod 4711 big
cd "$work"
tar -C source -cf tree.tar .

mkdir "$mnt/tree"
tar -C "$mnt/tree" -xpf tree.tar
diff <(summary source) <(summary "$mnt/tree") > /dev/null || fail "untar gave another tree"
cp -a "$mnt/tree" "$mnt/copy"
diff <(summary source) <(summary "$mnt/copy") > /dev/null || fail "cp -a gave another tree"

# Overwriting, truncating, appending.
printf 'abcdef' > "$mnt/f"; truncate -s 3 "$mnt/f"; truncate -s 5 "$mnt/f"; printf 'x' >> "$mnt/f"
[ "$(od -An -c "$mnt/f" | tr -s ' ')" = ' a b c \0 \0 x' ] || fail "truncate and append"

# Renames: replace, refuse, exchange of parents, hard links of one inode.
mkdir "$mnt/d1" "$mnt/d2"; touch "$mnt/d1/a"
! mv -T "$mnt/d2" "$mnt/d1/a" 2>/dev/null || fail "a directory replaced a file"
! rmdir "$mnt/d1" 2>/dev/null || fail "rmdir of a directory that is not empty"
mv "$mnt/d2" "$mnt/d1/"
[ "$(stat -c %h "$mnt/d1")" = 3 ] || fail "link count of a directory"
ln "$mnt/d1/a" "$mnt/d1/b"; [ "$(stat -c %h "$mnt/d1/b")" = 2 ] || fail "hard link"
rm "$mnt/d1/a"; [ "$(stat -c %h "$mnt/d1/b")" = 1 ] || fail "unlink of one of two names"

# An unlinked file stays readable while it is open.
echo kept > "$mnt/open"; exec 5< "$mnt/open"; rm "$mnt/open"
[ "$(cat <&5)" = kept ] || fail "unlinked while open"
exec 5<&-

# A listing longer than one buffer names everything once.
mkdir "$mnt/many"; (cd "$mnt/many" && seq 20000 | xargs touch)
[ "$(ls -f "$mnt/many" | sort -u | wc -l)" = 20002 ] || fail "listing of 20,000 entries"
[ "$(ls -f "$mnt/many" | wc -l)" = 20002 ] || fail "an entry listed twice"
find "$mnt/many" -name '*7*' -delete
[ "$(ls "$mnt/many" | grep -c 7)" = 0 ] || fail "deleting while listing"

git -C "$mnt/tree" init -q
git -C "$mnt/tree" add -A
git -C "$mnt/tree" -c user.name=t -c user.email=t@t commit -q -m all
rm -rf "$mnt/tree/linux"
git -C "$mnt/tree" checkout -q -- .
git -C "$mnt/tree" fsck --full > /dev/null 2>&1 || fail "git fsck"
[ -z "$(git -C "$mnt/tree" status --porcelain)" ] || fail "git status is not clean"

df "$mnt" > /dev/null || fail "statfs"
rm -rf "${mnt:?}"/*
[ -z "$(ls -A "$mnt")" ] || fail "something is left after rm -rf"
fusermount3 -u "$mnt"
wait
echo ok
