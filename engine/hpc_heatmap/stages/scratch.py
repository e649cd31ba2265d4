"""Copies on a disk of the node, where the shared file system is slow to many small reads.

A copy saves time and nothing else: without a scratch folder the run's own files are read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from hpc_heatmap.errors import StorageError
from hpc_heatmap.formats.group_file import copy_groups

__all__ = ["cached_model", "local_groups"]


def _own_folder(scratch: str) -> Path | None:
    """Folder of this user in a scratch folder, and nobody else's; None where there can be none.

    Variables such as ``$TMPDIR`` are the node's.
    """
    folder = Path(os.path.expandvars(scratch))
    if not folder.is_absolute():
        return None
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder /= f"hpc-heatmap-{owner}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if folder.is_symlink() or (hasattr(os, "getuid") and status.st_uid != owner):
            return None
        folder.chmod(0o700)
        return folder
    return None


@contextmanager
def local_groups(source: Path, indices: Sequence[int], scratch: str | None) -> Iterator[Path]:
    """Path of a group file that holds some groups: a copy of these alone, or the file itself.

    The copy is removed when the block ends.

    Parameters
    ----------
    source
        The slide's ``groups.h5``.
    indices
        Groups that are wanted.
    scratch
        Folder on a disk of the node; None for no copy.
    """
    folder = _own_folder(scratch) if scratch else None
    if folder is None:
        yield source
        return
    try:
        copies = Path(tempfile.mkdtemp(prefix="groups-", dir=folder))
    except OSError:
        yield source
        return
    try:
        copy = copies / source.name
        try:
            copy_groups(source, copy, indices)
        except (OSError, StorageError):
            copy = source
        yield copy
    finally:
        shutil.rmtree(copies, ignore_errors=True)


def cached_model(source: Path, sha256: str | None, scratch: str | None) -> Path:
    """Path of a copy of a file of the run's model that stays on the node, or the file itself.

    Parameters
    ----------
    source
        The file; it need not exist.
    sha256
        The model's name; without one there is no copy.
    scratch
        Folder on a disk of the node; None for no copy.
    """
    folder = _own_folder(scratch) if scratch and sha256 else None
    if folder is None or sha256 is None:
        return source
    partial = folder / f"model-{uuid4().hex}.partial"
    try:
        copy = folder / f"model-{sha256}" / f"{source.stat().st_size}-{source.name}"
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, partial)
            os.replace(partial, copy)
        return copy
    except OSError:
        partial.unlink(missing_ok=True)
        return source
