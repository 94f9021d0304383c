#!/usr/bin/env python3
"""Times convolution and its gradients against PyTorch: the layers of the core suite, on one CPU, interleaved in one run.

    pip install torch
    cargo build --release
    tools/compare_pytorch.py                                  # 18 layers, 3 passes, 1 and 2 threads: about half an hour
    tools/compare_pytorch.py --layers vgg3_2,unet_mid --passes weights --threads 1 --time 2
    tools/compare_pytorch.py --isa avx2                       # both sides held to AVX2

Each row is the median call of each side. The two take turns, `--rounds` times, so that a machine that slows down slows
both; of the rounds the median counts, too. Ours is `tilewise bench conv2d --pass ...`, which checks what it computes:
forward is convolution + bias + ReLU with its weights packed beforehand, as those of the gradient to the input are.
PyTorch's are `conv2d` + `relu_` and `aten.convolution_backward` asked for one gradient, on contiguous (NCHW) tensors.
The ratio is PyTorch's time over ours: above 1 we are ahead. Other work on the machine is said, but not made up for: where
more threads want to run than there are cores, a median is the scheduler's, and those of two threads most of all.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PASSES = ["forward", "input", "weights"]


def layers() -> dict[str, dict[str, int]]:
    """The core suite, from where it is written."""
    source = (ROOT / "crates/bench/src/suites/networks.rs").read_text()
    rows = {name: numbers for name, numbers in re.findall(r'\("(\w+)", \[([\d, ]+)\]\)', source)}
    core = re.search(r"CORE_LAYERS: \[&str; \d+\] = \[(.*?)\];", source, re.DOTALL)
    found = {}
    for name in re.findall(r'"(\w+)"', core.group(1)):
        n, c, hw, k, r, s, p = map(int, rows[name].split(","))
        found[name] = {"n": n, "c": c, "h": hw, "w": hw, "k": k, "r": r, "s": s, "p": p}
    return found


def ours(tilewise: Path, name: str, layer: dict, what: str, threads: int, seconds: float, isa: str | None) -> float:
    """Milliseconds of a call, by the binary's own clock."""
    with tempfile.TemporaryDirectory() as folder:
        shapes, out = Path(folder, "shapes.json"), Path(folder, "out.json")
        shapes.write_text(json.dumps([{"name": name, **layer}]))
        command = [tilewise, "bench", "conv2d", "--shapes", shapes, "--pass", what, "--threads", str(threads)]
        command += ["--time", str(seconds), "--json", out] + (["--isa", isa] if isa else [])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())[0]["ms"]


class Theirs:
    """PyTorch's calls on one layer."""

    def __init__(self, layer: dict):
        import torch

        self.torch = torch
        n, c, h, w, k, r, self.stride, self.padding = (layer[key] for key in "nchwkrsp")
        torch.manual_seed(1)
        self.x, self.w, self.b = torch.rand(n, c, h, w) - 0.5, torch.rand(k, c, r, r) - 0.5, torch.rand(k) - 0.5
        with torch.no_grad():
            self.gy = torch.rand_like(self.forward()) - 0.5

    def forward(self):
        functional = self.torch.nn.functional
        return functional.conv2d(self.x, self.w, self.b, self.stride, self.padding).relu_()

    def backward(self, mask: list[bool]):
        stride, padding = [self.stride] * 2, [self.padding] * 2
        return self.torch.ops.aten.convolution_backward(
            self.gy, self.x, self.w, None, stride, padding, [1, 1], False, [0, 0], 1, mask
        )

    def ms(self, what: str, threads: int, seconds: float) -> float:
        """The median call within this time, after one for warmth; at least three."""
        call = {
            "forward": self.forward,
            "input": lambda: self.backward([True, False, False]),
            "weights": lambda: self.backward([False, True, False]),
        }[what]
        self.torch.set_num_threads(threads)
        with self.torch.no_grad():
            call()
            times, start = [], time.perf_counter()
            while len(times) < 3 or time.perf_counter() - start < seconds:
                before = time.perf_counter()
                call()
                times.append(time.perf_counter() - before)
        return statistics.median(times) * 1e3


def table(rows: list[dict], passes: list[str]) -> str:
    """Markdown: of each pass our time, PyTorch's, and the ratio."""
    header = ["layer"] + [f"{what}: ours, ms | PyTorch, ms | ratio" for what in passes]
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (3 * len(passes)) + "|"]
    for row in rows:
        cells = [row["layer"]]
        for what in passes:
            own, other = row[what]
            cells += [f"{own:.3f}", f"{other:.3f}", f"{other / own:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(rows: list[dict], passes: list[str]) -> str:
    """How often we are ahead, and by how much in the geometric mean."""
    lines = []
    for what in passes:
        ratios = [row[what][1] / row[what][0] for row in rows]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        ahead = sum(ratio > 1 for ratio in ratios)
        behind = [row["layer"] for row, ratio in zip(rows, ratios) if ratio <= 1]
        lines.append(
            f"{what}: ahead on {ahead} of {len(rows)}, {mean:.2f} times as fast in the geometric mean"
            + (f"; not ahead on {', '.join(behind)}" if behind else "")
        )
    return "\n".join(lines)


def warn_if_busy() -> None:
    """Before anything is measured: who else wants to run?"""
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        print(f"THE MACHINE IS BUSY: a load of {load:.1f} on {os.cpu_count()} cores. Do not quote these ratios.")


def main() -> None:
    known = layers()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = lambda text: text.split(",")
    parser.add_argument("--layers", type=several, default=list(known), metavar="A,B", help="only these layers")
    parser.add_argument("--passes", type=several, default=PASSES, metavar="A,B", help="of " + ", ".join(PASSES))
    parser.add_argument("--threads", type=several, default=["1", "2"], metavar="N,M")
    parser.add_argument("--time", type=float, default=0.5, help="seconds for each side of each row and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--isa", choices=["avx2", "avx512"], help="hold both sides to it")
    parser.add_argument("--tilewise", type=Path, default=ROOT / "target/release/tilewise", help="the binary")
    parser.add_argument("--json", type=Path, help="write the times as JSON, too")
    args = parser.parse_args()
    for kind, given, allowed in [("layer", args.layers, known), ("pass", args.passes, PASSES)]:
        unknown = [one for one in given if one not in allowed]
        if unknown:
            parser.error(f"unknown {kind} {unknown[0]!r}: expected one of {', '.join(allowed)}")
    if not args.tilewise.exists():
        parser.error(f"{args.tilewise} is not there: cargo build --release makes it")
    if args.isa:
        # Read when the library is loaded.
        os.environ["ATEN_CPU_CAPABILITY"] = args.isa
        os.environ["ONEDNN_MAX_CPU_ISA"] = {"avx2": "AVX2", "avx512": "AVX512_CORE"}[args.isa]
    import torch

    print(f"tilewise against PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})")
    warn_if_busy()
    results = []
    for threads in map(int, args.threads):
        rows = []
        for done, name in enumerate(args.layers):
            print(f"\r{threads} threads: {done}/{len(args.layers)} {name:12}", end="", file=sys.stderr)
            theirs, row = Theirs(known[name]), {"layer": name, "threads": threads}
            for what in args.passes:
                pairs = [
                    (
                        ours(args.tilewise, name, known[name], what, threads, args.time, args.isa),
                        theirs.ms(what, threads, args.time),
                    )
                    for _ in range(args.rounds)
                ]
                row[what] = [statistics.median(side) for side in zip(*pairs)]
            rows.append(row)
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
        plural = "" if threads == 1 else "s"
        print(f"\n{threads} thread{plural}\n\n{table(rows, args.passes)}\n\n{summary(rows, args.passes)}", flush=True)
        results += rows
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
