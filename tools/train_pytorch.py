#!/usr/bin/env python3
"""Trains the three reference recipes in PyTorch, so that anyone can compare: same data, same network, same budget.

    pip install torch numpy pillow
    tools/train_pytorch.py mnist MNIST_FOLDER                  # t10k or train files, IDX, gzip or not
    tools/train_pytorch.py anomaly MNIST_FOLDER
    tools/train_pytorch.py membrane FOLDER                     # FOLDER/image/*.png and FOLDER/label/*.png, dark = membrane
    tools/train_pytorch.py membrane FOLDER --no-skips --seeds 1,2,3 --json out.json

What a recipe has to say so that two libraries can be compared, and what this script does:

- Held out is index % 5 == 4; what is reported are the weights after the last epoch, not the best that were seen.
- Pixels are 0..1 and not standardised. Initialisation is PyTorch's default: weights and biases uniform within
  1 / sqrt(fan in). Adam has betas 0.9 and 0.999, epsilon 1e-8. Losses are means over all elements of the batch.
- Samples are shuffled anew each epoch; the last batch may be smaller.
- Batch norm: epsilon 1e-5, momentum 0.1 (running = 0.9 running + 0.1 batch, the variance unbiased there and biased in
  the normalisation); held-out images see the running statistics.
- mnist: padding 1, so that the planes are 28, 14, 7; no augmentation.
- anomaly: convolutions 3x3 padding 1, transposed ones 2x2, ReLU after every layer but the last, the latent layer as
  well: without it the detector is another one, better by 0.02. The score is the mean squared error of an image.
- membrane: image and label 512x512 -> 256x256, the mean of each 2x2 block; membrane (1) is where the label's mean lies
  below one half, 0.19 of the held-out pixels. Binary cross entropy on logits. Each sample is flipped along each axis
  and transposed, each with probability 1/2. Membrane is found where the logit is above 0. Dice counts the pixels of all
  held-out images together.
- --no-skips: the transposed convolution's output goes alone into the double convolution, which has half the inputs.

At a constant rate the membrane's Dice moves by some hundredths from epoch to epoch (0.76 and 0.79 five epochs apart): a
single final figure says little about a network. Compare means over --seeds, or let the rate fall: --schedule cosine.
"""

import argparse
import gzip
import json
import math
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pytorch_networks import AutoEncoder, Cnn, UNet


# Data


def read_idx(folder: Path, kind: str) -> np.ndarray:
    """The array of the first file of this kind ("images-idx3" or "labels-idx1") in the folder."""
    found = sorted(folder.glob(f"*{kind}-ubyte*"))
    if not found:
        sys.exit(f"{folder}: no file named *{kind}-ubyte or *{kind}-ubyte.gz")
    data = found[0].read_bytes()
    data = gzip.decompress(data) if found[0].suffix == ".gz" else data
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def digits(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [n, 1, h, w] in 0..1 and their labels."""
    images, labels = read_idx(folder, "images-idx3"), read_idx(folder, "labels-idx1")
    return torch.tensor(images).unsqueeze(1) / 255, torch.tensor(labels).long()


def membranes(folder: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [n, 1, size, size] in 0..1 and their membranes, 1 where the label is dark; in the order of their numbers."""
    from PIL import Image

    def read(kind: str) -> torch.Tensor:
        paths = sorted((folder / kind).glob("*.png"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
        if not paths:
            sys.exit(f"{folder / kind}: no PNG files")
        planes = torch.stack([torch.tensor(np.array(Image.open(path).convert("L"))) for path in paths])
        # The mean of each block of pixels.
        return F.adaptive_avg_pool2d(planes.unsqueeze(1).double(), size).float() / 255

    return read("image"), (read("label") < 0.5).float()


def split(count: int, holdout: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices to train on and indices held out: those with index % holdout == holdout - 1."""
    index = torch.arange(count)
    held = index % holdout == holdout - 1
    return index[~held], index[held]


# Augmentation: of a batch and, where the target is an image, of the target alike. Every sample draws its own.


def orient(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sample flipped along each axis and transposed, each with probability 1/2: the 8 symmetries of a square."""
    both = torch.cat([x, y], 1)
    for sample in both:
        flip_rows, flip_columns, transpose = torch.rand(3) < 0.5
        if flip_rows:
            sample.copy_(sample.flip(1))
        if flip_columns:
            sample.copy_(sample.flip(2))
        if transpose:
            sample.copy_(sample.transpose(1, 2).clone())
    return both[:, : x.shape[1]], both[:, x.shape[1] :]


def shift(x: torch.Tensor, most: int, mode: str) -> torch.Tensor:
    """Each sample moved by up to `most` pixels along each axis; what comes in is padding of this mode."""
    padded = F.pad(x, [most] * 4, mode=mode)
    height, width = x.shape[2:]
    offsets = torch.randint(0, 2 * most + 1, (len(x), 2)).tolist()
    return torch.stack([plane[:, dy : dy + height, dx : dx + width] for plane, (dy, dx) in zip(padded, offsets)])


# Training


def fit(net, x, y, loss, augment, options, report) -> None:
    """Adam over shuffled batches; the last batch of an epoch may be smaller. The rate stays, or falls to 0 as a cosine,
    step by step. `report(epoch, mean loss)` after each epoch."""
    batches = math.ceil(len(x) / options.batch)
    optimizer = torch.optim.Adam(net.parameters(), options.lr, weight_decay=options.weight_decay)
    total = batches * options.epochs
    rate = {"constant": lambda step: 1.0, "cosine": lambda step: (1 + math.cos(math.pi * step / total)) / 2}
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate[options.schedule])
    for epoch in range(options.epochs):
        net.train()
        losses = 0.0
        for batch in torch.randperm(len(x)).split(options.batch):
            inputs, targets = augment(x[batch], y[batch])
            optimizer.zero_grad()
            value = loss(net(inputs), targets)
            value.backward()
            optimizer.step()
            schedule.step()
            losses += value.item() * len(batch)
        net.eval()
        report(epoch + 1, losses / len(x))


@torch.no_grad()
def predict(net, x: torch.Tensor, batch: int) -> torch.Tensor:
    """The outputs in eval mode (batch norm by its running statistics)."""
    net.eval()
    return torch.cat([net(part) for part in x.split(batch)])


def progress(options, name: str, measure):
    """Reports to stderr: the loss after each epoch, and with --every the metrics, too."""

    def report(epoch: int, loss: float) -> None:
        line = f"{name} epoch {epoch}/{options.epochs} loss {loss:.4f}"
        if options.every and epoch % options.every == 0:
            line += "".join(f" {key} {value:.4f}" for key, value in measure().items())
        print(line, file=sys.stderr, flush=True)

    return report


# The recipes: each takes the options and a name for the log, and returns its metrics on the held-out samples.


def mnist(options, name: str) -> dict[str, float]:
    x, y = digits(options.folder)
    train, held = split(len(x), options.holdout)
    net = Cnn(1, x.shape[2], 10, options.batch_norm, options.dropout)

    def measure() -> dict[str, float]:
        return {"accuracy": (predict(net, x[held], 500).argmax(1) == y[held]).float().mean().item()}

    def augment(inputs, labels):
        return (shift(inputs, options.shift, "constant") if options.shift else inputs), labels

    fit(net, x[train], y[train], F.cross_entropy, augment, options, progress(options, name, measure))
    return measure()


def anomaly(options, name: str) -> dict[str, float]:
    x, y = digits(options.folder)
    train, held = split(len(x), options.holdout)
    areas = {}
    for digit in range(10):
        net = AutoEncoder(1, x.shape[2], options.latent)
        normal = x[train][y[train] == digit]

        def measure() -> dict[str, float]:
            errors = (predict(net, x[held], 500) - x[held]).square().mean((1, 2, 3))
            return {"auroc": auroc(errors[y[held] != digit], errors[y[held] == digit])}

        keep = lambda inputs, targets: (inputs, targets)
        fit(net, normal, normal, F.mse_loss, keep, options, progress(options, f"{name} normal {digit}", measure))
        areas[f"auroc_{digit}"] = measure()["auroc"]
    return {"auroc": statistics.fmean(areas.values()), **areas}


def auroc(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """The probability that a positive scores above a negative; a tie counts half."""
    ordered = negative.sort().values
    below, up_to = torch.searchsorted(ordered, positive), torch.searchsorted(ordered, positive, right=True)
    return ((below + up_to).double().mean() / (2 * len(negative))).item()


def membrane(options, name: str) -> dict[str, float]:
    x, y = membranes(options.folder, options.size)
    train, held = split(len(x), options.holdout)
    net = UNet(1, 1, options.base, not options.no_skips)

    def measure() -> dict[str, float]:
        found, truth = predict(net, x[held], 1) > 0, y[held] > 0.5
        both, either = (found & truth).sum().item(), found.sum().item() + truth.sum().item()
        return {"dice": 2 * both / either, "pixel_accuracy": (found == truth).float().mean().item()}

    def augment(inputs, masks):
        if options.shift:
            moved = shift(torch.cat([inputs, masks], 1), options.shift, "reflect")
            inputs, masks = moved[:, :1], moved[:, 1:]
        return orient(inputs, masks)

    losses = {
        "bce": F.binary_cross_entropy_with_logits,
        "bce+dice": lambda logits, masks: F.binary_cross_entropy_with_logits(logits, masks) + dice_loss(logits, masks),
    }
    fit(net, x[train], y[train], losses[options.loss], augment, options, progress(options, name, measure))
    return measure()


def dice_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """1 - the Dice coefficient of the probabilities, pooled over the batch; 1 added above and below."""
    chances = logits.sigmoid()
    return 1 - (2 * (chances * masks).sum() + 1) / (chances.sum() + masks.sum() + 1)


# The command line


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipes = parser.add_subparsers(dest="recipe", required=True)

    def recipe(name: str, run, help: str, epochs: int, lr: float, batch: int) -> argparse.ArgumentParser:
        own = recipes.add_parser(name, help=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        own.set_defaults(run=run)
        own.add_argument("folder", type=Path)
        own.add_argument("--epochs", type=int, default=epochs)
        own.add_argument("--lr", type=float, default=lr)
        own.add_argument("--batch", type=int, default=batch)
        own.add_argument("--schedule", choices=["constant", "cosine"], default="constant")
        own.add_argument("--weight-decay", type=float, default=0.0)
        own.add_argument("--holdout", type=int, default=5, metavar="K", help="hold out index %% K == K - 1")
        own.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[1], metavar="A,B")
        own.add_argument("--threads", type=int, default=1)
        own.add_argument("--every", type=int, default=0, metavar="N", help="log the metrics every N epochs, too")
        own.add_argument("--json", type=Path, help="write the result here, too")
        return own

    own = recipe("mnist", mnist, "the CNN classifies digits", 5, 1e-3, 64)
    own.add_argument("--shift", type=int, default=0, help="move each training image by up to this many pixels")
    own.add_argument("--batch-norm", action="store_true", help="after each convolution")
    own.add_argument("--dropout", type=float, default=0.0, help="after the dense layer of 128")
    own = recipe("anomaly", anomaly, "the AutoEncoder finds the digits it was not trained on", 20, 1e-3, 64)
    own.add_argument("--latent", type=int, default=16)
    own = recipe("membrane", membrane, "the U-Net segments membranes", 40, 2e-3, 4)
    own.add_argument("--base", type=int, default=16)
    own.add_argument("--size", type=int, default=256, help="images and labels are averaged down to it")
    own.add_argument("--no-skips", action="store_true", help="the same network without its skip connections")
    own.add_argument("--loss", choices=["bce", "bce+dice"], default="bce")
    own.add_argument("--shift", type=int, default=0, help="move image and label by up to this many pixels, reflecting")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    runs = []
    for seed in options.seeds:
        torch.manual_seed(seed)
        start = time.perf_counter()
        metrics = options.run(options, f"{options.recipe} seed {seed}")
        runs.append({"seed": seed, **metrics, "seconds": round(time.perf_counter() - start, 1)})
    told = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items() if key != "run"}
    mean = {key: statistics.fmean(run[key] for run in runs) for key in runs[0] if key not in ("seed", "seconds")}
    result = {"recipe": options.recipe, "torch": torch.__version__, "options": told, "runs": runs, "mean": mean}
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
