"""Stitching a large heatmap against writing the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
from harness import Bench, figure, interleaved

from hpc_heatmap.cells import CellTable, tabulate_cells
from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.formats.score_file import (
    GroupScores,
    open_scores,
    pack_scores,
    remove_packed,
    write_scores,
)
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.stages.stitching import stitch
from hpc_heatmap.stages.task import peak_memory_bytes

#: 6,250 x 12,500 samples at stride 16.
GEOMETRY = Geometry(200_000, 100_000, 224, 16)
MEMORY_BYTES = 500e6


def _table(n_p: int) -> CellTable:
    """A slide that is all tissue, in groups of `n_p`."""
    return tabulate_cells(np.ones((GEOMETRY.y.n_cells, GEOMETRY.x.n_cells)), 0.05, n_p)


def _write_all_scores(files: SlidePaths, table: CellTable) -> None:
    """Score files of all groups."""
    rng = np.random.default_rng(0)
    rows, columns = GEOMETRY.block_shape
    largest = np.bincount(table.group[table.tissue]).max()
    drawn = rng.beta(0.3, 3, (largest, rows, columns)).astype(np.float32)
    for index in range(table.n_groups):
        members = table.cells[table.group == index]
        scores = rng.permutation(drawn)[: len(members)]
        readable = np.ones(len(members), bool)
        write_scores(files.group_scores(index), GroupScores(members, scores, readable))


def _stitch_alone(files: SlidePaths) -> tuple[float, float, int]:
    """Stitch; wall and processor time, and the largest memory that the process had."""
    cpu, wall = time.process_time(), time.perf_counter()
    with open_scores(files.slide_scores) as scores:
        stitch(files.heatmap, GEOMETRY, scores, {})
    return time.perf_counter() - wall, time.process_time() - cpu, peak_memory_bytes()


@figure("stitch", goal=3, quick_s=7, alone=True, at_most=True)
def stitch_large(bench: Bench) -> list[float]:
    """Wall time of stitching 6,250 x 12,500 with its pyramid against writing the same samples.

    Both are measured until the bytes are on the disk (fsync). The samples are written without
    compression, all levels, from memory into one HDF5 file. The scores are noise, of which nothing
    can be compressed away but their exponents. They are stitched from the slide's one file, as in a
    run; making it of the groups' files comes before, and what that takes is said.
    """
    files, raw = SlidePaths(bench.folder), bench.folder / "raw.h5"
    table = _table(1024 if bench.quick else 64)
    _write_all_scores(files, table)
    wall = time.perf_counter()
    pack_scores(files, table.n_groups, table.n_patches)
    packing = time.perf_counter() - wall
    remove_packed(files)
    found: list[tuple[float, float, int]] = []
    levels: list[np.ndarray] = []
    cpu = []
    context = multiprocessing.get_context("spawn")

    def ours() -> float:
        with ProcessPoolExecutor(1, context) as process:
            found.append(process.submit(_stitch_alone, files).result())
        return found[-1][0]

    def writing() -> float:
        if not levels:
            with Heatmap(files.heatmap) as heatmap:
                levels.extend(heatmap.dataset(level)[:] for level in range(heatmap.n_levels))
        cpu_before, wall = time.process_time(), time.perf_counter()
        with h5py.File(raw, "w") as file:
            for number, level in enumerate(levels):
                file.create_dataset(f"levels/{number}", data=level)
        with raw.open("rb+") as file:
            os.fsync(file.fileno())
        cpu.append(time.process_time() - cpu_before)
        return time.perf_counter() - wall

    ratios = interleaved(ours, writing, 1 if bench.quick else 7)
    peak_bytes = max(memory for _, _, memory in found)
    cpu_ratio = statistics.median(c for _, c, _ in found) / statistics.median(cpu)
    raw_bytes = sum(level.nbytes for level in levels)
    bench.say(
        f"{raw_bytes / 1e6:.0f} MB of samples, {files.heatmap.stat().st_size / 1e6:.0f} MB stored"
    )
    bench.say(f"{packing:.1f} s before for one file of {table.n_groups} groups' scores")
    bench.say(f"processor time: {cpu_ratio:.1f} times that of writing")
    limit = "" if peak_bytes <= MEMORY_BYTES else " MISSED"
    bench.say(f"peak memory {peak_bytes / 1e6:.0f} MB, {MEMORY_BYTES / 1e6:.0f} at most{limit}")
    return ratios
