"""Reading a file from its disk, not from the memory that the system keeps of it."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

__all__ = ["cached_share", "drop_from_memory"]


def drop_from_memory(path: Path) -> None:
    """Ask the system to forget a file's pages (``posix_fadvise``); it needs no rights.

    What is not yet written is written first. The server of a network file system may still hold
    the file in its own memory: nothing here can see that.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def cached_share(path: Path) -> float | None:
    """Share of a file's pages that are in this machine's memory; None where that is not told."""
    size = path.stat().st_size
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (AttributeError, OSError, TypeError):
        return None
    if not size:
        return 0.0
    # A private mapping is writable, as taking its address asks for; nothing is written.
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as pages:
        n_pages = -(-size // mmap.PAGESIZE)
        flags = (ctypes.c_ubyte * n_pages)()
        start = ctypes.c_char.from_buffer(pages)
        try:
            address = ctypes.c_void_p(ctypes.addressof(start))
            if mincore(address, ctypes.c_size_t(size), flags) != 0:
                return None
            return sum(flag & 1 for flag in flags) / n_pages
        finally:
            del start
