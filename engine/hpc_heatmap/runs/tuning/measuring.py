"""Groups written to a file system and read back: whole, and patch by patch."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from hpc_heatmap.errors import SettingsError, StorageError
from hpc_heatmap.formats.atomic import storage_errors
from hpc_heatmap.formats.group_file import GroupHeader, open_groups, write_groups
from hpc_heatmap.geometry import raw_patch_bytes
from hpc_heatmap.runs.tuning.page_cache import cached_share, drop_from_memory

__all__ = ["GROUP_SIZES", "Reading", "Tuning", "file_system", "tune"]

#: The paper's Fig. 5 goes to 1,600 patches.
GROUP_SIZES = (16, 64, 100, 400, 900, 1600)
#: A task should take no more of its own time than this before it scores.
_OVERHEAD_SHARE = 0.03


@dataclass(frozen=True)
class Reading:
    """One group size. Times are medians over the rounds.

    Attributes
    ----------
    patches
        Patches of the group, N_p.
    bytes, bytes_as_patches
        Size of the group with each pixel stored once, and as patches one by one.
    whole_s
        Reading the group at once, and putting its patches together.
    one_by_one_s
        Reading each patch by itself, as files that are opened, read and closed.
    write_s
        Writing the group.
    cached
        Share of the file that was in memory before it was read; None where the system does not say.
    """

    patches: int
    bytes: int
    bytes_as_patches: int
    whole_s: float
    one_by_one_s: float
    write_s: float
    cached: float | None

    @property
    def gain(self) -> float:
        """How many times faster it is to read the group at once."""
        return self.one_by_one_s / self.whole_s


@dataclass(frozen=True)
class Tuning:
    """What was measured on a file system.

    Attributes
    ----------
    directory, file_system
        Where.
    window_px
        Side of a window; a patch has twice that.
    readings
        By group size.
    start_s
        What a task takes before it scores: interpreter and imports, once.
    memory_bytes
        Memory that a group may take: a quarter of what the machine has for each core.
    recommended
        Patches in a group, N_p.
    reasons
        Why, and how it was measured, in sentences.
    """

    directory: Path
    file_system: str
    window_px: int
    readings: tuple[Reading, ...]
    start_s: float
    memory_bytes: int
    recommended: int
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values["directory"] = str(self.directory)
        for reading, row in zip(self.readings, values["readings"], strict=True):
            row["gain"] = reading.gain
        return values


def tune(
    directory: str | os.PathLike[str],
    *,
    window_px: int = 224,
    sizes: Sequence[int] = GROUP_SIZES,
    rounds: int = 3,
    memory_bytes: int | None = None,
    windows_per_s: float | None = None,
    stride_px: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Tuning:
    """Measure a directory's file system with groups of noise, which no disk can compress.

    Parameters
    ----------
    directory
        Any directory; a folder in it is made and removed.
    window_px
        Side of the model's window.
    sizes
        Group sizes, patches.
    rounds
        How often each is read.
    memory_bytes
        Memory that a group may take. Default: a quarter of this machine's memory a core.
    windows_per_s, stride_px
        Speed of a model and its stride, where task overhead is to be weighed against scoring.
    say
        Called with a sentence for each step.

    Raises
    ------
    SettingsError
        The directory does not exist, or a size is not positive.
    StorageError
        It cannot be written, or has too little space.
    """
    root = Path(directory)
    if not root.is_dir():
        raise SettingsError(f"There is no directory {root}: give one that exists.")
    if min(sizes) < 1 or rounds < 1:
        raise SettingsError("Group sizes and rounds are numbers from 1.")
    memory_bytes = memory_bytes or psutil.virtual_memory().total // (4 * (os.cpu_count() or 1))
    needed = 2 * max(sizes) * raw_patch_bytes(window_px)
    if shutil.disk_usage(root).free < 2 * needed:
        raise StorageError(
            f"{root} has too little space to be measured: {2 * needed / 2**20:.0f} MiB are needed."
        )
    readings = []
    with storage_errors(root):
        folder = Path(tempfile.mkdtemp(prefix=".hpc-heatmap-tune-", dir=root))
    try:
        for n in sorted(set(sizes)):
            say(f"Groups of {n} patches")
            readings.append(_read(folder, n, window_px, rounds))
            for file in folder.iterdir():
                file.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("Starting a task")
    start_s = _start_s()
    recommended, reasons = _recommend(
        readings, memory_bytes, start_s, windows_per_s, window_px, stride_px or window_px // 4
    )
    return Tuning(
        root, file_system(root), window_px, tuple(readings), start_s, memory_bytes, recommended,
        (*reasons, _honesty(readings)),
    )  # fmt: skip


def _read(folder: Path, n: int, window_px: int, rounds: int) -> Reading:
    cells = np.stack(np.divmod(np.arange(n), round(n**0.5)), axis=1).astype(np.int32) + 1
    half = window_px // 2
    header = GroupHeader(
        "noise", "noise", 10**6, 10**6, window_px, window_px + 2 * half, half, 1.0, 1.0,
        float("nan"), float("nan"), 1, n, n, "tiles",
    )  # fmt: skip
    rng = np.random.default_rng(n)
    group_file, single = folder / "group.h5", folder / "patches.h5"
    began = time.perf_counter()
    with write_groups(group_file, header) as add:
        pixels, _, index = add(0, cells).tiles()
        for start in range(0, len(index), 64):
            stop = min(start + 64, len(index))
            pixels[start:stop] = rng.integers(0, 256, (stop - start, half, half, 3), np.uint8)
    write_s = time.perf_counter() - began
    side = header.patch_px
    with h5py.File(single, "w", locking=False) as file:
        for k in range(n):
            file.create_dataset(f"{k:06d}", data=rng.integers(0, 256, (side, side, 3), np.uint8))
    whole, singly, cached = [], [], []
    for _ in range(rounds):
        drop_from_memory(group_file)
        cached.append(cached_share(group_file))
        began = time.perf_counter()
        with open_groups(group_file) as groups:
            group = groups.read(0)
            for k in range(n):
                group.patch(k)
        whole.append(time.perf_counter() - began)
        drop_from_memory(single)
        began = time.perf_counter()
        for k in range(n):
            # As a reader does that is asked for one patch: open, read, close.
            with h5py.File(single, "r", locking=False) as file:
                np.asarray(file[f"{k:06d}"])
        singly.append(time.perf_counter() - began)
    shares = [share for share in cached if share is not None]
    return Reading(
        n, group_file.stat().st_size, single.stat().st_size, statistics.median(whole),
        statistics.median(singly), write_s, max(shares) if shares else None,
    )  # fmt: skip


def _start_s() -> float:
    """Seconds from the start of an interpreter until a task could load its model."""
    began = time.perf_counter()
    program = "import hpc_heatmap.stages.task, hpc_heatmap.stages.scoring, torch"
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - began


def _recommend(
    readings: Sequence[Reading],
    memory_bytes: int,
    start_s: float,
    windows_per_s: float | None,
    window_px: int,
    stride_px: int,
) -> tuple[int, list[str]]:
    """The smallest size that reads about as fast as any, within the memory."""
    fitting = [r for r in readings if r.bytes <= memory_bytes] or [readings[0]]
    best_s = min(r.whole_s / r.patches for r in fitting)
    chosen = next(r for r in fitting if r.whole_s / r.patches <= 1.15 * best_s)
    reasons = [
        f"{chosen.patches} patches: the smallest group within "
        f"{memory_bytes / 2**20:.0f} MiB that reads within 15 % of the fastest, "
        f"{1000 * chosen.whole_s / chosen.patches:.2f} ms a patch."
    ]
    if windows_per_s:
        group_s = chosen.patches * (window_px / stride_px) ** 2 / windows_per_s
        needed_s = start_s / _OVERHEAD_SHARE
        reasons.append(
            f"At stride {stride_px} such a group takes {group_s:.0f} s to score. A task starts in "
            f"{start_s:.1f} s, so it should last {needed_s:.0f} s: --task-minutes "
            f"{max(1, round(needed_s / 60))} packs {max(1, round(needed_s / group_s))} a task."
        )
    return chosen.patches, reasons


def _honesty(readings: Sequence[Reading]) -> str:
    """How memory was kept out of the times, and how well."""
    shares = [r.cached for r in readings if r.cached is not None]
    if not shares:
        return (
            "This system does not say what it holds in memory: times may be of memory, not of the "
            "disk."
        )
    how = "Before each reading the system was asked to forget the file (posix_fadvise DONTNEED)"
    if max(shares) < 0.01:
        return f"{how}, and none of it was left in this machine's memory (mincore)."
    return (
        f"{how}; up to {100 * max(shares):.0f} % of it stayed in this machine's memory (mincore)."
    )


def file_system(path: Path) -> str:
    """Kind and source of the file system of a path."""
    found = ("unknown", "")
    longest = -1
    for part in psutil.disk_partitions(all=True):
        mount = Path(part.mountpoint)
        if path.resolve().is_relative_to(mount) and len(mount.parts) > longest:
            longest, found = len(mount.parts), (part.fstype, part.device)
    return f"{found[0]} ({found[1]})" if found[1] else found[0]
