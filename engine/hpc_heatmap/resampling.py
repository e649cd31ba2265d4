"""Pixels at another spacing, each a function of its absolute position alone.

The filter is a triangle as wide as one read pixel on each side (antialiased bilinear); values
half-way between two grey levels go up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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
    across, left, width = _weights(box.x, box.width, factor[0], channels=3)
    down, top, height = _weights(box.y, box.height, factor[1])
    source = read(Box(left, top, width, height)).reshape(height, -1).astype(np.float64)
    sums: npt.NDArray[np.float64] = (down @ source) @ across.T
    return (sums + _HALF).astype(np.uint8).reshape(box.height, box.width, 3)


def _weights(start: int, length: int, factor: float, *, channels: int = 1) -> tuple[Any, int, int]:
    """A triangle filter on one axis.

    Returns
    -------
    weights
        Sparse matrix (length, count): pixels of the result from the source pixels needed. With
        channels, each pixel has so many rows and columns, one after another.
    first, count
        The source pixels needed.
    """
    from scipy.sparse import csr_array

    centres = (np.arange(start, start + length) + 0.5) * factor
    radius = max(factor, 1.0)
    first_tap = np.ceil(centres - radius - 0.5).astype(np.intp)
    taps = math.floor(2 * radius) + 1
    positions = first_tap[:, None] + np.arange(taps)
    weights = np.clip(1 - np.abs(positions + 0.5 - centres[:, None]) / radius, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    first = int(positions[0, 0])
    count = int(positions[-1, -1]) - first + 1
    columns = (positions - first)[:, None] * channels + np.arange(channels)[:, None]
    values = np.repeat(weights, channels, axis=0)
    ends = np.arange(0, columns.size + 1, taps)
    shape = (length * channels, count * channels)
    return csr_array((values.ravel(), columns.ravel(), ends), shape=shape), first, count
