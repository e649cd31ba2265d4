"""Adaptive stride: scored coarsely first, and at the run's own stride where a lesion could be.

A cell is refined, which means scored as a run without the adaptive stride scores it, if one of the
coarse scores in or around it reaches a limit. Coarse points are points of the fine lattice. In
other cells each point takes the coarse score that is nearest in the cell. What is decided for a
cell depends on the cells of its own group alone, so it does not depend on how tasks are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.group_file import Group
from hpc_heatmap.formats.score_file import GroupScores
from hpc_heatmap.geometry import Axis, Geometry
from hpc_heatmap.model import Classifier
from hpc_heatmap.stages.scoring import ScoringWork, score_group

__all__ = ["score_adaptively"]


def score_adaptively(
    group: Group,
    geometry: Geometry,
    coarse_stride_px: int,
    limit: float,
    classifier: Classifier,
    batch_size: int = 32,
    go_on: Callable[[], None] = lambda: None,
) -> tuple[GroupScores, ScoringWork]:
    """Score a group, at the fine stride only where a lesion could be.

    Parameters
    ----------
    group
        Cells and pixels.
    geometry
        The fine lattice of the slide.
    coarse_stride_px
        A multiple of the fine stride, up to the window.
    limit
        Coarse score from which on it is refined.
    classifier, batch_size, go_on
        See :func:`~hpc_heatmap.stages.scoring.score_group`.

    Returns
    -------
    scores
        With `refined` for each cell.
    work
        `windows` counts all points that have a score, `skipped` those that took a coarse one.
    """
    coarse = replace(geometry, stride_px=coarse_stride_px)
    first, work = score_group(group, coarse, classifier, batch_size, go_on)
    refined = _to_refine(group, coarse, geometry.stride_px, first.scores, limit)
    numbers = np.flatnonzero(refined & group.readable).tolist()
    found, more = score_group(group, geometry, classifier, batch_size, go_on, numbers=numbers)
    for number in np.flatnonzero(~refined & group.readable).tolist():
        row, column = group.cells[number].tolist()
        rows = _nearest(geometry.y, coarse.y, row)
        columns = _nearest(geometry.x, coarse.x, column)
        values = first.scores[number][np.ix_(rows, columns)]
        found.scores[number, : len(rows), : len(columns)] = values
    windows = int(np.isfinite(found.scores).sum())
    took = ScoringWork(windows, work.model_s + more.model_s, windows - work.windows - more.windows)
    return replace(found, refined=refined), took


def _to_refine(
    group: Group,
    coarse: Geometry,
    fine_stride_px: int,
    scores: npt.NDArray[np.float32],
    limit: float,
) -> npt.NDArray[np.bool_]:
    """Cells with a point nearer to a coarse score that reaches the limit than to the next one.

    Cells at the slide's end that hold no coarse point are refined too.
    """
    window, reach = coarse.window_px, coarse.stride_px - fine_stride_px
    hot: set[tuple[int, int]] = set()
    refined = np.zeros(len(group.cells), bool)
    for number, (row, column) in enumerate(group.cells.tolist()):
        rows, columns = coarse.y.points_of(row), coarse.x.points_of(column)
        refined[number] = len(rows) == 0 or len(columns) == 0
        for i, j in np.argwhere(scores[number] >= limit).tolist():
            y, x = coarse.y.position_px(rows[i]), coarse.x.position_px(columns[j])
            around = (range((at - reach) // window, (at + reach) // window + 1) for at in (y, x))
            down, across = around
            hot.update((r, c) for r in down for c in across)
    for number, (row, column) in enumerate(group.cells.tolist()):
        refined[number] |= (row, column) in hot
    return refined


def _nearest(fine: Axis, coarse: Axis, cell: int) -> npt.NDArray[np.intp]:
    """For the fine points of a cell on an axis the nearest of its coarse points."""
    mine = np.array([fine.position_px(k) for k in fine.points_of(cell)])
    theirs = np.array([coarse.position_px(k) for k in coarse.points_of(cell)])
    return np.asarray(np.abs(mine[:, None] - theirs[None]).argmin(axis=1))
