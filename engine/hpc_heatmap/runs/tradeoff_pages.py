"""The trade-off between stride and accuracy as Markdown, JSON and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpc_heatmap.evaluation.froc import OPERATING_POINTS, Interpolation
from hpc_heatmap.evaluation.pictures import Plot, Series, plot_png
from hpc_heatmap.formats.atomic import write_json, writing
from hpc_heatmap.runs.report.values import duration
from hpc_heatmap.runs.run import Run
from hpc_heatmap.runs.tradeoff import StrideRow

__all__ = ["answer", "write_tradeoff"]


def answer(run: Run, rows: Sequence[StrideRow], interpolation: Interpolation) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "run": str(run.root),
        "slides": len(run.slides),
        "stride": run.file.stride_px,
        "strides": [row.as_dict(interpolation) for row in rows],
    }


def write_tradeoff(
    folder: Path, run: Run, rows: Sequence[StrideRow], interpolation: Interpolation
) -> list[Path]:
    """Write ``tradeoff.md``, ``tradeoff.json`` and the pictures beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = dict(_pictures(rows, interpolation))
    for name, plot in pictures.items():
        with writing(folder / name) as partial:
            partial.write_bytes(plot_png(plot))
    write_json(folder / "tradeoff.json", answer(run, rows, interpolation))
    with writing(folder / "tradeoff.md") as partial:
        partial.write_text(_page(run, rows, interpolation, list(pictures)), "utf-8")
    return [folder / name for name in ("tradeoff.md", "tradeoff.json", *pictures)]


def _pictures(rows: Sequence[StrideRow], interpolation: Interpolation) -> dict[str, Plot]:
    found = {}
    if all(row.roc is not None for row in rows):
        curves = [
            Series(f"stride {row.stride_px}: AUC {row.auc.auc:.3f}", *row.roc)
            for row in rows
            if row.roc is not None and row.auc is not None
        ]
        ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
        found["roc.png"] = Plot(
            "ROC of slides by stride", "false-positive rate", "sensitivity", ticks, curves
        )
    if all(row.froc is not None for row in rows):
        curves = [
            Series(
                f"stride {row.stride_px}: score {row.froc.score(interpolation):.3f}",
                row.froc.false_positives,
                row.froc.sensitivity,
            )
            for row in rows
            if row.froc is not None
        ]
        found["froc.png"] = Plot(
            "FROC of lesions by stride",
            "false positives per slide",
            "sensitivity",
            (0.125, *OPERATING_POINTS),
            curves,
            log2=True,
        )
    hours = [row.core_hours for row in rows if row.core_hours]
    if len(hours) == len(rows) > 1:
        found["cost.png"] = _cost_picture(rows, hours, interpolation)
    return found


def _cost_picture(
    rows: Sequence[StrideRow], hours: Sequence[float], interpolation: Interpolation
) -> Plot:
    unit, seconds = next(
        (u for u in (("core-hours", 3600.0), ("core-minutes", 60.0)) if 3600 * max(hours) >= u[1]),
        ("core-seconds", 1.0),
    )
    cost = np.array(hours) * 3600 / seconds
    curves = []
    if all(row.auc is not None for row in rows):
        areas = np.array([row.auc.auc for row in rows if row.auc is not None])
        curves.append(Series("AUC (slides)", cost, areas))
    if all(row.froc is not None for row in rows):
        scores = np.array([row.froc.score(interpolation) for row in rows if row.froc is not None])
        curves.append(Series("FROC score (lesions)", cost, scores))
    strides = ", ".join(str(row.stride_px) for row in reversed(rows))
    title = f"Accuracy against cost; strides from the left: {strides}"
    ticks = _round_numbers(float(cost.min()), float(cost.max()))
    return Plot(title, unit, "", ticks, curves, log2=True, marks=True)


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, or those powers alone, around two numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    numbers = [step * 10.0**power for power in powers for step in steps]
    first = max(i for i, number in enumerate(numbers) if number <= low)
    last = min(i for i, number in enumerate(numbers) if number >= high)
    return numbers[first : max(last, first + 1) + 1]


def _page(
    run: Run, rows: Sequence[StrideRow], interpolation: Interpolation, pictures: Sequence[str]
) -> str:
    parts = [
        f"# Strides of {run.root.name}",
        f"{len(run.slides)} slides, scored at a stride of {run.file.stride_px} px; wider strides "
        "are every k-th score of it, which are the scores that a run at that stride gives.",
        "## Cost",
        _table(
            ("stride, px", "windows", "core time", "of the first"),
            [
                (
                    row.stride_px,
                    f"{row.windows:,}",
                    "-" if row.core_hours is None else duration(3600 * row.core_hours),
                    "-"
                    if row.core_hours is None or not rows[0].core_hours
                    else f"{100 * row.core_hours / rows[0].core_hours:.1f} %",
                )
                for row in rows
            ],
        ),
    ]
    areas = [(row, row.auc) for row in rows if row.auc is not None]
    if areas:
        lines = [
            (row.stride_px, f"{area.auc:.3f}", _range(area.ci), _difference(row))
            for row, area in areas
        ]
        headings = ("stride, px", "AUC", "95 % interval", "less the first (95 % interval)")
        parts += ["## Slides: AUC (the paper's Table IV)", _table(headings, lines)]
    curves = [(row, row.froc) for row in rows if row.froc is not None]
    if curves:
        table = [
            (
                row.stride_px,
                *(f"{value:.3f}" for value in curve.sensitivities(interpolation)),
                f"{curve.score(interpolation):.3f}",
                _range(row.froc_interval.score) if row.froc_interval else "-",
            )
            for row, curve in curves
        ]
        points = tuple(f"{point:g} FP" for point in OPERATING_POINTS)
        parts += [
            "## Lesions: sensitivity (the paper's Table V)",
            _table(("stride, px", *points, "score", "95 % interval"), table),
        ]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _difference(row: StrideRow) -> str:
    versus = row.difference
    if versus is None:
        return "-"
    # Adding zero makes a zero of a negative one.
    less, low, high = (round(-v, 3) + 0.0 for v in (versus.difference, *versus.ci[::-1]))
    return f"{less:+.3f} ({low:+.3f} to {high:+.3f})"


def _range(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(headings)} |", "|" + "---:|" * len(headings)]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)
