"""The user's cache: what was found out once. A loss costs time and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path

import platformdirs

__all__ = ["cached_file", "keep", "this_processor"]


#: To be raised wherever this version of the engine would find another answer.
_VERSION = 3


def cached_file(folder: str, asked: str, suffix: str) -> Path:
    """Where the answer to what was asked is kept.

    Parameters
    ----------
    folder
        Folder of the cache.
    asked
        All that the answer depends on.
    suffix
        Of the file, with its dot.
    """
    name = hashlib.sha256(f"{_VERSION} {asked}".encode()).hexdigest()
    cache = platformdirs.user_cache_path("hpc-heatmap", appauthor=False)
    return cache / folder / f"{name}{suffix}"


def keep(file: Path, write: Callable[[Path], object]) -> None:
    """Keep an answer; where the cache cannot be written, it is found out again.

    Parameters
    ----------
    file
        It appears complete, or not at all.
    write
        Writes to the path that it gets.
    """
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        try:
            write(partial)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)


def this_processor() -> list[str]:
    """What results and speeds depend on beside versions: the processor and what it can do."""
    said = [platform.machine(), platform.processor(), os.environ.get("ATEN_CPU_CAPABILITY", "")]
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0]
        said += [line for line in first.splitlines() if line.startswith(("model name", "flags"))]
    return said
