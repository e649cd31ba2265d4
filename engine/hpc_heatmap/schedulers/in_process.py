"""No scheduler at all: tasks run one after another in this process.

For models that are Python functions, and for debugging.
"""

from __future__ import annotations

from hpc_heatmap.model import Classifier
from hpc_heatmap.stages.task import Task, perform

__all__ = ["InProcessScheduler"]


class _DoneJob:
    """A task that has run."""

    id = "in-process"

    def done(self) -> bool:
        """Always."""
        return True

    def reason(self) -> str:
        """Nothing more than what the task wrote."""
        return "the task ended without a result"

    def log(self) -> str:
        """There is none."""
        return ""

    def cancel(self) -> None:
        """Too late."""


class InProcessScheduler:
    """Runs tasks in this process.

    Parameters
    ----------
    classifier
        The run's model, where it is in memory already.
    """

    slots = 1

    def __init__(self, classifier: Classifier | None = None) -> None:
        self._classifier = classifier

    def submit(self, task: Task) -> _DoneJob:
        """Do the task now."""
        perform(task, self._classifier)
        return _DoneJob()

    def stop_orphans(self) -> None:
        """Nothing outlives this process."""
