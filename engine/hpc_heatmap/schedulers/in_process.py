"""No scheduler at all: tasks run one after another in this process.

For models that are Python functions, and for debugging.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpc_heatmap.model import Classifier
from hpc_heatmap.schedulers import Job
from hpc_heatmap.stages.task import Stage, Task, perform

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
    max_array = 1
    threads = 1
    own_processes = True
    light_tasks = True

    def __init__(self, classifier: Classifier | None = None) -> None:
        self._classifier = classifier

    def parallel(self) -> int:
        """One."""
        return 1

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Do the tasks now."""
        for task in tasks:
            perform(task, self._classifier)
        return [_DoneJob() for _ in tasks]

    def adopt(self) -> dict[Job, tuple[Stage, str, tuple[int, ...]]]:
        """Nothing outlives this process."""
        return {}

    def clear(self, jobs: Sequence[Job]) -> None:
        """They have left nothing."""

    def stop_all(self) -> None:
        """Nothing runs beside this process."""
