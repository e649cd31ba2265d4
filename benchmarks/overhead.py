"""What the engine and the scheduler cost beside the model, on a real Slurm.

    python benchmarks/overhead.py [--slides 2] [--cells 11] [--task-minutes 1] [--keep RUN]

Slides of nothing but tissue (`--cells` x `--cells` windows of 224 px) are scored with a network of
GoogLeNet's size at stride 32. Give it a cluster with as many slots as the machine has cores, or
`--throttle`; tasks that share a core say nothing. A line in each job's script writes the time at
which the scheduler started it, so that starting the interpreter and the imports, which come before
a task's own clock, are counted too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import numpy as np
from googlenet import write_googlenet
from slides import _stained_texture, write_slide

import hpc_heatmap
from hpc_heatmap.formats.task_files import TaskRecord, read_records
from hpc_heatmap.runs.report import report_run
from hpc_heatmap.runs.report.rows import CombinedRow, columns
from hpc_heatmap.runs.report.values import shown
from hpc_heatmap.runs.status import State
from hpc_heatmap.schedulers.cluster import ClusterJob

#: Parts of a scoring task, in a process of their own on the run's first group. Processor time:
#: where others share the cores, wall time says more of them than of us.
_PARTS = """
import json, sys, time
clock = time.process_time
marks = [("", clock())]
def mark(name):
    marks.append((name, clock()))
from pathlib import Path
import hpc_heatmap.schedulers.cluster
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import read_run_file
from hpc_heatmap.formats.score_file import write_scores
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.stages.scoring import score_group
from hpc_heatmap.stages.task import load_run_classifier
mark("imports of the engine")
import torch
mark("import of torch")
paths = RunPaths(Path(sys.argv[1]))
run = read_run_file(paths.run_file)
classifier = load_run_classifier(paths, run, 1)
mark("the model from its file")
with open_groups(paths.slide(run.slides[0].id).groups) as groups:
    geometry = groups.header.geometry(run.stride_px)
    group = groups.read(0)
mark("reading a group")
for number in range(len(group.cells)):
    group.patch(number)
mark("putting patches together")
patch = group.patch(0)
for number in range(len(group.cells)):
    classifier.prepare(patch)
mark("normalising patches")
began = clock()
scores, work = score_group(group, geometry, classifier, run.settings.batch_size)
marks.append(("scoring, the model and its batches", marks[-1][1] + clock() - began))
began = clock()
write_scores(Path(sys.argv[1]) / "benchmark.h5", scores)
marks.append(("writing the scores", marks[-1][1] + clock() - began))
(Path(sys.argv[1]) / "benchmark.h5").unlink()
parts = {b[0]: b[1] - a[1] for a, b in zip(marks, marks[1:])}
print(json.dumps({"parts": parts, "patches": len(group.cells), "windows": work.windows}))
"""


@dataclass(frozen=True)
class Job:
    """A task with the times that only its scheduler knows.

    Attributes
    ----------
    record
        What the task wrote.
    script_s
        When its job script started, seconds since 1970.
    ended_s
        When its process had written its result and the last line of its log.
    """

    record: TaskRecord
    script_s: float
    ended_s: float

    @property
    def before_s(self) -> float:
        """The interpreter's start and imports, before the task's own clock."""
        return self.record.started_at - self.script_s

    @property
    def whole_s(self) -> float:
        """From the scheduler's start to the result."""
        return self.ended_s - self.script_s


def start(options: argparse.Namespace, folder: Path) -> hpc_heatmap.Run:
    """Plan a run and drive it to its end from this process."""
    texture = _stained_texture(1)

    def tissue(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        rows, columns_ = (y + np.arange(h)) % len(texture), (x + np.arange(w)) % len(texture)
        return texture[rows[:, None], columns_[None, :]]

    side = 224 * options.cells
    slides = [
        write_slide(folder / f"slide-{k}.tiff", tissue, side, side, spacing_um=0.25)
        for k in range(options.slides)
    ]
    starts = folder / "starts"
    starts.mkdir()
    profile = folder / "profile.toml"
    throttle = f"throttle = {options.throttle}\n" if options.throttle else ""
    # The name that records use: an array of one is no array.
    name = '"${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"'
    line = f"date +%s.%N > {starts}/{name}"
    profile.write_text(
        f'cluster = "slurm"\nmaster = "here"\ncores_per_task = 1\n{throttle}'
        f"setup = [{json.dumps(line)}]\n"
    )
    settings = hpc_heatmap.RunSettings(
        stride=options.stride, tissue_method="all", patches_per_group=options.patches_per_group
    )
    launch = hpc_heatmap.LaunchSettings(
        cluster="slurm", profile=profile, task_minutes=options.task_minutes
    )
    if options.model == "demo":
        settings = settings.model_copy(update={"requested_spacing": 0.25})
        with as_file(files("hpc_heatmap") / "demo_model") as model:
            run = hpc_heatmap.start_run(
                slides, model / "model.pt2", folder / "run", settings=settings
            )
    else:
        model = write_googlenet(folder / "model")
        run = hpc_heatmap.start_run(slides, model, folder / "run", settings=settings)
    # The time of a task's result is when it ended.
    ClusterJob.clear = lambda job: None
    status = run.resume(launch)
    if status.state is not State.DONE:
        raise SystemExit(f"the run failed: {status.as_dict()}")
    return run


def jobs_of(run: hpc_heatmap.Run, starts: Path) -> list[Job]:
    """Tasks in the order of their starts."""
    results = {
        file.name.partition("_0_log")[0]: file.stat().st_mtime
        for file in run.paths.jobs.glob("*/*_log.out")
    }
    return [
        Job(record, float((starts / record.job).read_text()), results[record.job])
        for record in read_records(run.paths)
    ]


def slots_of(jobs: list[Job]) -> dict[str, list[Job]]:
    """Jobs by slot: each follows on the slot that has been free the longest."""
    slots: dict[str, list[Job]] = defaultdict(list)
    for job in sorted(jobs, key=lambda j: j.script_s):
        free = [s for s, done in slots.items() if done[-1].ended_s <= job.script_s]
        name = min(free, key=lambda s: slots[s][-1].ended_s) if free else f"slot {len(slots)}"
        slots[name].append(job)
    return slots


def print_tasks(jobs: list[Job]) -> None:
    """One line for each scoring task, and the medians."""
    scoring = [job for job in jobs if job.record.stage == "scoring"]
    print(f"\n{len(scoring)} scoring tasks, medians (least to most):\n")
    for title, values in {
        "from the scheduler's start to the result, s": [j.whole_s for j in scoring],
        "interpreter and imports before the task's clock, s": [j.before_s for j in scoring],
        "the task's own clock, s": [j.record.wall_s for j in scoring],
        "of it in the model, s": [j.record.model_s for j in scoring],
        "of it outside of the model, s": [j.record.wall_s - j.record.model_s for j in scoring],
        "engine's share, by the task's clock, %": [
            100 * (1 - j.record.model_s / j.record.wall_s) for j in scoring
        ],
        "engine's share, by the scheduler's clock, %": [
            100 * (1 - j.record.model_s / j.whole_s) for j in scoring
        ],
        "ms in the model for a window": [
            1000 * j.record.model_s / j.record.windows for j in scoring
        ],
    }.items():
        print(
            f"  {title}: {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
        )


def print_idle(jobs: list[Job]) -> None:
    """Idle time of the slots between first and last task, by where it comes from."""
    slots = slots_of(jobs)
    first, last = min(j.script_s for j in jobs), max(j.ended_s for j in jobs)
    all_s = (last - first) * len(slots)
    between = tail = begin = 0.0
    for done in slots.values():
        begin += done[0].script_s - first
        tail += last - done[-1].ended_s
        between += sum(b.script_s - a.ended_s for a, b in itertools.pairwise(done))
    before = sum(j.before_s for j in jobs)
    after = sum(j.ended_s - j.record.ended_at for j in jobs)
    print(f"\n{len(slots)} slots for {last - first:.1f} s; share of them, %:\n")
    for title, value in {
        "idle before a slot's first task": begin,
        "idle between two jobs, the scheduler's": between,
        "idle after a slot's last task": tail,
        "interpreter and imports": before,
        "after the record, until the result": after,
    }.items():
        print(f"  {title}: {100 * value / all_s:.2f}")
    print(f"  idle in all, by job scripts: {100 * (begin + between + tail) / all_s:.2f}")


def print_parts(run: hpc_heatmap.Run) -> None:
    """Where the time of a task goes, from a process of its own on one group."""
    command = [sys.executable, "-c", _PARTS, str(run.paths.root)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"\nparts, for {found['patches']} patches with {found['windows']} windows, CPU ms:\n")
    for name, seconds in found["parts"].items():
        print(f"  {name}: {1000 * seconds:.1f}")


def main() -> None:
    """Run, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=2)
    parser.add_argument("--cells", type=int, default=11, help="cells on each side of a slide")
    parser.add_argument("--stride", type=int, default=32)
    parser.add_argument("--patches-per-group", type=int, default=4)
    parser.add_argument("--task-minutes", type=float, default=1.0)
    parser.add_argument("--throttle", type=int, help="tasks of an array that run at once")
    parser.add_argument("--model", choices=["googlenet", "demo"], default="googlenet")
    parser.add_argument("--keep", type=Path, help="folder for the run, which is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        run = start(options, folder)
        print(f"planned and done in {time.perf_counter() - began:.0f} s")
        jobs = jobs_of(run, folder / "starts")
        print_tasks(jobs)
        print_idle(jobs)
        print_parts(run)
        row = report_run(run).combined[-1]
        print("\nTable III\n")
        for column in columns(CombinedRow):
            print(f"  {column.title}: {shown(getattr(row, column.name), column.kind)}")


if __name__ == "__main__":
    main()
