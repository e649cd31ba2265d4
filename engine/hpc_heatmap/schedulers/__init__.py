"""Where tasks run: one module a scheduler, all behind one protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpc_heatmap.errors import RunConflictError, SchedulerError
from hpc_heatmap.stages.task import Stage, Task

if TYPE_CHECKING:
    from submitit.core.utils import JobPaths

__all__ = ["Job", "QueueFullError", "Scheduler", "delete_pickles", "job_folder", "tail_of"]

_LOG_CHARACTERS = 2000


class Job(Protocol):
    """A task that was submitted."""

    @property
    def id(self) -> str:
        """Its name with the scheduler."""

    def done(self) -> bool:
        """Whether it has ended, well or not. What it did is seen from its files."""

    def reason(self) -> str:
        """Why it ended without its files: half a sentence."""

    def log(self) -> str:
        """Tail of its log."""

    def cancel(self) -> None:
        """Stop it. When this returns nothing of it runs any more."""


class QueueFullError(SchedulerError):
    """The scheduler takes no more jobs, or does not answer, now: wait, then try again."""


class Scheduler(Protocol):
    """The seam between a master and the machines.

    Attributes
    ----------
    slots
        Tasks that wait or run at once; a master never submits more.
    max_array
        Tasks that are submitted at once.
    threads
        Cores of a task.
    own_processes
        Whether tasks are processes of this machine that must not outlive their master.
    light_tasks
        Whether a task costs little beside its work: no start of a process, no model to load.
    """

    slots: int
    max_array: int
    threads: int
    own_processes: bool
    light_tasks: bool

    def parallel(self) -> int:
        """Tasks of an array that could run at once if nothing else ran."""

    def submit(self, tasks: Sequence[Task]) -> Sequence[Job]:
        """Start tasks; gives a job for each.

        Raises
        ------
        QueueFullError
            The scheduler takes no more jobs now.
        SchedulerError
            The scheduler refuses for another reason.
        StorageError
            The job folder cannot be written.
        """

    def adopt(self) -> Mapping[Job, tuple[Stage, str, tuple[int, ...]]]:
        """What a master that was killed has left: jobs that go on, with the stage, slide and
        groups they work on. What cannot be taken over is stopped. Call it with the lease in hand.

        Raises
        ------
        QueueFullError
            The scheduler does not answer now.
        """

    def clear(self, jobs: Sequence[Job]) -> None:
        """Delete what jobs that have ended well were started from. Their logs stay."""

    def stop_all(self) -> None:
        """Stop everything of the run, whoever started it."""


def tail_of(log: Path, start: int = 0) -> str:
    """End of a log, of what lies behind its first so many bytes."""
    try:
        written = log.read_bytes()[start:].decode("utf-8", errors="replace")
        return written[-_LOG_CHARACTERS:].strip()
    except OSError:
        return ""


def delete_pickles(paths: JobPaths) -> None:
    """Delete the two files of a job that hold its call and its result."""
    for file in (paths.submitted_pickle, paths.result_pickle):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def job_folder(jobs: Path, session: str) -> Path:
    """Folder for the jobs of one master: pickles are code, so it is its owner's alone.

    Raises
    ------
    RunConflictError
        The run belongs to somebody else: it may be read, but nothing of it is executed.
    """
    jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and jobs.stat().st_uid != os.getuid():
        raise RunConflictError(
            f"{jobs} belongs to another user, and what is in it would be executed as you: copy the "
            "run without its folder jobs, and resume your copy."
        )
    jobs.chmod(0o700)
    folder = jobs / session
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
