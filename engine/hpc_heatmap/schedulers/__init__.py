"""Where tasks run: one module a scheduler, all behind one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hpc_heatmap.stages.task import Task

__all__ = ["Job", "Scheduler"]


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


class Scheduler(Protocol):
    """The seam between a master and the machines.

    Attributes
    ----------
    slots
        Tasks that run at once; a master never submits more.
    """

    slots: int

    def submit(self, task: Task) -> Job:
        """Start a task.

        Raises
        ------
        StorageError
            The job folder cannot be written.
        """

    def stop_orphans(self) -> None:
        """Stop what a master that was killed has left running. Call it with the lease in hand."""


def job_folder(jobs: Path, session: str) -> Path:
    """Folder for the jobs of one master: pickles are code, so it is its owner's alone."""
    jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    jobs.chmod(0o700)
    folder = jobs / session
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
