#!/usr/bin/env python3
"""Times whole networks in PyTorch, inference and training step, with the peak memory of each; beside ours if asked.

    pip install torch
    tools/time_models_pytorch.py                                            # PyTorch alone
    tools/time_models_pytorch.py --tilewise target/release/tilewise         # both, taking turns, with ratios
    tools/time_models_pytorch.py --networks lenet,unet16 --modes train --threads 1 --rounds 5 --json out.json

The networks are those of `pytorch_networks.py`, at the sizes of NETWORKS below. A training step is the forward pass, the
loss (cross entropy, mean squared error, binary cross entropy on logits), the gradients and Adam's update, on the same
random batch each time; inference is the forward pass in eval mode under `inference_mode`.

Each measurement is a process of its own, so that its peak (resident set, `ru_maxrss`) belongs to one network, one mode
and one number of threads; what the import of PyTorch takes by itself is told, too. With --tilewise the two
sides take turns, `--rounds` times; of the medians of the rounds the median counts, of the peaks the highest. Ratios are
PyTorch's over ours: above 1 we are ahead. Ours is

    tilewise bench model NET --base B --size S --batch N --mode infer|train --threads N --json FILE
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Name -> the network, and its flags for both sides. Images are squares of `size`, with as many channels as said.
NETWORKS = {
    "lenet": {"net": "lenet", "channels": 1, "size": 28, "batch": 64},
    "autoencoder": {"net": "autoencoder", "channels": 1, "size": 28, "batch": 64},
    "unet16": {"net": "unet", "channels": 3, "size": 256, "batch": 4, "base": 16},
    "unet64": {"net": "unet", "channels": 3, "size": 256, "batch": 1, "base": 64},
}
MODES = ["infer", "train"]


# PyTorch's side


def call(network: dict, mode: str):
    """A function without arguments: one call of the network in this mode."""
    import torch
    import torch.nn.functional as F

    from pytorch_networks import AutoEncoder, Cnn, UNet

    torch.manual_seed(1)
    channels, size, batch = network["channels"], network["size"], network["batch"]
    x = torch.rand(batch, channels, size, size)
    if network["net"] == "lenet":
        net, loss, target = Cnn(channels, size, 10), F.cross_entropy, torch.randint(0, 10, (batch,))
    elif network["net"] == "autoencoder":
        net, loss, target = AutoEncoder(channels, size), F.mse_loss, x
    else:
        net, loss = UNet(channels, 1, network["base"]), F.binary_cross_entropy_with_logits
        target = (torch.rand(batch, 1, size, size) < 0.5).float()

    if mode == "infer":
        net.eval()

        def infer():
            with torch.inference_mode():
                net(x)

        return infer

    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        loss(net(x), target).backward()
        optimizer.step()

    return step


def measure(network: dict | None, mode: str, threads: int, seconds: float) -> dict:
    """Within this process: the median of calls for so long, at least three, after two for warmth; then the peak."""
    import torch

    torch.set_num_threads(threads)
    result = {"version": torch.__version__, "isa": torch.backends.cpu.get_cpu_capability()}
    if network:
        once = call(network, mode)
        once(), once()
        times, start = [], time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < seconds:
            before = time.perf_counter()
            once()
            times.append(time.perf_counter() - before)
        result["ms"] = statistics.median(times) * 1e3
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return result | {"peak": peak}


def theirs(name: str, mode: str, threads: int, seconds: float) -> dict:
    """`measure` in a fresh process."""
    child = [sys.executable, __file__, "--measure", name, mode, str(threads), str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE, env=environment).stdout)


# Our side


def ours(tilewise: Path, network: dict, mode: str, threads: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        command = [tilewise, "bench", "model", network["net"], "--mode", mode, "--threads", str(threads)]
        for flag in ["base", "size", "batch"]:
            if flag in network:
                command += [f"--{flag}", str(network[flag])]
        subprocess.run(command + ["--json", out], check=True, stdout=subprocess.DEVNULL)
        return read_ours(json.loads(out.read_text()))


def read_ours(told) -> dict[str, float]:
    """The keys of `tilewise bench model --json`: the one place that knows them. A list of one row is that row."""
    row = told[0] if isinstance(told, list) else told
    return {"ms": row["median_ms"], "peak": row["peak_memory_bytes"]}


# Both


def compare(args, name: str, mode: str, threads: int) -> dict:
    """One row: the sides taking turns."""
    sides = {"pytorch": lambda: theirs(name, mode, threads, args.time)}
    if args.tilewise:
        sides["tilewise"] = lambda: ours(args.tilewise, NETWORKS[name], mode, threads)
    rounds = [{side: run() for side, run in sides.items()} for _ in range(args.rounds)]
    row = {"network": name, "mode": mode, "threads": threads}
    for side in sides:
        row[f"{side}_ms"] = statistics.median(one[side]["ms"] for one in rounds)
        row[f"{side}_peak"] = max(one[side]["peak"] for one in rounds)
    return row


def table(rows: list[dict], both: bool) -> str:
    """Markdown. Memory in MiB."""
    mib = lambda peak: f"{peak / 2**20:.0f}"
    header = ["network", "mode", "threads"]
    header += ["ours, ms", "PyTorch, ms", "ratio", "ours, MiB", "PyTorch, MiB", "ratio"] if both else ["ms", "peak, MiB"]
    lines = ["| " + " | ".join(header) + " |", "|---|---" + "|--:" * (len(header) - 2) + "|"]
    for row in rows:
        cells = [row["network"], row["mode"], str(row["threads"])]
        if both:
            cells += [f"{row['tilewise_ms']:.2f}", f"{row['pytorch_ms']:.2f}"]
            cells += [f"{row['pytorch_ms'] / row['tilewise_ms']:.2f}"]
            cells += [mib(row["tilewise_peak"]), mib(row["pytorch_peak"])]
            cells += [f"{row['pytorch_peak'] / row['tilewise_peak']:.2f}"]
        else:
            cells += [f"{row['pytorch_ms']:.2f}", mib(row["pytorch_peak"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def warn_if_busy() -> None:
    """Before anything is measured: who else wants to run?"""
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        print(f"THE MACHINE IS BUSY: a load of {load:.1f} on {os.cpu_count()} cores. Do not quote these times.")


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:  # the fresh process of `theirs`
        name, mode, threads, seconds = sys.argv[2:]
        print(json.dumps(measure(NETWORKS.get(name), mode, int(threads), float(seconds))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = lambda text: text.split(",")
    parser.add_argument("--networks", type=several, default=list(NETWORKS), metavar="A,B", help=", ".join(NETWORKS))
    parser.add_argument("--modes", type=several, default=MODES, metavar="A,B", help=", ".join(MODES))
    parser.add_argument("--threads", type=lambda text: list(map(int, text.split(","))), default=[1, 2], metavar="N,M")
    parser.add_argument("--time", type=float, default=5.0, help="seconds of each measurement of PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tilewise", type=Path, metavar="PATH", help="our binary, to be timed in turn")
    parser.add_argument("--json", type=Path, help="write the rows as JSON, too")
    args = parser.parse_args()
    for kind, given, known in [("network", args.networks, NETWORKS), ("mode", args.modes, MODES)]:
        unknown = [one for one in given if one not in known]
        if unknown:
            parser.error(f"unknown {kind} {unknown[0]!r}: expected one of {', '.join(known)}")
    if args.tilewise and not args.tilewise.exists():
        parser.error(f"{args.tilewise} is not there: cargo build --release makes it")
    # Asked in a process of its own: Linux lets a child's peak begin at its parent's size, so this one stays small.
    idle = theirs("none", "infer", 1, 0)
    print(f"PyTorch {idle['version']} ({idle['isa']}), of which the import alone takes {idle['peak'] / 2**20:.0f} MiB")
    warn_if_busy()
    rows = []
    for threads in args.threads:
        for name in args.networks:
            for mode in args.modes:
                print(f"\r{threads} threads: {name} {mode}      ", end="", file=sys.stderr)
                rows.append(compare(args, name, mode, threads))
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    print("\n" + table(rows, both=args.tilewise is not None))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
