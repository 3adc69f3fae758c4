#!/usr/bin/env bash
# Shows the difference between two steps, in colour where the terminal takes it:
#
#   scripts/diff.sh 02 03
set -u
cd "$(dirname "$0")/../steps" || exit 1
if [ $# -ne 2 ]; then
  echo "Usage: scripts/diff.sh STEP STEP, such as 02 03. The steps are: $(echo *)" >&2
  exit 2
fi
files=()
for step in "$@"; do
  file=$(echo "$step"*/src/main.rs)
  if [ ! -f "$file" ]; then
    echo "There is no step $step. The steps are: $(echo *)" >&2
    exit 2
  fi
  files+=("$file")
done
git diff --no-index "${files[@]}"
[ $? -le 1 ] # 1 says that they differ.
