"""Scoring at stride 16 with a network of GoogLeNet's size, against the paper's way on one core.

The paper's way: torch eager, float32, plane by plane, each window normalised by itself, in batches
of 14 (a row of a patch). Weights are random. What the demo's trained classifier and GoogLeNet lose
in accuracy is printed beside each ratio, on windows of generated tissue (when quick, GoogLeNet's
alone).
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from googlenet import googlenet, shared_googlenet
from harness import Bench, UnavailableError, figure, interleaved
from slides import _stained_texture, write_slide

import hpc_heatmap
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.model import (
    FunctionClassifier,
    NetworkClassifier,
    Trial,
    choose_execution,
    load_classifier,
    program_copy,
    read_descriptor,
)
from hpc_heatmap.settings import RunSettings
from hpc_heatmap.stages.adaptive import Refinement, score_adaptively
from hpc_heatmap.stages.grouping import GroupingInput, group_slide

STRIDE_PX, WINDOW_PX = 16, 224
OFFSETS = list(range(0, WINDOW_PX, STRIDE_PX))
#: Default length of a scoring task.
TASK_S = 120.0
#: Which cells are refined is decided on pixels so many times larger: slide, window and strides.
_SMALLER = 4


def _patch(side_px: int) -> np.ndarray:
    """A square of generated tissue."""
    texture = _stained_texture(1)
    rows = np.arange(side_px) % len(texture)
    return np.ascontiguousarray(texture[rows[:, None], rows[None]])


@functools.cache
def _plain(model: Path) -> NetworkClassifier:
    """A model as its library runs it."""
    return load_classifier(model, read_descriptor(model.with_suffix(".json")), channels_last=True)


@functools.cache
def _chosen(
    model: Path, stride_px: int, tolerance: float | None, folder: Path
) -> NetworkClassifier:
    """A model as a run at a stride does it, with what was chosen as its attribute."""
    fed = read_descriptor(model.with_suffix(".json"))
    patches = [_patch(2 * fed.patch_size_pixels)]
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    trial = Trial(model, sha256, stride_px, 32, patches, tolerance)
    execution = choose_execution(_plain(model), trial)
    # Exact and rough ways may be made side by side: each has a file of its own.
    program = folder / f"{sha256} {tolerance}.program"
    if execution.backend == "program":
        program.write_bytes(program_copy(model, sha256, fed))
    made = load_classifier(model, fed, execution=execution, program=program, tolerance=tolerance)
    made.execution = execution
    return made


@dataclass
class _PapersWay:
    """The plain loop over windows, batch by batch."""

    network: torch.nn.Module
    patch: np.ndarray

    def __call__(self, rows: int) -> float:
        """Processor time of a window, over some rows of a patch."""
        mean = np.array([0.485, 0.456, 0.406], np.float32)
        std = np.array([0.229, 0.224, 0.225], np.float32)
        started = time.process_time()
        for top in OFFSETS[:rows]:
            batch = []
            for left in OFFSETS:
                window = self.patch[top : top + WINDOW_PX, left : left + WINDOW_PX]
                scaled = (window.astype(np.float32) / 255 - mean) / std
                batch.append(np.ascontiguousarray(scaled.transpose(2, 0, 1)))
            with torch.inference_mode():
                torch.softmax(self.network(torch.from_numpy(np.stack(batch))), 1)
        return (time.process_time() - started) / (rows * len(OFFSETS))


def _window_s(classifier: NetworkClassifier, patch: np.ndarray) -> float:
    """Processor time of a window, over all windows of a patch."""
    started = time.process_time()
    prepared = classifier.prepare(patch)
    if classifier.shares(STRIDE_PX):
        list(classifier.patch_scores(prepared, OFFSETS, OFFSETS, STRIDE_PX, 32))
        return (time.process_time() - started) / len(OFFSETS) ** 2
    for top in OFFSETS[:4]:
        classifier.scores([classifier.cut(prepared, top, left) for left in OFFSETS])
    return (time.process_time() - started) / (4 * len(OFFSETS))


def _stride16(bench: Bench, tolerance: float | None) -> list[float]:
    torch.set_num_threads(1)
    patch = _patch(2 * WINDOW_PX)
    ours = _chosen(shared_googlenet(bench), STRIDE_PX, tolerance, bench.shared)
    papers = _PapersWay(googlenet(), patch)
    repeats, rows = (2, 1) if bench.quick else (7, 14)
    ratios = interleaved(lambda: papers(rows), lambda: _window_s(ours, patch), repeats)
    _say(bench, "GoogLeNet, random weights", ours)
    if not bench.quick:
        demo = Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"
        trained = _chosen(demo, 8, tolerance, bench.shared)
        _say(bench, "the demo's trained classifier, stride 8", trained)
    return ratios


def _say(bench: Bench, name: str, classifier: NetworkClassifier) -> None:
    execution = classifier.execution
    difference = execution.difference if execution.difference is not None else float("nan")
    bench.say(
        f"{name}: {execution.reason} Largest difference of a probability {difference:.1e} on "
        f"{execution.compared_windows} windows."
    )


@figure("stride16_exact", goal=6, quick_s=22)
def stride16_exact(bench: Bench) -> list[float]:
    """Stride 16, exact to 1e-5, against the paper's way: processor time of a window."""
    return _stride16(bench, None)


@figure("stride16_tolerance", goal=15, quick_s=23)
def stride16_tolerance(bench: Bench) -> list[float]:
    """Stride 16 with --tolerance 0.02 against the paper's way: processor time of a window."""
    return _stride16(bench, 0.02)


def _lesion_slide(folder: Path, n_cells: int) -> SlidePaths:
    """All tissue with one round lesion on 5% of it, grouped, at a quarter of the size."""
    side_px = n_cells * WINDOW_PX // _SMALLER
    texture, radius = _stained_texture(_SMALLER), side_px * np.sqrt(0.05 / np.pi)

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        rows, columns = (y + np.arange(h)) % len(texture), (x + np.arange(w)) % len(texture)
        pixels = texture[rows[:, None], columns[None]].copy()
        away = np.hypot(
            (x + np.arange(w))[None] - side_px / 2, (y + np.arange(h))[:, None] - side_px / 2
        )
        pixels[away <= radius] = pixels[away <= radius] // 2
        return pixels

    slide = write_slide(folder / "s.tiff", pixels_at, side_px, side_px, downsamples=(1,))
    paths = SlidePaths(folder / "groups")
    settings = RunSettings(tissue_method="all", patches_per_group=n_cells**2)
    window_px, stride_px = WINDOW_PX // _SMALLER, STRIDE_PX // _SMALLER
    group_slide(GroupingInput("s", str(slide), window_px, stride_px, None, settings), paths)
    return paths


def _darkness(windows: np.ndarray) -> np.ndarray:
    """High where the middle half of a window is as dark as the drawn lesion."""
    quarter = windows.shape[1] // 4
    middle = windows[:, quarter:-quarter, quarter:-quarter].mean(axis=(1, 2, 3))
    return np.clip((150 - middle) / 60, 0, 1)


def _refined_share(folder: Path, n_cells: int, settings: RunSettings, coarse_px: int) -> float:
    """Share of the cells of the drawn slide that are refined, by their darkness."""
    threshold = settings.threshold
    wanted = Refinement(coarse_px // _SMALLER, threshold, threshold - settings.adaptive_margin)
    with open_groups(_lesion_slide(folder, n_cells).groups) as groups:
        members, geometry = groups.read(0), groups.header.geometry(STRIDE_PX // _SMALLER)
    darkness = FunctionClassifier(_darkness, WINDOW_PX // _SMALLER)
    found, _ = score_adaptively(members, geometry, wanted, darkness)
    return float(found.refined.mean())


def _coarse_cell_s(network: NetworkClassifier, patch: np.ndarray, coarse_px: int) -> float:
    """Processor time of a cell's windows at the coarse stride, which fill batches."""
    started, cells, at = time.process_time(), 8, range(0, WINDOW_PX, coarse_px)
    windows = []
    for _ in range(cells):
        prepared = network.prepare(patch)
        windows += [network.cut(prepared, top, left) for top in at for left in at]
    network.scores(windows)
    return (time.process_time() - started) / cells


@figure("stride16_adaptive", goal=8, quick_s=5)
def stride16_adaptive(bench: Bench) -> list[float]:
    """Adaptive stride on a slide with 5% lesion area against full stride 16: processor time."""
    torch.set_num_threads(1)
    n_cells = 40 if bench.quick else 80
    settings = RunSettings(stride=STRIDE_PX, adaptive=True)
    coarse_px = settings.coarse_stride_px(STRIDE_PX, WINDOW_PX)
    assert coarse_px is not None
    refined = _refined_share(bench.folder, n_cells, settings, coarse_px)
    network = _chosen(shared_googlenet(bench), STRIDE_PX, None, bench.shared)
    patch, ratios = _patch(2 * WINDOW_PX), []
    for _ in range(1 if bench.quick else 5):
        full_s = _window_s(network, patch) * len(OFFSETS) ** 2
        ratios.append(full_s / (_coarse_cell_s(network, patch, coarse_px) + refined * full_s))
    bench.say(
        f"{refined:.1%} of {n_cells**2} cells are refined around a round lesion on 5% of them, by "
        "a function that sees nothing elsewhere; times are GoogLeNet's, coarse stride "
        f"{coarse_px}"
    )
    return ratios


#: A task without a group, which loads the model, and one with a group after it.
_TASKS = """
import sys
from hpc_heatmap.stages.task import Stage, Task, load_run_classifier, perform

loaded = []

def load(*asked):
    loaded.append(load_run_classifier(*asked))
    return loaded[0]

perform(Task(sys.argv[1], Stage.SCORING, "s"), load=load)
perform(Task(sys.argv[1], Stage.SCORING, "s", (0,)), loaded[0])
"""


@figure("model_share", goal=0.97, quick_s=9)
def model_share(bench: Bench) -> list[float]:
    """Time in the model / wall time of a prediction task of two minutes, its process included."""
    from hpc_heatmap.formats.task_files import read_failures, read_records
    from hpc_heatmap.stages.task import Stage, Task, perform

    paths_of = bench.folder / "slide"
    paths_of.mkdir()
    tissue = _patch(2 * WINDOW_PX)
    slide = write_slide(
        paths_of / "s.tiff", lambda x, y, w, h, d: tissue[y : y + h, x : x + w],
        2 * WINDOW_PX, 2 * WINDOW_PX, downsamples=(1,),
    )  # fmt: skip
    settings = RunSettings(stride=STRIDE_PX, tissue_method="all", patches_per_group=1, spacing=0.25)
    model = shared_googlenet(bench)
    run = hpc_heatmap.start_run([slide], model, bench.folder / "run", settings=settings)
    perform(Task(str(run.root), Stage.GROUPING, "s"))
    shares = []
    for _ in range(1 if bench.quick else 5):
        run.slides["s"].files.group_scores(0).unlink(missing_ok=True)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", _TASKS, str(run.root)], check=True)
        took_s = time.perf_counter() - started
        if failures := read_failures(run.paths):
            raise UnavailableError(failures[0].reason)
        scored = max(read_records(run.paths), key=lambda record: record.started_at)
        start_s = took_s - scored.wall_s
        beside = scored.wall_s / scored.model_s
        shares.append((TASK_S - start_s) / beside / TASK_S)
    bench.say(
        f"{start_s:.1f} s to start a process and load the model, {beside - 1:.1%} beside the "
        f"model afterwards, from a task of {scored.windows} windows; a task lasts {TASK_S:g} s"
    )
    return shares
