"""The folder of a trial: a run of one slide, and tasks that are done in it one by one."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpc_heatmap.errors import WorkError
from hpc_heatmap.formats.group_file import GroupHeader, open_groups
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import RunFile, write_run_file
from hpc_heatmap.formats.score_file import GroupScores, write_scores
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import TaskRecord, read_failures, read_records
from hpc_heatmap.geometry import raw_patch_bytes
from hpc_heatmap.schedulers import Job, Scheduler
from hpc_heatmap.schedulers.in_process import InProcessScheduler
from hpc_heatmap.settings import RunSettings
from hpc_heatmap.stages.task import Stage, Task

__all__ = ["Bench", "Time", "Work"]


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
class Work:
    """What a task took for how many patches or windows, and its largest memory."""

    time: Time
    count: int
    skipped: int = 0
    peak_memory_bytes: int = 0

    def __sub__(self, other: Work) -> Time:
        """Time of one more patch or window, from much and from little work."""
        return (self.time - other.time) * (1 / max(1, self.count - other.count))

    @property
    def each(self) -> Time:
        """Time of a patch or window."""
        return self.time * (1 / max(1, self.count))


class Bench:
    """The run of a trial.

    Parameters
    ----------
    paths, run
        A run of one slide that was just made.
    threads
        Cores of a task.

    Attributes
    ----------
    start_s, end_s
        Of each task in a process of its own, what passed before and after its own clock.
    """

    def __init__(self, paths: RunPaths, run: RunFile, threads: int) -> None:
        self.paths = paths
        self.run = run
        self.files = paths.slide(run.slides[0].id)
        self.start_s: list[float] = []
        self.end_s: list[float] = []
        window_px = run.model.window_px
        self.n_p = run.settings.n_p(raw_patch_bytes(window_px))
        self._threads = threads

    def change(self, settings: RunSettings, stride_px: int | None = None) -> None:
        """Go on with other settings, or at another stride; scores are dropped."""
        stride_px = stride_px or self.run.stride_px
        self.run = self.run.model_copy(update={"settings": settings, "stride_px": stride_px})
        write_run_file(self.paths.run_file, self.run)
        self._drop_scores()

    def _drop_scores(self) -> None:
        shutil.rmtree(self.files.scores, ignore_errors=True)
        self.files.slide_scores.unlink(missing_ok=True)

    @property
    def header(self) -> GroupHeader:
        """Of the groups that were made last."""
        with open_groups(self.files.groups) as groups:
            return groups.header

    @property
    def tile_cells(self) -> float:
        """Side of the slide's own tiles in cells, where the groups store these; else 0."""
        with open_groups(self.files.groups) as groups:
            if groups.level is None:
                return 0.0
            return groups.level.grid.tile_width_px / groups.header.window_px

    def slide_bytes(self) -> int:
        """Bytes of the slide's files beside groups, scores and heatmap."""
        others = {self.files.groups, self.files.slide_scores, self.files.heatmap}
        return sum(
            f.stat().st_size for f in self.files.root.iterdir() if f.is_file() and f not in others
        )

    def group(self, scheduler: Scheduler, n_p: int, n_groups: int) -> Work:
        """Make the first groups of the slide, of up to `n_p` patches."""
        self.change(self.run.settings.model_copy(update={"patches_per_group": n_p}))
        shutil.rmtree(self.files.root, ignore_errors=True)
        record = self._do(scheduler, Stage.GROUPING, tuple(range(n_groups)))
        return Work(_time([record]), read_summary(self.files.summary).n_patches)

    def score(self, scheduler: Scheduler, n_patches: int, at_once: int = 1) -> Work:
        """Score one group of so many patches, in several tasks at once: the mean of them."""
        # Grouping is not what is measured here.
        self.group(InProcessScheduler(), n_patches, 1)
        copies = [self._copy(number) for number in range(1, at_once)]
        try:
            records = self._do_all(scheduler, Stage.SCORING, (0,), [self.paths, *copies])
        finally:
            for copy in copies:
                shutil.rmtree(copy.root, ignore_errors=True)
        memory = max(r.peak_memory_bytes for r in records)
        return Work(_time(records), records[0].windows, records[0].skipped, memory)

    def score_zeros(self) -> None:
        """Scores of nothing for all groups, so that they can be stitched."""
        self._drop_scores()
        with open_groups(self.files.groups) as groups:
            geometry = groups.header.geometry(self.run.stride_px)
            for index in range(read_summary(self.files.summary).n_groups):
                group = groups.read(index)
                scores = np.zeros((len(group.cells), *geometry.block_shape), np.float32)
                write_scores(
                    self.files.group_scores(index),
                    GroupScores(group.cells, scores, group.readable),
                )

    def stitch(self, scheduler: Scheduler) -> Work:
        """Stitch the slide from scores of nothing."""
        self.score_zeros()
        self.files.heatmap.unlink(missing_ok=True)
        record = self._do(scheduler, Stage.STITCHING)
        return Work(_time([record]), read_summary(self.files.summary).n_windows)

    def _copy(self, number: int) -> RunPaths:
        """The run once more, for a task beside others: what a task writes is its own alone."""
        copy = RunPaths(self.paths.root.with_name(f"{self.paths.root.name}-{number}"))
        ignored = shutil.ignore_patterns(self.paths.jobs.name, self.paths.tasks.name)
        shutil.copytree(self.paths.root, copy.root, ignore=ignored)
        return copy

    def _do(self, scheduler: Scheduler, stage: Stage, groups: tuple[int, ...] = ()) -> TaskRecord:
        return self._do_all(scheduler, stage, groups, [self.paths])[0]

    def _do_all(
        self,
        scheduler: Scheduler,
        stage: Stage,
        groups: tuple[int, ...],
        places: Sequence[RunPaths],
    ) -> list[TaskRecord]:
        """Do a task in each of some run directories, all at once."""
        submitted = time.time()
        tasks = [
            Task(
                str(place.root),
                stage,
                self.run.slides[0].id,
                groups,
                threads=self._threads,
                submitted_at=submitted,
            )
            for place in places
        ]
        ended = _ends(scheduler.submit(tasks))
        # What a worker takes to start is measured each time: none stays.
        scheduler.stop_all()
        records = []
        for place, (job, ended_at) in zip(places, ended, strict=True):
            failures = read_failures(place)
            mine = [r for r in read_records(place) if r.submitted_at == submitted]
            if failures or not mine:
                reason = failures[0].reason if failures else f"{job.reason()}."
                raise WorkError(f"The trial failed: {reason}")
            records.append(mine[0])
            if not isinstance(scheduler, InProcessScheduler):
                self.start_s.append(max(0.0, mine[0].started_at - submitted))
                self.end_s.append(max(0.0, ended_at - mine[0].ended_at))
        return records


def _ends(jobs: Sequence[Job]) -> list[tuple[Job, float]]:
    """Wait for jobs; when each had ended."""
    ended: dict[int, float] = {}
    try:
        while len(ended) < len(jobs):
            for number, job in enumerate(jobs):
                if number not in ended and job.done():
                    ended[number] = time.time()
            time.sleep(0.02)
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    return [(job, ended[number]) for number, job in enumerate(jobs)]


def _time(records: Sequence[TaskRecord]) -> Time:
    """Mean over some tasks."""
    return Time(
        statistics.mean(r.wall_s for r in records), statistics.mean(r.cpu_s for r in records)
    )
