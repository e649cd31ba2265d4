"""Scores of a wider stride from a heatmap: every k-th sample, which a run would give as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.heatmap import Heatmap

__all__ = ["Decimated", "decimate"]


@dataclass(frozen=True)
class Decimated:
    """Scores in memory, placed as those of a :class:`~hpc_heatmap.formats.heatmap.Heatmap`.

    Attributes
    ----------
    scores
        float32 (rows, columns), NaN off tissue.
    origin_px, step_px
        Of sample (0, 0) and between samples, (x, y), level-0 pixels.
    stride_px
        Distance of samples, read pixels.
    """

    scores: npt.NDArray[np.float32]
    origin_px: tuple[float, float]
    step_px: tuple[float, float]
    stride_px: int

    def dataset(self) -> npt.NDArray[np.float32]:
        """The scores."""
        return self.scores


def decimate(heatmap: Heatmap, window_px: int, stride_px: int, wider_px: int) -> Decimated:
    """Scores at a wider stride.

    The lattice of every stride holds the point half a window from the slide's corner, so a
    multiple of a stride has a subset of its points.

    Parameters
    ----------
    heatmap
        Of a run at `stride_px`.
    window_px, stride_px
        Side of a window and stride of the run, read pixels.
    wider_px
        The stride that is wanted.

    Raises
    ------
    SettingsError
        It is not a multiple of the run's stride, or wider than a window.
    """
    if wider_px % stride_px or not stride_px <= wider_px <= window_px:
        raise SettingsError(
            f"A stride of {wider_px} px cannot be taken from a run at {stride_px} px: give "
            f"multiples of {stride_px} up to the window of {window_px} px."
        )
    every, half = wider_px // stride_px, window_px // 2
    first = (half % wider_px - half % stride_px) // stride_px
    # Whole chunks are read: HDF5 is slow at picking single samples.
    dataset = heatmap.dataset()
    rows = range(first, dataset.shape[0], every)
    scores = np.full((len(rows), len(range(first, dataset.shape[1], every))), np.nan, np.float32)
    for block in range(0, len(rows), 64):
        part = rows[block : block + 64]
        scores[block : block + 64] = dataset[part[0] : part[-1] + 1][::every, first::every]
    origin = tuple(o + first * s for o, s in zip(heatmap.origin_px, heatmap.step_px, strict=True))
    step = tuple(s * every for s in heatmap.step_px)
    return Decimated(scores, (origin[0], origin[1]), (step[0], step[1]), wider_px)
