"""Confidence intervals of a FROC score by bootstrap over slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError
from hpc_heatmap.evaluation.froc import (
    Interpolation,
    Rule,
    SlideHits,
    lesion_scores,
    sensitivity_at,
    threshold_counts,
)

__all__ = ["Interval", "bootstrap_froc"]

#: Numbers that are held in memory at once.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """Percentile intervals.

    Attributes
    ----------
    score
        (low, high) of the score.
    sensitivities
        Shape (6, 2): low and high at each operating point.
    n_samples
        Bootstrap samples that had a lesion, and so a score.
    """

    score: tuple[float, float]
    sensitivities: npt.NDArray[np.float64]
    n_samples: int


def bootstrap_froc(
    slides: Sequence[SlideHits],
    rule: Rule,
    interpolation: Interpolation,
    n_samples: int,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Draw slides with replacement and evaluate each draw as if it were the data.

    Raises
    ------
    EvaluationError
        No draw had a lesion.
    """
    random = np.random.default_rng(seed)
    thresholds, false, true = threshold_counts(slides, rule)
    lesions = np.array([len(slide.lesions) for slide in slides], dtype=np.float64)
    # The organisers' rule never takes the lowest score of the draw for a threshold.
    lowest = np.array(
        [
            min(slide.false_positives.min(initial=np.inf), scores.min(initial=np.inf))
            for slide in slides
            for scores in [lesion_scores(slide, rule)]
        ]
    )
    points = []
    n, step = len(slides), max(1, _BLOCK // max(1, len(thresholds)))
    for start in range(0, n_samples, step):
        drawn = random.integers(n, size=(min(step, n_samples - start), n))
        weights = np.zeros((len(drawn), n))
        np.add.at(weights, (np.arange(len(drawn))[:, None], drawn), 1)
        false_mean, found, total = weights @ false / n, weights @ true, weights @ lesions
        for row in np.flatnonzero(total):
            use = slice(None)
            if rule == "official":
                floor = lowest[drawn[row]].min()
                use = thresholds > floor
            points.append(
                sensitivity_at(
                    np.r_[false_mean[row][use], 0.0],
                    np.r_[found[row][use], 0.0] / total[row],
                    interpolation,
                )
            )
    if not points:
        raise EvaluationError("No bootstrap sample had a lesion: raise --bootstrap.")
    sampled = np.array(points)
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(sampled.mean(axis=1), tails)
    return Interval((float(low), float(high)), np.quantile(sampled, tails, axis=0).T, len(points))
