#!/usr/bin/env bash
# Shows how your server in mine/ differs from a step, formatting set aside:
#
#   scripts/compare.sh 03
set -eu
cd "$(dirname "$0")/.."

if [ $# -ne 1 ]; then
  echo "Usage: scripts/compare.sh STEP, such as 03. The steps are: $(cd steps && echo *)" >&2
  exit 2
fi
number=$1
case $number in [0-9]) number=0$number ;; esac
step=$(cd steps && echo "$number"*)
if [ ! -d "steps/$step" ]; then
  echo "There is no step $1. The steps are: $(cd steps && echo *)" >&2
  exit 2
fi
if [ ! -f mine/src/main.rs ]; then
  echo "There is no mine/src/main.rs. Begin with scripts/mine.sh $1." >&2
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/$step" "$folder/mine"
cp "steps/$step/src/main.rs" "$folder/$step"
cp mine/src/main.rs "$folder/mine"
edition=$(sed -n 's/^edition = "\(.*\)"/\1/p' Cargo.toml)
rustfmt --quiet --edition "$edition" --config-path . "$folder"/*/main.rs 2>/dev/null ||
  echo "mine/src/main.rs is not Rust yet: it is compared as it stands." >&2
color=never
[ ! -t 1 ] || [ -n "${NO_COLOR:-}" ] || color=always
cd "$folder"
echo "A line with - is in $step, one with + in yours (mine/src/main.rs)."
if git --no-pager diff --no-index --color="$color" "$step/main.rs" mine/main.rs; then
  echo "No difference to $step."
else
  [ $? -eq 1 ] # 1 says that they differ.
fi
