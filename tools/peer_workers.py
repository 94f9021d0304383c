#!/usr/bin/env python3
"""Times a convolution or a network in one library of PyPI. `peers.py` starts one process for each library and lets
them take turns; what is said between them is that of `benches/peers/src/main.rs`.

Usage: `peer_workers.py LIBRARY THREADS`. Beside the requests told there, PyTorch's process takes `{"export": PROBLEM}`:
it writes a network as ONNX, and answers with its result in double precision.

Each library has a function that loads a problem and returns two: one call, and the result of the last one, flat.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def numbers(problem: dict, name: str, shape) -> np.ndarray:
    return np.fromfile(Path(problem["folder"], name), np.float32).reshape(shape)


def pytorch(problem: dict, threads: int):
    """Eager mode on contiguous (NCHW) tensors."""
    import torch

    torch.set_num_threads(threads)
    tensor = lambda name, shape: torch.from_numpy(numbers(problem, name, shape))
    x = tensor("x", problem["input"])
    if "network" in problem:
        once = (pytorch_training if problem["mode"] == "train" else pytorch_inference)(problem, x)
    else:
        w, b = tensor("w", problem["weights"]), tensor("b", -1)
        gy = tensor("gy", problem["output"])
        stride, padding = [problem["stride"]] * 2, [problem["padding"]] * 2

        def forward():
            return torch.nn.functional.conv2d(x, w, b, stride, padding).relu_()

        def backward(which: int):
            mask = [which == 0, which == 1, False]
            gradients = torch.ops.aten.convolution_backward
            return gradients(gy, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, mask)[which]

        once = {"forward": forward, "input": lambda: backward(0), "weights": lambda: backward(1)}[problem["pass"]]
    last = [None]

    def call():
        last[0] = None  # its memory may serve again
        with torch.inference_mode(problem.get("mode") != "train"):
            last[0] = once()

    return call, lambda: last[0].detach().numpy().reshape(-1)


def module(problem: dict):
    """The network with its initial weights, the same in every process."""
    import torch

    from pytorch_networks import AutoEncoder, Cnn, UNet

    torch.manual_seed(1)
    _, channels, size, _ = problem["input"]
    match problem["network"]:
        case "lenet":
            return Cnn(channels, size, 10)
        case "autoencoder":
            return AutoEncoder(channels, size)
        case "unet":
            return UNet(channels, 1, problem["base"])
    raise ValueError(f"unknown network {problem['network']}")


def pytorch_inference(problem: dict, x):
    net = module(problem).eval()
    return lambda: net(x)


def pytorch_training(problem: dict, x):
    """Forward pass, loss, gradients, Adam's update; on the same batch each time."""
    import torch
    import torch.nn.functional as F

    net = module(problem)
    if problem["network"] == "lenet":
        loss, target = F.cross_entropy, torch.randint(0, 10, x.shape[:1])
    elif problem["network"] == "autoencoder":
        loss, target = F.mse_loss, x
    else:
        loss, target = F.binary_cross_entropy_with_logits, (torch.rand(problem["output"]) < 0.5).float()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        error = loss(net(x), target)
        error.backward()
        optimizer.step()
        return error

    return step


def export(problem: dict) -> np.ndarray:
    """Writes `model.onnx`. Returns what it should compute."""
    import torch

    net = module(problem).eval()
    x = torch.from_numpy(numbers(problem, "x", problem["input"]))
    file = str(Path(problem["folder"], "model.onnx"))
    torch.onnx.export(net, (x,), file, dynamo=False, input_names=["x"], output_names=["y"])
    with torch.inference_mode():
        return net.double()(x.double()).numpy().reshape(-1)


def onnxruntime(problem: dict, threads: int):
    """All optimisations; input and output bound, so that the output's memory is reused."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(Path(problem["folder"], "model.onnx"), options, ["CPUExecutionProvider"])
    x = ort.OrtValue.ortvalue_from_numpy(numbers(problem, "x", problem["input"]))
    y = ort.OrtValue.ortvalue_from_shape_and_type(problem["output"], np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return lambda: session.run_with_iobinding(binding), lambda: y.numpy().reshape(-1)


def openvino(problem: dict, threads: int):
    """Latency as the goal, full precision; input and output are ours, so that their memory is reused."""
    import openvino as ov

    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = ov.Core().compile_model(Path(problem["folder"], "model.onnx"), "CPU", hints)
    request = model.create_infer_request()
    x, y = ov.Tensor(numbers(problem, "x", problem["input"])), ov.Tensor(np.empty(problem["output"], np.float32))
    request.set_input_tensor(x)
    request.set_output_tensor(y)
    return request.infer, lambda: y.data.reshape(-1)


def ncnn(problem: dict, threads: int):
    """Its defaults (Winograd, packed layouts), but no 16 bits anywhere. It has no batches: a call for each image."""
    import ncnn as nc

    outputs, channels, kernel, _ = problem["weights"]
    weights, bias = numbers(problem, "w", -1), numbers(problem, "b", -1)
    settings = {0: outputs, 1: kernel, 3: problem["stride"], 4: problem["padding"], 5: 1, 6: weights.size, 9: 1}
    words = " ".join(f"{key}={value}" for key, value in settings.items())
    param, model = (str(Path(problem["folder"], f"ncnn.{end}")) for end in ("param", "bin"))
    Path(param).write_text(f"7767517\n2 2\nInput x 0 1 x\nConvolution conv 1 1 x y {words}\n")
    Path(model).write_bytes(bytes(4) + weights.tobytes() + bias.tobytes())

    net = nc.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = net.opt.use_bf16_packed = False
    net.opt.blob_allocator, net.opt.workspace_allocator = allocators = nc.UnlockedPoolAllocator(), nc.PoolAllocator()
    if net.load_param(param) or net.load_model(model):
        raise RuntimeError("ncnn does not load its model")
    images = [nc.Mat(image).clone() for image in numbers(problem, "x", problem["input"])]
    results = [None] * len(images)

    def call():
        for index, image in enumerate(images):
            results[index] = None  # its memory may serve again
            extractor = net.create_extractor()
            extractor.input("x", image)
            failed, results[index] = extractor.extract("y")
            if failed:
                raise RuntimeError("ncnn does not compute this")

    # The allocators live as long as what they gave.
    return call, lambda keep=allocators: np.concatenate([np.array(result).reshape(-1) for result in results])


LIBRARIES = {"pytorch": pytorch, "onnxruntime": onnxruntime, "openvino": openvino, "ncnn": ncnn}


def main() -> None:
    library, threads = LIBRARIES[sys.argv[1]], int(sys.argv[2])
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    call = output = None

    def answer(request: dict) -> dict:
        nonlocal call, output
        if "export" in request:
            result = export(request["export"])
            return {"values": [float(result[at]) for at in request["export"]["at"]]}
        if problem := request.get("load"):
            call = output = None  # the memory of the last problem goes first
            call, output = library(problem, threads)
            call()
            result = output() if problem["at"] else []
            return {"values": [float(result[at]) for at in problem["at"]]}
        call()
        ms, start = [], time.perf_counter()
        while not ms or time.perf_counter() - start < request["seconds"]:
            before = time.perf_counter()
            call()
            ms.append((time.perf_counter() - before) * 1e3)
        return {"ms": ms}

    for line in sys.stdin:
        try:
            told = answer(json.loads(line))
        except Exception as error:  # whatever it is, it is told, and the next problem may fare better
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=answers)


if __name__ == "__main__":
    main()
