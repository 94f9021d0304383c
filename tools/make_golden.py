#!/usr/bin/env python3
"""Makes golden cases: what PyTorch computes for random problems, for `tilewise check --golden` and the tests.

    pip install torch numpy safetensors
    tools/make_golden.py tests/golden/operators.safetensors          # the file in the repository
    tools/make_golden.py more.safetensors --seed 7 --cases 20 --ops conv2d,softmax

Everything is computed in float64 from float32 inputs and rounded to float32 once, so that a file says what is right
and not how one library rounds. The file is safetensors; its metadata key "cases" is a JSON list of

    {"name": "pad_002", "op": "pad", "params": {...}, "inputs": [...], "outputs": [...], "grads": [...]}

with the tensor "x" of that case stored as "pad_002/x". A gradient "gx" is d(loss)/d(x) for the gradient "gy" of the
output, which is random and stored as an input. A step of an optimiser has none: its output "y" are the parameters.
Tensors are NCHW; weights are [out, in / groups, kh, kw], transposed ones [in, out / groups, kh, kw]; padding is
[height, width] or [top, bottom, left, right]; labels are int64.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file


@dataclass
class Problem:
    """One case before it is computed. `compute` gets the inputs in order and returns the outputs by name, `y` first."""

    params: dict
    inputs: dict[str, torch.Tensor]
    compute: Callable[..., dict[str, torch.Tensor]]
    constants: set[str] = field(default_factory=set)  # inputs that get no gradient


class Draw:
    """Random choices; the same for the same seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def pair(self, low: int, high: int) -> list[int]:
        return [self.between(low, high), self.between(low, high)]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def normal(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """Float64 numbers that float32 holds exactly."""
        return torch.tensor(self.rng.standard_normal(shape) * scale).float().double()

    def image(self, size: int = 9, channels: int = 4) -> torch.Tensor:
        return self.normal(self.between(1, 2), self.between(1, channels), *self.pair(1, size))


def exact(value: float) -> float:
    """The number next to this one that float32 holds."""
    return float(np.float32(value))


def padded(x: torch.Tensor, sides: list[int], value: float = 0.0) -> torch.Tensor:
    """`x` in a frame of [top, bottom, left, right]."""
    top, bottom, left, right = sides
    return F.pad(x, (left, right, top, bottom), value=value)


def conv2d(d: Draw) -> Problem:
    groups = d.one_of(1, 1, 1, 2, 3)
    depthwise = d.chance(0.2)
    per_group, out_per_group = (1, d.between(1, 2)) if depthwise else (d.between(1, 5), d.between(1, 5))
    if depthwise:
        groups = d.between(2, 6)
    kernel, stride, dilation = d.pair(1, 4), d.pair(1, 3), d.pair(1, 2)
    sides = [d.between(0, 3) for _ in range(4)]
    if d.chance(0.4):
        sides = [sides[0], sides[0], sides[1], sides[1]]
    if d.chance(0.2):  # pointwise
        kernel, stride, sides = [1, 1], [1, 1], [0, 0, 0, 0]
    elif d.chance(0.25):  # what most networks are made of
        kernel, stride, dilation = [3, 3], [1, 1], [1, 1]
    elif d.chance(0.5):  # what else there are fast algorithms for
        side, step = d.one_of((5, 1), (3, 2), (7, 2))
        kernel, stride, dilation = [side, side], [step, step], [1, 1]
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    h = d.between(max(1, reach[0] - sides[0] - sides[1]), reach[0] + 7)
    w = d.between(max(1, reach[1] - sides[2] - sides[3]), reach[1] + 7)
    inputs = {
        "x": d.normal(d.between(1, 2), groups * per_group, h, w),
        "w": d.normal(groups * out_per_group, per_group, *kernel, scale=0.5),
    }
    if d.chance(0.6):
        inputs["b"] = d.normal(groups * out_per_group)
    params = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups}

    def compute(x, w, b=None):
        return {"y": F.conv2d(padded(x, sides), w, b, stride, 0, dilation, groups)}

    return Problem(params, inputs, compute)


def conv_transpose2d(d: Draw) -> Problem:
    groups = d.one_of(1, 1, 2)
    kernel, stride, dilation = d.pair(1, 4), d.pair(1, 3), d.pair(1, 2)
    extra = [d.between(0, max(stride[i], dilation[i]) - 1) for i in (0, 1)]
    size = d.pair(1, 6)
    full = [(size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    padding = [d.between(0, min(2, (full[i] - 1) // 2)) for i in (0, 1)]
    inputs = {
        "x": d.normal(d.between(1, 2), groups * d.between(1, 4), *size),
    }
    out_per_group = d.between(1, 4)
    inputs["w"] = d.normal(inputs["x"].shape[1], out_per_group, *kernel, scale=0.5)
    if d.chance(0.6):
        inputs["b"] = d.normal(groups * out_per_group)
    params = {
        "stride": stride,
        "padding": padding,
        "output_padding": extra,
        "dilation": dilation,
        "groups": groups,
    }

    def compute(x, w, b=None):
        return {"y": F.conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation)}

    return Problem(params, inputs, compute)


def window(d: Draw) -> tuple[dict, torch.Tensor]:
    kernel, stride = d.pair(1, 4), d.pair(1, 4)
    padding = [d.between(0, k // 2) for k in kernel]
    x = d.normal(d.between(1, 2), d.between(1, 3), *(d.between(k, k + 9) for k in kernel))
    return {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": d.chance(0.5)}, x


def max_pool2d(d: Draw) -> Problem:
    p, x = window(d)

    def compute(x):
        return {"y": F.max_pool2d(x, p["kernel"], p["stride"], p["padding"], ceil_mode=p["ceil_mode"])}

    return Problem(p, {"x": x}, compute)


def avg_pool2d(d: Draw) -> Problem:
    p, x = window(d)
    p["count_include_pad"] = d.chance(0.5)

    def compute(x):
        y = F.avg_pool2d(x, p["kernel"], p["stride"], p["padding"], p["ceil_mode"], p["count_include_pad"])
        return {"y": y}

    return Problem(p, {"x": x}, compute)


def global_avg_pool(d: Draw) -> Problem:
    return Problem({}, {"x": d.image()}, lambda x: {"y": F.adaptive_avg_pool2d(x, 1)})


def pointwise(function: Callable, **params) -> Callable[[Draw], Problem]:
    # Wide enough for the tails and for saturation.
    return lambda d: Problem(
        dict(params), {"x": d.normal(1, 2, *d.pair(3, 8), scale=4.0)}, lambda x: {"y": function(x)}
    )


def softmax(d: Draw) -> Problem:
    axis = d.between(0, 3)
    x = d.normal(*(d.between(1, 6) for _ in range(4)), scale=3.0)
    return Problem({"axis": axis}, {"x": x}, lambda x: {"y": F.softmax(x, axis)})


def linear(d: Draw) -> Problem:
    features, out = d.between(1, 70), d.between(1, 20)
    inputs = {"x": d.normal(d.between(1, 6), features), "w": d.normal(out, features, scale=0.3)}
    if d.chance(0.6):
        inputs["b"] = d.normal(out)
    return Problem({}, inputs, lambda x, w, b=None: {"y": F.linear(x, w, b)})


def batch_norm(d: Draw) -> Problem:
    channels = d.between(1, 5)
    x = d.normal(d.between(2, 3), channels, *d.pair(1, 6)) + 2.0
    eps = d.one_of(1e-5, 1e-3)
    inputs = {"x": x.float().double(), "gamma": d.normal(channels), "beta": d.normal(channels)}
    kind = d.one_of("given", "batch", "tracked")
    if kind == "batch":
        params = {"training": True, "eps": eps}
        return Problem(params, inputs, lambda x, g, b: {"y": F.batch_norm(x, None, None, g, b, True, 0.0, eps)})
    inputs["mean"] = d.normal(channels)
    inputs["var"] = (d.normal(channels).abs() + 0.25).float().double()
    constants = {"mean", "var"}
    if kind == "given":
        params = {"training": False, "eps": eps}
        return Problem(
            params, inputs, lambda x, g, b, m, v: {"y": F.batch_norm(x, m, v, g, b, False, 0.0, eps)}, constants
        )
    momentum = d.one_of(0.1, 0.5)
    params = {"training": True, "eps": eps, "momentum": momentum}

    def compute(x, gamma, beta, mean, var):
        mean, var = mean.clone(), var.clone()
        y = F.batch_norm(x, mean, var, gamma, beta, True, momentum, eps)
        return {"y": y, "new_mean": mean, "new_var": var}

    return Problem(params, inputs, compute, constants)


def upsample_nearest(d: Draw) -> Problem:
    # In float32, as users run it: the rounding of the scale decides which pixel is copied.
    kind, x = d.one_of("factor", "size", "rounded down"), d.image(6)
    if kind == "factor":
        factor = d.between(2, 3)
        return Problem({"scale": factor}, {"x": x}, lambda x: {"y": F.interpolate(x.float(), scale_factor=factor)})
    if kind == "rounded down":  # 2 to 82: output 41 copies pixel 0, as 41 * (2 / 82) in float32 is just below 1
        x, size = d.normal(1, 1, 2, 2), [d.one_of(82, 94, 110, 122), d.between(1, 4)]
    else:
        size = d.pair(1, 12)
    return Problem({"size": size}, {"x": x}, lambda x: {"y": F.interpolate(x.float(), size)})


def upsample_bilinear(d: Draw) -> Problem:
    size, corners = d.pair(1, 12), d.chance(0.5)

    def compute(x):
        return {"y": F.interpolate(x, size, mode="bilinear", align_corners=corners)}

    return Problem({"size": size, "align_corners": corners}, {"x": d.image(6)}, compute)


def concat(d: Draw) -> Problem:
    n, h, w = d.between(1, 2), d.between(1, 5), d.between(1, 5)
    parts = {f"x{i}": d.normal(n, d.between(1, 4), h, w) for i in range(d.between(1, 4))}
    return Problem({}, parts, lambda *parts: {"y": torch.cat(parts, 1)})


def add(d: Draw) -> Problem:
    a = d.image()
    return Problem({}, {"a": a, "b": d.normal(*a.shape)}, lambda a, b: {"y": a + b})


def pad(d: Draw) -> Problem:
    sides, value = [d.between(0, 3) for _ in range(4)], d.one_of(0.0, -1.5)
    params = {"padding": sides, "value": value}
    return Problem(params, {"x": d.image(5)}, lambda x: {"y": padded(x, sides, value)})


def crop(d: Draw) -> Problem:
    sides = [d.between(0, 2) for _ in range(4)]
    x = d.normal(d.between(1, 2), d.between(1, 3), d.between(5, 9), d.between(5, 9))
    return Problem({"margins": sides}, {"x": x}, lambda x: {"y": padded(x, [-s for s in sides])})


def cross_entropy(d: Draw) -> Problem:
    classes = d.between(2, 9)
    plane = d.pair(1, 4) if d.chance(0.5) else []
    x = d.normal(d.between(1, 5), classes, *plane, scale=3.0)
    labels = torch.from_numpy(d.rng.integers(0, classes, (x.shape[0], *plane)))
    params, inputs = {"reduction": "mean"}, {"x": x, "labels": labels}
    if d.chance(0.5):
        params["label_smoothing"] = exact(0.1)
    if d.chance(0.5):  # a class, or a label of its own; never all of them
        params["ignore_index"] = d.one_of(0, classes - 1, -100, 255)
        labels.flatten()[1:][torch.from_numpy(d.rng.random(labels.numel() - 1) < 0.3)] = params["ignore_index"]
        labels.flatten()[0] = next(c for c in (1, 0) if c != params["ignore_index"])
    if d.chance(0.5):
        inputs["weight"] = d.normal(classes).abs()
    options = {key: value for key, value in params.items() if key != "reduction"}

    def compute(x, labels, weight=None):
        return {"y": F.cross_entropy(x, labels, weight, **options)}

    return Problem(params, inputs, compute, {"weight"})


def bce_with_logits(d: Draw) -> Problem:
    x = d.image() * 4.0
    target = torch.from_numpy(d.rng.random(tuple(x.shape)).astype(np.float32).astype(np.float64))
    if d.chance(0.5):
        target = target.round()
    inputs = {"x": x, "target": target}
    if d.chance(0.5):
        inputs["pos_weight"] = d.normal(x.shape[1], 1, 1).abs()

    def compute(x, t, pos_weight=None):
        return {"y": F.binary_cross_entropy_with_logits(x, t, pos_weight=pos_weight)}

    return Problem({"reduction": "mean"}, inputs, compute, {"target", "pos_weight"})


def mse(d: Draw) -> Problem:
    x = d.image()
    return Problem(
        {"reduction": "mean"}, {"x": x, "target": d.normal(*x.shape)}, lambda x, t: {"y": F.mse_loss(x, t)}, {"target"}
    )


def l1(d: Draw) -> Problem:
    x = d.image()
    return Problem(
        {"reduction": "mean"}, {"x": x, "target": d.normal(*x.shape)}, lambda x, t: {"y": F.l1_loss(x, t)}, {"target"}
    )


def dice(d: Draw) -> Problem:
    x = d.image() * 2.0
    target = torch.from_numpy(d.rng.random(tuple(x.shape)).astype(np.float32).astype(np.float64))
    if d.chance(0.5):
        target = target.round()
    smooth = d.one_of(0.5, 1.0)

    def compute(x, target):
        p, planes = torch.sigmoid(x), (2, 3)
        both, either = (p * target).sum(planes), p.sum(planes) + target.sum(planes)
        return {"y": (1 - (2 * both + smooth) / (either + smooth)).mean()}

    return Problem({"reduction": "mean", "smooth": smooth}, {"x": x, "target": target}, compute, {"target"})


def step(optimiser: Callable, p: torch.Tensor, g: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """The parameters after one step from this state, which changes."""
    parameter = torch.nn.Parameter(p.clone())
    parameter.grad = g.clone()
    made = optimiser([parameter])
    made.state[parameter].update(state)
    made.step()
    state.update(made.state[parameter])
    return parameter.detach()


def sgd(d: Draw) -> Problem:
    shape = [d.between(1, 3) for _ in range(3)]
    momentum = exact(d.one_of(0.0, 0.9))
    nesterov = momentum > 0 and d.chance(0.5)
    params = {"lr": exact(0.1), "momentum": momentum, "weight_decay": exact(d.one_of(0.0, 0.01)), "nesterov": nesterov}
    inputs = {"p": d.normal(*shape), "g": d.normal(*shape)}
    if momentum:
        inputs["v"] = d.normal(*shape)

    def compute(p, g, v=None):
        state = {} if v is None else {"momentum_buffer": v.clone()}
        y = step(lambda all: torch.optim.SGD(all, **params), p, g, state)
        return {"y": y} if v is None else {"y": y, "new_v": state["momentum_buffer"]}

    return Problem(params, inputs, compute, set(inputs))


def adam(d: Draw) -> Problem:
    shape = [d.between(1, 3) for _ in range(3)]
    hyper = {
        "lr": exact(0.01),
        "betas": [exact(v) for v in d.one_of((0.9, 0.999), (0.5, 0.9))],
        "eps": exact(1e-8),
        "weight_decay": exact(d.one_of(0.0, 0.1)),
    }
    decoupled, number = d.chance(0.5), d.one_of(1, 2, 100)
    inputs = {"p": d.normal(*shape), "g": d.normal(*shape), "m": d.normal(*shape), "v": d.normal(*shape) ** 2}
    inputs["v"] = inputs["v"].float().double()
    if number == 1:
        inputs["m"], inputs["v"] = torch.zeros_like(inputs["m"]), torch.zeros_like(inputs["v"])

    def compute(p, g, m, v):
        kind = torch.optim.AdamW if decoupled else torch.optim.Adam
        state = {"step": torch.tensor(number - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
        y = step(lambda all: kind(all, **hyper), p, g, state)
        return {"y": y, "new_m": state["exp_avg"], "new_v": state["exp_avg_sq"]}

    return Problem({**hyper, "decoupled": decoupled, "step": number}, inputs, compute, set(inputs))


def clip_norm(d: Draw) -> Problem:
    max_norm = exact(d.one_of(0.5, 1.0, 100.0))

    def compute(g):
        parameter = torch.nn.Parameter(torch.zeros_like(g))
        parameter.grad = g.clone()
        norm = torch.nn.utils.clip_grad_norm_([parameter], max_norm)
        return {"y": parameter.grad, "norm": norm}

    return Problem({"max_norm": max_norm}, {"g": d.image()}, compute, {"g"})


OPERATORS: dict[str, Callable[[Draw], Problem]] = {
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": global_avg_pool,
    "relu": pointwise(F.relu),
    "leaky_relu": pointwise(lambda x: F.leaky_relu(x, 0.2), slope=0.2),
    "relu6": pointwise(F.relu6),
    "elu": pointwise(lambda x: F.elu(x, 0.7), alpha=0.7),
    # As F.gelu, but 1 + erf would lose the tail, in float64 too.
    "gelu": pointwise(lambda x: x * torch.special.erfc(-x / 2**0.5) / 2),
    "silu": pointwise(F.silu),
    "sigmoid": pointwise(torch.sigmoid),
    "tanh": pointwise(torch.tanh),
    "softmax": softmax,
    "linear": linear,
    "batch_norm": batch_norm,
    "upsample_nearest": upsample_nearest,
    "upsample_bilinear": upsample_bilinear,
    "concat": concat,
    "add": add,
    "pad": pad,
    "crop": crop,
    "cross_entropy": cross_entropy,
    "bce_with_logits": bce_with_logits,
    "mse": mse,
    "l1": l1,
    "dice": dice,
    "sgd": sgd,
    "adam": adam,
    "clip_norm": clip_norm,
}


def stored(t: torch.Tensor) -> np.ndarray:
    array = t.detach().numpy()
    return np.ascontiguousarray(array.astype(np.float32 if t.is_floating_point() else np.int64))


def solve(name: str, op: str, problem: Problem, d: Draw) -> tuple[dict, dict[str, np.ndarray]]:
    """Computes outputs and gradients: the entry for the list of cases, and the tensors."""
    inputs = problem.inputs
    wanted = [k for k, t in inputs.items() if t.is_floating_point() and k not in problem.constants]
    for key in wanted:
        inputs[key].requires_grad_(True)
    outputs = problem.compute(*inputs.values())
    if wanted:
        y = outputs["y"]
        inputs["gy"] = d.normal(*y.shape)
        y.backward(inputs["gy"])
    gradients = {f"g{key}": inputs[key].grad for key in wanted}
    entry = {
        "name": name,
        "op": op,
        "params": problem.params,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "grads": list(gradients),
    }
    tensors = {**inputs, **outputs, **gradients}
    return entry, {f"{name}/{key}": stored(t) for key, t in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: 1)")
    parser.add_argument("--cases", type=int, default=6, help="per operator; three times as many for conv2d (default: 6)")
    parser.add_argument("--ops", default=",".join(OPERATORS), help="which operators, by comma (default: all)")
    arguments = parser.parse_args()
    ops = arguments.ops.split(",")
    if unknown := [op for op in ops if op not in OPERATORS]:
        parser.error(f"unknown operators: {', '.join(unknown)}; there are {', '.join(OPERATORS)}")

    entries, tensors = [], {}
    for op in ops:
        # A stream of its own for each operator: leaving some out does not change the others.
        d = Draw(arguments.seed * 1000 + list(OPERATORS).index(op))
        for i in range(arguments.cases * (3 if op == "conv2d" else 1)):
            entry, arrays = solve(f"{op}_{i:03d}", op, OPERATORS[op](d), d)
            entries.append(entry)
            tensors.update(arrays)
    metadata = {"cases": json.dumps(entries), "torch": torch.__version__, "seed": str(arguments.seed)}
    save_file(tensors, arguments.out, metadata=metadata)
    print(f"{len(entries)} cases, {len(tensors)} tensors, {arguments.out.stat().st_size} bytes: {arguments.out}")


if __name__ == "__main__":
    main()
