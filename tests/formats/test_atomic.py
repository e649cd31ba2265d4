"""A file that exists is complete."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from hpc_heatmap.errors import FormatError, SlideNotFoundError, StorageError
from hpc_heatmap.formats.atomic import (
    PARTIAL_SUFFIX,
    read_json,
    storage_errors,
    write_json,
    writing,
)


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with writing(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        assert partial.parent == target.parent
        assert partial.name.startswith(".file-") and partial.name.endswith(PARTIAL_SUFFIX)
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(type(error)), writing(target) as partial:
        partial.write_text("new")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_bytes_are_synced_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("name"), replace(a, b)))
    write_json(tmp_path / "file.json", {})
    # The folder is synced after the name.
    assert order == ["sync", "name", "sync"]


def test_two_writers_never_meet(tmp_path: Path) -> None:
    target, start = tmp_path / "file.txt", threading.Barrier(8)

    def write(text: str) -> None:
        for _ in range(20):
            with writing(target) as partial:
                partial.write_text(text)
            start.wait()

    threads = [threading.Thread(target=write, args=(str(k) * 5000,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = target.read_text()
    assert len(text) == 5000 and len({*text}) == 1
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.EIO, "input/output"),
        (errno.ESTALE, "network file system"),
    ],
)
def test_what_the_system_says_becomes_a_sentence(tmp_path: Path, number: int, word: str) -> None:
    path = tmp_path / "file"
    with pytest.raises(StorageError, match=word) as caught, storage_errors(path):
        raise OSError(number, os.strerror(number))
    assert str(path) in str(caught.value) and str(caught.value).endswith(".")
    # HDF5 tells the number in its text alone.
    text = f"unable to write (errno = {number}, error message = '...')"
    with pytest.raises(StorageError, match=word), storage_errors(path):
        raise OSError(text)


def test_errors_that_say_more_stay_as_they_are(tmp_path: Path) -> None:
    ours = SlideNotFoundError("slide.tif: Permission denied")
    for error in (ours, FileNotFoundError("gone"), StorageError("full")):
        with pytest.raises(type(error)) as caught, storage_errors(tmp_path):
            raise error
        assert caught.value is error


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="full"):
        write_json(tmp_path / "file.json", {})
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"name": "Äpfel", "numbers": [1, 2.5, None]}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert "Äpfel" in (tmp_path / "file.json").read_text("utf-8")
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(FormatError, match="delete it and resume"):
        read_json(tmp_path / "file.json")
