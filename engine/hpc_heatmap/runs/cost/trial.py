"""A short trial of a model on this machine: a run in small, with the run's own code.

A few groups of one slide are made, scored and stitched in a folder that is removed afterwards, and
the records that these tasks leave are looked at. One task of each kind has a process of its own, as
in a real run, so that the start of the interpreter and the loading of the model are measured; what
more patches or windows take is measured in this process. Scoring is tried in as many tasks at once
as will share the machine: two that compute at the same time are slower than one.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.atomic import storage_errors
from hpc_heatmap.formats.run_file import ModelEntry, RunFile, SlideEntry
from hpc_heatmap.runs.cost.bench import Bench, Time, Work
from hpc_heatmap.runs.planning import create_run
from hpc_heatmap.schedulers import Scheduler
from hpc_heatmap.schedulers.in_process import InProcessScheduler
from hpc_heatmap.schedulers.local import LocalScheduler
from hpc_heatmap.stages.task import load_run_classifier

__all__ = ["Speed", "Time", "Trial", "measure"]

#: How long the model is tried at one stride, and patches of a trial at most.
_SCORING_S = 5.0
_MOST_PATCHES = 64
_GROUPED_PATCHES = 256


@dataclass(frozen=True)
class Speed:
    """Scoring at one stride.

    Attributes
    ----------
    window
        Time of a window, its share of reading, preparing and writing included.
    windows, patches
        How many got a score, and their patches.
    skipped
        Those of them that took a coarser score, with ``--adaptive``.
    """

    window: Time
    windows: int
    patches: int = 1
    skipped: int = 0

    def scaled(self, factor: float) -> Speed:
        """The same with another time by the clock."""
        return replace(self, window=replace(self.window, wall_s=self.window.wall_s * factor))


@dataclass(frozen=True)
class Trial:
    """What was measured. Times of tasks are by their own clocks, on `threads` cores.

    Attributes
    ----------
    host
        Where.
    threads, at_once
        Cores of a task, and tasks that computed at the same time.
    start_s, end_s
        Before and after a task's own clock: processes, imports, the master's look.
    grouping, grouping_patch
        Time of grouping a slide of `area_px`, whatever its tissue; and of each patch.
    area_px
        Read pixels of the slide of the trial.
    patch_bytes, patches_per_group, tile_cells
        Bytes stored for a patch, in groups of so many; side of the slide's own tiles in cells, 0
        where groups are stored in another layout.
    run_bytes, slide_bytes
        Bytes stored once, and for a slide beside its groups, scores and heatmap.
    model
        Time of a scoring task beside its windows: loading the model, its first batch.
    speeds
        Scoring, by stride.
    ways
        Scoring at the asked stride in other ways, by their option.
    stitching, stitching_window
        Time of stitching a slide, whatever it holds; and of each window.
    peak_memory_bytes
        Largest memory of a scoring task.
    seconds
        How long the trial took.
    """

    host: str
    threads: int
    start_s: float
    end_s: float
    grouping: Time
    grouping_patch: Time
    area_px: int
    patch_bytes: float
    patches_per_group: float
    model: Time
    speeds: dict[int, Speed]
    stitching: Time
    stitching_window: Time
    peak_memory_bytes: int
    seconds: float
    at_once: int = 1
    tile_cells: float = 0.0
    run_bytes: int = 0
    slide_bytes: int = 0
    ways: dict[str, Speed] = field(default_factory=dict)


def measure(
    run: RunFile,
    slide: SlideEntry,
    *,
    model: Any,
    descriptor: Path | None = None,
    strides: Sequence[int] = (),
    tolerant: tuple[float, ModelEntry] | None = None,
    choices: bool = False,
    threads: int = 1,
    at_once: int = 1,
    directory: Path | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Trial:
    """Try a request on a few groups of one slide.

    Parameters
    ----------
    run
        A request from :func:`~hpc_heatmap.runs.planning.plan_run`.
    slide
        A slide with tissue.
    model, descriptor
        The model's files, or a classifier in memory.
    strides
        Further strides to measure, read pixels.
    tolerant
        A tolerance, and the way of the model that it allows, to measure too.
    choices
        Whether an adaptive stride is measured too.
    threads, at_once
        Cores of a task, and tasks that share this machine.
    directory
        Where a folder for the trial is made and removed, best on the file system that runs are
        kept on. Default: the system's folder for temporary files.
    say
        Called with a sentence for each step.

    Raises
    ------
    WorkError
        A task of the trial failed.
    StorageError
        The folder cannot be written.
    """
    in_memory = run.model.file is None
    files = {} if in_memory else {"model": Path(model), "descriptor": descriptor}
    began = time.monotonic()
    with _folder(directory) as folder:
        small = run.model_copy(update={"slides": (slide,)})
        paths = create_run(folder / "run", small, **files)
        run_bytes = _bytes_below(paths.root)
        classifier = model if in_memory else load_run_classifier(paths, small, threads)
        here = InProcessScheduler(classifier)
        fresh = here if in_memory else LocalScheduler(paths.jobs, "trial", at_once)
        bench = Bench(paths, small, threads)
        say("Trying to make groups")
        n_groups = max(1, _GROUPED_PATCHES // bench.n_p)
        grouped = bench.group(fresh, bench.n_p, n_groups)
        header, stored = bench.header, bench.files.groups.stat().st_size
        stitched = bench.stitch(fresh)
        beside = bench.slide_bytes()
        stitched_many = bench.stitch(here)
        grouped_many = bench.group(here, bench.n_p, n_groups)
        grouped_few = bench.group(here, 1, 1)
        stitched_few = bench.stitch(here)
        patch, point = grouped_many - grouped_few, stitched_many - stitched_few
        say("Trying the model")
        speeds = {run.stride_px: _alone(bench, here)}
        ways: dict[str, Speed] = {}
        if choices and not run.settings.adaptive:
            ways |= _adaptive(bench, here, speeds[run.stride_px])
        for stride in dict.fromkeys(strides):
            if stride not in speeds:
                say(f"Trying stride {stride}")
                bench.change(run.settings, stride)
                speeds[stride] = _alone(bench, here)
        bench.change(run.settings, run.stride_px)
        if tolerant is not None:
            say("Trying what a tolerance allows")
            settings = run.settings.model_copy(update={"tolerance": tolerant[0]})
            rough = small.model_copy(update={"model": tolerant[1], "settings": settings})
            there = InProcessScheduler(load_run_classifier(paths, rough, threads))
            ways[f"--tolerance {tolerant[0]:g}"] = _alone(bench, there)
        say("Trying tasks")
        alone = speeds[run.stride_px]
        crowd, loading, peak_bytes = _crowd(bench, fresh, alone, 1 if in_memory else at_once)
        slower = crowd.wall_s / max(alone.window.wall_s, 1e-9)
        return Trial(
            host=socket.gethostname(),
            threads=threads,
            at_once=at_once,
            start_s=statistics.median(bench.start_s or [0.0]),
            end_s=statistics.median(bench.end_s or [0.0]),
            grouping=grouped.time - patch * grouped.count,
            grouping_patch=patch,
            area_px=header.width_px * header.height_px,
            patch_bytes=stored / grouped.count,
            patches_per_group=min(bench.n_p, grouped.count),
            tile_cells=bench.tile_cells,
            run_bytes=run_bytes,
            slide_bytes=beside,
            model=loading,
            speeds={k: v.scaled(slower) for k, v in speeds.items()},
            ways={k: v.scaled(slower) for k, v in ways.items()},
            stitching=stitched.time - point * stitched.count,
            stitching_window=point,
            peak_memory_bytes=peak_bytes,
            seconds=time.monotonic() - began,
        )


def _alone(bench: Bench, here: Scheduler) -> Speed:
    """Scoring in this process, with nothing beside it, once the model is warm."""
    first = bench.score(here, 1)
    wanted = round(_SCORING_S / max(first.time.wall_s, 1e-9))
    # Two at least, to tell what a task takes once, unless that takes very long.
    least = 2 if first.time.wall_s < 2 * _SCORING_S else 1
    return _speed(bench, bench.score(here, max(least, min(_MOST_PATCHES, wanted))))


def _adaptive(bench: Bench, here: Scheduler, full: Speed) -> dict[str, Speed]:
    """Scoring with an adaptive stride, where the asked stride leaves room for a coarser one."""
    settings = bench.run.settings
    adaptive = settings.model_copy(update={"adaptive": True})
    try:
        adaptive.coarse_stride_px(bench.run.stride_px, bench.run.model.window_px)
    except SettingsError:
        return {}
    bench.change(adaptive)
    found = _speed(bench, bench.score(here, min(_MOST_PATCHES, 3 * full.patches)))
    bench.change(settings)
    return {"--adaptive": found}


def _crowd(bench: Bench, fresh: Scheduler, alone: Speed, at_once: int) -> tuple[Time, Time, int]:
    """Time of a window and of the rest of a task where tasks share the machine; their memory.

    Much work against little: what a task takes once, such as its first batch, is not multiplied.
    """
    few = bench.score(fresh, 1, at_once)
    if alone.patches == 1:
        return alone.window, few.time - alone.window * few.count, few.peak_memory_bytes
    many = bench.score(fresh, alone.patches, at_once)
    window = many - few
    return window, few.time - window * few.count, many.peak_memory_bytes


def _speed(bench: Bench, work: Work) -> Speed:
    return Speed(work.each, work.count, bench.header.n_patches, work.skipped)


@contextmanager
def _folder(directory: Path | None) -> Iterator[Path]:
    """A folder for the trial, removed in the end; in the nearest folder that exists."""
    while directory is not None and not directory.is_dir():
        directory = directory.parent
    with storage_errors(directory or Path(tempfile.gettempdir())):
        folder = Path(tempfile.mkdtemp(prefix=".hpc-heatmap-trial-", dir=directory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bytes_below(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
