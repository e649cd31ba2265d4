"""Accuracy and cost of wider strides, from one run at a fine stride.

A run at k times the stride gives every k-th score of this one (formats/decimation.py), so its
lesions, slide scores and accuracy are known without running it. These are the paper's Tables IV
and V and Figures 6 and 7, with what each stride would cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError, FormatError, SettingsError
from hpc_heatmap.evaluation.auc import Auc, Comparison, auc, compare, roc
from hpc_heatmap.evaluation.bootstrap import Interval, bootstrap_froc
from hpc_heatmap.evaluation.detections import Detections
from hpc_heatmap.evaluation.froc import (
    OPERATING_POINTS,
    Curve,
    Interpolation,
    Rule,
    SlideHits,
    froc_curve,
    match,
)
from hpc_heatmap.evaluation.lesions import LesionMap
from hpc_heatmap.evaluation.slide_forest import SlideForest
from hpc_heatmap.evaluation.truth import Grid, Truth
from hpc_heatmap.formats.camelyon_csv import detections_of
from hpc_heatmap.formats.decimation import Decimated, decimate
from hpc_heatmap.formats.lesion_files import Lesion
from hpc_heatmap.runs.report import report_run
from hpc_heatmap.runs.run import Run, RunSlide
from hpc_heatmap.runs.slide_scores import features_of, slide_scores
from hpc_heatmap.stages.lesion_methods import find_lesions
from hpc_heatmap.stages.task import Stage

__all__ = ["LesionTruth", "SlideTruth", "StrideRow", "strides_of", "tradeoff"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LesionTruth:
    """What lesions are compared with, and how (see ``evaluate froc``)."""

    truth: Truth
    grid: Grid = Grid()  # noqa: RUF009 - frozen
    rule: Rule = "official"
    interpolation: Interpolation = "step"
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class SlideTruth:
    """What slide scores are compared with, and what a slide is scored by."""

    positive: Mapping[str, bool]
    measure: str = "max"
    forest: SlideForest | None = None


@dataclass(frozen=True)
class StrideRow:
    """One stride.

    Attributes
    ----------
    stride_px
        Read pixels.
    windows
        Windows of all slides.
    core_hours
        What the run would take, None where nothing was measured.
    lesions
        Lesions found on all slides.
    froc, froc_interval
        Curve, and its interval by bootstrap; None without truth of lesions.
    auc, difference
        Area, and its difference to that of the first stride, paired; None without truth of slides.
    roc
        False-positive rate and sensitivity.
    """

    stride_px: int
    windows: int
    core_hours: float | None
    lesions: int
    froc: Curve | None = None
    froc_interval: Interval | None = None
    auc: Auc | None = None
    difference: Comparison | None = None
    roc: tuple[Floats, Floats] | None = None

    def as_dict(self, interpolation: Interpolation) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            "stride": self.stride_px,
            "windows": self.windows,
            "core_hours": self.core_hours,
            "lesions": self.lesions,
        }
        if self.froc is not None:
            points = self.froc.sensitivities(interpolation).tolist()
            names = [f"{point:g}" for point in OPERATING_POINTS]
            values["froc"] = {
                "score": self.froc.score(interpolation),
                "ci": list(self.froc_interval.score) if self.froc_interval else None,
                "sensitivity": dict(zip(names, points, strict=True)),
            }
        if self.auc is not None:
            values["auc"] = {"auc": self.auc.auc, "se": self.auc.se, "ci": list(self.auc.ci)}
        if self.difference is not None:
            values["auc_less_first"] = {
                "difference": -self.difference.difference + 0.0,
                "ci": [-self.difference.ci[1] + 0.0, -self.difference.ci[0] + 0.0],
            }
        return values


@dataclass
class _Stride:
    """What is gathered of one stride, slide by slide."""

    windows: int = 0
    lesions: int = 0
    hits: list[SlideHits] = field(default_factory=list)
    features: dict[str, dict[str, float]] = field(default_factory=dict)


def strides_of(run: Run, asked: Sequence[int] | None = None) -> list[int]:
    """Strides to compare, the finest first. Default: the run's, doubled up to its window.

    Raises
    ------
    SettingsError
        One is not a multiple of the run's, or wider than a window.
    """
    own, window = run.file.stride_px, run.file.model.window_px
    if asked is None:
        found = [own]
        while 2 * found[-1] < window:
            found.append(2 * found[-1])
        return [*found, window] if window % own == 0 and window > found[-1] else found
    wrong = [s for s in asked if s < own or s % own or s > window]
    if wrong:
        raise SettingsError(
            f"--strides {wrong[0]}: this run has a stride of {own} px, so give multiples of {own} "
            f"up to its window of {window} px."
        )
    return sorted(set(asked))


def tradeoff(
    run: Run,
    strides: Sequence[int],
    *,
    lesions: LesionTruth | None = None,
    slides: SlideTruth | None = None,
    gate: float | None = None,
    on_slide: Callable[[str], None] = lambda slide: None,
) -> list[StrideRow]:
    """Evaluate a finished run at its own and at wider strides.

    Parameters
    ----------
    run
        Finished, at a fine stride.
    strides
        As :func:`strides_of` gives them.
    lesions, slides
        The truth; at least one of the two.
    gate
        Slides whose score is below it get no lesions. It needs `slides`.
    on_slide
        Called with each slide before it is looked at.

    Raises
    ------
    EvaluationError
        A slide has no heatmap, or the truth does not fit.
    """
    if lesions is not None:
        lesions.truth.match(list(run.slides))
    gathered = {stride: _Stride() for stride in strides}
    for name, slide in run.slides.items():
        on_slide(name)
        known = None
        if lesions is not None:
            size = (slide.entry.width_px, slide.entry.height_px)
            known = lesions.truth.lesions(name, lesions.grid, size)
        for stride in strides:
            _look(run, slide, stride, gathered[stride], lesions, known, slides, gate)
    cost = _core_hours(run, {s: g.windows for s, g in gathered.items()})
    rows: list[StrideRow] = []
    first: Floats | None = None
    for stride, found in gathered.items():
        values: dict[str, Any] = {}
        if lesions is not None:
            values["froc"] = froc_curve(found.hits, lesions.rule)
            if lesions.bootstrap:
                values["froc_interval"] = bootstrap_froc(
                    found.hits,
                    lesions.rule,
                    lesions.interpolation,
                    lesions.bootstrap,
                    lesions.seed,
                )
        if slides is not None:
            truth = [slides.positive[name] for name in found.features]
            scores = slide_scores(found.features, slides.measure, slides.forest)
            values["auc"], values["roc"] = auc(truth, scores), roc(truth, scores)[1:]
            if first is None:
                first = scores
            else:
                values["difference"] = compare(truth, first, scores)
        rows.append(StrideRow(stride, found.windows, cost.get(stride), found.lesions, **values))
    return rows


def _look(
    run: Run,
    slide: RunSlide,
    stride: int,
    into: _Stride,
    lesions: LesionTruth | None,
    known: LesionMap | None,
    slides: SlideTruth | None,
    gate: float | None,
) -> None:
    """Find the lesions and features of a slide at a stride."""
    window = run.file.model.window_px
    scores = _at_stride(run, slide, stride)
    found: list[Lesion] = find_lesions(scores, run.settings, window, stride)
    if slides is not None:
        features = features_of(scores.dataset(), window, stride)
        into.features[slide.id] = features
        if gate is not None:
            score = slide_scores({slide.id: features}, slides.measure, slides.forest)[0]
            found = found if score >= gate else []
    into.windows += int((~np.isnan(scores.dataset())).sum())
    into.lesions += len(found)
    if lesions is not None:
        marks = _marks(slide, found)
        into.hits.append(match(slide.id, marks, known, lesions.grid.pixel_px))


def _at_stride(run: Run, slide: RunSlide, stride: int) -> Decimated:
    try:
        with slide.heatmap as heatmap:
            return decimate(heatmap, run.file.model.window_px, run.file.stride_px, stride)
    except FormatError as error:
        raise EvaluationError(
            f"The slide {slide.id} of {run.root} has no heatmap: finish it with `hpc-heatmap "
            f"resume {run.root}` first."
        ) from error


def _marks(slide: RunSlide, lesions: Sequence[Lesion]) -> Detections:
    """Lesions as the evaluation reads them from a file: whole pixels, six digits."""
    marks = detections_of(lesions)
    return Detections(
        slide.files.lesions_csv,
        np.array([float(f"{mark.score:.6f}") for mark in marks]),
        np.array([max(0.0, float(round(mark.x_px))) for mark in marks]),
        np.array([max(0.0, float(round(mark.y_px))) for mark in marks]),
    )


def _core_hours(run: Run, windows: Mapping[int, int]) -> dict[int, float]:
    """Processor time at each stride, from what this run took.

    Scoring goes with the number of windows; the other stages are as long at every stride. Where
    windows shared their early layers, those of a wider stride are counted as each on its own.
    """
    took = {row.stage: row.serial_cpu_h for row in report_run(run).stages if row.subset == "all"}
    scored = sum(slide.summary.n_windows for slide in run.status().slides.values() if slide.summary)
    scoring = took.get(Stage.SCORING, 0.0)
    if not scoring or not scored:
        return {}
    way, alone = run.file.model.execution, 1.0
    if way.cut is not None and way.alone_windows_per_s and way.windows_per_s:
        alone = way.windows_per_s / way.alone_windows_per_s
    rest = sum(hours for stage, hours in took.items() if stage != Stage.SCORING)
    return {
        stride: rest + scoring * n / scored * (1.0 if stride == run.file.stride_px else alone)
        for stride, n in windows.items()
    }
