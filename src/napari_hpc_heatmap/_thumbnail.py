"""The small picture of a layer in napari's layer list."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["NearestThumbnail"]


class NearestThumbnail:
    """Mixed into image layers, before napari's class.

    Takes the nearest pixels, as napari does, by indexing: napari loads SciPy for it, which takes as
    long as all else until a slide is seen.
    """

    # napari's own.
    _slice: Any
    _thumbnail_shape: tuple[int, int, int]
    rgb: bool
    opacity: float
    contrast_limits: Any
    colormap: Any
    thumbnail: Any

    def _update_thumbnail(self) -> None:
        if self._slice.empty:
            self.thumbnail = np.zeros(self._thumbnail_shape, np.uint8)
            return
        image = self._slice.thumbnail.raw
        step = max(image.shape[:2]) / self._thumbnail_shape[0]
        rows, columns = (
            np.minimum(((np.arange(max(1, int(n / step))) + 0.5) * step).astype(int), n - 1)
            for n in image.shape[:2]
        )
        small = image[rows[:, None], columns]
        if self.rgb:
            opacity = np.full((*small.shape[:2], 1), round(255 * self.opacity), np.uint8)
            self.thumbnail = np.concatenate([small, opacity], axis=2)
            return
        low, high = self.contrast_limits
        values = np.clip((small - low) / (high - low), 0, 1)
        coloured = self.colormap.map(values.ravel()).reshape(*small.shape, 4)
        coloured[..., 3] *= self.opacity
        self.thumbnail = coloured
