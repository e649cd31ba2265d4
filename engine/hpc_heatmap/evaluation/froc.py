"""Lesion-level FROC by the rules of CAMELYON16's organisers.

Two rules. ``official`` gives the numbers that the organisers' program gives, with its two quirks:
the lowest score of all is never a threshold, also where it is that of a lesion (or of a false
positive) rather than the zero that stands for a missed one; and lesion scores are rounded to single
precision and compared with false positives so. ``corrected`` has neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError
from hpc_heatmap.evaluation.detections import Detections
from hpc_heatmap.evaluation.lesions import LesionMap

__all__ = [
    "OPERATING_POINTS", "Curve", "Interpolation", "Rule", "SlideHits",
    "froc_curve", "match", "sensitivity_at",
]  # fmt: skip

Rule = Literal["official", "corrected"]
Interpolation = Literal["step", "linear"]
Floats = npt.NDArray[np.float64]

#: False positives a slide at which the score takes the sensitivity.
OPERATING_POINTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class SlideHits:
    """What the detections of one slide hit.

    Attributes
    ----------
    slide
        Its name.
    has_truth
        Whether it is a tumour slide.
    false_positives
        Scores of the false positives.
    lesions
        Of each lesion that counts the highest score of its hits, NaN where it was missed.
    n_itc
        Groups of isolated tumour cells, which count neither way.
    """

    slide: str
    has_truth: bool
    false_positives: Floats
    lesions: Floats
    n_itc: int

    @property
    def n_hit(self) -> int:
        """Lesions with a hit."""
        return int((~np.isnan(self.lesions)).sum())


@dataclass(frozen=True)
class Curve:
    """FROC curve, one point a threshold, from the lowest up; the last is (0, 0).

    Attributes
    ----------
    thresholds
        Scores; infinity for the last point.
    false_positives
        Mean number a slide.
    sensitivity
        Part of the lesions that is found.
    """

    thresholds: Floats
    false_positives: Floats
    sensitivity: Floats

    def sensitivities(self, interpolation: Interpolation = "step") -> Floats:
        """Sensitivity at the six operating points."""
        return sensitivity_at(self.false_positives, self.sensitivity, interpolation)

    def score(self, interpolation: Interpolation = "step") -> float:
        """Mean sensitivity at the six operating points."""
        return float(self.sensitivities(interpolation).mean())


def match(slide: str, found: Detections, lesions: LesionMap | None, pixel_px: int) -> SlideHits:
    """Look up every detection of a slide in its lesions; None is a slide without tumour.

    Parameters
    ----------
    pixel_px
        Side of a pixel of the mask, level-0 pixels.

    Raises
    ------
    EvaluationError
        A detection lies outside of the mask.
    """
    if lesions is None:
        return SlideHits(slide, False, found.probability, np.empty(0), 0)
    # As the organisers: int(x / 32), towards zero.
    columns = np.trunc(found.x_px / pixel_px).astype(np.int64)
    rows = np.trunc(found.y_px / pixel_px).astype(np.int64)
    columns, rows = _within(found, columns, rows, lesions.size, pixel_px)
    numbers = lesions.at(columns, rows)
    highest = np.full(len(lesions.counted), -np.inf)
    hit = numbers > 0
    np.maximum.at(highest, numbers[hit] - 1, found.probability[hit])
    highest[np.isneginf(highest)] = np.nan
    return SlideHits(
        slide,
        True,
        found.probability[~hit],
        highest[lesions.counted],
        int((~lesions.counted).sum()),
    )


def _within(
    found: Detections,
    columns: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    size: tuple[int, int] | None,
    pixel_px: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Refuse what is off the mask; the last row and column reach to the slide's end."""
    outside = (found.x_px < 0) | (found.y_px < 0)
    if size is not None:
        outside |= (columns > size[0]) | (rows > size[1])
        columns, rows = np.minimum(columns, size[0] - 1), np.minimum(rows, size[1] - 1)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        extent = (
            f" of {size[0]} x {size[1]} pixels, which covers {size[0] * pixel_px} x "
            f"{size[1] * pixel_px} level-0 pixels"
            if size
            else ""
        )
        raise EvaluationError(
            f"{found.path}: the detection at x {found.x_px[first]:g}, y {found.y_px[first]:g} lies "
            f"outside of the slide's mask{extent}: mask and detections do not match; check the "
            "mask level, and that x and y are level-0 pixels."
        )
    return columns, rows


def froc_curve(slides: Sequence[SlideHits], rule: Rule = "official") -> Curve:
    """FROC curve of all slides.

    Raises
    ------
    EvaluationError
        There is no lesion that counts.
    """
    n_lesions = sum(len(slide.lesions) for slide in slides)
    if n_lesions == 0:
        raise EvaluationError(
            "There is no lesion that counts on these slides, so there is no sensitivity: check "
            "that the masks are named like the CSV files; groups of isolated tumour cells do not "
            "count."
        )
    thresholds, false, true = threshold_counts(slides, rule)
    return Curve(
        np.r_[thresholds, np.inf],
        np.r_[false.sum(axis=0), 0] / len(slides),
        np.r_[true.sum(axis=0), 0] / n_lesions,
    )


def threshold_counts(
    slides: Sequence[SlideHits], rule: Rule
) -> tuple[Floats, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Thresholds, and false positives and lesions at or above each: shape (slides, thresholds)."""
    thresholds, lesion_thresholds = _thresholds(slides, rule)
    false = np.empty((len(slides), len(thresholds)))
    true = np.empty_like(false)
    for row, slide in enumerate(slides):
        false[row] = _at_or_above(slide.false_positives, thresholds)
        true[row] = _at_or_above(lesion_scores(slide, rule), lesion_thresholds)
    return thresholds, false, true


def lesion_scores(slide: SlideHits, rule: Rule) -> npt.NDArray[np.floating]:
    """Scores of lesions as a rule takes them: a miss is left out, or officially a zero."""
    if rule == "corrected":
        return slide.lesions[~np.isnan(slide.lesions)]
    missed_and_itc = np.zeros(slide.n_itc)
    scores = np.concatenate([np.nan_to_num(slide.lesions, nan=0.0), missed_and_itc])
    return scores.astype(np.float32)


def _thresholds(slides: Sequence[SlideHits], rule: Rule) -> tuple[Floats, npt.NDArray[np.floating]]:
    """Thresholds for false positives, and the same as lesions are compared with them."""
    # Tumour slides first: the order of equal numbers in the set below depends on it.
    slides = sorted(slides, key=lambda slide: not slide.has_truth)
    false = np.concatenate([slide.false_positives for slide in slides])
    true = np.concatenate([lesion_scores(slide, rule) for slide in slides])
    if rule == "corrected":
        thresholds = np.unique(np.r_[false, true])
        return thresholds, thresholds
    # A set of both kinds of numbers, sorted as single precision: 0.9 of a lesion and 0.9 of a false
    # positive are two thresholds, and which comes first is as the set has it. This is how the
    # organisers' program does it, so it is done in just that way.
    mixed = sorted({*false.tolist(), *true})[1:]
    thresholds = np.array([float(value) for value in mixed], dtype=np.float64)
    return thresholds, thresholds.astype(np.float32)


def _at_or_above(
    scores: npt.NDArray[np.floating], thresholds: npt.NDArray[np.floating]
) -> npt.NDArray[np.int64]:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")


def sensitivity_at(
    false_positives: Floats, sensitivity: Floats, interpolation: Interpolation
) -> Floats:
    """Sensitivity at the operating points.

    ``step`` is the largest with at most so many false positives, ``linear`` interpolates.
    """
    if interpolation == "linear":
        found = np.interp(OPERATING_POINTS, false_positives[::-1], sensitivity[::-1])
        return np.asarray(found, dtype=np.float64)
    return np.array(
        [sensitivity[false_positives <= point].max(initial=0.0) for point in OPERATING_POINTS]
    )
