"""Slurm and Grid Engine, the real ones, against the contract of all schedulers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs.support import make_model, make_slide, wait_until
from schedulers import real
from schedulers.contract import ProcessSchedulerContract, workers

from hpc_heatmap import Run, RunSettings, start_run
from hpc_heatmap.errors import SchedulerError
from hpc_heatmap.schedulers import Job, QueueFullError, cluster
from hpc_heatmap.schedulers.cluster import ClusterScheduler
from hpc_heatmap.settings import Cluster
from hpc_heatmap.stages.task import Stage, Task

pytestmark = pytest.mark.slow


class ClusterContract(ProcessSchedulerContract):
    """The contract, and what clusters alone can do."""

    cluster: Cluster
    #: Options that keep jobs waiting, so that they cost nothing.
    held: dict[str, str]

    @pytest.fixture(autouse=True)
    def _real(self) -> None:
        real.need(self.cluster)

    def make(self, run: Run, session: str = "session", **keys: Any) -> ClusterScheduler:
        made: ClusterScheduler = real.scheduler(run.paths.jobs, self.cluster, session, **keys)
        return made

    def left(self, run: Run) -> list[object]:
        return sorted(self.make(run).list_live() or ())

    def check_records(self, jobs: list[Job], names: list[str]) -> None:
        assert sorted(names) == sorted(job.id for job in jobs)
        self.check_one_array([job.id for job in jobs])

    def check_one_array(self, ids: list[str]) -> None:
        """Jobs are the tasks, counted from 0, of one array, by the scheduler's own word."""
        (number,) = {job_id.partition("_")[0] for job_id in ids}
        expected = [f"{number}_{index}" for index in range(len(ids))]
        assert ids == expected
        # Accounting lags.
        wait_until(lambda: self.tasks_in_accounting(number) == expected, 60)

    def tasks_in_accounting(self, number: str) -> list[str]:
        raise NotImplementedError

    def running(self, run: Run) -> int:
        """Tasks that the scheduler says run."""
        raise NotImplementedError

    def test_a_throttle_bounds_what_runs_at_once(self, run: Run) -> None:
        scheduler = self.make(run, throttle=1)
        jobs = scheduler.submit([self.waiting(scheduler, run, name) for name in run.slides])
        wait_until(lambda: workers(run), 60)
        time.sleep(2)
        assert len(workers(run)) == 1 and self.running(run) == 1
        assert scheduler.list_live() == {job.id for job in jobs}

    def test_jobs_that_nobody_wrote_down_are_taken_out_of_the_queue(self, run: Run) -> None:
        scheduler = self.make(run, extra=self.held)
        tasks = [self.grouping(scheduler, run, name) for name in run.slides]
        known = {job.id: job for job in scheduler.submit(tasks[:2])}
        (stranger,) = scheduler.submit(tasks[2:])
        (run.paths.jobs / "session" / f"submitted-{stranger.id}.json").unlink()
        assert self.left(run) == sorted([*known, stranger.id])
        adopted = self.make(run, "another").adopt()
        assert {job.id: work for job, work in adopted.items()} == {
            job_id: (Stage.GROUPING, slide_id, ())
            for job_id, slide_id in zip(known, run.slides, strict=False)
        }
        wait_until(lambda: self.left(run) == sorted(known), 30)

    def test_no_job_folder_holds_more_than_so_many_tasks(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cluster, "_TASKS_IN_FOLDER", 3)
        scheduler = self.make(run, extra=self.held)
        tasks = [self.grouping(scheduler, run, name) for name in run.slides]
        jobs = [job for _ in range(2) for job in scheduler.submit(tasks)]
        written = sorted(f.parent.name for f in run.paths.jobs.glob("*/submitted-*.json"))
        assert written == ["session", "session-2"]
        adopted = self.make(run, "another").adopt()
        assert {job.id for job in adopted} == {job.id for job in jobs}
        self.make(run, "another").stop_all()
        assert self.left(run) == []

    def test_stop_all_takes_out_what_waits(self, run: Run) -> None:
        scheduler = self.make(run, extra=self.held)
        jobs = scheduler.submit([self.grouping(scheduler, run, name) for name in run.slides])
        scheduler.submit([self.grouping(scheduler, run)])
        assert len(self.left(run)) == 4
        self.make(run, "another").stop_all()
        assert self.left(run) == []
        for job in jobs:
            wait_until(job.done, 30)
            assert job.reason()

    def test_one_of_an_array_is_cancelled_alone(self, run: Run) -> None:
        scheduler = self.make(run, extra=self.held)
        jobs = scheduler.submit([self.grouping(scheduler, run, name) for name in run.slides])
        jobs[1].cancel()
        wait_until(jobs[1].done, 30)
        assert self.left(run) == [jobs[0].id, jobs[2].id]
        assert not jobs[0].done() and not jobs[2].done()

    def test_a_scheduler_that_is_silent_changes_nothing(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = self.make(run, extra=self.held, poll_s=0.01)
        (job,) = scheduler.submit([self.grouping(scheduler, run)])
        with monkeypatch.context() as patch:
            patch.setattr(scheduler, "list_live", lambda: None)
            for _ in range(5):
                time.sleep(0.02)
                assert not job.done()
        assert not job.done()

    def test_a_refusal_that_lasts_is_an_error_and_leaves_no_files(self, run: Run) -> None:
        scheduler = self.make(run, partition="nowhere")
        with pytest.raises(SchedulerError, match=r"nowhere|artition") as refused:
            scheduler.submit([self.grouping(scheduler, run, name) for name in run.slides])
        assert not isinstance(refused.value, QueueFullError)
        assert list((run.paths.jobs / "session").iterdir()) == []

    def test_setup_lines_run_before_the_task(self, run: Run, tmp_path: Path) -> None:
        scheduler = self.make(run, setup=(f"echo before > '{tmp_path}/set up'",))
        (job,) = scheduler.submit([self.grouping(scheduler, run)])
        wait_until(job.done, 60)
        assert (tmp_path / "set up").read_text() == "before\n"


class TestSlurmScheduler(ClusterContract):
    cluster = Cluster.SLURM
    held = {"begin": "now+1hour"}  # noqa: RUF012

    def tasks_in_accounting(self, number: str) -> list[str]:
        said = real.output("sacct", "-n", "-X", "-P", "-j", number, "--format=JobID")
        return sorted(said.split())

    def running(self, run: Run) -> int:
        name = self.make(run).job_name
        return len(real.output("squeue", "-h", "-r", "-t", "R", "-n", name).splitlines())

    def complete_reason(self, job: Job) -> str:
        reason = job.reason()
        return reason if "FAILED, exit code" in reason else ""


class TestSgeScheduler(ClusterContract):
    cluster = Cluster.SGE
    held = {"a": "203512312359"}  # noqa: RUF012

    def tasks_in_accounting(self, number: str) -> list[str]:
        said = [line.split() for line in real.output("qacct", "-j", number).splitlines()]
        indices = [int(words[1]) for words in said if words[:1] == ["taskid"]]
        return [f"{number}_{index - 1}" for index in sorted(indices)]

    def running(self, run: Run) -> int:
        return real.output("qstat", "-g", "d", "-s", "r", "-u", self.make(run).user).count(
            self.make(run).job_name[:10]
        )


@pytest.mark.parametrize("cluster", [Cluster.SLURM, Cluster.SGE])
class TestSubmitLimit:
    """On a cluster that has one."""

    @pytest.fixture
    def limited(self, cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Run, Any, int]]:
        real.need(cluster)
        limit = real.submit_limit(cluster)
        if not 0 < limit <= 200:
            pytest.skip(f"{cluster.value} has no limit on submitted jobs here")
        slide = make_slide(tmp_path / "a.tif")
        settings = RunSettings(stride=8, patches_per_group=16)
        run = start_run([slide], make_model(tmp_path), tmp_path / "RUN", settings=settings)
        held = TestSlurmScheduler.held if cluster is Cluster.SLURM else TestSgeScheduler.held
        scheduler = real.scheduler(run.paths.jobs, cluster, extra=held)
        yield run, scheduler, limit
        scheduler.stop_all()

    def test_a_full_queue_is_told_from_a_refusal(
        self, limited: tuple[Run, Any, int], cluster: Cluster
    ) -> None:
        run, scheduler, limit = limited
        # Slurm counts tasks, Grid Engine arrays.
        per_array = scheduler.max_array if cluster is Cluster.SLURM else 2
        tasks = [Task(str(run.root), Stage.GROUPING, "a")] * per_array
        with pytest.raises(QueueFullError) as refused:
            for _ in range(limit + 1):
                scheduler.submit(tasks)
        assert len(str(refused.value).splitlines()) == 1
        live = scheduler.list_live()
        assert live and len(live) <= limit * (1 if cluster is Cluster.SLURM else per_array)
        # What was refused left no pickles.
        pickles = list((run.paths.jobs / "session").glob("*.pkl"))
        assert len(pickles) == len(live)
        scheduler.stop_all()
        scheduler.submit(tasks)
