"""How much of any rectangle of a slide a mask covers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Coverage"]


class Coverage:
    """Share of rectangles that a mask covers, by sums over the mask so far (an integral image).

    Parameters
    ----------
    mask
        (rows, columns) bool; nothing is covered beyond it.
    scale
        Level-0 pixels per mask pixel, (x, y).
    origin
        (column, row) of ``mask[0, 0]``, counted in mask pixels from the slide's corner.
    """

    def __init__(
        self,
        mask: npt.NDArray[np.bool_],
        scale: tuple[float, float],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.mask, self.scale, self.origin = mask, scale, origin
        self._sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
        self._sums[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)

    def share(self, left: float, top: float, right: float, bottom: float) -> float:
        """Covered share of the mask pixels that a rectangle touches.

        Parameters
        ----------
        left, top, right, bottom
            Level-0 pixels.
        """
        x0, x1 = self._pixels(left, right, 0)
        y0, y1 = self._pixels(top, bottom, 1)
        rows = np.clip([y0, y1], 0, self.mask.shape[0])
        columns = np.clip([x0, x1], 0, self.mask.shape[1])
        (a, b), (c, d) = self._sums[np.ix_(rows, columns)].tolist()
        return float((d - b - c + a) / ((x1 - x0) * (y1 - y0)))

    def _pixels(self, first: float, last: float, axis: int) -> tuple[int, int]:
        """First mask pixel that an interval touches, and the one after the last."""
        begin = math.floor(first / self.scale[axis] + 1e-6)
        end = max(begin + 1, math.ceil(last / self.scale[axis] - 1e-6))
        return begin - self.origin[axis], end - self.origin[axis]

    def random_places(
        self, n: int, random: np.random.Generator
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Random positions (x, y), level-0 pixels, all of the covered area equally likely."""
        covered = np.flatnonzero(self.mask)
        if not len(covered):
            return np.empty(0), np.empty(0)
        rows, columns = np.unravel_index(random.choice(covered, n), self.mask.shape)
        x = (columns + self.origin[0] + random.random(n)) * self.scale[0]
        y = (rows + self.origin[1] + random.random(n)) * self.scale[1]
        return x, y
