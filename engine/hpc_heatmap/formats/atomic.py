"""Files that are complete as soon as they exist: written beside, synced, renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from hpc_heatmap.errors import FormatError, HpcHeatmapError, ReadOnlyError, StorageError

__all__ = ["PARTIAL_SUFFIX", "read_json", "storage_errors", "sync_folder", "write_json", "writing"]

PARTIAL_SUFFIX = ".partial"

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space, then `hpc-heatmap resume`",
    errno.EDQUOT: "the disk quota is used up: free some space, then `hpc-heatmap resume`",
    errno.EROFS: "the file system is read-only: choose a directory that can be written",
    errno.EACCES: "permission is denied: choose a directory that can be written",
    errno.EPERM: "permission is denied: choose a directory that can be written",
    errno.ENOTDIR: "a part of its path is a file: choose a directory that can be written",
    errno.EIO: "the file system reports an input/output error",
    errno.ESTALE: "the network file system has lost the file",
    errno.EFBIG: "the file would be larger than the system allows",
}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of a path into one sentence.

    Raises
    ------
    ReadOnlyError
        The directory may not be written.
    StorageError
        The disk is full, or the directory is out of reach.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, HpcHeatmapError):
            raise
        number = _number(error)
        if number is None:
            raise
        kind = ReadOnlyError if number in _FORBIDDEN else StorageError
        raise kind(f"{path} cannot be written: {_REASONS[number]}.") from error


def _number(error: OSError) -> int | None:
    """Number of a system error that is known here; HDF5 tells it in its text alone."""
    if error.errno in _REASONS:
        return error.errno
    text = str(error)
    for number in _REASONS:
        if f"errno = {number}," in text or os.strerror(number) in text:
            return number
    return None


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path to write to; `path` appears, complete, when the block ends.

    Two writers of the same path never meet: each has its own partial file.

    Raises
    ------
    StorageError
        The disk is full, or the directory is read-only or out of reach.
    """
    partial = path.with_name(f".{path.stem}-{uuid4().hex[:8]}{path.suffix}{PARTIAL_SUFFIX}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file last through a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that people can read."""
    with writing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    FormatError
        The file is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} is not valid JSON ({error}): delete it and resume.") from error
