"""States of jobs: ``qstat`` for the living, ``qacct`` for the others."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable
from xml.etree.ElementTree import ParseError

from submitit.core import core, logger

from submitit_sge.reports import final_state, live_state, read_qacct, read_qstat

__all__ = ["SgeInfoWatcher"]

_PATIENCE_S = 60  # for one command


class SgeInfoWatcher(core.InfoWatcher):
    """Watches all jobs of this process with one ``qstat`` a poll.

    Jobs that have left the queue get one ``qacct`` for each job number. A record comes some seconds
    late, and a task deleted while it was pending has none: a job that is in neither for
    `lost_polls` polls and `lost_s` seconds is CANCELLED.

    Parameters
    ----------
    delay_s
        Longest time between two polls, in seconds.
    lost_polls, lost_s
        See above.
    """

    def __init__(self, delay_s: int = 60, lost_polls: int = 3, lost_s: float = 20.0) -> None:
        super().__init__(delay_s)
        self.lost_polls = lost_polls
        self.lost_s = lost_s
        self._cancelled: set[str] = set()
        self._missing: dict[str, list[float]] = {}

    def clear(self) -> None:
        """Forget everything but the jobs' ids."""
        super().clear()
        self._missing = {}

    def note_cancelled(self, job_ids: Iterable[str]) -> None:
        """Remember deletions: their records look like those of other kills."""
        self._cancelled.update(job_ids)

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT, OUT_OF_MEMORY or UNKNOWN.

        `get_info` has the rest: ``sge_state`` of a live job, all fields of the accounting record of
        a finished one, and a ``reason``.
        """
        return self.get_info(job_id, mode=mode).get("State", "UNKNOWN")

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["qstat", "-xml", "-s", "prs", "-u", pwd.getpwuid(os.geteuid()).pw_name]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Read the output of ``qstat -xml``."""
        text = string if isinstance(string, str) else string.decode(errors="replace")
        states = read_qstat(text)
        return {job: {"State": live_state(s), "sge_state": s} for job, s in states.items()}

    def update(self) -> None:
        """Poll all jobs that are not known to be over."""
        command = self._make_command()
        if command is None:
            return
        self._num_calls += 1
        try:
            live = self.read_info(_run(command))
        except (OSError, subprocess.SubprocessError, ParseError) as error:
            logger.get_logger().warning(f"qstat does not answer, states may be old: {error}")
            self._last_status_check = time.time()
            return
        gone = defaultdict(set)
        for job_id in self._registered - self._finished:
            if job_id in live:
                self._keep_live(job_id, live[job_id])
            else:
                gone[job_id.partition("_")[0]].add(job_id)
        for number, job_ids in gone.items():
            self._look_up(number, job_ids)
        self._last_status_check = time.time()
        known = self._registered - self._finished
        self._finished |= {job_id for job_id in known if self.is_done(job_id, mode="cache")}

    def _keep_live(self, job_id: str, info: dict[str, str]) -> None:
        self._missing.pop(job_id, None)
        if "d" in info["sge_state"]:
            self._cancelled.add(job_id)
        if info["State"] == "FAILED":
            info = {**info, "reason": _error_reason(job_id)}
        self._info_dict[job_id] = info

    def _look_up(self, number: str, job_ids: set[str]) -> None:
        """Find what became of a job's tasks that are not in the queue any more."""
        command = ["qacct", "-j", number]
        if len(job_ids) == 1 and "_" in (only := next(iter(job_ids))):
            command += ["-t", str(int(only.partition("_")[2]) + 1)]
        try:
            records = read_qacct(_run(command))
        except (OSError, subprocess.SubprocessError):
            records = {}  # not there yet, never there, or no accounting on this host
        for job_id in job_ids:
            cancelled = job_id in self._cancelled
            state = final_state(records[job_id], cancelled) if job_id in records else None
            if state is not None:
                self._info_dict[job_id] = {**records[job_id], "State": state}
            elif cancelled:
                self._info_dict[job_id] = {"State": "CANCELLED", "reason": "deleted"}
            else:
                self._count_missing(job_id)

    def _count_missing(self, job_id: str) -> None:
        polls = self._missing.setdefault(job_id, [])
        polls.append(time.time())
        if len(polls) >= self.lost_polls and polls[-1] - polls[0] >= self.lost_s:
            reason = "vanished: neither in the queue nor in the accounting"
            self._info_dict[job_id] = {"State": "CANCELLED", "reason": reason}


def _error_reason(job_id: str) -> str:
    """Why a job is in an error state, in Grid Engine's words."""
    number = job_id.partition("_")[0]
    try:
        lines = _run(["qstat", "-j", number]).splitlines()
    except (OSError, subprocess.SubprocessError):
        lines = []
    found = [line.split(":", 1)[1].strip() for line in lines if line.startswith("error reason")]
    return f"in an error state (delete it, or `qmod -cj {number}`): {'; '.join(found) or 'unknown'}"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE_S)
    return done.stdout.decode(errors="replace")
