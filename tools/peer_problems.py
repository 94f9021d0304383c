"""What `peers.py` asks of the libraries: the layers with their data, the result they should have, and the networks."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent

# Positions of a result that are compared, beside the corners of its first and last plane.
SAMPLES = 64

# Name -> `tilewise bench model`'s name, its flags, and the shapes.
NETWORKS = {
    "lenet": {"network": "lenet", "input": [64, 1, 28, 28], "output": [64, 10]},
    "autoencoder": {"network": "autoencoder", "input": [64, 1, 28, 28], "output": [64, 1, 28, 28]},
    "unet16": {"network": "unet", "base": 16, "input": [4, 3, 256, 256], "output": [4, 1, 256, 256]},
    "unet64": {"network": "unet", "base": 64, "input": [1, 3, 256, 256], "output": [1, 1, 256, 256]},
}


def layers() -> tuple[dict[str, list[int]], list[str]]:
    """Name -> batch, channels, height = width, filters, kernel, stride, padding: of every network, from where they are
    written; and the names of the core suite."""
    source = (ROOT / "crates/bench/src/suites/networks.rs").read_text()
    rows = re.findall(r'\("(\w+)", \[([\d, ]+)\]\)', source)
    core = re.search(r"CORE_LAYERS: \[&str; \d+\] = \[(.*?)\];", source, re.DOTALL)
    return {name: [int(n) for n in row.split(",")] for name, row in rows}, re.findall(r'"(\w+)"', core.group(1))


def shape_text(layer: list[int]) -> str:
    """`256,56x56 -> 64 3x3 s2`, as `tilewise bench conv2d` has it."""
    n, c, hw, k, r, s, _ = layer
    return (f"{n} x " if n > 1 else "") + f"{c},{hw}x{hw} -> {k} {r}x{r}" + (f" s{s}" if s > 1 else "")


def positions(shape: list[int]) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(4)
    corners = [(0, 0, i, j) for i in (0, shape[2] - 1) for j in (0, shape[3] - 1)] if len(shape) == 4 else []
    corners += [tuple(extent - 1 for extent in shape)]
    return corners + [tuple(int(rng.integers(extent)) for extent in shape) for _ in range(SAMPLES)]


def flat(shape: list[int], at: list[tuple[int, ...]]) -> list[int]:
    return [int(np.ravel_multi_index(position, shape)) for position in at]


def convolution(folder: Path, layer: list[int], what: str) -> tuple[dict, np.ndarray]:
    """Writes the data of a layer, uniform in -1..1, and its ONNX model. Returns the problem, and what should be at its
    positions."""
    n, c, hw, k, r, s, p = layer
    out = (hw + 2 * p - r) // s + 1
    shapes = {"x": [n, c, hw, hw], "w": [k, c, r, r], "b": [k], "gy": [n, k, out, out]}
    rng = np.random.default_rng(1)
    data = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, values in data.items():
        values.tofile(folder / name)
    write_model(folder / "model.onnx", shapes, data, s, p)

    result = shapes[{"forward": "gy", "input": "x", "weights": "w"}[what]]
    at = positions(result)
    problem = {"folder": str(folder), "pass": what, "stride": s, "padding": p, "at": flat(result, at)}
    problem |= {"input": shapes["x"], "weights": shapes["w"], "output": shapes["gy"]}
    return problem, np.array([reference(data, s, p, what, position) for position in at])


def write_model(file: Path, shapes: dict, data: dict, stride: int, padding: int) -> None:
    """Convolution + bias + ReLU."""
    from onnx import TensorProto, helper, numpy_helper

    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    conv = helper.make_node(
        "Conv", ["x", "w", "b"], ["z"], kernel_shape=shapes["w"][2:], strides=[stride] * 2, pads=[padding] * 4
    )
    graph = helper.make_graph(
        [conv, helper.make_node("Relu", ["z"], ["y"])],
        "layer",
        [value("x", shapes["x"])],
        [value("y", shapes["gy"])],
        [numpy_helper.from_array(data[name], name) for name in "wb"],
    )
    # Versions that every library reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file.write_bytes(model.SerializeToString())


def reference(data: dict, stride: int, padding: int, what: str, position: tuple[int, ...]) -> float:
    """The sum as it is defined, in double precision."""
    w, gy = data["w"].astype(np.float64, copy=False), data["gy"]
    r, (out, _) = w.shape[2], gy.shape[2:]
    if what == "forward":
        n, k, i, j = position
        patch = padded(data["x"][n], padding)[:, i * stride : i * stride + r, j * stride : j * stride + r]
        return max(0.0, float((patch * w[k]).sum()) + float(data["b"][k]))
    if what == "weights":
        k, c, a, b = position
        x, end = padded(data["x"][:, c], padding), stride * (out - 1) + 1
        return float((x[:, a : a + end : stride, b : b + end : stride] * gy[:, k]).sum())
    n, c, i, j = position
    total = 0.0
    for a in range(r):
        for b in range(r):
            (y, over), (x, beside) = divmod(i + padding - a, stride), divmod(j + padding - b, stride)
            if not over and not beside and 0 <= y < out and 0 <= x < out:
                total += float(gy[n, :, y, x].astype(np.float64) @ w[:, c, a, b])
    return total


def padded(planes: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(planes.astype(np.float64), [(0, 0), (padding, padding), (padding, padding)])


def network(folder: Path, name: str, mode: str) -> dict:
    """Writes the input of a network, and returns the problem."""
    chosen = NETWORKS[name]
    np.random.default_rng(1).uniform(0, 1, chosen["input"]).astype(np.float32).tofile(folder / "x")
    # What a step of training returns is its loss, which nothing is compared with.
    at = flat(chosen["output"], positions(chosen["output"])) if mode == "infer" else []
    return chosen | {"folder": str(folder), "mode": mode, "at": at}
