"""Runs for tests: small slides and models, results as bytes, processes that can be killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
from models import Tiny, save_onnx, write_descriptor
from slides import Compression, landmark_slide

from hpc_heatmap import FunctionClassifier, Run, RunSettings, start_run
from hpc_heatmap.formats.atomic import PARTIAL_SUFFIX
from hpc_heatmap.formats.paths import RunPaths, SlidePaths
from hpc_heatmap.formats.score_file import GroupScores, open_scores, read_scores, write_scores

WINDOW_PX = 32
WORKER_MODULES = {"submitit.local._local", "submitit.core._submit"}


def make_slide(
    path: Path, width_px: int = 420, height_px: int = 360, compression: Compression = "zlib"
) -> Path:
    """Write a slide of tissue with a dark disc and glass around."""
    return landmark_slide(
        path, width_px, height_px, (180, 150), 50, glass_px=(64, 64, 64, 64), downsamples=(1, 4),
        compression=compression,
    )  # fmt: skip


def make_model(folder: Path) -> Path:
    """Write model.onnx and its descriptor."""
    write_descriptor(folder / "model.json", patch_size_pixels=WINDOW_PX)
    return save_onnx(folder / "model.onnx", Tiny())


def darkness(windows: Any) -> Any:
    """Score a window by its mean: 1 where it is black."""
    return 1 - windows.mean(axis=(1, 2, 3)) / 255


def function_run(slides: list[Path], out: Path, **settings: Any) -> Run:
    """Plan a run whose model is `darkness`."""
    chosen = {"stride": 8, "patches_per_group": 16, "threshold": 0.7} | settings
    model = FunctionClassifier(darkness, WINDOW_PX)
    return start_run(slides, model, out, settings=RunSettings(**chosen))


def finish(run: Run) -> Any:
    """Do what is missing in this process."""
    return run.resume(model=FunctionClassifier(darkness, WINDOW_PX))


# Results as values


def dataset_bytes(path: Path) -> dict[str, tuple[Any, ...]]:
    """All datasets of an HDF5 file: shape, type and bytes."""
    found: dict[str, tuple[Any, ...]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values = np.asarray(item)
            digest = hashlib.sha256(values.tobytes()).hexdigest()
            found[name] = (values.shape, values.dtype.str, digest)

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(visit)
    assert found
    return found


def results(paths: RunPaths, *, pixels: bool = False) -> dict[str, Any]:
    """All results of a run by name, as values that can be compared.

    Scores are by group, whatever file they are in.
    """
    found: dict[str, Any] = {}
    for file in sorted((paths.root / "slides").rglob("*")):
        if not file.is_file() or (file.name == "groups.h5" and not pixels):
            continue
        if file.name == "scores.h5":
            with open_scores(file) as scores:
                for group in range(n_groups_of(SlidePaths(file.parent))):
                    found[_name_of_scores(file.parent, group)] = _digests(scores.group(group))
            continue
        if file.parent.name == "scores":
            name = _name_of_scores(file.parents[1], int(file.stem))
            found[name] = _digests(read_scores(file))
            continue
        name = str(file.relative_to(paths.root))
        found[name] = dataset_bytes(file) if file.suffix == ".h5" else file.read_bytes()
    if paths.lookup_csv.exists():
        found[paths.lookup_csv.name] = paths.lookup_csv.read_bytes()
    return found


def _name_of_scores(slide: Path, group: int) -> str:
    return f"slides/{slide.name}/scores of group {group}"


def _digests(scores: GroupScores) -> list[Any]:
    return [v.tobytes() if isinstance(v, np.ndarray) else v for v in vars(scores).values()]


def score_stamps(paths: RunPaths) -> dict[Path, tuple[int, int]]:
    """Identity of every score file: it changes when the file is written anew."""
    stamps = {}
    slides = paths.root / "slides"
    for file in (*slides.glob("*/scores/*.h5"), *slides.glob("*/scores.h5")):
        stat = file.stat()
        stamps[file] = (stat.st_ino, stat.st_mtime_ns)
    return stamps


def scored_groups(paths: RunPaths) -> set[tuple[str, int]]:
    """Slide and number of every group that is scored, whatever file it is in."""
    found = set()
    for folder in (paths.root / "slides").iterdir():
        files = SlidePaths(folder)
        if files.slide_scores.exists():
            found |= {(folder.name, group) for group in range(n_groups_of(files))}
        else:
            found |= {(folder.name, int(file.stem)) for file in files.scores.glob("*.h5")}
    return found


def unpack_scores(files: SlidePaths, into: Path | None = None) -> list[Path]:
    """Give each group a score file, as before the slide was stitched: in `into`, or in its place,
    where the one file is deleted then.
    """
    target = SlidePaths(into) if into else files
    found = [target.group_scores(group) for group in range(n_groups_of(files))]
    with open_scores(files.slide_scores) as scores:
        for group, path in enumerate(found):
            write_scores(path, scores.group(group))
    if into is None:
        files.slide_scores.unlink()
    return found


def drafts(root: Path) -> list[Path]:
    """Files that are not complete."""
    return [p for p in root.rglob("*") if p.name.endswith(PARTIAL_SUFFIX) or "draft" in p.name]


def phase(paths: RunPaths, slide_id: str) -> str:
    """What a run is at, seen from its files."""
    files: SlidePaths = paths.slide(slide_id)
    if not paths.run_file.exists():
        return "planning"
    if not files.summary.exists():
        return "grouping"
    if not files.heatmap.exists():
        n_scores = len(list(files.scores.glob("[0-9]*.h5")))
        return "scoring" if n_scores < n_groups_of(files) else "stitching"
    return "stitching" if not files.overview.exists() else "ending"


def n_groups_of(files: SlidePaths) -> int:
    from hpc_heatmap.formats.slide_summary import read_summary

    return read_summary(files.summary).n_groups


# Processes


def command(*arguments: object) -> subprocess.Popen[str]:
    """Start `hpc-heatmap` in a session of its own; it hears ctrl-C even where the tests do not."""
    return subprocess.Popen(
        [sys.executable, "-m", "hpc_heatmap", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end_of(process: subprocess.Popen[str], timeout_s: float = 60) -> tuple[int, str]:
    """Exit code and stderr of a process."""
    _, errors = process.communicate(timeout=timeout_s)
    return process.returncode, errors


def workers_of(root: Path) -> list[psutil.Process]:
    """Living controllers and workers of a run."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if WORKER_MODULES.intersection(line) and Path(line[-1]).is_relative_to(root / "jobs"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def wait_until(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    """Wait until something holds, and give it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} did not hold within {timeout_s} s"
        time.sleep(0.01)
    return found


def dead_pid() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def my_pid() -> int:
    return os.getpid()
