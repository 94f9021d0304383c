#!/usr/bin/env python3
"""Makes golden networks: what PyTorch computes with whole networks, for `tilewise check --golden` and the tests.

    pip install torch numpy safetensors
    tools/make_golden_models.py tests/golden/networks.safetensors     # small ones, all in the file in the repository
    tools/make_golden_models.py folder --full                         # at their usual sizes, one file each

Everything is computed in float64 from float32 weights and images, and rounded to float32 once. Of each network a file holds
the tensors under their state_dict names, and beside them

    golden/x        the images          golden/target    what the loss compares with (int64 labels for cross entropy)
    golden/y        the output in eval mode
    golden/losses   the loss before each of five training steps (train mode, Adam, learning rate 1e-3, the same batch each time)

The metadata is "net" (unet, cnn, autoencoder), "config" (JSON) and "loss" (bce_with_logits, cross_entropy, mse). In a file of
several networks every tensor bears its network's name and a slash in front, and the metadata key "networks" is a JSON list
of {"name", "net", "config", "loss"}.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

STEPS = 5
LEARNING_RATE = 1e-3


class Cnn(nn.Module):
    """For each width of `maps` conv 3x3 + ReLU + max-pool 2, then dense + ReLU, then dense to the classes."""

    def __init__(self, in_channels: int, size: int, classes: int, maps: list[int], dense: int):
        super().__init__()
        self.depth = len(maps)
        for i, (before, width) in enumerate(zip([in_channels, *maps], maps), 1):
            setattr(self, f"conv{i}", nn.Conv2d(before, width, 3, padding=1))
        self.fc1 = nn.Linear(maps[-1] * (size >> self.depth) ** 2, dense)
        self.fc2 = nn.Linear(dense, classes)

    def forward(self, x):
        for i in range(1, self.depth + 1):
            x = F.max_pool2d(F.relu(getattr(self, f"conv{i}")(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class AutoEncoder(nn.Module):
    """For each width of `maps` conv 3x3 stride 2 + ReLU, and back by transposed conv 2x2 stride 2; the last one to a sigmoid."""

    def __init__(self, in_channels: int, maps: list[int]):
        super().__init__()
        self.depth = len(maps)
        for i, (before, width) in enumerate(zip([in_channels, *maps], maps), 1):
            setattr(self, f"enc{i}", nn.Conv2d(before, width, 3, stride=2, padding=1))
            setattr(self, f"dec{self.depth + 1 - i}", nn.ConvTranspose2d(width, before, 2, stride=2))

    def forward(self, x):
        for i in range(1, self.depth + 1):
            x = F.relu(getattr(self, f"enc{i}")(x))
        for i in range(1, self.depth + 1):
            x = getattr(self, f"dec{i}")(x)
            x = F.relu(x) if i < self.depth else torch.sigmoid(x)
        return x


class DoubleConv(nn.Module):
    """Twice conv 3x3 + batch norm + ReLU."""

    def __init__(self, before: int, middle: int, after: int):
        super().__init__()
        conv = lambda a, b: [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.double_conv = nn.Sequential(*conv(before, middle), *conv(middle, after))

    def forward(self, x):
        return self.double_conv(x)


class UNet(nn.Module):
    """`base` maps, twice as many at each of `levels` poolings; up by transposed convolutions, or bilinearly."""

    def __init__(self, in_channels: int, classes: int, base: int, levels: int, bilinear: bool, align_corners: bool):
        super().__init__()
        self.levels = levels
        half = 2 if bilinear else 1
        self.inc = DoubleConv(in_channels, base, base)
        for level in range(1, levels + 1):
            before, after = base << level - 1, base << level
            after = after // half if level == levels else after
            down, up = nn.Module(), nn.Module()
            down.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(before, after, after))
            if bilinear:
                up.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
            else:
                up.up = nn.ConvTranspose2d(2 * before, before, 2, stride=2)
            up.conv = DoubleConv(2 * before, before, before if level == 1 else before // half)
            setattr(self, f"down{level}", down)
            setattr(self, f"up{levels + 1 - level}", up)
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(base, classes, 1)

    def forward(self, x):
        skips, x = [], self.inc(x)
        for level in range(1, self.levels + 1):
            skips.append(x)
            x = getattr(self, f"down{level}").maxpool_conv(x)
        for level in range(1, self.levels + 1):
            skip, up = skips.pop(), getattr(self, f"up{level}")
            x = up.up(x)
            rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
            x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
            x = up.conv(torch.cat([skip, x], 1))
        return self.outc.conv(x)


def single(*extents: int, low: float | None = None) -> torch.Tensor:
    """Random numbers that f32 can hold: normal, or uniform in low..1."""
    x = torch.randn(extents) if low is None else low + (1 - low) * torch.rand(extents)
    return x.float().double()


def solve(net: nn.Module, x: torch.Tensor, target: torch.Tensor, loss) -> dict[str, np.ndarray]:
    """The tensors of one network. Weights become numbers of f32; running statistics get some that are not 0 and 1."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.float())
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.1 * single(module.num_features))
                module.running_mean.copy_(module.running_mean.float())
                module.running_var.copy_(0.5 + single(module.num_features, low=0.0))
                module.running_var.copy_(module.running_var.float())
    tensors = {name: t.clone() for name, t in net.state_dict().items() if t.is_floating_point()}
    net.eval()
    y = net(x).detach()
    net.train()
    optimiser, losses = torch.optim.Adam(net.parameters(), LEARNING_RATE), []
    for _ in range(STEPS):
        optimiser.zero_grad()
        step = loss(net(x), target)
        losses.append(step.item())
        step.backward()
        optimiser.step()
    tensors |= {"golden/x": x, "golden/y": y, "golden/target": target, "golden/losses": torch.tensor(losses)}
    as_numpy = lambda t: t.numpy().astype(np.float32 if t.is_floating_point() else np.int64)
    return {name: np.ascontiguousarray(as_numpy(t)) for name, t in tensors.items()}


def unet(base: int, levels: int, batch: int, size: tuple[int, int], bilinear: bool = False, align_corners: bool = True):
    config = {"in_channels": 3, "classes": 1, "base": base, "bilinear": bilinear, "align_corners": align_corners}
    x, mask = single(batch, 3, *size), (torch.rand(batch, 1, *size) < 0.4).double()
    tensors = solve(UNet(levels=levels, **config), x, mask, F.binary_cross_entropy_with_logits)
    return {"net": "unet", "config": config, "loss": "bce_with_logits"}, tensors


def cnn(channels: int, size: int, batch: int, maps: list[int], dense: int):
    config = {"in_channels": channels, "size": size, "classes": 10}
    x, labels = single(batch, channels, size, size), torch.randint(0, 10, (batch,))
    tensors = solve(Cnn(maps=maps, dense=dense, **config), x, labels, F.cross_entropy)
    return {"net": "cnn", "config": config, "loss": "cross_entropy"}, tensors


def autoencoder(channels: int, size: int, batch: int, maps: list[int]):
    x = single(batch, channels, size, size, low=0.0)
    tensors = solve(AutoEncoder(channels, maps), x, x, F.mse_loss)
    return {"net": "autoencoder", "config": {"in_channels": channels, "size": size}, "loss": "mse"}, tensors


SMALL = {
    "unet": lambda: unet(2, 4, 2, (16, 32)),
    "unet_odd": lambda: unet(4, 3, 2, (13, 23)),
    "unet_bilinear": lambda: unet(4, 3, 2, (17, 22), bilinear=True),
    "unet_bilinear_centres": lambda: unet(4, 2, 2, (12, 10), bilinear=True, align_corners=False),
    "cnn": lambda: cnn(1, 12, 6, [8, 16], 24),
    "cnn_rgb": lambda: cnn(3, 17, 5, [6, 8, 12], 20),
    "autoencoder": lambda: autoencoder(1, 12, 6, [8, 16]),
}

FULL = {
    "unet": lambda: unet(8, 4, 2, (48, 64)),
    "unet_odd": lambda: unet(8, 4, 2, (50, 71)),
    "unet_bilinear": lambda: unet(8, 4, 2, (48, 64), bilinear=True),
    "cnn": lambda: cnn(1, 28, 16, [32, 64], 128),
    "cnn_rgb": lambda: cnn(3, 32, 16, [32, 64], 128),
    "autoencoder": lambda: autoencoder(1, 28, 16, [16, 32]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file, or with --full the folder")
    parser.add_argument("--full", action="store_true", help="the usual sizes, a file for each network")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_default_dtype(torch.float64)
    solved = {name: make() for name, make in (FULL if args.full else SMALL).items()}
    if args.full:
        args.out.mkdir(parents=True, exist_ok=True)
        for name, (entry, tensors) in solved.items():
            metadata = {"net": entry["net"], "config": json.dumps(entry["config"]), "loss": entry["loss"]}
            save_file(tensors, args.out / f"{name}.safetensors", metadata | {"torch": torch.__version__})
    else:
        tensors = {f"{name}/{key}": t for name, (_, tensors) in solved.items() for key, t in tensors.items()}
        networks = [{"name": name, **entry} for name, (entry, _) in solved.items()]
        save_file(tensors, args.out, {"networks": json.dumps(networks), "torch": torch.__version__})
    for name, (entry, tensors) in solved.items():
        print(f"{name}: {tensors['golden/y'].shape}, losses {[round(float(l), 6) for l in tensors['golden/losses']]}")


if __name__ == "__main__":
    main()
