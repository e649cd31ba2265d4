"""Contours of a heatmap: lines where the score crosses a threshold, as thin at every zoom.

A line must be some pixels of the screen wide. So below the heatmap's finest level stand finer ones,
interpolated where they are looked at, and a line is as wide in samples on each of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LINE_SAMPLES", "ContourLevel"]

Scores = npt.NDArray[np.float32]

#: Width of a line, samples of its level; a level has one to two of them for a pixel of the screen.
LINE_SAMPLES = 3


class ContourLevel:
    """Lines of one level, as an array-like: the score on a line, NaN beside it.

    Parameters
    ----------
    scores
        Samples: an array-like of shape (rows, columns), NaN off tissue, which counts as below any
        threshold.
    threshold
        The line is just inside of where scores reach it.
    zoom
        Samples of the contour for one of `scores`, on each axis; they are interpolated linearly.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, scores: Any, threshold: float, zoom: int = 1) -> None:
        self._scores = scores
        self._threshold = threshold
        self._zoom = zoom
        self.shape: tuple[int, int] = (scores.shape[0] * zoom, scores.shape[1] * zoom)
        self.size = self.shape[0] * self.shape[1]
        self.chunks = tuple(min(512, n) for n in self.shape)

    def __getitem__(self, key: Any) -> Any:
        """Samples of two slices with a step of 1, which is what a viewer asks for."""
        keys = key if isinstance(key, tuple) else (key,)
        keys += (slice(None),) * (2 - len(keys))
        ranges = [range(*item.indices(n)) for item, n in zip(keys, self.shape, strict=True)]
        if any(r.step != 1 for r in ranges):
            raise IndexError("contours are read in slices with a step of 1")
        return self._lines(*ranges)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All samples; mind the size."""
        return np.asarray(self[:], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def _lines(self, rows: range, columns: range) -> Scores:
        if not rows or not columns:
            return np.empty((len(rows), len(columns)), np.float32)
        # A line is known from what is around it.
        wider = [
            range(max(0, r.start - LINE_SAMPLES), min(n, r.stop + LINE_SAMPLES))
            for r, n in zip((rows, columns), self.shape, strict=True)
        ]
        from scipy import ndimage  # Half a second of loading that only lines need.

        scores = self._interpolated(*wider)
        inside = scores >= self._threshold
        if not inside.any():
            return np.full((len(rows), len(columns)), np.nan, np.float32)
        # Beyond the slide nothing is known: no line runs along its edge.
        core = ndimage.binary_erosion(
            inside, np.ones((3, 3), bool), iterations=LINE_SAMPLES, border_value=1
        )
        lines = np.where(inside & ~core, scores, np.float32(np.nan))
        y, x = rows.start - wider[0].start, columns.start - wider[1].start
        return lines[y : y + len(rows), x : x + len(columns)]

    def _interpolated(self, rows: range, columns: range) -> Scores:
        """Scores at contour samples; NaN counts as 0."""
        low, high, weights = [], [], []
        for wanted, n in zip((rows, columns), self._scores.shape, strict=True):
            position = (np.arange(wanted.start, wanted.stop) + 0.5) / self._zoom - 0.5
            position = np.clip(position, 0, n - 1)
            low.append(np.floor(position).astype(np.intp))
            high.append(np.minimum(low[-1] + 1, n - 1))
            weights.append((position - low[-1]).astype(np.float32))
        top, left = low[0][0], low[1][0]
        scores = np.nan_to_num(
            np.asarray(self._scores[top : high[0][-1] + 1, left : high[1][-1] + 1], np.float32)
        )
        y, x = weights[0][:, None], weights[1]
        across = scores[:, low[1] - left] * (1 - x) + scores[:, high[1] - left] * x
        between: Scores = across[low[0] - top] * (1 - y) + across[high[0] - top] * y
        return between
