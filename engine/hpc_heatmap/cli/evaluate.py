"""The commands ``evaluate froc`` and ``evaluate auc``: tables, JSON, curves as files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.progress import track
from rich.table import Table
from rich.text import Text

from hpc_heatmap.cli.app import Quiet, console, errors
from hpc_heatmap.errors import EvaluationError, SettingsError
from hpc_heatmap.evaluation.auc import Auc, Comparison, Method
from hpc_heatmap.evaluation.froc import Curve, Interpolation, Rule
from hpc_heatmap.formats.atomic import writing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hpc_heatmap.evaluation.bootstrap import Interval
    from hpc_heatmap.evaluation.froc import SlideHits
    from hpc_heatmap.evaluation.pictures import Plot
    from hpc_heatmap.evaluation.truth import Grid

__all__ = [
    "answer_areas",
    "auc",
    "check_classes",
    "check_grid",
    "check_targets",
    "evaluate",
    "froc",
]

evaluate = App(
    name="evaluate",
    help="Compare lesions (froc), slide scores (auc) or runs (slides) with the truth.",
)

Json = Annotated[
    bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON for scripts.")
]
Csv = Annotated[Path | None, Parameter(name="--csv", help="Write the curve's points to this file.")]
Picture = Annotated[
    Path | None, Parameter(help="Draw the curve to this file, .svg or .png by its name.")
]


@evaluate.command
def froc(
    *,
    detections: Annotated[
        Path, Parameter(help="Folder with one CSV a slide: rows prob,x,y (level-0 px), no header.")
    ],
    masks: Annotated[
        Path,
        Parameter(
            help="Folder of the truth, named like the CSV files: masks (PNG, TIFF; not 0 = tumour) "
            "or outlines (ASAP XML, QuPath GeoJSON, CAMELYON16 JSON or its tar.gz). A slide "
            "without is normal."
        ),
    ],
    mask_level: Annotated[
        int, Parameter(help="Level of the masks: one pixel is 2^LEVEL level-0 pixels.")
    ] = 5,
    spacing: Annotated[float, Parameter(help="Micrometres of a level-0 pixel.")] = 0.243,
    rule: Annotated[
        Rule, Parameter(help="As the organisers' program counts, or without its two quirks.")
    ] = "official",
    interpolation: Annotated[
        Interpolation,
        Parameter(help="Largest sensitivity with at most so many false positives, or linear."),
    ] = "step",
    bootstrap: Annotated[
        int, Parameter(help="Samples of slides for the 95 % interval; 0 for none.")
    ] = 1000,
    seed: Annotated[int, Parameter(help="Of the bootstrap.")] = 0,
    slide_sizes: Annotated[
        Path | None,
        Parameter(help="CSV slide,width,height (level-0 px), to check outlines against."),
    ] = None,
    csv_file: Csv = None,
    picture: Picture = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Lesion-level FROC by CAMELYON16's rules: sensitivity at 1/4 to 8 false positives a slide.

    docs/evaluation.md explains the rules and the numbers.
    """
    from hpc_heatmap.evaluation.bootstrap import bootstrap_froc
    from hpc_heatmap.evaluation.froc import OPERATING_POINTS, froc_curve
    from hpc_heatmap.evaluation.pictures import Plot, Series

    grid = check_grid(mask_level, spacing)
    if bootstrap < 0 or seed < 0:
        raise SettingsError("--bootstrap and --seed must not be negative.")
    check_targets(csv_file, picture)
    sizes = _slide_sizes(slide_sizes) if slide_sizes else {}
    slides = _hits(detections, masks, grid, sizes, quiet=quiet)
    curve = froc_curve(slides, rule)
    other_rule: Rule = "corrected" if rule == "official" else "official"
    other = froc_curve(slides, other_rule).score(interpolation)
    interval = bootstrap_froc(slides, rule, interpolation, bootstrap, seed) if bootstrap else None
    if csv_file:
        _write_rows(
            csv_file,
            ("threshold", "false_positives_per_slide", "sensitivity"),
            zip(curve.thresholds, curve.false_positives, curve.sensitivity, strict=True),
        )
    if picture:
        title = f"FROC, {len(slides)} slides: score {curve.score(interpolation):.4f} ({rule})"
        series = Series(rule, curve.false_positives, curve.sensitivity)
        ticks = (0.125, *OPERATING_POINTS)
        names = ("false positives per slide", "sensitivity")
        _draw(picture, Plot(title, *names, ticks, [series], log2=True))
    answer = _froc_answer(slides, curve, rule, interpolation, interval, other)
    if as_json:
        print(json.dumps(answer, indent=2, allow_nan=False))
    else:
        _print_froc(answer)
    if answer["rules_differ"]:
        errors.print(
            f"The rules differ here: {rule} {answer['score']:.4f}, {other_rule} {other:.4f} "
            "(docs/evaluation.md says why)."
        )
    return 0


def check_grid(mask_level: int, spacing: float) -> Grid:
    """Pixels of the evaluation, from the options."""
    from hpc_heatmap.evaluation.truth import Grid

    if not 0 <= mask_level <= 12 or not (math.isfinite(spacing) and 0.01 <= spacing <= 100):
        raise SettingsError("--mask-level must be 0 to 12, and --spacing 0.01 to 100 um.")
    return Grid(mask_level, spacing)


def _hits(
    detections: Path, masks: Path, grid: Grid, sizes: dict[str, tuple[int, int]], *, quiet: bool
) -> list[SlideHits]:
    from hpc_heatmap.evaluation.detections import find_detections, read_detections
    from hpc_heatmap.evaluation.froc import match
    from hpc_heatmap.evaluation.truth import find_truth

    files, truth = find_detections(detections), find_truth(masks)
    truth.match(files)
    found = []
    for slide, path in track(
        files.items(), "Evaluating slides", console=errors, transient=True, disable=quiet
    ):
        read = read_detections(path)
        lesions = truth.lesions(slide, grid, sizes.get(slide))
        found.append(match(slide, read, lesions, grid.pixel_px))
    return found


def _slide_sizes(path: Path) -> dict[str, tuple[int, int]]:
    from hpc_heatmap.evaluation.score_table import read_score_table

    table = read_score_table(path)
    table.check_slides("slide")
    width, height = table.scores("width"), table.scores("height")
    return {
        slide: (int(w), int(h))
        for slide, w, h in zip(table.column("slide"), width, height, strict=True)
    }


def _froc_answer(
    slides: Sequence[SlideHits],
    curve: Curve,
    rule: Rule,
    interpolation: Interpolation,
    interval: Interval | None,
    other: float,
) -> dict[str, Any]:
    from hpc_heatmap.evaluation.froc import OPERATING_POINTS

    names = [f"{point:g}" for point in OPERATING_POINTS]
    score = curve.score(interpolation)
    sensitivities = curve.sensitivities(interpolation).tolist()
    return {
        "score": score,
        "sensitivity": dict(zip(names, sensitivities, strict=True)),
        "n_slides": len(slides),
        "n_lesions": sum(len(slide.lesions) for slide in slides),
        "n_tumour_slides": sum(slide.has_truth for slide in slides),
        "n_lesions_hit": sum(slide.n_hit for slide in slides),
        "n_itc": sum(slide.n_itc for slide in slides),
        "rule": rule,
        "interpolation": interpolation,
        "ci": list(interval.score) if interval else None,
        "sensitivity_ci": dict(zip(names, interval.sensitivities.tolist(), strict=True))
        if interval
        else None,
        "bootstrap": interval.n_samples if interval else 0,
        "score_of_other_rule": other,
        "rules_differ": abs(other - score) > 1e-12,
    }


def _print_froc(answer: dict[str, Any]) -> None:
    table = Table(title=Text(f"FROC, {answer['rule']} rule"), title_justify="left")
    for heading in ("false positives a slide", "sensitivity", "95 % interval"):
        table.add_column(heading, justify="right")
    between = answer["sensitivity_ci"] or {}
    for point, value in answer["sensitivity"].items():
        table.add_row(point, f"{value:.4f}", _interval(between.get(point)))
    table.add_section()
    table.add_row("score (mean)", f"{answer['score']:.4f}", _interval(answer["ci"]))
    console.print(table)
    console.print(
        f"{answer['n_slides']} slides, {answer['n_tumour_slides']} with tumour; "
        f"{answer['n_lesions_hit']} of {answer['n_lesions']} lesions hit at any threshold; "
        f"{answer['n_itc']} groups of isolated tumour cells, which do not count."
    )


evaluate.command("hpc_heatmap.cli.slides:slides", name="slides")


@evaluate.command
def auc(
    *,
    scores: Annotated[Path, Parameter(help="CSV with a header, one slide a row.")],
    truth: Annotated[str, Parameter(help="Column with the truth: 1 or 0, tumor or normal.")],
    score: Annotated[str, Parameter(help="Column with the score, higher for more suspicious.")],
    method: Annotated[Method, Parameter(help="Of the variance.")] = "delong",
    compare: Annotated[
        str | None, Parameter(help="Another score column of the same slides, compared as paired.")
    ] = None,
    slide: Annotated[
        str | None, Parameter(help="Column with the slide's name. Default: found by its name.")
    ] = None,
    csv_file: Csv = None,
    picture: Picture = None,
    as_json: Json = False,
) -> int:
    """Slide-level AUC with standard error and 95 % interval, and paired comparison of scores."""
    from hpc_heatmap.evaluation.score_table import read_score_table

    check_targets(csv_file, picture)
    table = read_score_table(scores)
    table.check_slides(slide)
    names = [score] if compare is None else [score, compare]
    values = {name: table.scores(name) for name in names}
    is_positive = table.truth(truth)
    check_classes(is_positive, scores, truth)
    answer_areas(is_positive, values, method, csv_file, picture, as_json=as_json)
    return 0


def answer_areas(
    is_positive: npt.NDArray[np.bool_],
    values: Mapping[str, npt.NDArray[np.float64]],
    method: Method,
    csv_file: Path | None,
    picture: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print the area of a score, and of another one beside it, and draw their curves."""
    from hpc_heatmap.evaluation import auc as areas
    from hpc_heatmap.evaluation.pictures import Plot, Series

    score, compare = [*values, None][:2]
    assert score is not None
    first = areas.auc(is_positive, values[score], method)
    versus = None
    if compare is not None:
        versus = areas.compare(is_positive, values[score], values[compare], method)
    curves = {name: areas.roc(is_positive, value) for name, value in values.items()}
    if csv_file:
        points = [(n, *row) for n, c in curves.items() for row in zip(*c, strict=True)]
        headings = ("score", "threshold", "false_positive_rate", "sensitivity")
        _write_rows(csv_file, headings, points)
    if picture:
        each = [first.auc, *([versus.second.auc] if versus else [])]
        series = [
            Series(f"{name}: AUC {area:.4f}", x, y)
            for area, (name, (_, x, y)) in zip(each, curves.items(), strict=True)
        ]
        ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
        title = f"ROC, {len(is_positive)} slides"
        _draw(picture, Plot(title, "false-positive rate", "sensitivity", ticks, series))
    if as_json:
        answer = _area_answer(first) | {"method": method}
        if versus is not None:
            answer["compare"] = _comparison_answer(compare, versus)
        print(json.dumps(answer, indent=2, allow_nan=False))
    else:
        _print_auc(score, compare, first, versus, method)


def _area_answer(area: Auc) -> dict[str, Any]:
    return {
        "auc": area.auc,
        "se": area.se,
        "ci": list(area.ci),
        "n_positive": area.n_positive,
        "n_negative": area.n_negative,
    }


def _comparison_answer(column: str | None, versus: Comparison) -> dict[str, Any]:
    return {
        "column": column,
        **_area_answer(versus.second),
        "difference": versus.difference,
        "difference_se": versus.se,
        "difference_ci": list(versus.ci),
        "covariance": versus.covariance,
        "p": None if math.isnan(versus.p) else versus.p,
    }


def _print_auc(
    score: str, other: str | None, first: Auc, versus: Comparison | None, method: Method
) -> None:
    table = Table(title=Text(f"AUC, {method} variance"), title_justify="left")
    table.add_column("")
    for heading in ("AUC", "standard error", "95 % interval"):
        table.add_column(heading, justify="right")
    table.add_row(Text(score), f"{first.auc:.4f}", f"{first.se:.4f}", _interval(first.ci))
    if versus is not None:
        second = versus.second
        area = (f"{second.auc:.4f}", f"{second.se:.4f}", _interval(second.ci))
        table.add_row(Text(str(other)), *area)
        table.add_section()
        difference = (f"{versus.difference:+.4f}", f"{versus.se:.4f}", _interval(versus.ci))
        table.add_row("difference (paired)", *difference)
    console.print(table)
    console.print(f"{first.n_positive} positive and {first.n_negative} negative slides.")
    if versus is not None and not math.isnan(versus.p):
        console.print(f"p of no difference, two-sided: {versus.p:.3g}")


def _interval(pair: Sequence[float] | None) -> str:
    return f"{pair[0]:.4f} to {pair[1]:.4f}" if pair else ""


def check_classes(is_positive: npt.NDArray[np.bool_], path: Path, column: str) -> None:
    """Refuse slides of one class alone."""
    if is_positive.all() or not is_positive.any():
        kind = "positive" if is_positive.all() else "negative"
        raise EvaluationError(
            f"{path}: every slide is {kind} by column {column}: an AUC needs both classes."
        )


def check_targets(csv_file: Path | None, picture: Path | None) -> None:
    """Refuse bad file names before any work."""
    for path in (csv_file, picture):
        if path is not None and path.is_dir():
            raise SettingsError(f"{path} is a folder: give the name of a file.")
    if picture is not None and picture.suffix.lower() not in (".svg", ".png"):
        raise SettingsError(f"{picture}: a picture's name must end with .svg or .png.")


def _draw(path: Path, plot: Plot) -> None:
    from hpc_heatmap.evaluation.pictures import plot_png, plot_svg

    drawn = plot_png(plot) if path.suffix.lower() == ".png" else plot_svg(plot).encode()
    with writing(path) as partial:
        partial.write_bytes(drawn)


def _write_rows(path: Path, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(headings)
    lines.writerows([[v if isinstance(v, str) else float(v) for v in row] for row in rows])
    with writing(path) as partial:
        partial.write_text(text.getvalue(), "utf-8")
