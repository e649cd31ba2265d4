"""Which process it is, beyond its number: numbers are used again, and clocks are set.

And how many cores it may use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

__all__ = ["idle_cores", "is_alive", "place", "started", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def idle_cores() -> int:
    """Cores of these that nothing else has used lately, one at least."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, usable_cores() - round(load))


def started(pid: int) -> float | None:
    """When a living process started; None where there is none, or only a zombie.

    On Linux it is counted from the machine's start: a clock that is set, or a laptop that has
    slept, does not make another process of it.
    """
    if sys.platform.startswith("linux"):
        try:
            fields = (
                Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            )
        except OSError:
            return None
        return None if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def is_alive(pid: int, start: float) -> bool:
    """Whether the process of that number and start still lives."""
    now = started(pid)
    return now is not None and abs(now - start) < 0.5


def place() -> str:
    """Where process numbers mean the same: this start of the machine and this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
