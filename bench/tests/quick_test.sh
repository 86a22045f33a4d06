#!/bin/bash
# Runs every benchmark at toy size and checks the shape of what --json prints.
# No figure is judged. Usage: quick_test.sh BENCH SUBJECT NAME... (77: no FUSE).
set -euo pipefail
bench=$1
subject=$2
shift 2
[ -w /dev/fuse ] || { echo "/dev/fuse cannot be opened: skipped"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bench" --quick --json --no-bars --subject "$subject" --work "$work/work" "$@" > "$work/out"

keys='["bar","cache","command","durability","figures","holds","name","ratio","reference"]'
python3 - "$work/out" "$keys" "$#" <<'PYTHON'
import json
import sys

lines = open(sys.argv[1]).read().splitlines()
assert lines, "nothing was printed"
for line in lines:
    report = json.loads(line)
    assert sorted(report) == json.loads(sys.argv[2]), f"keys {sorted(report)}"
    assert report["figures"]["checks"], f"{report['name']} checks nothing"
    assert isinstance(report["ratio"], (int, float)), report["ratio"]
    print(report["name"], "ok")
named = int(sys.argv[3])
assert named in (0, len(lines)), f"{named} benchmarks were named and {len(lines)} reported"
PYTHON
# mdtest by its own flags, through the command line.
if [ "$subject" = graftfs ]; then
  "$(dirname "$bench")/../src/cli/graftfs" bench mdtest --tasks 2 -d "$work/mdtest" -n 3 -u -F \
    -N 1 -w 10 -e 10 --json > "$work/mdtest.json"
  grep -q '"File read"' "$work/mdtest.json"
fi
[ -z "$(ls -A "$work/work")" ] || { echo "FAILED: left behind: $(ls "$work/work")" >&2; exit 1; }
