#!/usr/bin/env bash
# Compiles the steps to WebAssembly, for the telnet in the book's pages: `cargo book` runs it, and takes
# target/wasm32-unknown-unknown/page/try.wasm from there.
#
# It needs a standard library for WebAssembly: `rustup target add wasm32-unknown-unknown` brings it.
# Where rustup cannot, Debian's newest compiler makes one from its source, in a minute:
# apt-get install rustc-web rust-web-src. Where there is neither, it ends with exit code 3.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
build=(cargo build --quiet --package try --lib --profile page --target "$target" --target-dir target)
if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
  web=/usr # Where Debian's compiler is.
  if [ ! -e "$web/lib/rustlib/src/rust/library" ] || [ ! -x "$web/bin/rustc" ]; then
    echo "no telnet in the book's pages. It comes with: rustup target add $target" >&2
    exit 3
  fi
  host=$(rustc -vV | sed -n 's/host: //p')
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
  export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER RUSTC=$web/bin/rustc RUSTC_BOOTSTRAP=1
  build+=("-Zbuild-std=std,panic_abort" -Zbuild-std-features=)
fi
"${build[@]}"
