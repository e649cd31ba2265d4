"""What a master relies on in every scheduler: subclass `SchedulerContract` for each."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from runs.support import WINDOW_PX, make_model, make_slide

from hpc_heatmap import FunctionClassifier, Run, RunSettings, processes, start_run
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.schedulers import Job, Scheduler
from hpc_heatmap.stages.task import Stage, Task


def wait_until(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} did not hold within {timeout_s} s"
        time.sleep(0.02)
    return found


class SchedulerContract:
    """Tests of any scheduler; a subclass says how one is made."""

    def make(self, run: Run, slots: int | None = None) -> Scheduler:
        raise NotImplementedError

    @pytest.fixture
    def run(self, tmp_path: Path) -> Run:
        slide, model = make_slide(tmp_path / "a.tif"), make_model(tmp_path)
        settings = RunSettings(stride=8, patches_per_group=16)
        return start_run([slide], model, tmp_path / "RUN", settings=settings)

    def grouping(self, run: Run) -> Task:
        start = processes.started(os.getpid())
        assert start is not None
        return Task(str(run.root), Stage.GROUPING, "a", master=(os.getpid(), start))

    def test_it_runs_a_task(self, run: Run) -> None:
        job = self.make(run).submit(self.grouping(run))
        wait_until(job.done)
        assert job.id
        assert run.paths.slide("a").summary.exists()
        (record,) = read_records(run.paths)
        assert record.stage == "grouping" and not run.paths.failures.exists()

    def test_it_has_as_many_slots_as_asked(self, run: Run) -> None:
        assert self.make(run).slots >= 1

    def test_stopping_orphans_where_there_are_none_does_nothing(self, run: Run) -> None:
        self.make(run).stop_orphans()


class ProcessSchedulerContract(SchedulerContract):
    """More tests, of schedulers whose tasks are processes that can be killed."""

    def processes_of(self, run: Run) -> list[psutil.Process]:
        """What runs of a run now."""
        raise NotImplementedError

    def waiting(self, run: Run) -> Task:
        """A task that waits for ever: its slide is a pipe that nobody writes to."""
        slide = Path(run.file.slides[0].path)
        slide.unlink(missing_ok=True)
        os.mkfifo(slide)
        return self.grouping(run)

    def start_waiting(self, run: Run, scheduler: Scheduler) -> Job:
        job = scheduler.submit(self.waiting(run))
        wait_until(lambda: len(self.processes_of(run)) >= 2)
        return job

    def test_slots_are_bounded(self, run: Run) -> None:
        assert self.make(run, 3).slots == 3
        assert self.make(run).slots == len(os.sched_getaffinity(0))

    def test_a_job_that_was_killed_is_done_and_says_why(self, run: Run) -> None:
        job = self.start_waiting(run, self.make(run))
        assert not job.done()
        # The worker was started last.
        max(self.processes_of(run), key=lambda p: p.create_time()).kill()
        wait_until(job.done)
        assert "killed" in job.reason() and "log is" in job.reason()
        assert isinstance(job.log(), str)
        assert self.processes_of(run) == []

    def test_cancel_leaves_no_process_behind(self, run: Run) -> None:
        job = self.start_waiting(run, self.make(run))
        job.cancel()
        assert self.processes_of(run) == []
        assert job.done()
        job.cancel()

    def test_orphans_are_stopped_by_the_next_master(self, run: Run) -> None:
        job = self.start_waiting(run, self.make(run))
        try:
            self.make(run).stop_orphans()
            assert self.processes_of(run) == []
            wait_until(job.done)
        finally:
            job.cancel()

    def test_the_job_folder_is_its_owners_alone(self, run: Run) -> None:
        before = os.umask(0)
        try:
            job = self.start_waiting(run, self.make(run))
            job.cancel()
        finally:
            os.umask(before)
        folders = [run.paths.jobs, *(p for p in run.paths.jobs.iterdir() if p.is_dir())]
        assert len(folders) >= 2
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def function_classifier() -> FunctionClassifier:
    return FunctionClassifier(lambda w: w.mean(axis=(1, 2, 3)) / 255, WINDOW_PX)
