"""A short trial of a model on this machine: a run in small, with the run's own code.

A few groups of one slide are made, scored and stitched in a folder that is removed afterwards, and
the records that these tasks leave are looked at. One task of each kind has a process of its own, as
in a real run, so that the start of the interpreter and the loading of the model are measured; what
more patches or windows take is measured in this process.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpc_heatmap.errors import WorkError
from hpc_heatmap.formats.atomic import storage_errors
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import RunFile, SlideEntry, write_run_file
from hpc_heatmap.formats.score_file import GroupScores, write_scores
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import TaskRecord, read_failures, read_records
from hpc_heatmap.runs.planning import create_run
from hpc_heatmap.schedulers import Scheduler
from hpc_heatmap.schedulers.in_process import InProcessScheduler
from hpc_heatmap.schedulers.local import LocalScheduler
from hpc_heatmap.stages.task import Stage, Task, load_run_classifier

__all__ = ["Speed", "Time", "Trial", "measure"]

#: How long the model is tried at one stride, and patches of a trial at most.
_SCORING_S = 3.0
_MOST_PATCHES = 64
_GROUPED_PATCHES = 256


@dataclass(frozen=True)
class Time:
    """Seconds by the clock and of the processor."""

    wall_s: float
    cpu_s: float

    def __add__(self, other: Time) -> Time:
        return Time(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)

    def __sub__(self, other: Time) -> Time:
        """The difference, never below zero: both are measured."""
        return Time(max(0.0, self.wall_s - other.wall_s), max(0.0, self.cpu_s - other.cpu_s))

    def __mul__(self, factor: float) -> Time:
        return Time(self.wall_s * factor, self.cpu_s * factor)


@dataclass(frozen=True)
class Speed:
    """Scoring at one stride.

    Attributes
    ----------
    window
        Time of a window, its share of reading, preparing and writing included.
    windows
        How many were scored.
    """

    window: Time
    windows: int


@dataclass(frozen=True)
class Trial:
    """What was measured. Times of tasks are by their own clocks, on `threads` cores.

    Attributes
    ----------
    host
        Where.
    threads
        Cores of a task.
    start_s, end_s
        Before and after a task's own clock: processes, imports, the master's look.
    grouping, grouping_patch
        Time of grouping a slide of `area_px`, whatever its tissue; and of each patch.
    area_px
        Read pixels of the slide of the trial.
    patch_bytes, patches_per_group
        Bytes stored for a patch, in groups of so many.
    model
        Time of a scoring task that scores nothing: loading the model.
    speeds
        Scoring, by stride.
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


def measure(
    run: RunFile,
    slide: SlideEntry,
    *,
    model: Any,
    descriptor: Path | None = None,
    strides: Sequence[int] = (),
    threads: int = 1,
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
    threads
        Cores of a task.
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
        classifier = model if in_memory else load_run_classifier(paths, small, threads)
        here = InProcessScheduler(classifier)
        fresh = here if in_memory else LocalScheduler(paths.jobs, "trial", 1)
        bench = _Bench(paths, small, threads)
        say("Trying to make groups")
        n_groups = max(1, _GROUPED_PATCHES // bench.n_p)
        grouped = bench.group(fresh, bench.n_p, n_groups)
        stored = bench.files.groups.stat().st_size
        bench.score_nothing()
        stitched = bench.stitch(fresh)
        stitched_many = bench.stitch(here)
        grouped_many = bench.group(here, bench.n_p, n_groups)
        say("Trying the model")
        n_patches = bench.patches_at(run.stride_px)
        grouped_few = bench.group(here, n_patches, 1)
        loaded = bench.do(fresh, Stage.SCORING)
        scored = bench.do(fresh, Stage.SCORING, (0,))
        stitched_few = bench.stitch(here)
        speeds = {run.stride_px: _speed(_time(scored) - _time(loaded), scored.windows)}
        for stride in dict.fromkeys(strides):
            if stride in speeds:
                continue
            say(f"Trying stride {stride}")
            bench.at_stride(stride)
            wanted = bench.patches_at(stride)
            if wanted != n_patches:
                n_patches = wanted
                bench.group(here, n_patches, 1)
            record = bench.do(here, Stage.SCORING, (0,))
            speeds[stride] = _speed(_time(record), record.windows)
        patch = _slope(grouped_many, grouped_few)
        window = _slope(stitched_many, stitched_few)
        return Trial(
            host=socket.gethostname(),
            threads=threads,
            start_s=statistics.median(bench.start_s or [0.0]),
            end_s=statistics.median(bench.end_s or [0.0]),
            grouping=grouped[0] - patch * grouped[1],
            grouping_patch=patch,
            area_px=bench.area_px,
            patch_bytes=stored / grouped[1],
            patches_per_group=min(bench.n_p, grouped[1]),
            model=_time(loaded),
            speeds=speeds,
            stitching=stitched[0] - window * stitched[1],
            stitching_window=window,
            peak_memory_bytes=scored.peak_memory_bytes,
            seconds=time.monotonic() - began,
        )


def _time(record: TaskRecord) -> Time:
    return Time(record.wall_s, record.cpu_s)


def _speed(took: Time, windows: int) -> Speed:
    return Speed(took * (1 / max(1, windows)), windows)


def _slope(many: tuple[Time, int], few: tuple[Time, int]) -> Time:
    """Time for one more patch or window, from much and from little work in one process."""
    return (many[0] - few[0]) * (1 / max(1, many[1] - few[1]))


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


class _Bench:
    """The trial's run, and the tasks that are done in it one by one."""

    def __init__(self, paths: RunPaths, run: RunFile, threads: int) -> None:
        self.paths = paths
        self.run = run
        self.files = paths.slide(run.slides[0].id)
        self.start_s: list[float] = []
        self.end_s: list[float] = []
        self.area_px = 0
        window_px = run.model.window_px
        self.n_p = run.settings.n_p(3 * (window_px + 2 * (window_px // 2)) ** 2)
        self._threads = threads

    def patches_at(self, stride_px: int) -> int:
        """How many patches keep the model busy for the time of a trial."""
        per_patch = (self.run.model.window_px / stride_px) ** 2
        wanted = _SCORING_S * (self.run.windows_per_s or 1.0) / per_patch
        return max(1, min(_MOST_PATCHES, self.n_p, round(wanted)))

    def at_stride(self, stride_px: int) -> None:
        """Go on at another stride; scores are dropped."""
        self.run = self.run.model_copy(update={"stride_px": stride_px})
        write_run_file(self.paths.run_file, self.run)
        shutil.rmtree(self.files.scores, ignore_errors=True)
        self.files.slide_scores.unlink(missing_ok=True)

    def group(self, scheduler: Scheduler, n_p: int, n_groups: int) -> tuple[Time, int]:
        """Make the first groups of the slide, of up to `n_p` patches; gives their patches too."""
        settings = self.run.settings.model_copy(update={"patches_per_group": n_p})
        self.run = self.run.model_copy(update={"settings": settings})
        write_run_file(self.paths.run_file, self.run)
        shutil.rmtree(self.files.root, ignore_errors=True)
        record = self.do(scheduler, Stage.GROUPING, tuple(range(n_groups)))
        with open_groups(self.files.groups) as groups:
            header = groups.header
        self.area_px = header.width_px * header.height_px
        return _time(record), read_summary(self.files.summary).n_patches

    def score_nothing(self) -> None:
        """Scores of nothing for all groups, so that they can be stitched."""
        with open_groups(self.files.groups) as groups:
            geometry = groups.header.geometry(self.run.stride_px)
            for index in range(read_summary(self.files.summary).n_groups):
                group = groups.read(index)
                scores = np.zeros((len(group.cells), *geometry.block_shape), np.float32)
                write_scores(
                    self.files.group_scores(index),
                    GroupScores(group.cells, scores, group.readable),
                )

    def stitch(self, scheduler: Scheduler) -> tuple[Time, int]:
        """Stitch what is scored; gives its windows too."""
        self.files.heatmap.unlink(missing_ok=True)
        record = self.do(scheduler, Stage.STITCHING)
        return _time(record), read_summary(self.files.summary).n_windows

    def do(self, scheduler: Scheduler, stage: Stage, groups: tuple[int, ...] = ()) -> TaskRecord:
        """Do one task; scoring without groups is what a task costs all the same."""
        slide_id = self.run.slides[0].id
        submitted = time.time()
        task = Task(
            str(self.paths.root),
            stage,
            slide_id,
            groups,
            threads=self._threads,
            submitted_at=submitted,
        )
        job = scheduler.submit([task])[0]
        try:
            while not job.done():
                time.sleep(0.02)
        except BaseException:
            job.cancel()
            raise
        ended = time.time()
        failures = read_failures(self.paths)
        mine = [r for r in read_records(self.paths) if r.submitted_at == submitted]
        if failures or not mine:
            raise WorkError(
                f"The trial failed: {failures[0].reason if failures else job.reason() + '.'}"
            )
        if not isinstance(scheduler, InProcessScheduler):
            self.start_s.append(max(0.0, mine[0].started_at - submitted))
            self.end_s.append(max(0.0, ended - mine[0].ended_at))
        return mine[0]
