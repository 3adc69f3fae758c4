#!/usr/bin/env bash
# Shows the difference between two steps or stages, in colour where the terminal takes it:
#
#   scripts/diff.sh 02 03
#   scripts/diff.sh 03 04a
set -u
cd "$(dirname "$0")/../steps" || exit 1

known() { for file in */examples/*.rs; do basename "$file" .rs; done; echo ./*/ | tr -d './'; }
usage() {
  echo "$1" >&2
  echo "Usage: scripts/diff.sh STEP STEP, such as 02 03, or 03 04a. There are: $(known | xargs)" >&2
  exit 2
}

[ $# -eq 2 ] || usage "Between which two?"
files=()
for name in "$@"; do
  found=''
  for file in "$name"*/src/main.rs */examples/"$name"-*.rs */examples/"$name".rs; do
    if [ -f "$file" ]; then found=$file; fi
  done
  [ -n "$found" ] || usage "There is no step or stage $name."
  files+=("$found")
done
git diff --no-index "${files[@]}"
[ $? -le 1 ] # 1 says that they differ.
