"""Tasks on this machine, through submitit, with as many tasks at once as there are cores.

submitit's LocalExecutor starts everything at once; the master keeps the queue and submits a task
only when a slot is free.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import submitit

from hpc_heatmap.formats.atomic import storage_errors
from hpc_heatmap.schedulers import job_folder
from hpc_heatmap.stages.task import Task, perform

__all__ = ["LocalScheduler", "usable_cores"]

_NO_TIMEOUT_MIN = 60 * 24 * 365


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalScheduler:
    """A bounded pool of processes, one task each.

    Parameters
    ----------
    jobs
        Folder for jobs, made if needed, its owner's alone.
    session
        Name of the master's folder in it.
    workers
        Tasks at once; None for as many as there are cores.
    """

    def __init__(self, jobs: Path, session: str, workers: int | None = None) -> None:
        self.slots = workers or usable_cores()
        self._jobs = jobs
        self._session = session
        self._executor: Any = None

    def submit(self, task: Task) -> LocalJob:
        """Start a task in a process of its own."""
        with storage_errors(self._jobs):
            if self._executor is None:
                folder = job_folder(self._jobs, self._session)
                self._executor = submitit.LocalExecutor(folder=folder)
                self._executor.update_parameters(timeout_min=_NO_TIMEOUT_MIN)
            return LocalJob(self._executor.submit(perform, task))


class LocalJob:
    """A task in a process of its own."""

    def __init__(self, job: Any) -> None:
        self._job = job

    @property
    def id(self) -> str:
        """Process id of submitit's controller."""
        return str(self._job.job_id)

    def done(self) -> bool:
        """Whether the process has ended."""
        return bool(self._job.done())

    def reason(self) -> str:
        """State and the tail of its log."""
        path = Path(self._job.paths.stderr)
        log = path.read_text("utf-8", errors="replace")[-2000:] if path.exists() else ""
        return f"the worker ended without a result. {log}".strip()

    def cancel(self) -> None:
        """Kill the process and its child: what they wrote is complete or not there."""
        try:
            controller = psutil.Process(int(self._job.job_id))
            processes = [*controller.children(recursive=True), controller]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
