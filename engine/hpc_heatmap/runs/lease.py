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

from hpc_heatmap import processes
from hpc_heatmap.errors import Interrupted, RunConflictError
from hpc_heatmap.formats.atomic import PARTIAL_SUFFIX, storage_errors

__all__ = ["STALE_S", "Lease", "LeaseHolder", "holder", "refuse_second_master"]

_HEARTBEAT_S = 5.0
#: A holder on another machine is dead when it was silent for this long.
STALE_S = 60.0
#: Another master that starts or stops may sweep our files away; then we try again.
_ATTEMPTS = 10


@dataclass(frozen=True)
class LeaseHolder:
    """Who works on a run."""

    host: str
    pid: int
    process_started: float
    token: str
    #: Two machines, or two containers, may have the same name.
    place: str = ""

    def here(self) -> bool:
        """Whether its process number can be looked up here."""
        return self.host == socket.gethostname() and self.place == processes.place()

    def alive(self, path: Path) -> bool:
        """Whether it still works."""
        if self.here():
            return processes.is_alive(self.pid, self.process_started)
        try:
            return _file_system_now(path.parent) - path.stat().st_mtime < STALE_S
        except OSError:
            return False


def _file_system_now(folder: Path) -> float:
    """Time by the clock that stamps files there; another host's clock may differ from ours."""
    probe = folder / f".clock-{uuid4().hex[:8]}{PARTIAL_SUFFIX}"
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


def _identify(path: Path) -> tuple[str, LeaseHolder | None]:
    """A name for what a lease says, and what it says; None where it is damaged."""
    found = _read(path)
    if found is not None:
        return found.token, found
    stat = path.stat()
    return f"{stat.st_ino}-{stat.st_mtime_ns}", None


def refuse_second_master(path: Path) -> None:
    """Tell before a master is started elsewhere that there is one.

    Raises
    ------
    RunConflictError
        Another master works on the run.
    """
    other = holder(path)
    if other is not None:
        raise _conflict(path, other)


def _conflict(path: Path, other: LeaseHolder) -> RunConflictError:
    run = path.parent
    return RunConflictError(
        f"Process {other.pid} on {other.host} works on {run} now: follow it with `hpc-heatmap "
        f"status {run} --watch`, or stop it with `hpc-heatmap cancel {run}`."
    )


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
        pid = os.getpid()
        start = processes.started(pid) or 0.0
        self.holder = LeaseHolder(socket.gethostname(), pid, start, uuid4().hex, processes.place())
        self._last_beat = 0.0

    def __enter__(self) -> Lease:
        mine = self._path.with_name(f".{self._path.stem}-{self.holder.token}{PARTIAL_SUFFIX}")
        with storage_errors(self._path):
            try:
                self._take(mine)
            finally:
                with suppress(OSError):
                    mine.unlink()
        return self

    def _take(self, mine: Path) -> None:
        """Put our file in the lease's place: only one of many can."""
        for _ in range(_ATTEMPTS):
            try:
                mine.write_text(json.dumps(asdict(self.holder)), "utf-8")
                os.link(mine, self._path)
                return
            except FileExistsError:
                pass
            except FileNotFoundError:
                continue
            with suppress(FileNotFoundError):
                name, other = _identify(self._path)
                if other is not None and other.alive(self._path):
                    raise _conflict(self._path, other)
                # The holder is dead. Who buries it may take its place, if it still is in its place:
                # another may have been buried, replaced and forgotten before we came.
                grave = self._bury(name, mine)
                if grave is not None and _identify(self._path)[0] == name:
                    os.replace(mine, self._path)
                    grave.unlink(missing_ok=True)
                    return
                if grave is not None:
                    grave.unlink(missing_ok=True)
        raise RunConflictError(
            f"Another master has just started to work on {self._path.parent}: follow it with "
            f"`hpc-heatmap status {self._path.parent} --watch`."
        )

    def _bury(self, name: str, mine: Path) -> Path | None:
        """The grave of a dead holder if it is we who made it; each can be made once.

        One that died over a burial is buried in turn.
        """
        while True:
            grave = self._path.with_name(f".{self._path.stem}-{name}-grave{PARTIAL_SUFFIX}")
            try:
                os.link(mine, grave)
                return grave
            except FileExistsError:
                name, other = _identify(grave)
                if other is not None and other.alive(grave):
                    return grave if other == self.holder else None

    def beat(self) -> None:
        """Show that the master is alive.

        Raises
        ------
        Interrupted
            Another master has taken the run: this one was silent for too long.
        """
        now = time.monotonic()
        if now - self._last_beat > _HEARTBEAT_S:
            self._last_beat = now
            other = _read(self._path)
            if other is not None and other != self.holder:
                raise Interrupted(
                    f"Process {other.pid} on {other.host} has taken over {self._path.parent}, "
                    "because this one was silent for a minute."
                )
            with suppress(OSError):
                os.utime(self._path)

    def __exit__(self, *_: object) -> None:
        if _read(self._path) == self.holder:
            with suppress(OSError):
                self._path.unlink()
