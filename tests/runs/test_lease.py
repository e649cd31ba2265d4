"""One master a run."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from runs.support import dead_pid

from hpc_heatmap import processes
from hpc_heatmap.errors import Interrupted, RunConflictError
from hpc_heatmap.runs import lease as module
from hpc_heatmap.runs.lease import Lease, LeaseHolder, holder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master.json"


def write(path: Path, who: LeaseHolder, age_s: float = 0) -> None:
    path.write_text(json.dumps(asdict(who)))
    then = time.time() - age_s
    os.utime(path, (then, then))


def me() -> LeaseHolder:
    start = processes.started(os.getpid())
    assert start is not None
    return LeaseHolder(socket.gethostname(), os.getpid(), start, "token", processes.place())


def test_a_lease_is_held_and_given_back(path: Path) -> None:
    with Lease(path) as lease:
        assert holder(path) == lease.holder
        assert lease.holder.pid == os.getpid() and lease.holder.here()
        assert list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []


def test_a_second_master_is_refused_in_one_sentence(path: Path) -> None:
    with Lease(path), pytest.raises(RunConflictError, match=r"works on .* now") as refusal:
        Lease(path).__enter__()
    assert refusal.value.exit_code == 2
    assert list(path.parent.iterdir()) == []


def test_a_dead_master_of_this_machine_holds_nothing(path: Path) -> None:
    write(path, replace(me(), pid=dead_pid()))
    assert holder(path) is None
    with Lease(path) as lease:
        assert holder(path) == lease.holder


def test_a_number_that_is_used_again_holds_nothing(path: Path) -> None:
    write(path, replace(me(), process_started=me().process_started - 5))
    assert holder(path) is None
    with Lease(path):
        pass


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"place": "another container"}])
def test_a_master_elsewhere_is_believed_by_its_heartbeat(
    path: Path, elsewhere: dict[str, str]
) -> None:
    # Its number says nothing here, dead or alive.
    other = replace(me(), pid=dead_pid(), **elsewhere)
    write(path, other, age_s=30)
    assert holder(path) == other
    with pytest.raises(RunConflictError):
        Lease(path).__enter__()
    write(path, replace(me(), **elsewhere), age_s=90)
    assert holder(path) is None
    with Lease(path):
        assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "h"}'])
def test_a_damaged_lease_holds_nothing(path: Path, text: str) -> None:
    path.write_text(text)
    assert holder(path) is None
    with Lease(path) as lease:
        assert holder(path) == lease.holder


def test_the_heartbeat_is_the_file_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lease(path) as lease:
        os.utime(path, (0, 0))
        lease.beat()
        assert time.time() - path.stat().st_mtime < 60
        os.utime(path, (0, 0))
        lease.beat()
        assert path.stat().st_mtime == 0, "no more than one heartbeat in some seconds"


def test_a_master_that_was_replaced_stops_and_leaves_the_lease(path: Path) -> None:
    other = replace(me(), token="another")
    lease = Lease(path)
    lease.__enter__()
    write(path, other)
    with pytest.raises(Interrupted, match="taken over"):
        lease.beat()
    lease.__exit__()
    assert holder(path) == other


def test_a_draft_that_is_swept_away_is_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, calls = os.link, []

    def swept(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 1:
            Path(source).unlink()
        link(source, target)

    monkeypatch.setattr(module.os, "link", swept)
    with Lease(path) as lease:
        assert holder(path) == lease.holder
    assert len(calls) == 2


@pytest.mark.parametrize("dead", [False, True])
def test_of_many_at_once_one_has_the_lease(path: Path, dead: bool) -> None:
    for _ in range(10):
        if dead:
            write(path, replace(me(), pid=dead_pid()))
        won: list[Lease] = []
        refused: list[RunConflictError] = []
        start = threading.Barrier(8)

        def try_it(start: threading.Barrier, won: list[Lease], refused: list[Exception]) -> None:
            lease = Lease(path)
            start.wait()
            try:
                won.append(lease.__enter__())
            except RunConflictError as error:
                refused.append(error)

        threads = [threading.Thread(target=try_it, args=(start, won, refused)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and len(refused) == 7
        assert holder(path) == won[0].holder
        won[0].__exit__()
        assert list(path.parent.iterdir()) == []


def test_a_process_is_known_by_its_start() -> None:
    start = processes.started(os.getpid())
    assert start is not None and processes.is_alive(os.getpid(), start)
    assert not processes.is_alive(os.getpid(), start - 2)
    assert processes.started(dead_pid()) is None
