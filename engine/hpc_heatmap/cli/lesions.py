"""The commands ``average`` and ``lesions``: several runs as one, and lesions by another rule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import Progress

from hpc_heatmap.cli.app import Quiet, RunDirectory, console, errors
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.settings import LesionMethod, RunSettings

__all__ = ["average", "lesions"]


def average(
    *directories: Annotated[Path, Parameter(help="Finished runs of the same slides.")],
    out: Annotated[Path, Parameter(help="Directory of the new run: new, or begun before.")],
    quiet: Quiet = False,
) -> int:
    """Average the scores of several models' runs into a run with heatmaps and lesions.

    The runs must be of the same slides, stride, window, spacing and groups.
    """
    from hpc_heatmap.runs.averaging import average_runs

    with Progress(console=errors, transient=True, disable=quiet) as progress:
        bar = progress.add_task("Slides", total=None)
        made = average_runs(directories, out, lambda slide: progress.advance(bar))
    console.print(f"{made.root}: {len(made.slides)} slides averaged.", markup=False)
    return 0


def lesions(
    directory: RunDirectory,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder for one CSV a slide: rows prob,x,y.")],
    method: Annotated[
        LesionMethod | None, Parameter(help="How lesions are found. Default: as the run did.")
    ] = None,
    threshold: Annotated[
        float | None, Parameter(help="Of the method. Default: as the run did.")
    ] = None,
    scores: Annotated[
        Path | None, Parameter(help="CSV with a header: slides and their slide-level scores.")
    ] = None,
    score: Annotated[str, Parameter(help="Column of the slide scores.")] = "score",
    gate: Annotated[
        float | None, Parameter(help="Slides with a slide score below get no lesions.")
    ] = None,
) -> int:
    """Find lesions on a run's heatmaps again, by another rule or gated by slide scores.

    The run itself stays as it is. The files are for `evaluate froc --detections`.
    """
    from hpc_heatmap.formats.camelyon_csv import detections_of, write_camelyon_csv
    from hpc_heatmap.formats.decimation import decimate
    from hpc_heatmap.runs.run import open_run
    from hpc_heatmap.runs.slide_scores import gated_slides
    from hpc_heatmap.stages.lesion_methods import find_lesions

    if (gate is None) != (scores is None):
        raise SettingsError("--gate and --scores go together: a limit, and the slides' scores.")
    if threshold is not None and not 0 < threshold < 1:
        raise SettingsError("--threshold must be above 0 and below 1.")
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file: give a folder.")
    run = open_run(directory)
    settings = _chosen(run.settings, method, threshold)
    silent = gated_slides(run, scores, score, gate) if scores and gate is not None else set()
    window, stride = run.file.model.window_px, run.file.stride_px
    found = {}
    for name, slide in run.slides.items():
        with slide.heatmap as heatmap:
            at_stride = decimate(heatmap, window, stride, stride)
        here = [] if name in silent else find_lesions(at_stride, settings, window, stride)
        found[name] = detections_of(here)
    for name, marks in found.items():
        write_camelyon_csv(out / f"{name}.csv", marks)
    console.print(
        f"Written: {out}, {len(found)} slides, {sum(map(len, found.values()))} lesions, "
        f"{len(silent)} slides below the gate",
        markup=False,
    )
    return 0


def _chosen(
    settings: RunSettings, method: LesionMethod | None, threshold: float | None
) -> RunSettings:
    method = method or settings.lesion_method
    which = "threshold" if method is LesionMethod.REGIONS else "nms_threshold"
    changes = {"lesion_method": method} | ({which: threshold} if threshold is not None else {})
    return settings.model_copy(update=changes)
