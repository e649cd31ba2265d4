"""The whole way from a request to its cost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import NoTissueError, SettingsError
from hpc_heatmap.formats.run_file import RunFile, SlideEntry
from hpc_heatmap.model import find_descriptor
from hpc_heatmap.processes import usable_cores
from hpc_heatmap.runs.cost.pool import pool_of
from hpc_heatmap.runs.cost.prediction import Choice, Estimate, predict
from hpc_heatmap.runs.cost.sizes import read_sizes
from hpc_heatmap.runs.cost.survey import Survey, survey
from hpc_heatmap.runs.cost.trial import Trial, measure
from hpc_heatmap.runs.planning import plan_run
from hpc_heatmap.settings import LaunchSettings, RunSettings
from hpc_heatmap.simulation import ClusterModel
from hpc_heatmap.synthetic import generate_slide

__all__ = ["estimate"]

#: Shares of the window that are offered as strides: 16, 64, 112 and 224 of 224. Patches in a group.
_STRIDES = (1 / 14, 2 / 7, 1 / 2, 1)
_GROUP_SIZES = (16, 64, 256, 1024)
_SPACING_UM = 0.25
#: A tolerance that is offered, and tasks that are tried at once at most: others work here, too.
_TOLERANCE = 0.02
_MOST_AT_ONCE = 8


def estimate(
    slides: Sequence[str | os.PathLike[str]],
    model: Any,
    *,
    settings: RunSettings | None = None,
    launch: LaunchSettings | None = None,
    model_config: str | os.PathLike[str] | None = None,
    sizes: Path | None = None,
    cores: int | None = None,
    directory: Path | None = None,
    seconds: float = 60.0,
    choices: bool = True,
    say: Callable[[str], None] = lambda sentence: None,
) -> Estimate:
    """What a run would cost. Nothing is kept: the trial's folder is removed.

    Parameters
    ----------
    slides, model, settings, model_config
        As for :func:`~hpc_heatmap.start_run`. With `sizes` slides may be left out.
    launch, cores
        Where it would run, and on how many cores; see :func:`~hpc_heatmap.runs.cost.pool_of`.
    sizes
        A table of the slides to plan for; `slides` then only show how much tissue there is.
    directory
        Where the run would be kept: the trial is made beside it.
    seconds
        How long to look for tissue.
    choices
        Whether other strides and group sizes are tried too.
    say
        Called with a sentence for each step.

    Raises
    ------
    RequestError
        The request is wrong.
    WorkError
        The trial failed, or no slide has tissue.
    """
    settings, launch = settings or RunSettings(), launch or LaunchSettings()
    pool = pool_of(launch, cores)
    with tempfile.TemporaryDirectory(prefix="hpc-heatmap-plan-") as folder:
        given = list(slides)
        if sizes is not None and not given:
            say("Generating a slide to try the model on")
            given = [generate_slide(Path(folder) / "generated.tiff", 4096, 4096, _SPACING_UM)]
        say("Checking slides and model")
        run = plan_run(given, model, settings, model_config=model_config)
        found = survey(run, seconds, say)
        slide = _slide_with_tissue(run, found)
        if sizes is not None:
            share = _share(found) if slides else None
            found = read_sizes(sizes, run.model.window_px, run.model.requested_spacing_um, share)
        threads = min(pool.cores_per_task, usable_cores())
        rough = _rough(run, given, model, model_config) if choices else None
        trial = measure(
            run,
            slide,
            model=model,
            descriptor=_descriptor(model, model_config),
            strides=_strides(run) if choices else (),
            tolerant=(_TOLERANCE, rough.model) if rough else None,
            choices=choices,
            threads=threads,
            at_once=max(1, min(pool.slots, usable_cores() // threads, _MOST_AT_ONCE)),
            directory=directory.absolute() if directory else None,
            say=say,
        )
    if trial.threads < pool.cores_per_task:
        trial = _on_more_cores(trial, pool.cores_per_task)
        note = (
            f"The trial had {trial.threads} cores, a task has {pool.cores_per_task}: scoring is "
            "taken to gain as much."
        )
        found = replace(found, notes=(*found.notes, note))
    cost = predict(found, trial, pool, settings, run.stride_px)
    if choices:
        others = tuple(_choices(found, trial, pool, settings, run, cost))
        cost = replace(cost, choices=others, notes=(*cost.notes, *_way_notes(trial, run)))
    return cost


def _descriptor(model: Any, config: str | os.PathLike[str] | None) -> Path | None:
    if not isinstance(model, str | os.PathLike):
        return None
    return find_descriptor(Path(model), Path(config) if config else None)


def _rough(
    run: RunFile,
    slides: Sequence[str | os.PathLike[str]],
    model: Any,
    config: str | os.PathLike[str] | None,
) -> RunFile | None:
    """The request with a tolerance; None where that changes nothing on this processor."""
    if run.model.file is None or run.settings.tolerance is not None:
        return None
    settings = run.settings.model_copy(update={"tolerance": _TOLERANCE})
    rough = plan_run(slides, model, settings, model_config=config)
    mine, its = run.model.execution, rough.model.execution
    same = (mine.runtime, mine.precision) == (its.runtime, its.precision)
    return None if same else rough


def _slide_with_tissue(run: RunFile, found: Survey) -> SlideEntry:
    """The slide of the trial: the one with the most tissue cells of those looked at."""
    seen = [s for s in found.slides if s.cells is not None and len(s.cells)]
    if not seen:
        raise NoTissueError(
            f"No tissue was found on {found.measured} slides: look at one with --tissue-method all."
        )
    name = max(seen, key=lambda s: s.n_cells(found.window_px)).name
    return next(entry for entry in run.slides if entry.id == name)


def _share(found: Survey) -> float:
    """Share of tissue of the slides that were looked at."""
    seen = [s for s in found.slides if s.cells is not None]
    cells = sum(s.n_cells(found.window_px) for s in seen)
    return cells * found.window_px**2 / sum(s.area_px for s in seen)


def _strides(run: RunFile) -> list[int]:
    """Other strides, of those that leave room for the coarser one of an adaptive request."""
    window_px = run.model.window_px
    strides = {max(1, round(share * window_px)) for share in _STRIDES} - {run.stride_px}
    return sorted(stride for stride in strides if _fits(run.settings, stride, window_px))


def _fits(settings: RunSettings, stride_px: int, window_px: int) -> bool:
    try:
        settings.coarse_stride_px(stride_px, window_px)
    except SettingsError:
        return False
    return True


def _on_more_cores(trial: Trial, cores: int) -> Trial:
    """A trial as it would have been on more cores, if scoring gains as much."""
    gain = trial.threads / cores
    speeds = {stride: s.scaled(gain) for stride, s in trial.speeds.items()}
    ways = {option: s.scaled(gain) for option, s in trial.ways.items()}
    return replace(trial, speeds=speeds, ways=ways)


def _choices(
    found: Survey,
    trial: Trial,
    pool: ClusterModel,
    settings: RunSettings,
    run: RunFile,
    asked: Estimate,
) -> Iterator[Choice]:
    """What one other choice at a time would cost, and first what was asked."""
    yield _choice(f"as asked (--stride {run.stride_px})", asked)
    for stride in sorted(trial.speeds):
        if stride != run.stride_px:
            yield _choice(f"--stride {stride}", predict(found, trial, pool, settings, stride))
    for option, speed in trial.ways.items():
        other_way = replace(trial, speeds=trial.speeds | {run.stride_px: speed})
        yield _choice(option, predict(found, other_way, pool, settings, run.stride_px))
    for n_p in _GROUP_SIZES:
        if n_p != round(asked.cells / max(1, asked.groups)):
            other = settings.model_copy(update={"patches_per_group": n_p, "group_memory": None})
            cost = predict(found, trial, pool, other, run.stride_px)
            yield _choice(f"--patches-per-group {n_p}", cost)
    for factor in (2, 4):
        larger = pool.model_copy(
            update={"nodes": pool.nodes * factor, "max_queued": pool.max_queued * factor}
        )
        cost = predict(found, trial, larger, settings, run.stride_px)
        yield _choice(f"{cost.cores} cores", cost)


def _way_notes(trial: Trial, run: RunFile) -> Iterator[str]:
    """What the choices of adaptive stride and tolerance rest on."""
    adaptive = trial.ways.get("--adaptive")
    if adaptive is not None:
        share = 1 - adaptive.skipped / max(1, adaptive.windows)
        yield (
            f"With --adaptive {100 * share:.0f} % of the windows of {adaptive.patches} patches "
            "were scored, coarse ones included; other slides may differ."
        )
    option = f"--tolerance {_TOLERANCE:g}"
    if run.settings.tolerance is None and run.model.file and option not in trial.ways:
        yield f"{option} would change nothing here: this processor or model has no faster way."


def _choice(option: str, cost: Estimate) -> Choice:
    return Choice(
        option,
        cost.windows,
        cost.groups,
        cost.bytes,
        cost.core_hours,
        cost.wall_hours,
        cost.task_memory_bytes,
    )
