"""Outlines drawn on the evaluation grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from hpc_heatmap.errors import EvaluationError
from hpc_heatmap.evaluation.outlines import Outline

__all__ = ["rasterise", "self_crossings"]

Points = npt.NDArray[np.float64]

#: A loop where the pen slipped is let pass: part of the outline's area, or pixels of the grid.
_SLIP_PART, _SLIP_PIXELS = 0.02, 4.0
#: Background kept around the outlines, pixels of the grid.
_MARGIN = 8
#: Larger grids are a mistake of units.
_LARGEST_PX = 2**31


def rasterise(
    outlines: Sequence[Outline], pixel_px: int, where: str, size: tuple[int, int] | None = None
) -> tuple[npt.NDArray[np.bool_], tuple[int, int]]:
    """Draw outlines: a pixel is tumour if it lies inside, or a point or edge falls into it.

    So no tumour is too small to be drawn.

    Parameters
    ----------
    pixel_px
        Side of a pixel of the grid, level-0 pixels.
    where
        The file, for messages.
    size
        (columns, rows) of the grid, where the slide's size is known.

    Returns
    -------
    mask, origin
        The part of the grid with tumour and a margin, and its first (column, row).

    Raises
    ------
    EvaluationError
        An outline lies outside of the slide, or crosses itself by more than a slip of the pen.
    """
    rings = [outline.points / pixel_px for outline in outlines]
    for outline, ring in zip(outlines, rings, strict=True):
        _check_place(outline, ring, pixel_px, where, size)
        _check_crossing(outline, ring, where)
    everything = np.concatenate(rings)
    low = np.maximum(np.floor(everything.min(axis=0)).astype(int) - _MARGIN, 0)
    high = np.ceil(everything.max(axis=0)).astype(int) + _MARGIN
    if size is not None:
        high = np.minimum(high, size)
    columns, rows = (int(value) for value in high - low)
    if columns * rows > _LARGEST_PX:
        raise EvaluationError(f"{where}: the outlines span more than any slide: are they in px?")
    mask = np.zeros((rows, columns), dtype=bool)
    for part in sorted({outline.part for outline in outlines}):
        mine = [(o, r - low) for o, r in zip(outlines, rings, strict=True) if o.part == part]
        drawn = np.zeros_like(mask) if part else mask
        for outline, ring in sorted(mine, key=lambda pair: pair[0].is_hole):
            _draw(drawn, ring, not outline.is_hole)
        mask |= drawn
    if not mask.any():
        raise EvaluationError(f"{where}: nothing is left of the tumour: its holes cover it.")
    return mask, (int(low[0]), int(low[1]))


def _check_place(
    outline: Outline, ring: Points, pixel_px: int, where: str, size: tuple[int, int] | None
) -> None:
    """A pixel of the grid over the edge is a slip."""
    limit = np.array(size if size is not None else (np.inf, np.inf)) + 1
    outside = ((ring < -1) | (ring > limit)).any(axis=1)
    if outside.any():
        x, y = outline.points[int(np.flatnonzero(outside)[0])]
        extent = f" of {size[0] * pixel_px} x {size[1] * pixel_px} px" if size else ""
        raise EvaluationError(
            f"{where}: the outline {outline.name} has a point at x {x:g}, y {y:g}, outside of the "
            f"slide{extent}: outlines must be in level-0 pixels of the same slide."
        )


def _check_crossing(outline: Outline, ring: Points, where: str) -> None:
    worst = max(self_crossings(ring), default=(0.0, np.zeros(2)), key=lambda pair: pair[0])
    area = _area(ring)
    if worst[0] > max(_SLIP_PART * area, _SLIP_PIXELS):
        x, y = worst[1] / ring.max(axis=0) * outline.points.max(axis=0)
        raise EvaluationError(
            f"{where}: the outline {outline.name} crosses itself near x {x:.0f}, y {y:.0f}, so "
            "inside and outside are unclear: mend it, or draw it as two."
        )


def _area(ring: Points) -> float:
    x, y = (ring - ring[0]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def self_crossings(ring: Points) -> list[tuple[float, Points]]:
    """Where an outline crosses itself: area of the smaller of the two loops, and the place.

    Touching itself is no crossing.
    """
    ring = ring[np.any(ring != np.roll(ring, 1, axis=0), axis=1)]
    if len(ring) < 4:
        return []
    begin, end = ring, np.roll(ring, -1, axis=0)
    first, second = _near_pairs(begin, end)
    a, b, c, d = begin[first], end[first], begin[second], end[second]
    crosses = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
    found = []
    for i, j in zip(first[crosses].tolist(), second[crosses].tolist(), strict=True):
        inner, outer = ring[i + 1 : j + 1], np.concatenate([ring[j + 1 :], ring[: i + 1]])
        u, v = end[i] - begin[i], end[j] - begin[j]
        gap = begin[j] - begin[i]
        place = begin[i] + u * (gap[0] * v[1] - gap[1] * v[0]) / (u[0] * v[1] - u[1] * v[0])
        loops = (np.vstack([place, inner]), np.vstack([place, outer]))
        found.append((min(_area(loop) for loop in loops), place))
    return found


def _side(a: Points, b: Points, c: Points) -> Points:
    u, v = b - a, c - a
    return np.sign(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


def _near_pairs(begin: Points, end: Points) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pairs of edges that may cross, the lower index first; neighbours left out.

    Edges are told apart by length, each class with pairs no further apart than its longest, so that
    one long edge does not make all pairs near.
    """
    n = len(begin)
    length, middle = np.hypot(*(end - begin).T), (begin + end) / 2
    order = np.floor(np.log2(np.maximum(length, 1e-12))).astype(int)
    pairs = []
    for size in np.unique(order):
        mine, smaller = np.flatnonzero(order == size), np.flatnonzero(order <= size)
        near = cKDTree(middle[smaller]).query_ball_point(
            middle[mine], r=2.0 ** (size + 1) * 1.001, return_sorted=False
        )
        counts = [len(found) for found in near]
        others = smaller[np.concatenate([np.array(f, dtype=np.intp) for f in near])]
        pairs.append(np.stack([np.repeat(mine, counts), others]))
    low, high = np.sort(np.concatenate(pairs, axis=1), axis=0)
    apart = (high - low > 1) & (high - low < n - 1)
    code = np.unique(low[apart].astype(np.int64) * n + high[apart])
    return code // n, code % n


def _draw(mask: npt.NDArray[np.bool_], ring: Points, value: bool) -> None:
    """Set the pixels inside the ring and those that its points and edges fall into."""
    corners = np.floor(ring).astype(int)
    first, beyond = np.maximum(corners.min(axis=0), 0), corners.max(axis=0) + 1
    left, top = (int(v) for v in first)
    box = mask[top : int(beyond[1]), left : int(beyond[0])]
    if box.size:
        drawn = Image.new("1", (box.shape[1], box.shape[0]))
        points = [(int(x), int(y)) for x, y in corners - first]
        ImageDraw.Draw(drawn).polygon(points, fill=1)
        box[np.asarray(drawn)] = value
