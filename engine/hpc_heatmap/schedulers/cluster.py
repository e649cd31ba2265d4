"""What all cluster schedulers have in common: arrays, the watch over live jobs, adoption.

A job's state comes from files first (submitit's result), then from one listing of all of the run's
jobs a poll, then from accounting where there is some. A scheduler that does not answer changes
nothing: its jobs count as alive until it answers again.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import io
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from hpc_heatmap.errors import FormatError, SchedulerError
from hpc_heatmap.formats.atomic import read_json, storage_errors, write_json
from hpc_heatmap.schedulers import Job, QueueFullError, delete_pickles, job_folder, tail_of
from hpc_heatmap.settings import ClusterProfile
from hpc_heatmap.stages.task import Stage, Task, perform

__all__ = ["Check", "ClusterJob", "ClusterScheduler", "ask", "said"]

#: What was looked at, what was found, and whether tasks can run with it.
Check = tuple[str, str, bool]

#: A job that is not listed for this many polls in a row has ended: listings lag behind submission.
_POLLS_UNTIL_GONE = 2
_ANSWER_S = 30
_SUBMITTED = "submitted-"
#: Tasks of one job folder, of four files each: no file system likes a folder of millions.
_TASKS_IN_FOLDER = 10_000


class Work:
    """The call that is pickled; resubmitted as it is after preemption or a time limit, since a task
    leaves out what is complete.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._told_to_stop = False

    def __call__(self) -> None:
        """Do the task.

        Raises
        ------
        SystemExit
            The job was told to stop. What submitit's signal handler raises to end it can be lost:
            an import's callback swallows it, or another error takes its place on the way out. To
            return would look like success, and the master would give this work, which is back in
            the queue, to a second job.
        """
        perform(self.task, told_to_stop=lambda: self._told_to_stop)
        if self._told_to_stop:
            raise SystemExit(1)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What to go on with after an interruption.

        What submitit's signal handler raises from here on comes up inside the task, and is no
        failure of it.
        """
        self._told_to_stop = True
        return submitit.helpers.DelayedSubmission(Work(self.task))


def said(command: Sequence[str]) -> tuple[bool, str]:
    """Whether a scheduler's command went well, and all that it said, in one line."""
    try:
        answer = subprocess.run(
            list(command), capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return False, str(error)
    return answer.returncode == 0, " ".join(f"{answer.stdout} {answer.stderr}".split())


def ask(command: Sequence[str]) -> str | None:
    """Output of a scheduler's command; None where it does not answer or fails."""
    try:
        answer = subprocess.run(
            list(command), capture_output=True, text=True, timeout=_ANSWER_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout


class ClusterJob:
    """A task in a scheduler's queue."""

    def __init__(self, scheduler: ClusterScheduler, job_id: str, folder: Path) -> None:
        self._scheduler = scheduler
        self.id = job_id
        self.paths = JobPaths(folder, job_id, 0)

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        ended = self.paths.result_pickle.exists() or self._scheduler.has_gone(self.id)
        if ended:
            self._scheduler.forget(self.id)
        return ended

    def reason(self) -> str:
        """Why it ended, in the scheduler's words."""
        return f"{self._scheduler.describe(self.id)}; its log is {self.paths.stdout}"

    def log(self) -> str:
        """Tail of what it wrote."""
        return tail_of(self.paths.stdout)

    def cancel(self) -> None:
        """Take it out of the queue, or stop it."""
        self._scheduler.stop([self.id])


class ClusterScheduler(ABC):
    """A scheduler with a queue of its own.

    Parameters
    ----------
    jobs
        The run's folder for jobs, made if needed, its owner's alone.
    session
        Name of the master's folder in it.
    profile
        What the site needs.

    Raises
    ------
    SchedulerError
        The scheduler is not on this machine.
    """

    name: str
    #: Commands that must be on the PATH.
    commands: tuple[str, ...]
    #: Seconds before a time limit at which a task is told to stop, between two batches.
    signal_delay_s = 30
    own_processes = False
    light_tasks = False

    def __init__(self, jobs: Path, session: str, profile: ClusterProfile) -> None:
        missing = [command for command in self.commands if shutil.which(command) is None]
        if missing:
            raise SchedulerError(
                f"{self.name} is not on this machine (no {', '.join(missing)}): start the run on "
                "a machine that can submit, or give --cluster local."
            )
        self.profile = profile
        self._jobs = jobs
        self._session = session
        self._executor: Any = None
        #: Where its jobs are, and how many were submitted to all of them.
        self._folder: Path | None = None
        self._n_submitted = 0
        #: For how many polls each watched job was not listed.
        self._missed: dict[str, int] = {}
        self._polled_at = float("-inf")
        self.user = getpass.getuser()
        #: The same for all masters of a run, so that nothing of it is lost in a queue.
        self.job_name = f"heatmap-{hashlib.sha1(str(jobs.resolve()).encode()).hexdigest()[:10]}"
        self.setup_lines = [*(f"module load {m}" for m in profile.modules), *profile.setup]
        self.threads = profile.cores_per_task or self._default_cores()
        self.slots = profile.max_queued
        self.max_array = min(profile.max_array or profile.max_queued, self.array_limit())

    # What each scheduler says for itself.

    @abstractmethod
    def array_limit(self) -> int:
        """Largest number of tasks in one array."""

    @abstractmethod
    def cores_of_nodes(self) -> list[int]:
        """Cores of each node that tasks may run on; empty where the scheduler is silent."""

    @abstractmethod
    def make_executor(self, folder: Path, *, threads: int, memory_gb: float, gpus: int) -> Any:
        """A submitit executor with the profile's parameters."""

    @abstractmethod
    def list_live(self) -> set[str] | None:
        """Ids of the run's jobs that wait or run; None where the scheduler is silent."""

    @abstractmethod
    def describe(self, job_id: str) -> str:
        """How a job ended, from accounting where there is some: half a sentence."""

    @abstractmethod
    def stop(self, job_ids: Sequence[str]) -> None:
        """Take jobs out of the queue, or stop them."""

    @abstractmethod
    def is_full(self, message: str) -> bool:
        """Whether a refusal means that the queue is full for now."""

    @abstractmethod
    def check(self) -> Iterator[Check]:
        """Compare the profile with the cluster; nothing is submitted."""

    # What is the same for all of them.

    def check_limits(self, array_limit: int, submit_limit: int | None) -> Iterator[Check]:
        """How arrays and submitted jobs are bounded, which is never wrong: the run keeps within."""
        asked = self.profile.max_array
        used = (
            f"{self.max_array} used"
            if asked is None or asked <= array_limit
            else (f"max_array = {asked} is more than that, {self.max_array} used")
        )
        yield "array limit", f"{array_limit} tasks; {used}", True
        bound = f"max_queued = {self.profile.max_queued}"
        if submit_limit is None:
            yield "submit limit", f"none found; {bound}", True
        elif submit_limit < self.profile.max_queued:
            yield "submit limit", f"{submit_limit} a user, less than {bound}: runs will wait", True
        else:
            yield "submit limit", f"{submit_limit} a user; {bound}", True

    def _default_cores(self) -> int:
        """Cores of a task where the profile does not say: all but one of the smallest node."""
        return max(1, min(self.cores_of_nodes(), default=2) - 1)

    def parallel(self) -> int:
        """Tasks of an array that could run at once if the cluster were empty."""
        at_once = sum(cores // self.threads for cores in self.cores_of_nodes())
        return max(1, min(at_once, self.profile.throttle or at_once))

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Submit tasks as one array job.

        Raises
        ------
        QueueFullError
            A limit on submitted jobs is reached: wait.
        SchedulerError
            The scheduler refuses for another reason.
        StorageError
            The job folder cannot be written.
        """
        with storage_errors(self._jobs):
            part = self._n_submitted // _TASKS_IN_FOLDER
            folder = job_folder(self._jobs, self._session + (f"-{part + 1}" if part else ""))
            if folder != self._folder:
                self._folder = folder
                self._executor = self.make_executor(
                    folder,
                    threads=self.threads,
                    memory_gb=self.profile.memory_gb,
                    gpus=self.profile.gpus,
                )
            scratch = self.profile.scratch
            works = [Work(replace(task, scratch=scratch)) for task in tasks]
            ids = self._submit(self._executor, works, folder)
            entries = [
                {"job": job_id, "stage": t.stage, "slide": t.slide_id, "groups": t.groups}
                for job_id, t in zip(ids, tasks, strict=True)
            ]
            self._n_submitted += len(ids)
            number = ids[0].partition("_")[0]
            write_json(folder / f"{_SUBMITTED}{number}.json", entries)
        return [self._watch(job_id, folder) for job_id in ids]

    def submit_master(self, call: Callable[[], None]) -> str:
        """Submit a master as a job of its own, one core; gives its id.

        Raises
        ------
        SchedulerError
            The scheduler refuses.
        StorageError
            The job folder cannot be written.
        """
        with storage_errors(self._jobs):
            folder = job_folder(self._jobs, f"{self._session}-master")
            executor = self.make_executor(folder, threads=1, memory_gb=1.0, gpus=0)
            # A long run outlives many time limits of its master.
            executor.max_num_timeout = 1000
            return self._submit(executor, [call], folder)[0]

    def _submit(self, executor: Any, calls: Sequence[Any], folder: Path) -> list[str]:
        before = _drafts(folder)
        noise = io.StringIO()
        try:
            with contextlib.redirect_stderr(noise), contextlib.redirect_stdout(noise):
                submitted = executor.submit_array(calls)
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            for orphan in _drafts(folder) - before:
                orphan.unlink(missing_ok=True)
            message = " ".join(f"{error} {noise.getvalue()}".split())
            kind = QueueFullError if self.is_full(message) else SchedulerError
            raise kind(f"{self.name} refuses the job: {message}") from error
        for link in _drafts(folder) - before:
            # The script's first name, which submitit keeps for ever.
            if link.is_symlink():
                link.unlink(missing_ok=True)
        return [str(job.job_id) for job in submitted]

    def adopt(self) -> dict[Job, tuple[Stage, str, tuple[int, ...]]]:
        """Jobs of earlier masters that still wait or run, with what they work on.

        A job that nobody has written down (its master was killed just then) is taken out of the
        queue, as is an earlier master.

        Raises
        ------
        QueueFullError
            The scheduler does not answer now: to go on would be to do work twice.
        """
        live = self.list_live()
        if live is None:
            raise QueueFullError(f"{self.name} does not say which jobs of the run are there.")
        adopted: dict[Job, tuple[Stage, str, tuple[int, ...]]] = {}
        known: set[str] = set()
        for file in sorted(self._jobs.glob(f"*/{_SUBMITTED}*.json")):
            with contextlib.suppress(FormatError, KeyError, TypeError, ValueError):
                for entry in read_json(file):
                    known.add(entry["job"])
                    if entry["job"] in live:
                        job = self._watch(entry["job"], file.parent)
                        groups = tuple(entry["groups"])
                        adopted[job] = (Stage(entry["stage"]), entry["slide"], groups)
        strangers = live - known - {own_job_id()}
        if strangers:
            self.stop(sorted(strangers))
        return adopted

    def is_live(self, job_id: str) -> bool:
        """Whether a job waits or runs, as far as is known: silence is not taken for its end."""
        live = self.list_live()
        return live is None or job_id in live

    def stop_all(self) -> None:
        """Take all of the run's jobs out of the queue, but for the one that this process is."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            live = self.list_live()
            if live is not None:
                live -= {own_job_id()}
                if not live:
                    return
                self.stop(sorted(live))
            time.sleep(1)

    def clear(self, jobs: Sequence[Job]) -> None:
        """Delete pickles, but for jobs that are back in the queue: their node died in the moment
        they ended, and without a pickle they would wait for it.
        """
        live = self.list_live()
        for job in jobs:
            if isinstance(job, ClusterJob) and live is not None and job.id not in live:
                delete_pickles(job.paths)

    def _watch(self, job_id: str, folder: Path) -> ClusterJob:
        self._missed[job_id] = 0
        return ClusterJob(self, job_id, folder)

    def has_gone(self, job_id: str) -> bool:
        """Whether a job is no longer listed as waiting or running."""
        now = time.monotonic()
        if now - self._polled_at >= self.profile.poll_s:
            live = self.list_live()
            self._polled_at = time.monotonic()
            if live is not None:
                for watched, missed in self._missed.items():
                    self._missed[watched] = 0 if watched in live else missed + 1
        return self._missed.get(job_id, 0) >= _POLLS_UNTIL_GONE

    def forget(self, job_id: str) -> None:
        """Watch a job no longer."""
        self._missed.pop(job_id, None)


def _drafts(folder: Path) -> set[Path]:
    """Scripts and calls that submitit has not given the name of a job yet."""
    return {*folder.glob(".submission_file_*"), *folder.glob("[0-9a-f]" * 32 + ".pkl")}


def own_job_id() -> str | None:
    """Id of the job that this process runs in; None outside of jobs."""
    environment = submitit.JobEnvironment
    try:
        return str(environment().job_id)
    except RuntimeError:
        return None
