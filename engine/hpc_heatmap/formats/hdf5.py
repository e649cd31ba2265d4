"""The one door to HDF5: files that are complete as soon as they exist, and say what they are."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import writing

__all__ = ["COMPRESSED", "open_for_reading", "open_for_writing", "write_chunk"]

_LEVEL = 1
#: Compression that every HDF5 library reads.
COMPRESSED = {"compression": "gzip", "compression_opts": _LEVEL, "shuffle": True}
#: Chunks are compressed where this share of their numbers, at least, is the one before once more.
_REPEATED = 0.2
#: One in so many rows of a chunk tells.
_SAMPLED_ROWS = 64
#: HDF5's filter mask of a chunk that went through neither filter.
_AS_IT_IS = 0b11
#: The disk is told to begin with what was written when it is so much, bytes.
_BEGIN_BYTES = 2**24


@contextmanager
def open_for_writing(path: Path, kind: str, version: int) -> Iterator[h5py.File]:
    """Write an HDF5 file; it appears under its name when the block ends.

    Parameters
    ----------
    path
        Where to.
    kind, version
        What the file is, kept in the attributes `format` and `format_version`.

    Raises
    ------
    StorageError
        The disk is full, or the directory is read-only or out of reach.
    """
    with writing(path) as partial, _PatientFile(partial) as disk:
        try:
            with _CheckedFile(disk) as file:
                file.attrs["format"] = kind
                file.attrs["format_version"] = version
                yield file
        except Exception:
            # What HDF5 says once bytes are missing is not the reason.
            disk.check()
            raise
        disk.check()


def write_chunk(dataset: h5py.Dataset, corner: tuple[int, int], values: npt.NDArray[Any]) -> None:
    """Write a chunk, compressed where that pays.

    A network's scores hardly compress, and trying to takes ten times as long as writing them, so
    chunks full of such, no number of which is like the one before, are stored as they are. HDF5
    keeps with each chunk what it went through. A chunk must not be read before the file has been
    closed and opened again.

    Parameters
    ----------
    dataset
        Of two dimensions, created `COMPRESSED`.
    corner
        Row and column that it begins at.
    values
        What it holds of the dataset, which is less than a chunk at the dataset's ends.
    """
    shape = dataset.chunks
    if values.shape == shape:
        chunk = np.ascontiguousarray(values, dataset.dtype)
    else:
        chunk = np.full(shape, dataset.fillvalue, dataset.dtype)
        chunk[: values.shape[0], : values.shape[1]] = values
    sample = chunk[::_SAMPLED_ROWS].view(f"u{chunk.itemsize}")
    if np.count_nonzero(sample[:, 1:] == sample[:, :-1]) < _REPEATED * sample.size:
        dataset.id.write_direct_chunk(corner, chunk, _AS_IT_IS)
    else:
        dataset.id.write_direct_chunk(corner, zlib.compress(_shuffled(chunk), _LEVEL))


def _shuffled(values: npt.NDArray[Any]) -> bytes:
    """All first bytes of some numbers, then all second ones, and so on, as HDF5's filter does."""
    single = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.itemsize)
    return single.T.tobytes()


class _PatientFile(io.RawIOBase):
    """A file whose writes never fail: the first error is kept, what is written later is dropped.

    HDF5 does not survive a write that fails while it flushes or closes, as on a full disk: the file
    stays open and holds its space, and the process may crash later.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self._waiting_bytes = 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]
            self._begin(size)
        except OSError as error:
            self._error = error
        return size

    def _begin(self, n_bytes: int) -> None:
        """Have the disk work while the rest is computed: waiting for it in the end is short then.

        Linux begins to write pages that it is told nobody needs, and does not wait for them. HDF5
        mostly appends, so that what waits is what lies before the end of the last write.
        """
        self._waiting_bytes += n_bytes
        if self._waiting_bytes < _BEGIN_BYTES or not hasattr(os, "posix_fadvise"):
            return
        begin = max(0, self._file.tell() - self._waiting_bytes)
        os.posix_fadvise(self._file.fileno(), begin, self._waiting_bytes, os.POSIX_FADV_DONTNEED)
        self._waiting_bytes = 0

    def readinto(self, buffer: Any) -> int:
        """Read; zeros where a write was dropped."""
        view = memoryview(buffer).cast("B")
        count = self._file.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file; some file systems tell of a full disk only now."""
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error
        super().close()


class _CheckedFile(h5py.File):  # type: ignore[misc]
    """An HDF5 file that tells with each new group whether the disk still takes it."""

    def __init__(self, disk: _PatientFile) -> None:
        super().__init__(disk, "w")
        self._disk = disk

    def create_group(self, *args: Any, **options: Any) -> h5py.Group:
        """Create a group, unless a write has failed."""
        self._disk.check()
        return super().create_group(*args, **options)


@contextmanager
def open_for_reading(path: Path, kind: str, version: int) -> Iterator[h5py.File]:
    """Read an HDF5 file of ours. Files are never changed once complete, so none is locked.

    Raises
    ------
    FormatError
        The file is missing, damaged, of another kind, or newer than this program.
    """
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        reason = "there is no such file" if not path.exists() else str(error)
        raise FormatError(
            f"{path} cannot be read as HDF5 ({reason}): delete it and `hpc-heatmap resume` the run."
        ) from error
    with file:
        if file.attrs.get("format") != kind:
            raise FormatError(f"{path} is not a file of {kind}.")
        if file.attrs["format_version"] > version:
            raise FormatError(
                f"{path} has version {file.attrs['format_version']} of {kind}; this program reads "
                f"up to {version}: install a newer hpc-heatmap."
            )
        yield file
