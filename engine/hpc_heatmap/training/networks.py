"""The networks that can be trained: GoogLeNet and a small residual network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hpc_heatmap.training.settings import NetworkName

__all__ = ["GoogLeNet", "PatchResNet", "build_network", "count_weights"]

#: Channels of Table 1 of Szegedy et al., 2015: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool.
_INCEPTION = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
#: Blocks that a pooling layer comes before.
_POOLED = {2, 7}


def build_network(name: NetworkName, classes: int = 2) -> Any:
    """A network with random weights (torch's global generator), from NCHW batches to logits."""
    return {NetworkName.GOOGLENET: GoogLeNet, NetworkName.PATCH_RESNET: PatchResNet}[name](classes)


def count_weights(network: Any) -> int:
    """Number of trained values."""
    return sum(values.numel() for values in network.parameters())


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> Any:
    """Convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=0.001), nn.ReLU())


class _Inception(nn.Module):
    """Four branches over the same input, their outputs one behind the other."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branches = nn.ModuleList(
            [
                _convolution(inputs, one, 1),
                nn.Sequential(_convolution(inputs, reduce3, 1), _convolution(reduce3, three, 3)),
                nn.Sequential(_convolution(inputs, reduce5, 1), _convolution(reduce5, five, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), _convolution(inputs, pool, 1)),
            ]
        )
        self.outputs = one + three + five + pool

    def forward(self, x: Any) -> Any:
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(nn.Module):
    """Inception v1 (Szegedy et al., CVPR 2015) with batch normalisation, without its two
    auxiliary classifiers; made for windows of 224 px, works from 32 px.

    Parameters
    ----------
    classes
        Number of logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        layers = [
            _convolution(3, 64, 7, 2), pool,
            _convolution(64, 64, 1), _convolution(64, 192, 3), pool,
        ]  # fmt: skip
        width = 192
        for number, widths in enumerate(_INCEPTION):
            block = _Inception(width, widths)
            layers += [pool, block] if number in _POOLED else [block]
            width = block.outputs
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.4)
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Any) -> Any:
        """Logits (n, classes) of a normalised batch (n, 3, height, width)."""
        features = self.features(x).mean(dim=(2, 3))
        return self.classifier(self.dropout(features))


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, which averages 2 x 2 pixels at stride 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Any) -> Any:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class PatchResNet(nn.Module):
    """Small residual network; it can tell the centre of a window from its surroundings.

    The last feature map is averaged over a grid of 3 x 3 before the linear layer: for windows of 96
    px the middle of the grid is the centre of 32 px that PatchCamelyon's labels are of.

    Parameters
    ----------
    classes
        Number of logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            _Residual(16, 16, 1),
            _Residual(16, 32, 2),
            _Residual(32, 32, 1),
            _Residual(32, 64, 2),
            _Residual(64, 64, 1),
            _Residual(64, 64, 1),
        )
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(64 * 9, classes)

    def forward(self, x: Any) -> Any:
        """Logits (n, classes) of a normalised batch (n, 3, height, width)."""
        x = functional.relu(self.stem_norm(self.stem(x)))
        x = self.pool(self.blocks(x))
        return self.classifier(self.dropout(torch.flatten(x, 1)))
