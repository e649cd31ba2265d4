"""Small networks of the families that are common in pathology, with random weights."""

from __future__ import annotations

import torch
from torch import nn


def conv(inputs: int, outputs: int, side: int, stride: int = 1, **options: object) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Branches(nn.Module):
    """Results of several branches side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception(inputs: int) -> Branches:
    return Branches(
        conv(inputs, 8, 1),
        nn.Sequential(conv(inputs, 8, 1), conv(8, 12, 3)),
        nn.Sequential(conv(inputs, 4, 1), conv(4, 6, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, 6, 1)),
    )


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(inputs, outputs, 3, stride),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class Dense(nn.Module):
    """Each layer sees the results of all layers before it."""

    def __init__(self, inputs: int, layers: int, growth: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + k * growth),
                nn.ReLU(),
                nn.Conv2d(inputs + k * growth, growth, 3, padding=1, bias=False),
            )
            for k in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class Gate(nn.Module):
    """Squeeze and excitation: each channel times a number that depends on the whole window."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class Attention(nn.Module):
    """A small vision transformer."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 16, 16)
        self.place = nn.Parameter(torch.randn(1, (side // 16) ** 2, 16) * 0.1)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.layer(tokens).mean(1))


def network(family: str, side: int = 64) -> nn.Module:
    """A network ready to score windows of a side, two classes."""
    torch.manual_seed(7)
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    ceil = nn.MaxPool2d(3, 2, ceil_mode=True)
    made = {
        "googlenet": lambda: nn.Sequential(
            conv(3, 16, 7, 2), ceil, conv(16, 16, 1), conv(16, 24, 3), ceil,
            inception(24), inception(32), ceil, inception(32), *end, nn.Dropout(0.4),
            nn.Linear(32, 2),
        ),
        "resnet": lambda: nn.Sequential(
            conv(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1), Residual(16, 16, 1), Residual(16, 24, 2),
            Residual(24, 24, 1), Residual(24, 32, 2), *end, nn.Linear(32, 2),
        ),
        "vgg": lambda: nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2, 2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
            nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Flatten(),
            nn.Linear(24 * (side // 8) ** 2, 32), nn.ReLU(), nn.Linear(32, 2),
        ),
        "densenet": lambda: nn.Sequential(
            conv(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1), Dense(16, 3), nn.BatchNorm2d(40), nn.ReLU(),
            nn.Conv2d(40, 20, 1, bias=False), nn.AvgPool2d(2, 2), Dense(20, 3), nn.BatchNorm2d(44),
            nn.ReLU(), *end, nn.Linear(44, 2),
        ),
        "mobile": lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.Hardswish(), nn.Conv2d(16, 16, (5, 3), padding=(2, 1),
            groups=16), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 24, 3, 2, 2, dilation=2),
            nn.LeakyReLU(0.1), nn.AvgPool2d(3, 2, 1), nn.Conv2d(24, 24, 1), nn.SiLU(), *end,
            nn.Linear(24, 2),
        ),
        "gated": lambda: nn.Sequential(
            conv(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1), conv(16, 16, 3), Gate(16), conv(16, 24, 3, 2),
            Gate(24), *end, nn.Linear(24, 2),
        ),
        "attention": lambda: Attention(side),
    }[family]()  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, generator=generator)
            if isinstance(layer, nn.BatchNorm2d):
                for values, low, high in (
                    (layer.weight, 0.6, 1.4), (layer.bias, -0.3, 0.3),
                    (layer.running_mean, -0.2, 0.2), (layer.running_var, 0.5, 1.5),
                ):  # fmt: skip
                    values.uniform_(low, high, generator=generator)
    return made.eval()


def spread(made: nn.Module, batch: torch.Tensor) -> nn.Module:
    """The network with probabilities from about 0.05 to 0.95 on a batch."""
    last = [layer for layer in made.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        logits = made(batch)
        difference = logits[:, 1] - logits[:, 0]
        factor = 1.5 / difference.std()
        last.weight *= factor
        last.bias *= factor
        last.bias[1] -= factor * difference.mean()
    return made
