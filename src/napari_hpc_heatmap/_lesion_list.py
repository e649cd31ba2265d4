"""Lesions as columns of numbers: filtered and sorted at once, however many they are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.review_file import Verdict
from hpc_heatmap.runs.reviews import ReviewedLesion

__all__ = ["Column", "LesionList"]

Numbers = npt.NDArray[np.float64]

#: In the order in which the table sorts them: what is still to be done first.
_VERDICTS = [Verdict.UNREVIEWED, Verdict.UNSURE, Verdict.CONFIRMED, Verdict.REJECTED]


class Column(IntEnum):
    """Columns of the table."""

    LESION = 0
    SCORE = 1
    AREA = 2
    REVIEW = 3
    X = 4
    Y = 5
    COMMENT = 6


class LesionList:
    """The lesions of one slide.

    Parameters
    ----------
    lesions
        As they stand after review.
    spacing_um
        Micrometres per level-0 pixel, (x, y), where known.
    """

    def __init__(
        self, lesions: Sequence[ReviewedLesion], spacing_um: tuple[float, float] | None = None
    ) -> None:
        self.spacing_um = spacing_um
        self.keys = [entry.key for entry in lesions]
        self.index_of = {key: index for index, key in enumerate(self.keys)}
        numbers = np.array(
            [(e.lesion.score, e.lesion.area_px, e.lesion.x_px, e.lesion.y_px) for e in lesions],
            np.float64,
        ).reshape(-1, 4)
        self.scores: Numbers = numbers[:, 0].copy()
        self.x_px: Numbers = numbers[:, 2].copy()
        self.y_px: Numbers = numbers[:, 3].copy()
        areas_px = numbers[:, 1].copy()
        self.unit = "px²" if spacing_um is None else "mm²"
        self.areas: Numbers = (
            areas_px if spacing_um is None else areas_px * np.prod(spacing_um) / 1e6
        )
        self.verdicts = np.array(
            [_VERDICTS.index(entry.review.verdict) for entry in lesions], np.int8
        )
        self.comments = [entry.review.comment for entry in lesions]
        self.found_at_px = [entry.found_at_px for entry in lesions]
        self.who = [entry.review.who for entry in lesions]

    def __len__(self) -> int:
        return len(self.keys)

    def verdict(self, index: int) -> Verdict:
        """What was said of a lesion."""
        return _VERDICTS[int(self.verdicts[index])]

    def set_verdict(self, index: int, verdict: Verdict, who: str) -> None:
        """Note what is said of a lesion."""
        self.verdicts[index] = _VERDICTS.index(verdict)
        self.who[index] = who

    def place_px(self, index: int) -> tuple[float, float]:
        """Position of a lesion, (x, y), level-0 pixels."""
        return float(self.x_px[index]), float(self.y_px[index])

    def rows(
        self,
        *,
        verdict: Verdict | None = None,
        least_score: float = 0.0,
        least_area: float = 0.0,
        text: str = "",
    ) -> npt.NDArray[np.intp]:
        """Indices of the lesions that pass a filter, in the list's order.

        Parameters
        ----------
        verdict
            What was said of them; None for any.
        least_score
            Smallest score; outlines that a reviewer has drawn have none and always pass.
        least_area
            Smallest area, in `unit`.
        text
            Part of the key or the comment, in any case.
        """
        keep = ~(self.scores < least_score) & (self.areas >= least_area)
        if verdict is not None:
            keep &= self.verdicts == _VERDICTS.index(verdict)
        if text:
            part = text.casefold()
            keep &= np.fromiter(
                (
                    part in key or part in comment.casefold()
                    for key, comment in zip(self.keys, self.comments, strict=True)
                ),
                bool,
                len(self),
            )
        return np.flatnonzero(keep)

    def sort(
        self, rows: npt.NDArray[np.intp], column: Column, *, descending: bool = False
    ) -> npt.NDArray[np.intp]:
        """The same rows sorted by a column; equal ones keep the list's order."""
        if column is Column.LESION:
            order = np.argsort(rows, kind="stable")
        elif column is Column.COMMENT:
            comments = [self.comments[row].casefold() for row in rows.tolist()]
            order = np.argsort(np.array(comments, dtype=str), kind="stable")
        else:
            numbers = {
                Column.SCORE: self.scores,
                Column.AREA: self.areas,
                Column.X: self.x_px,
                Column.Y: self.y_px,
                Column.REVIEW: self.verdicts.astype(np.float64),
            }[column][rows]
            # Outlines without a score go last, either way.
            values = np.nan_to_num(-numbers if descending else numbers, nan=np.inf)
            return rows[np.argsort(values, kind="stable")]
        return rows[order[::-1] if descending else order]
