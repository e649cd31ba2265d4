"""Two scoring processes on two cores against one."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from harness import Bench, UnavailableError, figure
from slides import _stained_texture, write_slide

import hpc_heatmap
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import read_run_file
from hpc_heatmap.formats.task_files import read_failures
from hpc_heatmap.model import read_descriptor
from hpc_heatmap.processes import usable_cores
from hpc_heatmap.stages.task import Stage, Task, load_run_classifier, perform

MODEL = Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"
WINDOW_PX, STRIDE_PX = 96, 16


def _worker(root: str, group: int, pipe: Connection) -> None:
    """Score a group each time that it is asked for, and say how long the whole task took."""
    paths = RunPaths(Path(root))
    run = read_run_file(paths.run_file)
    slide = run.slides[0].id
    classifier = load_run_classifier(paths, run, 1)
    target = paths.slide(slide).group_scores(group)
    while pipe.recv() == "score":
        target.unlink(missing_ok=True)
        started = time.perf_counter()
        perform(Task(root, Stage.SCORING, slide, (group,)), classifier)
        pipe.send(time.perf_counter() - started)


def _longest_s(pipes: list[Connection]) -> float:
    """Let some workers score at once; wall time of the one that took longest."""
    for pipe in pipes:
        pipe.send("score")
    return max(pipe.recv() for pipe in pipes)


def _plan(bench: Bench) -> hpc_heatmap.Run:
    """A run of the demo's classifier over two groups of equal work, grouped."""
    texture = _stained_texture(1)

    def tissue(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        rows, columns = (y + np.arange(h)) % len(texture), (x + np.arange(w)) % len(texture)
        return texture[rows[:, None], columns[None]]

    n_cells = 8 if bench.quick else 64
    width_px, height_px = WINDOW_PX * n_cells, WINDOW_PX * 2
    spacing_um = read_descriptor(MODEL.with_suffix(".json")).spacing_um_px
    slide = write_slide(
        bench.folder / "s.tiff", tissue, width_px, height_px, downsamples=(1,),
        spacing_um=spacing_um,
    )  # fmt: skip
    settings = hpc_heatmap.RunSettings(
        stride=STRIDE_PX, tissue_method="all", patches_per_group=n_cells
    )
    run = hpc_heatmap.start_run([slide], MODEL, bench.folder / "run", settings=settings)
    perform(Task(str(run.root), Stage.GROUPING, "s"))
    return run


@figure("two_processes", goal=1.9, quick_s=6, alone=True)
def two_processes(bench: Bench) -> list[float]:
    """Windows a second of two scoring processes, one thread each, against one (wall time)."""
    if usable_cores() < 2:
        raise UnavailableError("this process may use one core alone")
    run = _plan(bench)
    context = multiprocessing.get_context("spawn")
    workers, pipes = [], []
    for group in range(2):
        ours, theirs = context.Pipe()
        workers.append(context.Process(target=_worker, args=(str(run.root), group, theirs)))
        pipes.append(ours)
        workers[-1].start()
    _longest_s(pipes)
    ratios = []
    for number in range(7 if bench.quick else 9):
        alone = _longest_s(pipes[number % 2 :][:1])
        ratios.append(2 * alone / _longest_s(pipes))
    for pipe in pipes:
        pipe.send("end")
    for worker in workers:
        worker.join()
    if failures := read_failures(run.paths):
        raise UnavailableError(failures[0].reason)
    bench.say("other work on the machine lowers it: it needs two cores that are idle")
    return ratios
