#!/usr/bin/env bash
# AddressSanitizer over the kernels: their unit tests, and the properties, the quick suite and the golden cases that
# drive them from outside, on every instruction set of this machine.
#
# usage: tools/asan.sh
# Needs: rustup toolchain install nightly
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/asan"
export RUSTFLAGS=-Zsanitizer=address
# The thread pool lives until the process ends; that is no leak of the kernels. Some tests ask for more memory than there
# is, to see it refused.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:allocator_may_return_null=1}"
# With a target named, build scripts and procedural macros stay without the sanitizer.
build=(--locked --target x86_64-unknown-linux-gnu)

echo "=== The unit tests of the kernels"
cargo +nightly test "${build[@]}" -p tilewise-kernels --lib

echo "=== What drives them from outside"
cargo +nightly test "${build[@]}" -p tilewise-bench --test properties --test check --test golden
