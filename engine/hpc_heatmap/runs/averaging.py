"""Several models' runs on the same slides as one: the mean of their scores."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import FormatError, RunConflictError, WorkError
from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.lookup import read_lookup
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.formats.run_file import ModelEntry, RunFile
from hpc_heatmap.formats.score_file import (
    GroupScores,
    has_scores,
    open_scores,
    read_scores,
    write_scores,
)
from hpc_heatmap.runs.planning import create_run
from hpc_heatmap.runs.provenance import provenance
from hpc_heatmap.runs.run import Run
from hpc_heatmap.runs.status import State
from hpc_heatmap.stages.task import Stage, Task, perform

__all__ = ["average_runs"]


def average_runs(
    runs: Sequence[Run | str | os.PathLike[str]],
    out: str | os.PathLike[str],
    on_slide: Callable[[str], None] = lambda slide: None,
) -> Run:
    """Make a run whose scores are the means of those of other runs, with heatmaps and lesions.

    The paper averages two models, with and without stain normalization. A score that one of them
    lacks is missing. What was interrupted goes on when it is called again.

    Parameters
    ----------
    runs
        Finished runs of the same slides, at one stride and window, cut into the same groups.
    out
        Directory of the new run: new, empty, or begun before.
    on_slide
        Called with each slide before its scores are averaged.

    Raises
    ------
    RunConflictError
        There are fewer than two runs, one is not finished, or they differ in more than the model
        and its stain.
    WorkError
        A slide could not be stitched.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    _check(opened)
    first = opened[0]
    model = ModelEntry(
        name="mean of " + " and ".join(str(run.root) for run in opened),
        lesion_class=first.file.model.lesion_class,
        window_px=first.file.model.window_px,
        requested_spacing_um=first.file.model.requested_spacing_um,
    )
    wanted = RunFile(
        settings=first.file.settings,
        stride_px=first.file.stride_px,
        model=model,
        slides=first.file.slides,
        stain_target=first.file.stain_target,
        provenance=provenance() | {"averaged": [str(run.root) for run in opened]},
    )
    made = Run(create_run(out, wanted).root)
    for name, slide in made.slides.items():
        on_slide(name)
        _average_slide([run.slides[name].files for run in opened], slide.files)
        perform(Task(str(made.root), Stage.STITCHING, name))
    status = made.status()
    if status.state is not State.DONE:
        failed = [f.reason for s in status.slides.values() for f in s.failures]
        raise WorkError(f"{made.root} is not complete: {' '.join(failed) or 'see its status'}")
    return made


def _check(runs: Sequence[Run]) -> None:
    """Refuse runs that cannot be averaged."""
    if len(runs) < 2:
        raise RunConflictError("One run has no mean with others: name two or more.")
    first = runs[0]
    for run in runs:
        if run.status().state is not State.DONE:
            raise RunConflictError(
                f"{run.root} is not finished: `hpc-heatmap resume {run.root}` first."
            )
        same = {
            "slides": set(run.slides) == set(first.slides),
            "stride": run.file.stride_px == first.file.stride_px,
            "window": run.file.model.window_px == first.file.model.window_px,
            "spacing": run.file.model.requested_spacing_um == first.file.model.requested_spacing_um,
        }
        if other := [name for name, equal in same.items() if not equal]:
            raise RunConflictError(
                f"{first.root} and {run.root} have another {' and '.join(other)}: a mean needs the "
                "same slides, stride, window and spacing."
            )
        for name in first.slides:
            _check_cells(first.slides[name].files.lookup, run.slides[name].files.lookup)


def _check_cells(first: Path, other: Path) -> None:
    mine, theirs = read_lookup(first), read_lookup(other)
    if not (np.array_equal(mine.cells, theirs.cells) and np.array_equal(mine.group, theirs.group)):
        raise RunConflictError(
            f"{first} and {other} have other tissue cells, or other groups of them: a mean needs "
            "runs with the same tissue method and --patches-per-group."
        )


def _average_slide(sources: Sequence[SlidePaths], into: SlidePaths) -> None:
    """Write the mean scores of a slide's groups, and copy what the first run knows of it."""
    for group in range(read_lookup(sources[0].lookup).n_groups):
        if not has_scores(into, group):
            mean = _mean([_scores_of(source, group) for source in sources])
            write_scores(into.group_scores(group), mean)
    for name in ("grid_picture", "lookup", "stain_picture", "summary"):
        source, target = getattr(sources[0], name), getattr(into, name)
        if source.exists() and not target.exists():
            with writing(target) as partial:
                shutil.copyfile(source, partial)


def _scores_of(files: SlidePaths, group: int) -> GroupScores:
    """Scores of a group; runs of older versions have a file for each."""
    if not files.slide_scores.exists():
        return read_scores(files.group_scores(group))
    with open_scores(files.slide_scores) as scores:
        return scores.group(group)


def _mean(scores: Sequence[GroupScores]) -> GroupScores:
    first = scores[0]
    if not all(np.array_equal(first.cells, other.cells) for other in scores):
        raise FormatError("Scores of one group are of other cells: a run was changed meanwhile.")
    mean: npt.NDArray[np.float64] = np.stack([s.scores for s in scores]).mean(0, np.float64)
    readable = np.logical_and.reduce([s.readable for s in scores])
    return GroupScores(
        first.cells, mean.astype(np.float32), readable, max(s.raw_patches for s in scores)
    )
