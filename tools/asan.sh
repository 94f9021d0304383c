#!/usr/bin/env bash
# AddressSanitizer over the tests of the kernels: their own, and the property tests that drive them from outside.
# Examples in the documentation are left out: they are compiled apart, without the sanitizer.
#
# usage: tools/asan.sh [FILTER]       FILTER: only tests whose name contains it
# Needs: rustup toolchain install nightly
set -euo pipefail
cd "$(dirname "$0")/.."

# With --target, build scripts and procedural macros stay without the sanitizer.
target=x86_64-unknown-linux-gnu
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/asan"
export RUSTFLAGS=-Zsanitizer=address
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"

cargo +nightly test --locked --target "$target" -p tilewise-kernels --lib -- "$@"
