"""The one door to HDF5: files that are complete as soon as they exist, and say what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import writing

__all__ = ["COMPRESSED", "open_for_reading", "open_for_writing"]

#: Compression that every HDF5 library reads.
COMPRESSED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


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
    with writing(path) as partial, h5py.File(partial, "w", locking=False) as file:
        file.attrs["format"] = kind
        file.attrs["format_version"] = version
        yield file


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
