"""Slide-level features and scores from the heatmaps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError, FormatError
from hpc_heatmap.evaluation.score_table import read_score_table
from hpc_heatmap.evaluation.slide_features import FEATURES, lattice_unit, slide_features
from hpc_heatmap.evaluation.slide_forest import SlideForest
from hpc_heatmap.runs.run import Run

__all__ = [
    "MEASURES", "check_measure", "features_of", "gated_slides", "labels_of_run", "run_features",
    "slide_scores",
]  # fmt: skip

#: What a slide can be scored by without a forest: the highest score of its heatmap, or a feature.
MEASURES = ("max", *FEATURES)

Features = Mapping[str, Mapping[str, float]]


def run_features(run: Run) -> dict[str, dict[str, float]]:
    """Features of every slide of a run, and ``max``, the highest score of its heatmap.

    Raises
    ------
    EvaluationError
        A slide has no heatmap yet.
    """
    return {
        name: features_of(finished_heatmap(run, name), run.file.model.window_px, run.file.stride_px)
        for name in run.slides
    }


def features_of(
    scores: npt.NDArray[np.float32], window_px: int, stride_px: int
) -> dict[str, float]:
    """Features of one slide, and ``max``, the highest score (0 where there is none)."""
    scored = scores[~np.isnan(scores)]
    highest = float(scored.max()) if scored.size else 0.0
    return slide_features(scores, lattice_unit(window_px, stride_px)) | {"max": highest}


def finished_heatmap(run: Run, slide: str) -> npt.NDArray[np.float32]:
    """Scores of a slide.

    Raises
    ------
    EvaluationError
        The slide has no heatmap yet.
    """
    try:
        with run.slides[slide].heatmap as heatmap:
            scores: npt.NDArray[np.float32] = heatmap.dataset()[:]
            return scores
    except FormatError as error:
        raise EvaluationError(
            f"The slide {slide} of {run.root} has no heatmap: finish it with `hpc-heatmap resume "
            f"{run.root}` first."
        ) from error


def slide_scores(
    features: Features, measure: str = "max", forest: SlideForest | None = None
) -> npt.NDArray[np.float64]:
    """Score of each slide, in the features' order: by a forest, or by one measure."""
    if forest is not None:
        return forest.scores(list(features.values()))
    return np.array([values[measure] for values in features.values()], np.float64)


def check_measure(measure: str) -> None:
    """Refuse what is no measure of a slide.

    Raises
    ------
    EvaluationError
        There is no such measure.
    """
    if measure not in MEASURES:
        raise EvaluationError(
            f"There is no slide score '{measure}': choose max or one of {', '.join(FEATURES)}."
        )


def gated_slides(run: Run, table: Path, column: str, gate: float) -> set[str]:
    """Slides of a run whose slide-level score in a table is below a limit.

    Raises
    ------
    EvaluationError
        A slide has no score, or the table cannot be read.
    """
    read = read_score_table(table)
    values = zip(read.slides(), read.scores(column).tolist(), strict=True)
    known = {name.casefold(): value for name, value in values}
    missing = [name for name in run.slides if name.casefold() not in known]
    if missing:
        raise EvaluationError(f"{table} has no slide score of {missing[0]}: add its row.")
    return {name for name in run.slides if known[name.casefold()] < gate}


def labels_of_run(run: Run, labels: Mapping[str, bool]) -> list[bool]:
    """Truth of each slide of a run, in the run's order.

    Raises
    ------
    EvaluationError
        A slide of the run has no label.
    """
    folded = {name.casefold(): value for name, value in labels.items()}
    missing = [name for name in run.slides if name.casefold() not in folded]
    if missing:
        more = f" (and {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise EvaluationError(
            f"The slide {missing[0]}{more} of {run.root} has no row among the labels: add it, with "
            "the slide's name as in the run."
        )
    return [folded[name.casefold()] for name in run.slides]
