#!/usr/bin/env bash
# Fills mine/, a crate of your own, with a step or a stage to start from, or with nothing:
#
#   scripts/mine.sh empty
#   scripts/mine.sh 02
#   scripts/mine.sh 04a
#   scripts/mine.sh 03 --replace    what is in mine/ is kept beside it, in mine-1/
#
# Then: cd mine && cargo run
set -eu
cd "$(dirname "$0")/.."

usage() {
  echo "$1" >&2
  echo "Usage: scripts/mine.sh empty|STEP|STAGE [--replace], such as 02 or 04a." \
    "The steps are: $(cd steps && echo *)" >&2
  exit 2
}

start='' replace=''
for argument in "$@"; do
  case $argument in
    --replace) replace=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"; exit ;;
    -*) usage "There is no option $argument." ;;
    *)
      [ -z "$start" ] || usage "One at a time."
      start=$argument
      ;;
  esac
done
[ -n "$start" ] || usage "From which step?"
case $start in [0-9]) start=0$start ;; esac
file=''
for known in steps/*/examples/"$start"*.rs steps/"$start"*/src/main.rs; do
  if [ -f "$known" ]; then file=$known; fi
done
[ -n "$file" ] || [ "$start" = empty ] || usage "There is no step or stage $start."

if [ -e mine ]; then
  if [ -z "$replace" ]; then
    echo "mine/ is there already. With --replace, it is kept beside the new one." >&2
    exit 1
  fi
  number=1
  while [ -e "mine-$number" ]; do number=$((number + 1)); done
  mv mine "mine-$number"
  echo "What was in mine/ is in mine-$number/ now."
fi

mkdir -p mine/src mine/.cargo
if [ "$start" = empty ]; then
  : >mine/src/main.rs
else
  cp "$file" mine/src/main.rs
fi
cp Cargo.lock mine/Cargo.lock
{
  echo "[package]"
  echo 'name = "mine"'
  sed -n '/^\[workspace.package\]/,/^$/{/^edition/p;/^rust-version/p;}' Cargo.toml
  echo
  echo "[dependencies]"
  sed -n '/^\[workspace.dependencies\]/,/^$/{/ = /p;}' Cargo.toml
  echo
  echo "[workspace] # Of its own, apart from the steps."
} >mine/Cargo.toml
{
  echo "[alias] # cargo how-far, also from here."
  echo 'how-far = "run --manifest-path ../Cargo.toml --package replayer --bin checker --"'
} >mine/.cargo/config.toml
echo "mine/ has ${file:-an empty src/main.rs} now. Try: cd mine && cargo run"
echo "And how far is it? cargo how-far --watch, in mine/, checks it at each save."
