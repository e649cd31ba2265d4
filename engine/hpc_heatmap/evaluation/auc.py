"""Area under the ROC curve of slide scores, its variance, and paired comparison.

DeLong's variance (DeLong, DeLong and Clarke-Pearson, Biometrics 1988) and the unbiased one of a
U-statistic by analysis of variance (Gallas, Academic Radiology 2006, for one reader).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from hpc_heatmap.errors import EvaluationError

__all__ = ["Auc", "Comparison", "Method", "auc", "compare", "roc"]

Method = Literal["delong", "unbiased"]
Floats = npt.NDArray[np.float64]

#: Pairs of slides that are held in memory at once.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Auc:
    """An area with its standard error and confidence interval, clipped to [0, 1]."""

    auc: float
    se: float
    ci: tuple[float, float]
    n_positive: int
    n_negative: int


@dataclass(frozen=True)
class Comparison:
    """Two scores of the same slides: the first area less the second.

    Attributes
    ----------
    first, second
        The areas.
    difference, se, ci
        Their difference, its standard error with the covariance, its interval in [-1, 1].
    covariance
        Covariance of the two areas.
    p
        Two-sided, of no difference; NaN where the difference has no variance.
    """

    first: Auc
    second: Auc
    difference: float
    se: float
    ci: tuple[float, float]
    covariance: float
    p: float


def auc(
    truth: npt.ArrayLike, score: npt.ArrayLike, method: Method = "delong", level: float = 0.95
) -> Auc:
    """Area under the ROC curve; a tie of a positive and a negative slide counts one half.

    Parameters
    ----------
    truth, score
        One entry a slide: whether it is positive, and its score, higher for more suspicious.
    method
        How the variance is estimated.
    level
        Of the confidence interval.

    Raises
    ------
    EvaluationError
        A score is not finite, or a class has fewer than two slides.
    """
    positive, negative = _split(truth, score)
    rows, columns = _placements(positive, negative)
    return _auc(
        float(rows.mean()),
        _covariance((positive, negative), (positive, negative), (rows, columns), None, method),
        level,
        (len(positive), len(negative)),
    )


def compare(
    truth: npt.ArrayLike,
    score: npt.ArrayLike,
    other: npt.ArrayLike,
    method: Method = "delong",
    level: float = 0.95,
) -> Comparison:
    """Compare two scores of the same slides, with the covariance of their areas.

    Raises
    ------
    EvaluationError
        A score is not finite, or a class has fewer than two slides.
    """
    first, second = auc(truth, score, method, level), auc(truth, other, method, level)
    a, b = _split(truth, score), _split(truth, other)
    covariance = _covariance(a, b, _placements(*a), _placements(*b), method)
    variance = max(first.se**2 + second.se**2 - 2 * covariance, 0.0)
    # What is left of equal numbers is rounding, not a variance.
    if variance < 1e-15:
        variance = 0.0
    difference, se = first.auc - second.auc, math.sqrt(variance)
    half = _z(level) * se
    p = math.erfc(abs(difference) / se / math.sqrt(2)) if se > 0 else math.nan
    ci = (max(-1.0, difference - half), min(1.0, difference + half))
    return Comparison(first, second, difference, se, ci, covariance, p)


def roc(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Thresholds from high to low, false-positive rate and sensitivity at score >= threshold."""
    positive, negative = _split(truth, score)
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    true = 1 - np.searchsorted(np.sort(positive), thresholds, "left") / len(positive)
    false = 1 - np.searchsorted(np.sort(negative), thresholds, "left") / len(negative)
    return np.r_[np.inf, thresholds], np.r_[0.0, false], np.r_[0.0, true]


def _split(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Floats, Floats]:
    is_positive = np.asarray(truth, dtype=bool)
    scores = np.asarray(score, dtype=np.float64)
    if is_positive.shape != scores.shape or scores.ndim != 1:
        raise EvaluationError("Truth and scores must have one entry a slide.")
    if not np.isfinite(scores).all():
        raise EvaluationError("A score is missing or not finite: leave that slide out.")
    positive, negative = scores[is_positive], scores[~is_positive]
    if min(len(positive), len(negative)) < 2:
        raise EvaluationError(
            f"{len(positive)} positive and {len(negative)} negative slides are not enough for an "
            "AUC with its error: each class needs two."
        )
    return positive, negative


def _placements(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Of each positive the part of negatives below it; of each negative that of positives above."""
    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    rows = (ranks[:n] - rankdata(positive)) / m
    columns = 1 - (ranks[n:] - rankdata(negative)) / n
    return rows, columns


def _covariance(
    a: tuple[Floats, Floats],
    b: tuple[Floats, Floats],
    placements_a: tuple[Floats, Floats],
    placements_b: tuple[Floats, Floats] | None,
    method: Method,
) -> float:
    """Covariance of two areas; of an area with itself, its variance."""
    rows_a, columns_a = placements_a
    rows_b, columns_b = placements_b or placements_a
    n, m = len(rows_a), len(columns_a)
    rows = float(np.cov(rows_a, rows_b)[0, 1])
    columns = float(np.cov(columns_a, columns_b)[0, 1])
    if method == "delong":
        return rows / n + columns / m
    between_rows, between_columns = m * rows, n * columns
    # Sum of squares about the mean over all pairs, (n m - 1) MST.
    total = _kernel_products(a, b) - n * m * float(rows_a.mean()) * float(rows_b.mean())
    rest = (total - (n - 1) * between_rows - (m - 1) * between_columns) / ((n - 1) * (m - 1))
    return (between_rows + between_columns - rest) / (n * m)


def _kernel_products(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    """Sum over all pairs of the product of the two kernels (1, 1/2 or 0)."""
    step = max(1, _BLOCK // len(a[1]))
    total = 0.0
    for start in range(0, len(a[0]), step):
        part = slice(start, start + step)
        total += float((_kernel(a[0][part], a[1]) * _kernel(b[0][part], b[1])).sum())
    return total


def _kernel(positive: Floats, negative: Floats) -> Floats:
    above, equal = positive[:, None] > negative, positive[:, None] == negative
    kernel: Floats = above + 0.5 * equal
    return kernel


def _auc(area: float, variance: float, level: float, n: tuple[int, int]) -> Auc:
    # The unbiased estimate can fall below zero.
    se = math.sqrt(max(variance, 0.0))
    half = _z(level) * se
    return Auc(area, se, (max(0.0, area - half), min(1.0, area + half)), *n)


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
