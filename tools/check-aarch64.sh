#!/usr/bin/env bash
# The kernels on aarch64 (NEON), under emulation: their tests, their check against the reference, and whether the
# compiled code has fused multiply-adds. Says what is correct, never what is fast.
#
# usage: tools/check-aarch64.sh
# Needs (Debian): dpkg --add-architecture arm64 && apt-get update && apt-get install \
#     rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu qemu-user
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in /usr/bin/cargo /usr/bin/rustc aarch64-linux-gnu-gcc aarch64-linux-gnu-objdump qemu-aarch64; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: see the head of $0" >&2; exit 2; }
done

target=aarch64-unknown-linux-gnu
# Debian's toolchain, which has this target's standard library, and a folder that the usual builds do not share.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS TILEWISE_ISA
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/aarch64"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# No -L: the C library is that of the arm64 packages. The loader of the cross compiler's own C library would find
# it beside them, and where their versions differ the first thread that starts never returns.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64

echo "=== The unit tests of the kernels"
# Optimised: emulation is slow enough.
/usr/bin/cargo test --release --locked --target "$target" -p tilewise-kernels --lib

echo "=== tilewise check, against the reference"
/usr/bin/cargo build --release --locked --target "$target" -p tilewise-cli
binary="$CARGO_TARGET_DIR/$target/release/tilewise"
qemu-aarch64 "$binary" check

echo "=== Fused multiply-adds on vectors in the binary"
fused=$(aarch64-linux-gnu-objdump -d "$binary" | grep -cE 'fmla\s+v[0-9]+\.4s' || true)
echo "$fused fmla on four lanes"
((fused > 0)) || { echo "no fmla: the kernels were not compiled to NEON" >&2; exit 1; }
