"""A network of GoogLeNet's size, 3 GFLOP a window of 224 px, with random weights.

Its batch norms know what generated tissue looks like: numbers that fade from layer to layer would
be the same in whatever way they are computed. Random weights tell windows apart much worse than
trained ones, so scores are spread around 0.5 no wider than that bfloat16 changes them by 0.01.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch
from harness import Bench
from networks import spread
from slides import _stained_texture
from torch import nn

NORMALIZATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

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


def _conv(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=0.001), nn.ReLU())


class _Inception(nn.Module):
    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branches = nn.ModuleList(
            [
                _conv(inputs, one, 1),
                nn.Sequential(_conv(inputs, reduce3, 1), _conv(reduce3, three, 3)),
                nn.Sequential(_conv(inputs, reduce5, 1), _conv(reduce5, five, 3)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(inputs, pool, 1)),
            ]
        )
        self.outputs = one + three + five + pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


@functools.cache
def googlenet(classes: int = 2, seed: int = 0) -> nn.Module:
    """The network, ready to score."""
    torch.manual_seed(seed)
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    layers: list[nn.Module] = [_conv(3, 64, 7, 2), pool, _conv(64, 64, 1), _conv(64, 192, 3), pool]
    width = 192
    for number, widths in enumerate(_INCEPTION):
        block = _Inception(width, widths)
        layers += [pool, block] if number in _POOLED else [block]
        width = block.outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    made, batch = nn.Sequential(*layers), _tissue()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # The mean of what it has seen, which is the batch.
    with torch.no_grad():
        made.train()(batch)
        made = spread(made.eval(), batch)
        for values in made[-1].parameters():
            values /= 20
    return made


def _tissue() -> torch.Tensor:
    """Windows of generated tissue, from pale to dark, as the network is fed: (8, 3, 224, 224)."""
    texture = _stained_texture(1).astype(np.float32)
    windows = np.stack([texture[96 * k :, 96 * k :][:224, :224] * (1 - k / 14) for k in range(8)])
    scaled = (windows / 255 - NORMALIZATION["mean"]) / NORMALIZATION["std"]
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32))


def write_googlenet(folder: Path) -> Path:
    """Write model.pt2 and model.json; gives the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(googlenet(), (torch.rand(2, 3, 224, 224),), dynamic_shapes=shapes)
    torch.export.save(program, str(folder / "model.pt2"))
    return _described(folder / "model.pt2")


def shared_googlenet(bench: Bench) -> Path:
    """The network in TorchScript, written once for all figures; gives the model's path."""
    return bench.once("googlenet", write_torchscript) / "model.pt"


def write_torchscript(folder: Path) -> Path:
    """Write model.pt, as model zoos have it, and model.json; gives the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    traced = torch.jit.trace(googlenet(), torch.rand(1, 3, 224, 224), check_trace=False)
    traced.save(str(folder / "model.pt"))
    return _described(folder / "model.pt")


def _described(model: Path) -> Path:
    """A model with its descriptor beside it, which WSInfer reads too."""
    descriptor = {
        "spec_version": "1.0",
        "architecture": "googlenet",
        "num_classes": 2,
        "class_names": ["normal", "tumor"],
        "patch_size_pixels": 224,
        "spacing_um_px": 0.25,
        "name": "googlenet-random",
        "lesion_class": "tumor",
        "transform": [{"name": "ToTensor"}, {"name": "Normalize", "arguments": NORMALIZATION}],
    }
    model.with_suffix(".json").write_text(json.dumps(descriptor), "utf-8")
    return model
