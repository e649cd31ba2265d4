"""Tasks on this machine, through submitit, with as many tasks at once as there are cores.

submitit's LocalExecutor starts everything at once; the master keeps the queue and submits a task
only when a slot is free. A job is two processes: submitit's controller and the worker below it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import submitit

from hpc_heatmap import processes
from hpc_heatmap.formats.atomic import storage_errors
from hpc_heatmap.schedulers import Job, delete_pickles, job_folder, tail_of
from hpc_heatmap.stages.task import Stage, Task, perform

__all__ = ["LocalScheduler"]

_NO_TIMEOUT_MIN = 60 * 24 * 365
#: A killed process is gone at once, unless it waits for a disk that does not answer.
_GONE_S = 10.0
_MODULES = {"submitit.local._local", "submitit.core._submit"}
_JOB_ID = "SUBMITIT_LOCAL_JOB_ID"


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

    max_array = 1
    threads = 1
    own_processes = True

    def __init__(self, jobs: Path, session: str, workers: int | None = None) -> None:
        self.slots = workers or processes.usable_cores()
        self._jobs = jobs
        self._session = session
        self._executor: Any = None

    def parallel(self) -> int:
        """As many as there are slots."""
        return self.slots

    def clear(self, jobs: Sequence[Job]) -> None:
        """Delete pickles."""
        for job in jobs:
            if isinstance(job, LocalJob):
                delete_pickles(job.paths)

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Start each task in a process of its own."""
        with storage_errors(self._jobs), _no_interrupt():
            if self._executor is None:
                folder = job_folder(self._jobs, self._session)
                self._executor = submitit.LocalExecutor(folder=folder)
                self._executor.update_parameters(timeout_min=_NO_TIMEOUT_MIN, stderr_to_stdout=True)
            return [LocalJob(self._executor.submit(perform, task), self._jobs) for task in tasks]

    def adopt(self) -> dict[Job, tuple[Stage, str, tuple[int, ...]]]:
        """Nothing: what an earlier master has left on this machine is killed."""
        self.stop_all()
        return {}

    def stop_all(self) -> None:
        """Kill what any master of the run has left on this machine."""
        # A controller that is killed may have started its worker just then: look again.
        deadline = time.monotonic() + _GONE_S
        while (left := list(_processes(self._jobs))) and time.monotonic() < deadline:
            _kill(left)


class LocalJob:
    """A task in a process of its own."""

    def __init__(self, job: Any, jobs: Path) -> None:
        self._job = job
        self._jobs = jobs

    @property
    def paths(self) -> Any:
        """Where submitit keeps what is of the job."""
        return self._job.paths

    @property
    def id(self) -> str:
        """Process id of submitit's controller."""
        return str(self._job.job_id)

    def done(self) -> bool:
        """Whether the process has ended."""
        if not self._job.done():
            return False
        if self._job.state == "INTERRUPTED":
            # The controller was killed, and its worker goes on without it.
            _kill(_processes(self._jobs, self.id))
        return True

    def reason(self) -> str:
        """Whether it was killed, and where its log is."""
        killed = not Path(self._job.paths.result_pickle).exists()
        what = "was killed, perhaps because memory ran out" if killed else "ended without a result"
        return f"the worker {what}; its log is {self._job.paths.stdout}"

    def log(self) -> str:
        """Tail of what it wrote."""
        return tail_of(Path(self._job.paths.stdout))

    def cancel(self) -> None:
        """Kill controller and worker: what they wrote is complete or not there."""
        with suppress(psutil.NoSuchProcess):
            controller = psutil.Process(int(self._job.job_id))
            # A controller that stands still starts no worker behind our back.
            controller.suspend()
            _kill([controller, *controller.children(recursive=True)])
        self._job.done()


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Processes that are started here do not see ctrl-C: the master stops them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _processes(jobs: Path, job_id: str | None = None) -> Iterator[psutil.Process]:
    """Controllers and workers of a run, or the workers of one job."""
    home = jobs.resolve()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            command = process.cmdline()
            if not _MODULES.intersection(command):
                continue
            if Path(command[-1]).resolve().parent != home:
                continue
            if job_id is None or process.environ().get(_JOB_ID) == job_id:
                yield process


def _kill(victims: Iterable[psutil.Process]) -> None:
    """Kill processes and wait until they are gone."""
    alive = {}
    for victim in victims:
        start = processes.started(victim.pid)
        if start is not None:
            alive[victim.pid] = start
            with suppress(psutil.NoSuchProcess):
                victim.kill()
    deadline = time.monotonic() + _GONE_S
    while any(processes.is_alive(*one) for one in alive.items()) and time.monotonic() < deadline:
        time.sleep(0.01)
