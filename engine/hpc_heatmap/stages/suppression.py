"""Lesions of a heatmap as peaks: non-maximum suppression by the rules of MONAI and NCRF.

The highest score becomes a detection, a square around it is emptied, and so on while a score is
above the threshold. MONAI's ``ProbNMS`` (box 48 at level 5) and NCRF's script (radius 12 at level
6) empty the same 1,536 pixels at level 0, for windows of 224; the square is kept at the same share
of the window at every stride. They differ in squares of odd size, and in which of equal scores
comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.heatmap import ScoreMap
from hpc_heatmap.formats.lesion_files import Lesion
from hpc_heatmap.settings import LesionMethod

__all__ = ["detect_peaks", "reach"]

#: Side of the emptied square in windows: 48 samples of 32 px, or 24 of 64 px, over 224 px.
SQUARE_WINDOWS = 1536 / 224
_BLOCK = 1024
_CHUNK = 10_000


def reach(method: LesionMethod, window_px: int, stride_px: int) -> tuple[int, int]:
    """Samples that are emptied before a peak, and from it on."""
    side = SQUARE_WINDOWS * window_px / stride_px
    if method is LesionMethod.NMS_NCRF:
        radius = max(1, round(side / 2))
        return radius, radius
    whole = max(1, round(side))
    return whole // 2, whole - whole // 2


def detect_peaks(
    heatmap: ScoreMap, threshold: float, before: int, after: int, *, columns_first: bool = False
) -> list[Lesion]:
    """Find the peaks of a heatmap, the highest score first.

    Parameters
    ----------
    heatmap
        Its finest level is used; off tissue there is no peak.
    threshold
        Peaks are above it.
    before, after
        A peak empties ``[row - before, row + after)`` and the same columns.
    columns_first
        Of equal scores the one in the first column comes first (NCRF), not that in the first row.
    """
    dataset = heatmap.dataset()
    rows, columns, scores = _above(dataset, threshold)
    ties = (rows, columns) if columns_first else (columns, rows)
    order = np.lexsort((*ties, -scores))
    rows, columns, scores = rows[order], columns[order], scores[order]
    empty = np.zeros(dataset.shape, bool)
    found: list[Lesion] = []
    for start in range(0, len(scores), _CHUNK):
        part = slice(start, start + _CHUNK)
        left = np.flatnonzero(~empty[rows[part], columns[part]]) + start
        for k in left.tolist():
            row, column = int(rows[k]), int(columns[k])
            if empty[row, column]:
                continue
            empty[max(0, row - before) : row + after, max(0, column - before) : column + after] = (
                True
            )
            found.append(_lesion(heatmap, len(found) + 1, row, column, float(scores[k])))
    return found


def _above(
    dataset: Any, threshold: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows, columns and scores of the samples above a threshold."""
    parts = list(_blocks(dataset, threshold))
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    rows, columns, scores = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(scores)


def _blocks(dataset: Any, threshold: float) -> Iterator[tuple[Any, Any, Any]]:
    for top in range(0, dataset.shape[0], _BLOCK):
        for left in range(0, dataset.shape[1], _BLOCK):
            block = dataset[top : top + _BLOCK, left : left + _BLOCK]
            rows, columns = np.nonzero(block > threshold)
            if len(rows):
                yield rows + top, columns + left, block[rows, columns]


def _lesion(heatmap: ScoreMap, number: int, row: int, column: int, score: float) -> Lesion:
    """A peak as a lesion of one sample; its outline is the square of that sample."""
    step, origin = np.array(heatmap.step_px), np.array(heatmap.origin_px)
    x_px, y_px = np.array([column, row]) * step + origin
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * step / 2
    return Lesion(
        number=number,
        score=score,
        max_score=score,
        x_px=float(x_px),
        y_px=float(y_px),
        n_samples=1,
        area_px=float(step[0] * step[1]),
        polygons=((corners + np.array([x_px, y_px]),),),
    )
