"""What ``qstat`` and ``qacct`` say, read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from submitit_sge.units import read_bytes, read_seconds

__all__ = ["final_state", "live_state", "read_qacct", "read_qstat"]

#: ``failed`` codes of a run that the queue starts again: migrating, rescheduling.
_STARTED_AGAIN = {24, 25}
#: ``failed`` code of a limit that the master enforced.
_LIMIT = 37


def read_qstat(xml: str) -> dict[str, str]:
    """Grid Engine's state of every job that ``qstat -xml`` lists, by submitit's job id."""
    states = {}
    for job in ElementTree.fromstring(xml).iter("job_list"):
        number = job.findtext("JB_job_number", "")
        state = job.findtext("state", "")
        tasks = job.findtext("tasks")
        if tasks:
            states.update({f"{number}_{task - 1}": state for task in _expand(tasks)})
        else:
            states[number] = state
    return states


def _expand(ranges: str) -> Iterator[int]:
    """Numbers in ``1,4-7:1,10-14:2``."""
    for part in ranges.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip())
        if match:
            first = int(match[1])
            yield from range(first, int(match[2] or first) + 1, int(match[3] or 1))


def live_state(state: str) -> str:
    """State of submitit for a state of ``qstat``.

    Suspended jobs (s, S, T) and jobs under deletion (d) still hold their place: RUNNING. A job in
    an error state (E) waits for somebody to clear it: FAILED.
    """
    if "E" in state:
        return "FAILED"
    return "PENDING" if "q" in state else "RUNNING"


def read_qacct(text: str) -> dict[str, dict[str, str]]:
    """Last record of every task in ``qacct -j``, by submitit's job id; values as printed."""
    records: dict[str, dict[str, str]] = {}
    for block in re.split(r"^=+\s*$", text, flags=re.MULTILINE):
        pairs = (line.split(None, 1) for line in block.splitlines() if line.strip())
        record = {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}
        if "jobnumber" not in record:
            continue
        task = record.get("taskid", "undefined")
        index = f"_{int(task) - 1}" if task.isdigit() else ""
        records[record["jobnumber"] + index] = record
    return records


def final_state(record: dict[str, str], cancelled: bool = False) -> str | None:
    """State of submitit for an accounting record; None if that run did not end the job.

    A deletion and a kill from elsewhere leave the same record.

    Parameters
    ----------
    record
        Record as `read_qacct` gives it.
    cancelled
        Whether the job is known to have been deleted.
    """
    failed, status = _leading_int(record.get("failed")), _leading_int(record.get("exit_status"))
    if failed in _STARTED_AGAIN:
        return None
    if failed == 0 and status == 0:
        return "COMPLETED"
    if cancelled:
        return "CANCELLED"
    if failed == _LIMIT or status > 128:
        if _above_memory(record):
            return "OUT_OF_MEMORY"
        if failed == _LIMIT or _above_time(record):
            return "TIMEOUT"
    return "FAILED"


def _leading_int(text: str | None) -> int:
    """The number in ``137 (Killed)`` and ``100 : assumedly after job``; -1 without one."""
    match = re.match(r"\d+", text or "")
    return int(match[0]) if match else -1


def _asked(record: dict[str, str], resource: str) -> str:
    match = re.search(rf"[ ,]{resource}=([^, ]+)", record.get("category", ""))
    return match[1] if match else ""


def _above_time(record: dict[str, str]) -> bool:
    limit = _asked(record, "h_rt")
    return bool(limit) and _leading_int(record.get("ru_wallclock")) >= read_seconds(limit)


def _above_memory(record: dict[str, str]) -> bool:
    limit = read_bytes(_asked(record, "h_vmem")) * max(1, _leading_int(record.get("slots")))
    return 0 < limit <= read_bytes(record.get("maxvmem", ""))
