"""What is paid before the first window is scored: commands, planning, and the start of each task.

    python benchmarks/start_up.py [--repeats 3]

With a network of GoogLeNet's size on a slide of one patch. Wall time of processes, interpreter
included; a task loads the model and scores one window. The user's cache is one of its own, so the
first plan pays for trials and the others do not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from googlenet import write_googlenet
from slides import _stained_texture, write_slide

#: Plans a run, and writes what its tasks need.
_PLAN = """
import sys
import hpc_heatmap
from hpc_heatmap.settings import RunSettings
settings = RunSettings(stride=int(sys.argv[4]), spacing=0.25, tissue_method="all")
hpc_heatmap.start_run([sys.argv[1]], sys.argv[2], sys.argv[3], settings=settings)
"""
#: Scores one window as a task does it, and says when each part was done.
_TASK = """
import time
from pathlib import Path
import sys
marks = [("interpreter", float(sys.argv[2]), time.time())]
def mark(name):
    marks.append((name, marks[-1][2], time.time()))
from hpc_heatmap.stages.task import load_run_classifier
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import read_run_file
mark("engine")
paths = RunPaths(Path(sys.argv[1]))
run = read_run_file(paths.run_file)
classifier = load_run_classifier(paths, run, 1)
mark("model loaded, its runtime or torch imported")
import numpy as np
patch = np.full((448, 448, 3), 200, np.uint8)
prepared = classifier.prepare(patch)
if classifier.shares(run.stride_px):
    next(classifier.shared_scores(prepared, [0], [0], run.stride_px, 32))
    mark("first window that shares, torch imported")
classifier.scores([classifier.cut(prepared, 0, 0)])
mark("first window by itself")
for name, start, end in marks:
    print(f"{name}|{end - start:.3f}")
"""


def _wall_s(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def _say(name: str, times: list[float]) -> None:
    print(f"{name:<56} {statistics.median(times):6.2f} s  ({min(times):.2f} to {max(times):.2f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    engine = str(Path(sys.executable).with_name("hpc-heatmap"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        tissue = _stained_texture(1)[:448, :448]
        slide = write_slide(
            folder / "s.tiff", lambda x, y, w, h, d: tissue[y : y + h, x : x + w],
            448, 448, downsamples=(1,),
        )  # fmt: skip
        model = write_googlenet(folder / "model")
        for stride in ("16", "224"):
            print(f"stride {stride}")
            plans = [
                _wall_s(sys.executable, "-c", _PLAN, str(slide), str(model),
                        str(folder / f"run-{stride}-{k}"), stride)
                for k in range(1 + repeats)
            ]  # fmt: skip
            _say("  planned, the first time", plans[:1])
            _say("  planned again", plans[1:])
            run = str(folder / f"run-{stride}-0")
            parts: dict[str, list[float]] = {}
            for _ in range(repeats):
                told = subprocess.run(
                    [sys.executable, "-c", _TASK, run, str(time.time())],
                    capture_output=True, text=True, check=True,
                ).stdout  # fmt: skip
                for line in told.splitlines():
                    part, took = line.split("|")
                    parts.setdefault(part, []).append(float(took))
            for part, took_s in parts.items():
                _say(f"  a task: {part}", took_s)
        for command in (["--help"], ["status", run]):
            _say(f"hpc-heatmap {command[0]}", [_wall_s(engine, *command) for _ in range(repeats)])


if __name__ == "__main__":
    main()
