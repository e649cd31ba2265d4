"""One master a run: a file that says who works on it, with a heartbeat.

A lease does not go stale for ever: one of this machine ends with its process, one of another
machine when its heartbeat is older than a minute by the file system's own clock.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from hpc_heatmap.errors import RunConflictError
from hpc_heatmap.formats.atomic import storage_errors

__all__ = ["Lease", "LeaseHolder", "holder"]

_HEARTBEAT_S = 5.0
_STALE_S = 60.0


@dataclass(frozen=True)
class LeaseHolder:
    """Who works on a run."""

    host: str
    pid: int
    process_started: float
    token: str

    def here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def alive(self, path: Path) -> bool:
        """Whether it still works."""
        if self.here():
            try:
                process = psutil.Process(self.pid)
                same = abs(process.create_time() - self.process_started) < 1
                return same and bool(process.status() != psutil.STATUS_ZOMBIE)
            except psutil.NoSuchProcess:
                return False
        try:
            return _file_system_now(path.parent) - path.stat().st_mtime < _STALE_S
        except OSError:
            return False


def _file_system_now(folder: Path) -> float:
    """Time by the clock that stamps files there; another host's clock may differ from ours."""
    probe = folder / f".clock-{uuid4().hex[:8]}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


def holder(path: Path) -> LeaseHolder | None:
    """Who holds a lease, None where nobody alive does."""
    found = _read(path)
    return found if found is not None and found.alive(path) else None


def _read(path: Path) -> LeaseHolder | None:
    try:
        return LeaseHolder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Lease:
    """The right to work on a run; use it in a `with` block and call `beat` now and then.

    Raises
    ------
    RunConflictError
        Another master works on the run.
    StorageError
        The run directory cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        process = psutil.Process()
        self.holder = LeaseHolder(
            socket.gethostname(), process.pid, process.create_time(), uuid4().hex
        )
        self._last_beat = 0.0

    def __enter__(self) -> Lease:
        mine = self._path.with_name(f".{self._path.stem}-{self.holder.token}.partial")
        with storage_errors(self._path):
            try:
                mine.write_text(json.dumps(asdict(self.holder)), "utf-8")
                self._take(mine)
            finally:
                with suppress(OSError):
                    mine.unlink()
        return self

    def _take(self, mine: Path) -> None:
        """Link our file to the lease's name: only one of many can."""
        for _ in range(3):
            try:
                os.link(mine, self._path)
                return
            except FileExistsError:
                pass
            other = _read(self._path)
            if other is not None and other.alive(self._path):
                raise RunConflictError(
                    f"Process {other.pid} on {other.host} works on {self._path.parent} now: follow "
                    f"it with `hpc-heatmap status {self._path.parent} --watch`, or stop it with "
                    f"`hpc-heatmap cancel {self._path.parent}`."
                )
            # The holder is dead. Only one of those who see it can move its lease away.
            grave = self._path.with_name(f".{self._path.stem}-{uuid4().hex[:8]}.partial")
            with suppress(FileNotFoundError):
                self._path.rename(grave)
                moved = _read(grave)
                if moved != other and moved is not None:
                    # A live master came between: give it back.
                    with suppress(FileExistsError):
                        os.link(grave, self._path)
                grave.unlink()
        raise RunConflictError(
            f"Another master has just started to work on {self._path.parent}: follow it with "
            f"`hpc-heatmap status {self._path.parent} --watch`."
        )

    def beat(self) -> None:
        """Show that the master is alive."""
        now = time.monotonic()
        if now - self._last_beat > _HEARTBEAT_S:
            self._last_beat = now
            with suppress(OSError):
                os.utime(self._path)

    def __exit__(self, *_: object) -> None:
        if _read(self._path) == self.holder:
            with suppress(OSError):
                self._path.unlink()
