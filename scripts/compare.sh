#!/usr/bin/env bash
# Shows how your server in mine/ differs from a step or a stage, formatting set aside:
#
#   scripts/compare.sh 03
#   scripts/compare.sh 04a
set -eu
cd "$(dirname "$0")/.."

usage() {
  echo "$1" >&2
  echo "Usage: scripts/compare.sh STEP|STAGE, such as 03 or 04a. The steps are: $(cd steps && echo *)" >&2
  exit 2
}

[ $# -eq 1 ] || usage "Compare it to which step?"
number=$1
case $number in [0-9]) number=0$number ;; esac
step='' file=''
for known in steps/*/examples/"$number"*.rs steps/"$number"*/src/main.rs; do
  if [ -f "$known" ]; then
    file=$known step=${known%/src/main.rs}
    step=$(basename "$step" .rs)
  fi
done
[ -n "$file" ] || usage "There is no step or stage $1."
if [ ! -f mine/src/main.rs ]; then
  echo "There is no mine/src/main.rs. Begin with scripts/mine.sh $1." >&2
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/$step" "$folder/mine"
cp "$file" "$folder/$step/main.rs"
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
