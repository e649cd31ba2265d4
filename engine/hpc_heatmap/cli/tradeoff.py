"""The command ``tradeoff``: accuracy and cost of wider strides, from one fine run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import Progress

from hpc_heatmap.cli.app import Quiet, RunDirectory, console, errors
from hpc_heatmap.cli.evaluate import Json, check_classes, check_grid
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.evaluation.froc import Interpolation, Rule

__all__ = ["tradeoff"]


def tradeoff(
    directory: RunDirectory,
    /,
    *,
    strides: Annotated[
        list[int] | None,
        Parameter(
            negative="",
            consume_multiple=True,
            help="Multiples of the run's stride. Default: doubled up to the window.",
        ),
    ] = None,
    out: Annotated[Path, Parameter(help="Folder for tables and pictures.")],
    masks: Annotated[
        Path | None, Parameter(help="Truth of the lesions, as of `evaluate froc`.")
    ] = None,
    mask_level: Annotated[int, Parameter(help="Level of the masks.")] = 5,
    spacing: Annotated[float, Parameter(help="Micrometres of a level-0 pixel.")] = 0.243,
    rule: Annotated[Rule, Parameter(help="As of `evaluate froc`.")] = "official",
    interpolation: Annotated[Interpolation, Parameter(help="As of `evaluate froc`.")] = "step",
    bootstrap: Annotated[int, Parameter(help="Samples of slides; 0 for none.")] = 1000,
    labels: Annotated[
        Path | None, Parameter(help="CSV with a header: slides and their truth.")
    ] = None,
    truth: Annotated[str | None, Parameter(help="Column of the labels with the truth.")] = None,
    forest: Annotated[
        Path | None, Parameter(help="Score slides by this forest instead of --score.")
    ] = None,
    score: Annotated[str, Parameter(help="Score a slide by this: max, or a feature.")] = "max",
    gate: Annotated[
        float | None, Parameter(help="Slides with a score below get no lesions.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Show what wider strides would cost, and what they would find, from one fine run.

    The paper's Tables IV and V and Figures 6 and 7: every k-th score of a run is the score of a
    run at k times its stride.
    """
    from hpc_heatmap.evaluation.score_table import read_score_table
    from hpc_heatmap.evaluation.slide_forest import read_forest
    from hpc_heatmap.evaluation.truth import find_truth
    from hpc_heatmap.runs import tradeoff as work
    from hpc_heatmap.runs.run import open_run
    from hpc_heatmap.runs.slide_scores import check_measure, labels_of_run
    from hpc_heatmap.runs.tradeoff_pages import answer, write_tradeoff

    if masks is None and labels is None:
        raise SettingsError("Give the truth: of lesions with --masks, of slides with --labels.")
    if (labels is None) != (truth is None):
        raise SettingsError("--labels and --truth go together: the table, and its column.")
    if gate is not None and labels is None:
        raise SettingsError("--gate needs slide scores: give --labels and --truth too.")
    if bootstrap < 0:
        raise SettingsError("--bootstrap must not be negative.")
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file: give a folder.")
    grid = check_grid(mask_level, spacing)
    check_measure(score)
    fitted = read_forest(forest) if forest else None
    run = open_run(directory)
    chosen = work.strides_of(run, strides)
    lesions = slides = None
    if masks is not None:
        lesions = work.LesionTruth(find_truth(masks), grid, rule, interpolation, bootstrap)
    if labels is not None and truth is not None:
        import numpy as np

        known = labels_of_run(run, read_score_table(labels).labels(truth))
        check_classes(np.array(known, bool), labels, truth)
        slides = work.SlideTruth(dict(zip(run.slides, known, strict=True)), score, fitted)
    with Progress(console=errors, transient=True, disable=quiet) as progress:
        bar = progress.add_task("Slides", total=len(run.slides))
        rows = work.tradeoff(
            run,
            chosen,
            lesions=lesions,
            slides=slides,
            gate=gate,
            on_slide=lambda slide: progress.advance(bar),
        )
    written = write_tradeoff(out, run, rows, interpolation)
    if as_json:
        print(json.dumps(answer(run, rows, interpolation), indent=2, allow_nan=False))
        return 0
    console.print(written[0].read_text("utf-8"), markup=False)
    for path in written:
        console.print(f"Written: {path}", markup=False)
    return 0
