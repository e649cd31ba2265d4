"""Adaptive stride: scored coarsely first, and at the run's own stride where a lesion could be.

A cell is refined, which means scored as a run without the adaptive stride scores it, if a coarse
score in or around it is suspicious: it reaches the threshold of lesions, or a lower limit together
with one of its eight neighbours. A score that reaches the limit alone is noise, or less wide than a
step. Coarse points are points of the fine lattice. In other cells each point takes the coarse score
that is nearest in the cell. What is decided for a cell depends on the cells of its own group alone,
so it does not depend on how tasks are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve

from hpc_heatmap.formats.group_file import Group
from hpc_heatmap.formats.score_file import GroupScores
from hpc_heatmap.geometry import Axis, Geometry
from hpc_heatmap.model import Classifier
from hpc_heatmap.stages.scoring import ScoringWork, score_group

__all__ = ["Refinement", "score_adaptively"]


@dataclass(frozen=True)
class Refinement:
    """What is refined.

    Attributes
    ----------
    coarse_stride_px
        Distance of the first scores: a multiple of the fine stride, up to the window.
    threshold
        A coarse score that reaches it is refined around.
    limit
        One that reaches this, as does one of its eight neighbours, is too.
    """

    coarse_stride_px: int
    threshold: float
    limit: float


def score_adaptively(
    group: Group,
    geometry: Geometry,
    wanted: Refinement,
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
    wanted
        What is to be refined.
    classifier, batch_size, go_on
        See :func:`~hpc_heatmap.stages.scoring.score_group`.

    Returns
    -------
    scores
        With `refined` for each cell.
    work
        `windows` counts all points that have a score, `skipped` those that took a coarse one.
    """
    coarse = replace(geometry, stride_px=wanted.coarse_stride_px)
    first, work = score_group(group, coarse, classifier, batch_size, go_on)
    refined = _to_refine(group, coarse, geometry.stride_px, first.scores, wanted)
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
    wanted: Refinement,
) -> npt.NDArray[np.bool_]:
    """Cells with a point nearer to a suspicious coarse score than to the next one.

    Cells at the slide's end that hold no coarse point are refined too.
    """
    (top, left), (bottom, right) = (
        group.cells.min(axis=0).tolist(),
        group.cells.max(axis=0).tolist(),
    )
    first = coarse.y.points_of(top).start, coarse.x.points_of(left).start
    end = coarse.y.points_of(bottom).stop, coarse.x.points_of(right).stop
    lattice = np.full((end[0] - first[0], end[1] - first[1]), np.nan, np.float32)
    refined = np.zeros(len(group.cells), bool)
    for number, (row, column) in enumerate(group.cells.tolist()):
        rows, columns = coarse.y.points_of(row), coarse.x.points_of(column)
        refined[number] = len(rows) == 0 or len(columns) == 0
        i, j = rows.start - first[0], columns.start - first[1]
        values = scores[number, : len(rows), : len(columns)]
        lattice[i : i + len(rows), j : j + len(columns)] = values
    window, reach = coarse.window_px, wanted.coarse_stride_px - fine_stride_px
    near: set[tuple[int, int]] = set()
    for i, j in np.argwhere(_suspicious(lattice, wanted)).tolist():
        y, x = coarse.y.position_px(first[0] + i), coarse.x.position_px(first[1] + j)
        down, across = (range((at - reach) // window, (at + reach) // window + 1) for at in (y, x))
        near.update((row, column) for row in down for column in across)
    refined |= [tuple(cell) in near for cell in group.cells.tolist()]
    return refined


def _suspicious(lattice: npt.NDArray[np.float32], wanted: Refinement) -> npt.NDArray[np.bool_]:
    """Points to refine around; neighbours that the group does not have say nothing."""
    warm = lattice >= wanted.limit
    within_a_step = convolve(warm.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant")
    suspicious: npt.NDArray[np.bool_] = (lattice >= wanted.threshold) | warm & (within_a_step > 1)
    return suspicious


def _nearest(fine: Axis, coarse: Axis, cell: int) -> npt.NDArray[np.intp]:
    """For the fine points of a cell on an axis the nearest of its coarse points."""
    mine = np.array([fine.position_px(k) for k in fine.points_of(cell)])
    theirs = np.array([coarse.position_px(k) for k in coarse.points_of(cell)])
    return np.asarray(np.abs(mine[:, None] - theirs[None]).argmin(axis=1))
