"""Pixels at another spacing, each a function of its absolute position alone.

The filter is a triangle as wide as one read pixel on each side (antialiased bilinear); values
half-way between two grey levels go up.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hpc_heatmap.geometry import Box

__all__ = ["resample"]

#: Rounds to whole grey levels, ties up however their sums were rounded.
_HALF = 0.5 + 1e-9


def resample(
    read: Callable[[Box], npt.NDArray[np.uint8]], box: Box, factor: tuple[float, float]
) -> npt.NDArray[np.uint8]:
    """Pixels of a box, (height, width, 3).

    Parameters
    ----------
    read
        Gives the source pixels of a box of source pixels.
    box
        What is wanted, pixels of the result.
    factor
        Source pixels per pixel of the result, (x, y).
    """
    columns, x_weights, left, width = _taps(box.x, box.width, factor[0])
    rows, y_weights, top, height = _taps(box.y, box.height, factor[1])
    source = read(Box(left, top, width, height))
    narrowed = np.zeros((height, box.width, 3))
    for tap in range(columns.shape[1]):
        narrowed += source[:, columns[:, tap]] * x_weights[:, tap, None]
    pixels = np.zeros((box.height, box.width, 3))
    for tap in range(rows.shape[1]):
        pixels += narrowed[rows[:, tap]] * y_weights[:, tap, None, None]
    return np.floor(pixels + _HALF).astype(np.uint8)


def _taps(
    start: int, length: int, factor: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], int, int]:
    """Source positions and weights of a triangle filter.

    Returns
    -------
    positions, weights
        Both (length, taps); positions count from the first source pixel needed.
    first, count
        The source pixels needed.
    """
    centres = (np.arange(start, start + length) + 0.5) * factor
    radius = max(factor, 1.0)
    first_tap = np.ceil(centres - radius - 0.5).astype(np.intp)
    positions = first_tap[:, None] + np.arange(math.floor(2 * radius) + 1)
    weights = np.clip(1 - np.abs(positions + 0.5 - centres[:, None]) / radius, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    first = int(positions[0, 0])
    count = int(positions[-1, -1]) - first + 1
    return positions - first, weights, first, count
