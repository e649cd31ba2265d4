"""Lesions as columns of numbers: filtered and sorted at once, however many they are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.lesion_files import LESION_NUMBERS, LesionNumbers
from hpc_heatmap.formats.review_file import Verdict
from hpc_heatmap.runs.reviews import ReviewedLesion

__all__ = ["Column", "LesionList"]

Numbers = npt.NDArray[np.float64]

#: In the order in which the table sorts them: what is still to be done first.
_VERDICTS = [Verdict.UNREVIEWED, Verdict.UNSURE, Verdict.CONFIRMED, Verdict.REJECTED]
_NOTHING: LesionNumbers = np.empty(0, LESION_NUMBERS)


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
    found
        What the machine found.
    reviewed
        As they stand after review: those of them that reviewers spoke of, and what they have added.
    spacing_um
        Micrometres per level-0 pixel, (x, y), where known.
    """

    def __init__(
        self,
        found: LesionNumbers = _NOTHING,
        reviewed: Sequence[ReviewedLesion] = (),
        spacing_um: tuple[float, float] | None = None,
    ) -> None:
        self.spacing_um = spacing_um
        self.keys = [str(number) for number in found["number"].tolist()]
        self.index_of = {key: index for index, key in enumerate(self.keys)}
        for entry in reviewed:
            if entry.key not in self.index_of:
                self.index_of[entry.key] = len(self.keys)
                self.keys.append(entry.key)
        n_added = len(self.keys) - len(found)
        self._found = found
        self.scores, self.x_px, self.y_px, areas_px = (
            np.append(found[name], np.full(n_added, np.nan))
            for name in ("score", "x_px", "y_px", "area_px")
        )
        self.verdicts = np.full(len(self), _VERDICTS.index(Verdict.UNREVIEWED), np.int8)
        self.comments = [""] * len(self)
        self.who = [""] * len(self)
        for entry in reviewed:
            index, lesion = self.index_of[entry.key], entry.lesion
            self.x_px[index], self.y_px[index] = lesion.x_px, lesion.y_px
            self.scores[index], areas_px[index] = lesion.score, lesion.area_px
            self.comments[index] = entry.review.comment
            self.set_verdict(index, entry.review.verdict, entry.review.who)
        self.unit = "px²" if spacing_um is None else "mm²"
        self.areas: Numbers = (
            areas_px if spacing_um is None else areas_px * np.prod(spacing_um) / 1e6
        )

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

    def found_at_px(self, index: int) -> tuple[float, float] | None:
        """Where the machine found a lesion, whatever its outline is now; None for added ones."""
        if index >= len(self._found):
            return None
        found = self._found[index]
        return float(found["x_px"]), float(found["y_px"])

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
