#!/usr/bin/env bash
# Fills mine/, a crate of your own, with a step to start from:
#
#   scripts/mine.sh 02
#   scripts/mine.sh 03 --replace    what is in mine/ is kept beside it, in mine-1/
#
# Then: cd mine && cargo run
set -eu
cd "$(dirname "$0")/.."

usage() {
  echo "$1" >&2
  echo "Usage: scripts/mine.sh STEP [--replace], such as 02. The steps are: $(cd steps && echo *)" >&2
  exit 2
}

step='' replace=''
for argument in "$@"; do
  case $argument in
    --replace) replace=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"; exit ;;
    -*) usage "There is no option $argument." ;;
    *)
      [ -z "$step" ] || usage "One step at a time."
      case $argument in [0-9]) argument=0$argument ;; esac
      step=$(cd steps && echo "$argument"*)
      [ -d "steps/$step" ] || usage "There is no step $argument."
      ;;
  esac
done
[ -n "$step" ] || usage "Which step?"

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
cp "steps/$step/src/main.rs" mine/src/main.rs
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
echo "mine/ has $step now. Try: cd mine && cargo run"
echo "And how far is it? cargo how-far --watch, in mine/, checks it at each save."
