"""What all cluster schedulers have in common: arrays, the watch over live jobs, adoption.

A job's state comes from files first (submitit's result), then from one listing of all live jobs a
poll, then from accounting where there is some. A scheduler that does not answer changes nothing:
its jobs count as alive until it answers again.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from hpc_heatmap.errors import SchedulerError
from hpc_heatmap.formats.atomic import storage_errors
from hpc_heatmap.schedulers import job_folder
from hpc_heatmap.settings import ClusterProfile
from hpc_heatmap.stages.task import Task, perform

__all__ = ["ClusterJob", "ClusterScheduler", "QueueFullError", "ask"]

#: A job that is not listed for this many polls in a row has ended: listings lag behind submission.
_POLLS_UNTIL_GONE = 2
_ANSWER_S = 30


class QueueFullError(SchedulerError):
    """The scheduler takes no more jobs now: wait, then submit again."""


class Work:
    """The call that is pickled; resubmitted as it is after preemption or a time limit, since a task
    leaves out what is complete."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self) -> None:
        """Do the task."""
        perform(self.task)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What to go on with after an interruption."""
        return submitit.helpers.DelayedSubmission(self)


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
        self._paths = submitit.core.utils.JobPaths(folder, job_id, 0)

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        ended = bool(self._paths.result_pickle.exists()) or self._scheduler.has_gone(self.id)
        if ended:
            self._scheduler.forget(self.id)
        return ended

    def reason(self) -> str:
        """Why it ended, in the scheduler's words, with the tail of its log."""
        log = self._paths.stderr
        tail = log.read_text("utf-8", errors="replace")[-2000:] if log.exists() else ""
        return f"{self._scheduler.describe(self.id)} {tail}".strip()

    def cancel(self) -> None:
        """Take it out of the queue, or stop it."""
        self._scheduler.cancel([self.id])


class ClusterScheduler(ABC):
    """A scheduler with a queue of its own.

    Parameters
    ----------
    jobs
        Folder for jobs, made if needed, its owner's alone.
    session
        Name of the master's folder in it.
    profile
        What the site needs.

    Raises
    ------
    SchedulerError
        The scheduler is not on this machine or does not answer.
    """

    name: str
    #: Commands that must be on the PATH.
    commands: tuple[str, ...]

    def __init__(self, jobs: Path, session: str, profile: ClusterProfile) -> None:
        self.profile = profile
        self._jobs = jobs
        self._session = session
        self._executor: Any = None
        self._live_at_start: set[str] | None = None
        #: For how many polls each watched job was not listed.
        self._missed: dict[str, int] = {}
        self._polled_at = float("-inf")
        self.user = getpass.getuser()
        self.slots = profile.max_queued
        self.max_array = min(profile.max_array or 1 << 30, self.array_limit())
        self.threads = profile.cores_per_task or self.default_cores()

    @abstractmethod
    def array_limit(self) -> int:
        """Largest number of tasks in one array."""

    @abstractmethod
    def default_cores(self) -> int:
        """Cores of a task where the profile does not say: all but one of a node."""

    @abstractmethod
    def make_executor(self, folder: Path) -> Any:
        """A submitit executor with the profile's parameters."""

    @abstractmethod
    def list_live(self) -> set[str] | None:
        """Ids of all jobs of this user that wait or run; None where the scheduler is silent."""

    @abstractmethod
    def describe(self, job_id: str) -> str:
        """How a job ended, from accounting where there is some."""

    @abstractmethod
    def cancel(self, job_ids: Sequence[str]) -> None:
        """Take jobs out of the queue, or stop them."""

    @abstractmethod
    def is_full(self, message: str) -> bool:
        """Whether a refusal means that the queue is full for now."""

    @property
    def folder(self) -> Path:
        """Folder of this session's jobs."""
        return job_folder(self._jobs, self._session)

    def submit(self, tasks: Sequence[Task]) -> list[ClusterJob]:
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
            folder = self.folder
            if self._executor is None:
                self._executor = self.make_executor(folder)
            before = set(folder.iterdir())
            noise = io.StringIO()
            try:
                with contextlib.redirect_stderr(noise), contextlib.redirect_stdout(noise):
                    submitted = self._executor.submit_array([Work(task) for task in tasks])
            except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
                for orphan in set(folder.iterdir()) - before:
                    orphan.unlink(missing_ok=True)
                message = " ".join(f"{error} {noise.getvalue()}".split())
                kind = QueueFullError if self.is_full(message) else SchedulerError
                raise kind(f"{self.name} refuses the job: {message}") from error
        return [self._watch(str(job.job_id), folder) for job in submitted]

    def adopt(self, job_id: str, session: str) -> ClusterJob | None:
        """A job of an earlier master that still waits or runs; None where it does not."""
        if self._live_at_start is None:
            self._live_at_start = self.list_live() or set()
        if job_id not in self._live_at_start:
            return None
        return self._watch(job_id, self._jobs / session)

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
                for watched in self._missed:
                    missed = 0 if watched in live else self._missed[watched] + 1
                    self._missed[watched] = missed
        return self._missed.get(job_id, 0) >= _POLLS_UNTIL_GONE

    def forget(self, job_id: str) -> None:
        """Watch a job no longer."""
        self._missed.pop(job_id, None)
