"""Grouping a tiled JPEG slide against reading and storing it as the paper does."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import openslide
from harness import Bench, figure, interleaved

from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.settings import RunSettings
from hpc_heatmap.stages.grouping import GroupingInput, group_slide

WINDOW_PX = 224
PATCH_PX = 448


def _group(slide: Path, folder: Path) -> SlidePaths:
    """The whole task, with the default settings: tissue, cells, groups, lookup table, picture."""
    paths = SlidePaths(folder)
    settings = RunSettings()
    group_slide(GroupingInput("slide", str(slide), WINDOW_PX, 16, None, settings), paths)
    return paths


def _grouped(bench: Bench) -> SlidePaths:
    """The groups of the slide, made once for all figures."""
    slide = bench.slide()
    return SlidePaths(bench.once(f"groups of {slide.stem}", partial(_group, slide)))


def _cells(paths: SlidePaths) -> list[np.ndarray]:
    with open_groups(paths.groups) as groups:
        return [groups.cells(index) for index in range(groups.header.n_groups)]


def _papers_patches(slide: Path, cells: np.ndarray) -> np.ndarray:
    """Patches of some cells, each by a call of OpenSlide; white outside of the slide."""
    patches = np.empty((len(cells), PATCH_PX, PATCH_PX, 3), np.uint8)
    with openslide.OpenSlide(slide) as handle:
        for patch, (row, column) in zip(patches, cells.tolist(), strict=True):
            corner = (column * WINDOW_PX - WINDOW_PX // 2, row * WINDOW_PX - WINDOW_PX // 2)
            image = handle.read_region(corner, 0, (PATCH_PX, PATCH_PX))
            patch[:] = np.asarray(image)[..., :3]
    return patches


@figure("grouping_cpu", goal=8, quick_s=7)
def grouping_cpu(bench: Bench) -> list[float]:
    """Processor time of the whole grouping task against OpenSlide's reading patch by patch."""
    slide = bench.slide()
    cells = np.concatenate(_cells(_grouped(bench)))
    # Neighbours in runs of 32, from all over the tissue, in the order of the groups.
    sample = np.concatenate([cells[start : start + 32] for start in range(0, len(cells), 256)])

    def papers_way() -> float:
        """Processor time a patch."""
        started = time.process_time()
        _papers_patches(slide, sample)
        return (time.process_time() - started) / len(sample)

    def ours() -> float:
        started = time.process_time()
        _group(slide, bench.folder / "groups")
        return (time.process_time() - started) / len(cells)

    bench.say(f"{len(cells)} patches; the paper's way on {len(sample)} of them")
    return interleaved(papers_way, ours, 2 if bench.quick else 9)


@figure("stored_bytes", goal=0.06, quick_s=3, at_most=True)
def stored_bytes(bench: Bench) -> list[float]:
    """Bytes of a slide's groups against whole patches, not compressed, in HDF5."""
    paths = _grouped(bench)
    groups = _cells(paths)
    papers = bench.folder / "papers.h5"
    with h5py.File(papers, "w") as file:
        # Zeros take as many bytes as pixels.
        for index, cells in enumerate(groups):
            shape = (len(cells), PATCH_PX, PATCH_PX, 3)
            file.create_dataset(f"{index}/patches", data=np.zeros(shape, np.uint8))
    with open_groups(paths.groups) as opened:
        bench.say(f"layout {opened.header.layout}, {paths.groups.stat().st_size / 1e6:.1f} MB")
    return [paths.groups.stat().st_size / papers.stat().st_size]
