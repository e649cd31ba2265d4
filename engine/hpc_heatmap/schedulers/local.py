"""Tasks on this machine, by as many workers as there are cores.

A worker is a job of submitit's LocalExecutor, two processes: submitit's controller and the worker
below it. The executor starts everything at once, so the master keeps the queue and hands a task
over only when a slot is free.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import submitit

from hpc_heatmap import processes
from hpc_heatmap.formats.atomic import storage_errors
from hpc_heatmap.schedulers import Job, delete_pickles, job_folder, tail_of
from hpc_heatmap.schedulers.local_worker import Desk, serve
from hpc_heatmap.stages.task import Stage, Task

__all__ = ["LocalScheduler"]

_NO_TIMEOUT_MIN = 60 * 24 * 365
#: A killed process is gone at once, unless it waits for a disk that does not answer.
_GONE_S = 10.0
_MODULES = {"submitit.local._local", "submitit.core._submit"}
_JOB_ID = "SUBMITIT_LOCAL_JOB_ID"


class LocalScheduler:
    """A bounded pool of workers that stay, one task of each at a time.

    Parameters
    ----------
    jobs
        Folder for jobs in the run directory, made if needed, its owner's alone.
    session
        Name of the master's folder in it.
    workers
        Tasks at once; None for as many as there are cores.
    soon
        Workers that are started with the first task, up to `workers`: they get ready meanwhile.
    """

    max_array = 1
    threads = 1
    own_processes = True
    light_tasks = True

    def __init__(self, jobs: Path, session: str, workers: int | None = None, soon: int = 0) -> None:
        self.slots = workers or processes.usable_cores()
        self._jobs = jobs
        self._session = session
        self._soon = min(soon, self.slots)
        self._workers: list[_Worker] = []
        self._executor: Any = None

    def parallel(self) -> int:
        """As many as there are slots."""
        return self.slots

    def clear(self, jobs: Sequence[Job]) -> None:
        """Nothing: what a worker was started from goes with it."""

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Hand each task to a worker that has none, or to a new one."""
        with storage_errors(self._jobs), _no_interrupt():
            self._workers = [worker for worker in self._workers if not worker.is_gone()]
            jobs: list[Job] = []
            for task in tasks:
                idle = [worker for worker in self._workers if worker.is_idle()]
                # Who has waited the longest is the readiest.
                worker = min(idle, key=lambda w: w.last_given, default=None) or self._start()
                jobs.append(worker.give(task))
            while len(self._workers) < self._soon:
                self._start()
            return jobs

    def _start(self) -> _Worker:
        if self._executor is None:
            folder = job_folder(self._jobs, self._session)
            self._executor = submitit.LocalExecutor(folder=folder)
            self._executor.update_parameters(timeout_min=_NO_TIMEOUT_MIN, stderr_to_stdout=True)
        worker = _Worker(self._executor, self._jobs, self.threads)
        self._workers.append(worker)
        return worker

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
        for worker in self._workers:
            worker.is_gone()  # No zombie stays either.
            delete_pickles(worker.paths)
        self._workers.clear()
        for file in self._jobs.glob("*/*.task*"):
            with suppress(OSError):
                file.unlink()


class _Worker:
    """A worker and its controller, seen from the master."""

    def __init__(self, executor: Any, jobs: Path, threads: int) -> None:
        me = os.getpid()
        self._desk = Desk(
            folder=str(executor.folder),
            name=f"worker-{uuid4().hex[:8]}",
            run=str(jobs.parent),
            threads=threads,
            master=(me, processes.started(me) or 0.0),
        )
        self._jobs = jobs
        self._job = executor.submit(serve, self._desk)
        self._is_gone = False
        self.id = str(self._job.job_id)
        self.paths = self._job.paths
        self.last_given = 0.0
        self._n_tasks = 0

    def is_idle(self) -> bool:
        """Whether its last task is done."""
        return not self._desk.file(self._n_tasks).exists()

    def is_gone(self) -> bool:
        """Whether it has ended."""
        if not self._is_gone and self._job.done():
            self._is_gone = True
            if self._job.state == "INTERRUPTED":
                # The controller was killed, and its worker goes on without it.
                _kill(_processes(self._jobs, self.id))
        return self._is_gone

    def give(self, task: Task) -> LocalJob:
        """Have it do a task."""
        written = self.paths.stdout.stat().st_size if self.paths.stdout.exists() else 0
        self.last_given = time.monotonic()
        self._n_tasks += 1
        return LocalJob(self, self._desk.put(self._n_tasks, task), written)

    def kill(self) -> None:
        """Kill worker and controller: what they wrote is complete or not there."""
        with suppress(psutil.NoSuchProcess):
            controller = psutil.Process(int(self.id))
            # A controller that stands still starts no worker behind our back.
            controller.suspend()
            _kill([controller, *controller.children(recursive=True)])
        self._job.done()


class LocalJob:
    """A task that a worker was given."""

    def __init__(self, worker: _Worker, file: Path, log_start: int) -> None:
        self._worker = worker
        self._file = file
        self._log_start = log_start

    @property
    def id(self) -> str:
        """Process id of the worker's controller."""
        return self._worker.id

    def done(self) -> bool:
        """Whether the task is done, or its worker is gone."""
        return self._worker.is_gone() or not self._file.exists()

    def reason(self) -> str:
        """Whether the worker was killed, and where its log is."""
        paths = self._worker.paths
        killed = self._worker.is_gone() and not paths.result_pickle.exists()
        what = "was killed, perhaps because memory ran out" if killed else "ended without a result"
        return f"the worker {what}; its log is {paths.stdout}"

    def log(self) -> str:
        """Tail of what its worker wrote since the task was given."""
        return tail_of(self._worker.paths.stdout, self._log_start)

    def cancel(self) -> None:
        """Kill the worker, unless it is done with the task."""
        if not self.done():
            self._worker.kill()


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
