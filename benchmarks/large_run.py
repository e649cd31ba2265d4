"""What looking at a run and going on with it costs when it has very many groups.

    python benchmarks/large_run.py [--groups 100000] [--slides 100] [--folder DIR]

One slide is grouped and scored for real, with a group for each tissue cell; its files, as the real
writers wrote them, stand in every other slide's folder too. Of the run so made, these are measured,
each in a process of its own: `status`, and `resume` where nothing is missing; then the same of the
run as it was while every slide was being scored, with a file for each group and a record for ten:
`status`, and `resume` until its first task is submitted; and the master's own time for a task.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import numpy as np
from slides import write_slide

from hpc_heatmap import FunctionClassifier, Run, RunSettings, start_run
from hpc_heatmap.formats.run_file import write_run_file
from hpc_heatmap.formats.score_file import open_scores, write_scores
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import read_records, write_record

WINDOW_PX = 8
_STATUS = "s = Run(sys.argv[1]).status(); found = s.state.value"
_RESUME = """
class Recorder(InProcessScheduler):
    light_tasks = False
    def submit(self, tasks):
        raise KeyboardInterrupt
try:
    run = Run(sys.argv[1])
    master = Master(run.paths, run.file, Recorder(), LaunchSettings(), lambda status: None)
    found = master.drive().state.value
except KeyboardInterrupt:
    found = f"submits, {len(master._queue)} tasks wait"
"""
#: Tasks of one group that are done at once: what is left is the master's own time.
_MASTER = """
from hpc_heatmap.stages.task import Stage
n = 0
class Instant(InProcessScheduler):
    slots = max_array = 1000
    light_tasks = False
    def submit(self, tasks):
        global n
        for task in tasks:
            n += 1
            files = run.paths.slide(task.slide_id)
            for group in task.groups:
                files.group_scores(group).touch()
            if task.stage is Stage.STITCHING:
                files.heatmap.touch()
                files.overview.touch()
        return [_DoneJob() for task in tasks]
run = Run(sys.argv[1])
launch = LaunchSettings(task_minutes=1e-9)
found = Master(run.paths, run.file, Instant(), launch, lambda status: None).drive().state.value
found = f"{n} tasks, {found}"
"""
_PROGRAM = """
import resource, sys, time
from hpc_heatmap.runs.run import Run
from hpc_heatmap.runs.master import Master
from hpc_heatmap.schedulers.in_process import InProcessScheduler, _DoneJob
from hpc_heatmap.settings import LaunchSettings
began, cpu = time.perf_counter(), time.process_time()
{body}
import json
print(json.dumps([found, time.perf_counter() - began, time.process_time() - cpu,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def build(folder: Path, n_slides: int, n_groups: int) -> Run:
    """A finished run of `n_slides` slides with about `n_groups` groups in all."""
    side = max(3 * WINDOW_PX, WINDOW_PX * round((n_groups / n_slides) ** 0.5))

    def tissue(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        return np.full((h, w, 3), (200, 90, 160), np.uint8)

    slide = write_slide(folder / "slide.tiff", tissue, side, side, downsamples=(1,))
    model = FunctionClassifier(lambda windows: np.zeros(len(windows)), WINDOW_PX)
    settings = RunSettings(stride=WINDOW_PX, patches_per_group=1, tissue_method="all")
    run = start_run([slide], model, folder / "RUN", settings=settings)
    fsync, os.fsync = os.fsync, lambda number: None
    try:
        run.resume(model=model)
    finally:
        os.fsync = fsync
    first = run.file.slides[0]
    entries = [first.model_copy(update={"id": f"slide-{k:05d}"}) for k in range(n_slides)]
    for entry in entries:
        shutil.copytree(run.paths.slide(first.id).root, run.paths.slide(entry.id).root)
        shutil.copyfile(run.paths.slide_tasks(first.id), run.paths.slide_tasks(entry.id))
    shutil.rmtree(run.paths.slide(first.id).root)
    write_run_file(run.paths.run_file, run.file.model_copy(update={"slides": tuple(entries)}))
    return Run(run.root)


def back_to_scoring(run: Run) -> None:
    """The run before ten groups of each slide were scored."""
    first, *others = [run.paths.slide(entry.id) for entry in run.file.slides]
    with open_scores(first.slide_scores) as scores:
        for group in range(10, read_summary(first.summary).n_groups):
            write_scores(first.group_scores(group), scores.group(group))
    for files in (first, *others):
        if files is not first:
            shutil.copytree(first.scores, files.scores)
        for file in (files.slide_scores, files.heatmap, files.overview):
            file.unlink()
    record = replace(read_records(run.paths)[-1], stage="scoring")
    for entry in run.file.slides:
        run.paths.slide_tasks(entry.id).unlink()
        for k in range(len(list(first.scores.iterdir())) // 10):
            write_record(run.paths, f"{entry.id}-scoring-{k:08x}", record)


def measured(name: str, body: str, root: Path) -> None:
    """Run a piece of program and print what it took."""
    program = _PROGRAM.format(body=body)
    said = subprocess.run(
        [sys.executable, "-c", program, str(root)], capture_output=True, text=True, check=True
    )
    found, wall_s, cpu_s, peak_mib = json.loads(said.stdout)
    print(f"  {name}: {wall_s:.2f} s ({cpu_s:.2f} s processor), {peak_mib:.0f} MiB; {found}")


def main() -> None:
    """Build, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the run is made, and removed again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        began = time.perf_counter()
        run = build(Path(temporary), options.slides, options.groups)
        slides = run.file.slides
        groups = sum(read_summary(run.paths.slide(s.id).summary).n_groups for s in slides)
        print(f"{groups:,} groups, {len(slides)} slides; built in "
              f"{time.perf_counter() - began:.0f} s")  # fmt: skip
        print(f"finished, {n_files(run):,} files")
        measured("status", _STATUS, run.root)
        measured("resume, nothing missing", _RESUME, run.root)
        command(run)
        fsync, os.fsync = os.fsync, lambda number: None
        back_to_scoring(run)
        os.fsync = fsync
        print(f"being scored, {n_files(run):,} files")
        measured("status", _STATUS, run.root)
        measured("resume, 10 groups of each slide missing", _RESUME, run.root)
        command(run)
        for entry in slides:
            for group in range(100):
                run.paths.slide(entry.id).group_scores(group).unlink(missing_ok=True)
        measured("the master, 100 tasks of each slide that take no time", _MASTER, run.root)


def n_files(run: Run) -> int:
    """Files in the run directory."""
    return sum(len(names) for _, _, names in os.walk(run.root))


def command(run: Run) -> None:
    """Time the whole command, the start of the interpreter included."""
    words = [sys.executable, "-m", "hpc_heatmap", "status", str(run.root), "--json"]
    began = time.perf_counter()
    subprocess.run(words, capture_output=True, check=True)
    print(f"  the command status --json: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
