#!/usr/bin/env bash
# AddressSanitizer over the kernels: their unit tests, the property tests that drive them from outside, and
# `tilewise check`, on every instruction set of this machine. Examples in the documentation are left out: they are
# compiled apart, without the sanitizer.
#
# usage: tools/asan.sh
# Needs: rustup toolchain install nightly
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/asan"
export RUSTFLAGS=-Zsanitizer=address
# The thread pool lives until the process ends; that is no leak of the kernels.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
# With a target named, build scripts and procedural macros stay without the sanitizer.
build=(--locked --target x86_64-unknown-linux-gnu)

echo "=== The unit tests of the kernels"
cargo +nightly test "${build[@]}" -p tilewise-kernels --lib

echo "=== The property tests"
tests=()
for file in tests/*.rs; do
    stem=$(basename "$file" .rs)
    case $stem in
        layering | packaging) ;; # read sources and start cargo: nothing of theirs runs in a kernel
        *) tests+=(--test "$stem") ;;
    esac
done
cargo +nightly test "${build[@]}" -p tilewise-bench "${tests[@]}"

echo "=== tilewise check"
cargo +nightly run "${build[@]}" -p tilewise-cli -- check
