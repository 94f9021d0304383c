#!/usr/bin/env bash
# The kernels build for wasm32 with simd128. Builds only; nothing is run.
#
# usage: tools/check-wasm.sh
# Needs (Debian): apt-get install rustc-web cargo-web rust-web-src lld
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in /usr/bin/cargo /usr/bin/rustc wasm-ld; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: see the head of $0" >&2; exit 2; }
done

# The standard library is built from its source, which the stable compiler does only when told to.
unset CARGO_ENCODED_RUSTFLAGS TILEWISE_ISA
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS='-C target-feature=+simd128'
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/wasm"
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld

/usr/bin/cargo build --release --target wasm32-unknown-unknown -Z build-std=std,panic_abort -p tilewise-kernels
