#!/usr/bin/env python3
"""Times tilewise beside other libraries, all in one run: convolutions, and whole networks.

    pip install numpy torch onnx onnxruntime openvino ncnn
    cargo build --release
    cargo build --release --manifest-path benches/peers/Cargo.toml
    tools/peers.py conv2d                                            # the core suite on 1 and 2 threads
    tools/peers.py conv2d --layers vgg3_2,res2_1x1 --threads 1
    tools/peers.py conv2d --pass input                               # a gradient: PyTorch is the only peer
    tools/peers.py networks                                          # inference and training, ms and peak memory

docs/peers.md says what is fair about it. The peers are libraries of PyPI, and crates that are features of
benches/peers, all built in unless left out. A library that is not there, or cannot do what is asked, has no number.
The ratio is the time of the fastest peer over ours: above 1 we are ahead.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np

import peer_problems
from peer_problems import NETWORKS, ROOT

OURS = "tilewise"
PEERS = ["pytorch", "onnxruntime", "openvino", "ncnn"]

# Those that are served by our worker, as we are -> the crate whose version is told.
CRATES = {"rten": "rten", "tract": "tract-onnx", "candle": "candle-core", "burn": "burn"}
OTHERS = PEERS + list(CRATES)

# What a worker answers whose library is not there: no other problem will fare better.
ABSENT = re.compile("is not built in$|^ModuleNotFoundError")

# The relative error, in the Euclidean norm, above which a result is refused: f32 stays below 3e-5 in every algorithm,
# 16 bits begin at 2e-4.
TOLERANCE = 1e-4


class Worker:
    """A process with one library, on so many threads. It rests but for its turns."""

    def __init__(self, library: str, threads: int):
        self.library, self.threads, self.failed = library, threads, None
        command = [sys.executable, ROOT / "tools/peer_workers.py"] if library in PEERS else [our_worker()]
        count = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "RAYON")}
        # What is freed may serve again: else glibc returns large results to the system, and every call pays anew.
        keep = {"MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_MAX_": "0"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(
            command + [library, str(threads)], env=os.environ | count | keep, stderr=subprocess.DEVNULL, **pipes
        )

    def ask(self, request: dict) -> dict:
        """What it answers. An error is kept, and ends this worker's part in the problem."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or '{"error": "the process ended"}')
        except OSError as error:
            answer = {"error": str(error)}
        self.failed = answer.get("error")
        return answer

    def load(self, problem: dict, expected: np.ndarray | None) -> None:
        """Hands it a problem, and looks at what it computes."""
        values = self.ask({"load": problem}).get("values")
        if self.failed is None and expected is not None:
            error = np.linalg.norm(np.array(values) - expected) / np.linalg.norm(expected)
            if not error < TOLERANCE:
                self.failed = f"its result is wrong, by {error:.1e}"
        self.rest()

    def turn(self, seconds: float) -> list[float]:
        """Milliseconds of its calls, after one for warmth."""
        wall, used = time.perf_counter(), self.used()
        ms = self.ask({"seconds": seconds}).get("ms", [])
        wall, used = time.perf_counter() - wall, self.used() - used
        if used > 1.1 * self.threads * wall + 0.02:
            self.failed = f"more threads than {self.threads}: {used:.3f} s of processor time in {wall:.3f} s"
        self.rest()
        return ms

    def used(self) -> float:
        """Seconds of processor time, of all its threads: the clock of another process, as Linux numbers it."""
        return time.clock_gettime(~self.process.pid << 3 | 2) if self.process.poll() is None else 0.0

    def rest(self) -> None:
        """Waits until it does: threads of a pool may spin for a while after their work."""
        for _ in range(200):
            before = self.used()
            time.sleep(0.005)
            if self.used() - before < 0.0002:
                return
        self.failed = self.failed or "its threads do not rest"

    def peak(self) -> int:
        """The most memory it has had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


def our_worker() -> Path:
    return ROOT / "benches/peers/target/release/tilewise-peers"


def take_turns(place: str, workers: list[Worker], args, before_each=lambda: None) -> dict[str, float]:
    """The median call of each that can do it, over all its turns. Of the others it is said why not."""
    calls = {worker: [] for worker in workers}
    for _ in range(args.rounds):
        before_each()
        for worker in workers:
            if worker.failed is None:
                calls[worker] += worker.turn(args.slice)
    for worker in workers:
        if worker.failed is not None:
            print(f"{place}: {worker.library}: {worker.failed}", file=sys.stderr)
            if worker.library == OURS:
                sys.exit(1)
    return {worker.library: statistics.median(calls[worker]) for worker in workers if worker.failed is None}


# Convolutions


def time_layers(args, threads: int) -> list[dict]:
    known, _ = peer_problems.layers()
    workers = [Worker(library, threads) for library in [OURS] + args.peers]
    rows = []
    for name in args.layers:
        with tempfile.TemporaryDirectory() as folder:
            problem, expected = peer_problems.convolution(Path(folder), known[name], args.what)
            for worker in workers:
                worker.load(problem, expected)
            row = {"layer": name, "shape": peer_problems.shape_text(known[name]), "pass": args.what, "threads": threads}
            rows.append(row | {"ms": take_turns(name, workers, args)})
        for worker in [worker for worker in workers if ABSENT.search(worker.failed or "")]:
            # It has been said once.
            args.peers = [peer for peer in args.peers if peer != worker.library]
            workers.remove(worker)
            worker.end()
    for worker in workers:
        worker.end()
    return rows


# Networks


def time_network(args, name: str, mode: str, threads: int) -> dict:
    """Everyone in a process of this network's own, so that the peaks are its own, too."""
    peers = [peer for peer in args.peers if peer in ("pytorch", "onnxruntime", "openvino")]
    if mode == "train":
        peers = [peer for peer in peers if peer == "pytorch"]
    with tempfile.TemporaryDirectory() as folder:
        problem = peer_problems.network(Path(folder), name, mode)
        expected = None
        if mode == "infer":
            exporter = Worker("pytorch", threads)
            expected = np.array(exporter.ask({"export": problem}).get("values", []))
            if exporter.failed:
                raise RuntimeError(f"{name} cannot be written as ONNX: {exporter.failed}")
            exporter.end()
        workers = [Worker(library, threads) for library in peers]
        for worker in workers:
            worker.load(problem, expected)
        ours = []
        ms = take_turns(name, workers, args, lambda: ours.append(bench_model(args, problem, mode, threads)))
        peak = {worker.library: worker.peak() for worker in workers if worker.failed is None}
    for worker in workers:
        worker.end()
    ms = {OURS: statistics.median(one["median_ms"] for one in ours)} | ms
    peak = {OURS: max(one["peak_memory_bytes"] for one in ours)} | peak
    return {"network": name, "mode": mode, "threads": threads, "ms": ms, "peak": peak}


def bench_model(args, problem: dict, mode: str, threads: int) -> dict:
    """Our turn: a process of `tilewise bench model`."""
    batch, _, size, _ = problem["input"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        command = [args.tilewise, "bench", "model", problem["network"], "--mode", mode, "--size", str(size)]
        command += ["--batch", str(batch), "--threads", str(threads), "--time", str(args.slice), "--json", out]
        command += ["--base", str(problem["base"])] if "base" in problem else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        told = json.loads(out.read_text())
        return told[0] if isinstance(told, list) else told


# Tables


def best(row: dict, key: str = "ms") -> tuple[str, float]:
    """The peer that is ahead of the others, and its number over ours. Not a number where nobody has one."""
    winner = min((library for library in row[key] if library != OURS), key=row[key].get, default="")
    return winner, row[key].get(winner, math.nan) / row[key].get(OURS, math.nan)


def markdown(header: list[str], words: int, rows: list[list[str]]) -> str:
    """The first columns are words, the others numbers."""
    lines = ["| " + " | ".join(header) + " |", "|---" * words + "|--:" * (len(header) - words) + "|"]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def mean(ratios: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, ratios)))


def layer_table(rows: list[dict]) -> str:
    libraries = [library for library in [OURS] + OTHERS if any(library in row["ms"] for row in rows)]
    lines = []
    for row in rows:
        cells = [f"{row['ms'][library]:.3f}" if library in row["ms"] else "" for library in libraries]
        winner, ratio = best(row)
        lines.append([row["layer"], row["shape"], *cells, f"{ratio:.2f}", winner])
    table = markdown(["layer", "shape", *libraries, "ratio", "to"], 2, lines)
    ratios = [best(row)[1] for row in rows]
    behind = [row["layer"] for row, ratio in zip(rows, ratios) if ratio < 1]
    return (
        f"{table}\n\nAhead of every peer on {len(rows) - len(behind)} of {len(rows)}; in the geometric mean "
        f"{mean(ratios):.2f} times as fast as the best peer of each layer."
        + (f" Behind on {', '.join(behind)}." if behind else "")
    )


def network_table(rows: list[dict]) -> str:
    libraries = [library for library in [OURS] + OTHERS if any(library in row["ms"] for row in rows)]
    lines = []
    for row in rows:
        cells = [row["network"], row["mode"]]
        for key, show in [("ms", lambda ms: f"{ms:.2f}"), ("peak", lambda peak: f"{peak / 2**20:.0f}")]:
            cells += [show(row[key][library]) if library in row[key] else "" for library in libraries]
            cells += [f"{best(row, key)[1]:.2f}"]
        lines.append(cells)
    header = ["network", "mode"]
    header += [f"{library}, ms" for library in libraries] + ["ratio"]
    header += [f"{library}, MiB" for library in libraries] + ["ratio"]
    return markdown(header, 2, lines)


def versions() -> str:
    """Of everything that takes part."""
    found = {"torch" if library == "pytorch" else library: None for library in PEERS}
    for name in found:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    locked = tomllib.loads((ROOT / "benches/peers/Cargo.lock").read_text())["package"]
    found |= {package["name"]: package["version"] for package in locked if package["name"] in CRATES.values()}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def machine() -> str:
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def warn_if_busy() -> None:
    """Before anything is measured: who else wants to run?"""
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"THE MACHINE IS BUSY: a load of {load:.1f} on {os.cpu_count()} cores. Do not quote these ratios.")


def tell(rows: list[dict], table) -> None:
    for threads in sorted({row["threads"] for row in rows}):
        chosen = [row for row in rows if row["threads"] == threads]
        print(f"\n{threads} thread{'s' * (threads > 1)}\n\n{table(chosen)}", flush=True)


def kept(file: Path | None, rows: list[dict], keys: list[str]) -> list[dict]:
    """The rows with those of earlier runs in the file, which is written anew; a new row replaces the old."""
    if file is None:
        return rows
    old = json.loads(file.read_text()) if file.exists() else []
    known = {tuple(row[key] for key in keys): row for row in old + rows}
    file.write_text(json.dumps(list(known.values()), indent=1) + "\n")
    return list(known.values())


def arguments() -> argparse.Namespace:
    known, core = peer_problems.layers()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def some_of(choices: list[str]):
        def several(text: str) -> list[str]:
            for name in (names := text.split(",")):
                if name not in choices:
                    raise argparse.ArgumentTypeError(f"{name!r}: expected of {', '.join(choices)}")
            return names

        return several

    def command(name: str, help: str, rounds: int, slice: float):
        new = commands.add_parser(name, help=help, description=help)
        add = new.add_argument
        add("--peers", type=some_of(OTHERS), default=OTHERS, metavar="A,B", help="of " + ", ".join(OTHERS))
        add("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2], metavar="N,M")
        add("--rounds", type=int, default=rounds, help=f"turns of each library [default: {rounds}]")
        add("--slice", type=float, default=slice, help=f"seconds of a turn [default: {slice}]")
        add("--json", type=Path, help="add the rows to this file, and show all that are there")
        return add

    what = "layers of networks: convolution + bias + ReLU, or a gradient"
    add = command("conv2d", what, rounds=7, slice=0.05)
    add("--layers", type=some_of(list(known)), default=core, metavar="A,B", help="by name [default: the core suite]")
    add("--pass", dest="what", choices=["forward", "input", "weights"], default="forward")
    add = command("networks", "whole networks, with their peak memory", rounds=5, slice=1.0)
    names, modes = list(NETWORKS), ["infer", "train"]
    add("--networks", type=some_of(names), default=names, metavar="A,B", help="of " + ", ".join(names))
    add("--modes", type=some_of(modes), default=modes, metavar="A,B", help="of " + ", ".join(modes))
    add("--tilewise", type=Path, default=ROOT / "target/release/tilewise", help="our binary")
    args = parser.parse_args()
    if args.command == "conv2d" and args.what != "forward":
        args.peers = [peer for peer in args.peers if peer == "pytorch"]
    binary = our_worker() if args.command == "conv2d" else args.tilewise
    if not binary.exists():
        parser.error(f"{binary} is not there: see the head of this file")
    return args


def main() -> None:
    args = arguments()
    print(f"{machine()}\n{versions()}")
    warn_if_busy()
    rows = []
    for threads in args.threads:
        if args.command == "conv2d":
            rows += time_layers(args, threads)
        else:
            rows += [time_network(args, name, mode, threads) for name in args.networks for mode in args.modes]
    if args.command == "conv2d":
        rows = kept(args.json, rows, ["layer", "pass", "threads"])
        tell([row for row in rows if row["pass"] == args.what], layer_table)
    else:
        tell(kept(args.json, rows, ["network", "mode", "threads"]), network_table)


if __name__ == "__main__":
    main()
