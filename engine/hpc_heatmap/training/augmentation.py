"""Random variations of a batch of patches: window, symmetry, colour."""

from __future__ import annotations

from typing import Any

import torch

from hpc_heatmap.training.settings import TrainingSettings

__all__ = ["Augmenter", "centre_windows", "hsv_to_rgb", "rgb_to_hsv"]

#: Optical density of haematoxylin, eosin and a residual, one a row (Ruifrok and Johnston 2001).
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


class Augmenter:
    """From patches to windows as the network learns from them.

    Parameters
    ----------
    settings
        How much is varied.
    generator
        Source of all randomness.
    """

    def __init__(self, settings: TrainingSettings, generator: Any) -> None:
        self.settings = settings
        self.generator = generator
        stains = torch.tensor(_STAINS)
        self._to_rgb = stains / stains.norm(dim=1, keepdim=True)
        self._from_rgb = torch.linalg.inv(self._to_rgb)
        self._density = -torch.log((torch.arange(256, dtype=torch.float32) + 1) / 256)

    def __call__(self, images: Any) -> Any:
        """Windows (n, window, window, 3), float32 from 0 to 1, of uint8 patches (n, side, side, 3).

        The patches must be in random order: their number in the batch chooses the symmetry, so
        that a patch meets all eight over the epochs.
        """
        windows = torch.empty((len(images), self.settings.window, self.settings.window, 3)).byte()
        for k in range(8):
            part = images[k::8]
            if len(part):
                part = self._crop(part)
                part = part.flip(2) if k >= 4 else part
                windows[k::8] = torch.rot90(part, k % 4, (1, 2))
        stain = self.settings.stain_noise > 0
        colours = self._restain(windows) if stain else windows.float() / 255
        if self.settings.hsv_noise > 0:
            colours = self._shift_hsv(colours)
        return colours

    def _crop(self, images: Any) -> Any:
        """One random window for all the given patches; beyond them their border is repeated."""
        side, window, shift = images.shape[1], self.settings.window, self.settings.shift
        first = torch.randint(-shift, side - window + shift + 1, (2,), generator=self.generator)
        rows, columns = ((torch.arange(window) + int(start)).clamp(0, side - 1) for start in first)
        return images[:, rows][:, :, columns]

    def _symmetric(self, *shape: int) -> Any:
        """Random numbers between -1 and 1."""
        return torch.rand(shape, generator=self.generator) * 2 - 1

    def _shift_hsv(self, colours: Any) -> Any:
        """Add to hue, saturation and value, the same for all pixels of a patch.

        On OpenCV's scales: hue goes round at 180, saturation and value end at 255.
        """
        noise = self._symmetric(len(colours), 1, 1, 3) * self.settings.hsv_noise
        hsv = rgb_to_hsv(colours) + noise / torch.tensor([180.0, 255.0, 255.0])
        hue = hsv[..., :1] % 1
        return hsv_to_rgb(torch.cat([hue, hsv[..., 1:].clamp(0, 1)], -1))

    def _restain(self, images: Any) -> Any:
        """Change the density of each stain, its offset (a sixth) and the brightness (a quarter)."""
        n, most = len(images), self.settings.stain_noise
        scale = 1 + most * self._symmetric(n, 1, 3)
        offset = most / 6 * self._symmetric(n, 1, 3)
        light = torch.log1p(most / 4 * self._symmetric(n, 1, 1))
        density = self._density[images.reshape(n, -1, 3).int()]
        density = torch.baddbmm(
            offset @ self._to_rgb - light, density, (self._from_rgb * scale) @ self._to_rgb
        )
        return density.neg_().exp_().clamp_(0, 1).reshape(images.shape)


def centre_windows(images: Any, window_px: int) -> Any:
    """The middle windows of patches, float32 from 0 to 1: what the network is measured on."""
    first = (images.shape[1] - window_px) // 2
    return images[:, first : first + window_px, first : first + window_px].float() / 255


def rgb_to_hsv(rgb: Any) -> Any:
    """Hue, saturation and value from 0 to 1 of red, green and blue from 0 to 1, last axis."""
    value, _ = rgb.max(dim=-1)
    chroma = value - rgb.amin(dim=-1)
    red, green, blue = rgb.unbind(-1)
    safe = chroma.clamp_min(1e-12)
    hue = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = torch.where(chroma > 0, hue / 6, torch.zeros_like(hue))
    return torch.stack([hue, chroma / value.clamp_min(1e-12), value], -1)


def hsv_to_rgb(hsv: Any) -> Any:
    """Red, green and blue from 0 to 1 of hue, saturation and value from 0 to 1, last axis."""
    hue, saturation, value = hsv.unbind(-1)
    steps = torch.tensor([5.0, 3.0, 1.0])
    k = (steps + hue.unsqueeze(-1) * 6) % 6
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return value.unsqueeze(-1) * (1 - saturation.unsqueeze(-1) * ramp)
