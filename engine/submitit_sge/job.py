"""A submitted job."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Any

from submitit.core import core

from submitit_sge.watcher import SgeInfoWatcher

__all__ = ["SgeJob"]

#: What ``qdel`` says of jobs that need no deletion.
_HARMLESS = ("does not exist", "do not exist", "already in deletion")
_AT_ONCE = 1000  # jobs in one command


class SgeJob(core.Job[core.R]):
    """A job, or one task of an array: ``12``, or ``12_0`` counted from 0."""

    _cancel_command = "qdel"
    watcher = SgeInfoWatcher()

    def cancel(self, check: bool = True) -> None:
        """Delete the job from the queue, pending or running.

        Parameters
        ----------
        check
            Whether a refusal is an error. That the job is over already is no refusal.

        Raises
        ------
        RuntimeError
            Grid Engine refused; with its words.
        """
        self.cancel_all([self], check=check)

    @classmethod
    def cancel_all(cls, jobs: Iterable[core.Job[Any]], check: bool = True) -> None:
        """Delete many jobs with few commands; otherwise as `cancel`."""
        ids = list(dict.fromkeys(job.job_id for job in jobs))
        cls.watcher.note_cancelled(ids)
        for start in range(0, len(ids), _AT_ONCE):
            targets = [_target(job_id) for job_id in ids[start : start + _AT_ONCE]]
            done = subprocess.run([cls._cancel_command, *targets], capture_output=True, text=True)
            said = (done.stdout + done.stderr).strip().splitlines()
            denied = [s for s in said if s.startswith("denied") or "privileges" in s]
            problems = [s for s in denied or said if not any(h in s for h in _HARMLESS)]
            if check and done.returncode and problems:
                raise RuntimeError(f"qdel refused: {' '.join(problems)}")

    def _interrupt(self, timeout: bool = False) -> None:
        """Have the job rescheduled, which sends SIGUSR2 to jobs submitted with ``notify``.

        Grid Engine does this to rerunnable jobs only (``-r y``).

        Raises
        ------
        NotImplementedError
            A time-out was asked for; nothing but time brings it about.
        """
        if timeout:
            raise NotImplementedError("Grid Engine has no command that lets a job time out.")
        subprocess.run(["qmod", "-rj", _target(self.job_id)], check=True, capture_output=True)


def _target(job_id: str) -> str:
    """A job's name on Grid Engine's command lines: ``12``, or ``12.1`` for task 0 of job 12."""
    number, _, index = job_id.partition("_")
    return f"{number}.{int(index) + 1}" if index else number
