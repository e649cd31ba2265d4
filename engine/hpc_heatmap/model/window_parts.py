"""The nine parts of a shared step's result, and what each takes of the step before.

On each axis a place of a window lies at its ``low`` end, its ``high`` end, or between, where all
windows agree and the patch as a whole has the numbers (``whole``). Two axes make nine parts: the
patch itself; strips that all windows of a row (or column) share; and corners, which are a window's
own. Rings are found in :mod:`hpc_heatmap.model.sharing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hpc_heatmap.model.sharing import Kernel, Reach

__all__ = ["End", "Piece", "Stretch", "stretch", "width", "window_stretch"]


class End(StrEnum):
    """Where on an axis a part lies."""

    WHOLE = "whole"
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True)
class Piece:
    """A stretch of an axis: `length` results from `start` on of a part, laid at `target`.

    For the whole patch `start` counts from where a window begins.
    """

    end: End
    start: int
    length: int
    target: int


@dataclass(frozen=True)
class Stretch:
    """What a part of a step takes of its input on one axis.

    Attributes
    ----------
    pieces
        Where it comes from.
    length
        How long it is, with padding that is laid into it.
    padding
        What the operator pads by itself.
    own
        Whether each window has its own.
    """

    pieces: tuple[Piece, ...]
    length: int
    padding: int
    own: bool


def width(reach: Reach, end: End) -> int:
    """Results of a window that lie there."""
    return {End.WHOLE: reach.n, End.LOW: reach.low, End.HIGH: reach.high}[end]


def window_stretch(reach: Reach) -> Stretch:
    """A whole window: its low ring, what all share, its high ring."""
    return Stretch(_pieces(reach, 0, reach.n, 0), reach.n, 0, True)


def stretch(given: Reach, reach: Reach, kernel: Kernel | None, end: End) -> Stretch:
    """What a part of a step takes of its input on an axis."""
    size, stride, padding, _ = kernel or Kernel(1, 1, 0)
    if end is End.WHOLE:
        return Stretch((Piece(End.WHOLE, 0, 0, 0),), 0, padding, False)
    first, last = (0, reach.low) if end is End.LOW else (reach.n - reach.high, reach.n)
    start, stop = first * stride - padding, (last - 1) * stride - padding + size
    inside = max(start, 0), min(stop, given.n)
    pieces = _pieces(given, *inside, inside[0] - start)
    return Stretch(pieces, stop - start, 0, True)


def _pieces(reach: Reach, start: int, stop: int, target: int) -> tuple[Piece, ...]:
    """Where the results from `start` to `stop` of a window come from."""
    bounds = {
        End.LOW: (0, reach.low),
        End.WHOLE: (reach.low, reach.n - reach.high),
        End.HIGH: (reach.n - reach.high, reach.n),
    }
    found = []
    for end, (low, high) in bounds.items():
        a, b = max(start, low), min(stop, high)
        if a < b:
            origin = low if end is not End.WHOLE else 0
            found.append(Piece(end, a - origin, b - a, target + a - start))
    return tuple(found)
