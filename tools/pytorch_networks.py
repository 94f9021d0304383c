"""The CNN, the AutoEncoder and the U-Net as PyTorch modules: what `train_pytorch.py` trains and `peers.py` times.
Parameters bear the names that our weight files use; initialisation is PyTorch's default everywhere.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Cnn(nn.Module):
    """LeNet-style: twice conv 3x3 + ReLU + max-pool 2 (32, then 64 channels), dense 128 + ReLU, dense to the classes.

    With `batch_norm`, each convolution is followed by one (and keeps no bias); with `dropout`, the dense 128, too."""

    def __init__(self, channels: int, size: int, classes: int, batch_norm: bool = False, dropout: float = 0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1, bias=not batch_norm)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=not batch_norm)
        self.bn1 = nn.BatchNorm2d(32) if batch_norm else nn.Identity()
        self.bn2 = nn.BatchNorm2d(64) if batch_norm else nn.Identity()
        self.fc1 = nn.Linear(64 * (size // 4) ** 2, 128)
        self.fc2 = nn.Linear(128, classes)
        self.dropout = dropout

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(F.dropout(x, self.dropout, self.training))


class AutoEncoder(nn.Module):
    """conv 3x3 stride 2 (16) + ReLU, conv 3x3 stride 2 (32) + ReLU | deconv 2x2 stride 2 (16) + ReLU, deconv 2x2 stride 2
    + sigmoid.

    With `latent`, the middle passes through that many numbers: dense down to them + ReLU, dense up + ReLU."""

    def __init__(self, channels: int, size: int, latent: int | None = None):
        super().__init__()
        self.enc1 = nn.Conv2d(channels, 16, 3, 2, 1)
        self.enc2 = nn.Conv2d(16, 32, 3, 2, 1)
        self.middle = (32, size // 4, size // 4)
        if latent is not None:
            features = 32 * (size // 4) ** 2
            self.latent = nn.Linear(features, latent)
            self.expand = nn.Linear(latent, features)
        self.has_latent = latent is not None
        self.dec1 = nn.ConvTranspose2d(32, 16, 2, 2)
        self.dec2 = nn.ConvTranspose2d(16, channels, 2, 2)

    def forward(self, x):
        x = F.relu(self.enc2(F.relu(self.enc1(x))))
        if self.has_latent:
            x = F.relu(self.expand(F.relu(self.latent(x.flatten(1))))).unflatten(1, self.middle)
        return torch.sigmoid(self.dec2(F.relu(self.dec1(x))))


class DoubleConv(nn.Module):
    """Twice conv 3x3 without bias + batch norm + ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    """Max-pool 2, then twice the channels."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(inputs, outputs))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Transposed convolution 2x2 stride 2 to half the channels, zero-padded to the size of the skip and put behind it.

    Without `skips` nothing is put beside it, and the convolution that follows takes half as many channels."""

    def __init__(self, inputs: int, outputs: int, skips: bool):
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)
        self.conv = DoubleConv(inputs if skips else inputs // 2, outputs)
        self.skips = skips

    def forward(self, x, skip):
        x = self.up(x)
        dy, dx = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        if dy or dx:
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([skip, x], 1) if self.skips else x)


class UNet(nn.Module):
    """`base` channels at full size, doubled at each of 4 poolings; a 1x1 convolution to the classes' logits at the end."""

    def __init__(self, channels: int, classes: int, base: int, skips: bool = True):
        super().__init__()
        self.inc = DoubleConv(channels, base)
        for level in range(4):
            width = base << level
            setattr(self, f"down{level + 1}", Down(width, 2 * width))
            setattr(self, f"up{4 - level}", Up(2 * width, width, skips))
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(base, classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)
        return self.outc.conv(x)
