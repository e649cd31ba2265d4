"""What a master relies on in every scheduler: subclass `SchedulerContract` for each."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from runs.support import WINDOW_PX, make_model, make_slide, wait_until, workers_of

from hpc_heatmap import FunctionClassifier, Run, RunSettings, processes, start_run
from hpc_heatmap.errors import RunConflictError
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.schedulers import Job, Scheduler
from hpc_heatmap.stages.task import Stage, Task


class SchedulerContract:
    """Tests of any scheduler; a subclass says how one is made."""

    def make(self, run: Run, session: str = "session") -> Scheduler:
        """A scheduler as a master with this session makes it."""
        raise NotImplementedError

    @pytest.fixture
    def run(self, tmp_path: Path) -> Iterator[Run]:
        slides = [make_slide(tmp_path / f"{name}.tif", 260, 230) for name in "abc"]
        settings = RunSettings(stride=8, patches_per_group=16)
        run = start_run(slides, make_model(tmp_path), tmp_path / "RUN", settings=settings)
        yield run
        self.make(run).stop_all()

    def grouping(self, scheduler: Scheduler, run: Run, slide_id: str = "a") -> Task:
        start = processes.started(os.getpid())
        assert start is not None
        mine = (os.getpid(), start) if scheduler.own_processes else None
        return Task(str(run.root), Stage.GROUPING, slide_id, master=mine)

    def test_what_it_says_of_itself(self, run: Run) -> None:
        scheduler = self.make(run)
        numbers = (scheduler.slots, scheduler.max_array, scheduler.threads, scheduler.parallel())
        assert min(numbers) >= 1

    def test_it_runs_tasks(self, run: Run) -> None:
        scheduler = self.make(run)
        tasks = [self.grouping(scheduler, run, slide_id) for slide_id in run.slides]
        jobs: list[Job] = []
        for start in range(0, len(tasks), scheduler.max_array):
            jobs += scheduler.submit(tasks[start : start + scheduler.max_array])
        assert len(jobs) == 3 and all(job.id for job in jobs)
        for job in jobs:
            wait_until(job.done, 60)
        assert all(slide.files.summary.exists() for slide in run.slides.values())
        records = read_records(run.paths)
        assert sorted(record.slide for record in records) == ["a", "b", "c"]
        assert {record.stage for record in records} == {"grouping"}
        assert not run.paths.failures.exists()
        self.check_records(jobs, [record.job for record in records])
        scheduler.stop_all()

    def check_records(self, jobs: list[Job], names: list[str]) -> None:
        """What records say of jobs."""
        assert len(names) == len(jobs)

    def test_with_nothing_left_behind_there_is_nothing_to_adopt_or_stop(self, run: Run) -> None:
        scheduler = self.make(run)
        assert scheduler.adopt() == {}
        scheduler.stop_all()


class ProcessSchedulerContract(SchedulerContract):
    """More tests, of schedulers whose tasks are processes that can be killed: here, or on nodes
    that are this machine.
    """

    def waiting(self, scheduler: Scheduler, run: Run, slide_id: str = "a") -> Task:
        """A task that waits for ever: its slide is a pipe that nobody writes to."""
        slide = run.slides[slide_id].path
        slide.unlink(missing_ok=True)
        os.mkfifo(slide)
        return self.grouping(scheduler, run, slide_id)

    def start_waiting(self, run: Run, scheduler: Scheduler) -> Job:
        (job,) = scheduler.submit([self.waiting(scheduler, run)])
        wait_until(lambda: workers(run), 60)
        return job

    def test_a_job_that_was_killed_is_done_and_says_why(self, run: Run) -> None:
        job = self.start_waiting(run, self.make(run))
        assert not job.done()
        workers(run)[0].kill()
        wait_until(job.done, 60)
        reason = wait_until(lambda: self.complete_reason(job), 60)
        assert "its log is " in reason
        log = Path(reason.rpartition("its log is ")[2])
        assert log.parent == run.paths.jobs / "session" and log.exists()
        assert isinstance(job.log(), str)
        assert workers_of(run.root) == []

    def complete_reason(self, job: Job) -> str:
        """The reason once it names the kill; nothing as long as accounting lags."""
        reason = job.reason()
        return reason if "killed" in reason.lower() else ""

    def test_cancel_leaves_no_process_behind(self, run: Run) -> None:
        job = self.start_waiting(run, self.make(run))
        job.cancel()
        wait_until(lambda: not workers_of(run.root), 60)
        wait_until(job.done, 60)
        job.cancel()

    def test_stop_all_leaves_nothing_whoever_started_it(self, run: Run) -> None:
        first = self.make(run)
        job = self.start_waiting(run, first)
        self.make(run, "another").stop_all()
        assert self.left(run) == []
        wait_until(job.done, 60)

    def left(self, run: Run) -> list[object]:
        """What still waits or runs."""
        return list(workers_of(run.root))

    def test_the_next_master_takes_over_or_stops_what_is_left(self, run: Run) -> None:
        first = self.make(run)
        task = replace(self.waiting(first, run), groups=(3, 5))
        (job,) = first.submit([task])
        wait_until(lambda: workers(run), 60)
        adopted = self.make(run, "another").adopt()
        if first.own_processes:
            assert adopted == {} and workers_of(run.root) == []
        else:
            ((same, work),) = adopted.items()
            assert same.id == job.id and work == (Stage.GROUPING, "a", (3, 5))
            assert workers(run) and not same.done()
            same.cancel()
            wait_until(same.done, 60)
        wait_until(job.done, 60)

    def test_the_job_folder_is_its_owners_alone(self, run: Run) -> None:
        before = os.umask(0)
        try:
            self.start_waiting(run, self.make(run)).cancel()
        finally:
            os.umask(before)
        folders = [run.paths.jobs, *(p for p in run.paths.jobs.iterdir() if p.is_dir())]
        assert len(folders) >= 2
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}

    def test_nothing_is_submitted_from_a_folder_of_somebody_else(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = self.make(run)
        run.paths.jobs.mkdir(exist_ok=True)
        task = self.grouping(scheduler, run)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: 12345)
            with pytest.raises(RunConflictError, match="another user"):
                scheduler.submit([task])
        assert list(run.paths.jobs.iterdir()) == []


def workers(run: Run) -> list[psutil.Process]:
    """Processes that do a run's tasks now, without those that only started them."""
    found = []
    for process in workers_of(run.root):
        try:
            # A batch script names submitit too: the worker is the Python below it.
            if "submitit.core._submit" in process.cmdline() and "python" in process.name():
                found.append(process)
        except psutil.Error:
            continue
    return found


def function_classifier() -> FunctionClassifier:
    return FunctionClassifier(lambda w: w.mean(axis=(1, 2, 3)) / 255, WINDOW_PX)
