"""Stitching a large heatmap against writing the same bytes."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
from harness import Bench, figure, interleaved

from hpc_heatmap.cells import tabulate_cells
from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.score_file import GroupScores, write_scores
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.stages.stitching import stitch
from hpc_heatmap.stages.task import peak_memory_bytes

#: 6,250 x 12,500 samples at stride 16.
GEOMETRY = Geometry(200_000, 100_000, 224, 16)
MEMORY_BYTES = 500e6


def _write_all_scores(folder: Path) -> None:
    """Score files of a slide that is all tissue, in groups of 64."""
    cells = np.ones((GEOMETRY.y.n_cells, GEOMETRY.x.n_cells))
    table = tabulate_cells(cells, 0.05, 64)
    rng = np.random.default_rng(0)
    rows, columns = GEOMETRY.block_shape
    folder.mkdir()
    for index in range(table.n_groups):
        members = table.cells[table.group == index]
        scores = rng.beta(0.3, 3, (len(members), rows, columns)).astype(np.float32)
        readable = np.ones(len(members), bool)
        write_scores(_path(folder, index), GroupScores(members, scores, readable))


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.h5"


def _stitch_alone(scores: Path, target: Path) -> tuple[float, int]:
    """Stitch; processor time, and the largest memory that the process had."""
    cells = np.ones((GEOMETRY.y.n_cells, GEOMETRY.x.n_cells))
    table = tabulate_cells(cells, 0.05, 64)
    started = time.process_time()
    stitch(target, GEOMETRY, table, lambda index: _path(scores, index), {})
    return time.process_time() - started, peak_memory_bytes()


@figure("stitch", goal=3, quick=True, at_most=True)
def stitch_large(bench: Bench) -> list[float]:
    """Processor time of stitching 6,250 x 12,500 with its pyramid against writing its samples."""
    scores, target = bench.folder / "scores", bench.folder / "heatmap.h5"
    _write_all_scores(scores, 1000 if bench.quick else 64)
    memory = []
    context = multiprocessing.get_context("spawn")

    def ours() -> float:
        with ProcessPoolExecutor(1, context) as process:
            cpu_s, memory_bytes = process.submit(_stitch_alone, scores, target).result()
        memory.append(memory_bytes)
        return cpu_s

    ours()
    with Heatmap(target) as heatmap:
        levels = [heatmap.dataset(level)[:] for level in range(heatmap.n_levels)]
    raw_bytes = sum(level.nbytes for level in levels)

    def writing() -> None:
        """The same samples as they are, from memory, into one HDF5 file."""
        with h5py.File(bench.folder / "raw.h5", "w") as file:
            for number, level in enumerate(levels):
                file.create_dataset(f"levels/{number}", data=level)

    ratios = [1 / r for r in interleaved(writing, ours, 2 if bench.quick else 7)]
    bench.say(f"{raw_bytes / 1e6:.0f} MB of samples, {target.stat().st_size / 1e6:.0f} MB stored")
    limit = f"{MEMORY_BYTES / 1e6:.0f} at most"
    bench.say(f"peak memory of the process {max(memory) / 1e6:.0f} MB, {limit}")
    if max(memory) > MEMORY_BYTES:
        bench.say("MISSED: the memory")
    return ratios
