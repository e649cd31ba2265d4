"""The simulated cluster against a real Slurm, against the paper, and far beyond it.

    python benchmarks/simulated_cluster.py validate     # needs a Slurm; about ten minutes
    python benchmarks/simulated_cluster.py paper
    python benchmarks/simulated_cluster.py beyond [--picture FILE.png]

`validate` drives runs with the real master through the real Slurm, on four nodes of four cores.
Their tasks sleep for times that are known and then write what a task writes, so that other work on
the machine counts little. What the first of them shows of Slurm's own delays is all that the
simulation is told; it then foretells the others.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpc_heatmap.formats.atomic import write_json
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import ModelEntry, RunFile, SlideEntry, write_run_file
from hpc_heatmap.formats.slide_summary import SlideSummary, write_summary
from hpc_heatmap.formats.task_files import TaskRecord, read_records, write_record
from hpc_heatmap.runs.master import Master
from hpc_heatmap.schedulers.slurm import SlurmScheduler
from hpc_heatmap.settings import Cluster, ClusterProfile, LaunchSettings, RunSettings
from hpc_heatmap.simulation import ClusterModel, SimulatedRun, SlideLoad, simulate
from hpc_heatmap.stages.task import Stage, Task

HOUR_S = 3600.0


def loads(n_slides: int, n_groups: int, group_s: float, seed: int) -> list[SlideLoad]:
    """Slides of unequal size with groups of unequal times."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 2 * n_groups, n_slides)
    return [
        SlideLoad(
            f"s{k}",
            float(rng.uniform(3, 8)),
            rng.uniform(0.5 * group_s, 1.5 * group_s, count),
            float(rng.uniform(1, 4)),
        )
        for k, count in enumerate(counts)
    ]


# Real runs whose tasks sleep.


@dataclass
class Sleep:
    """A task that takes as long as it should and leaves what the master looks for."""

    task: Task
    load: Any

    def __call__(self) -> None:
        """Sleep, then write."""
        started = time.time()
        task, paths = self.task, RunPaths(Path(self.task.run))
        files = paths.slide(task.slide_id)
        grouping_s, group_s, stitching_s = self.load
        if task.stage is Stage.GROUPING:
            time.sleep(grouping_s)
            files.root.mkdir(parents=True, exist_ok=True)
            for file in (files.grid_picture, files.lookup, files.groups):
                file.touch()
            n, total = len(group_s), round(1000 * sum(group_s))
            write_summary(files.summary, SlideSummary(n, n, total))
        elif task.stage is Stage.SCORING:
            files.scores.mkdir(exist_ok=True)
            for group in task.groups:
                time.sleep(group_s[group])
                files.group_scores(group).touch()
        else:
            time.sleep(stitching_s)
            for file in (files.lesions_csv, files.lesions_geojson, files.overview, files.heatmap):
                file.touch()
        import os
        import socket

        name = f"{task.slide_id}-{task.stage}-{task.groups[0] if task.groups else 0:08x}"
        record = TaskRecord(
            stage=task.stage.value, slide=task.slide_id, groups=list(task.groups),
            job=os.environ.get("SLURM_JOB_ID", ""),
            host=os.environ.get("SLURMD_NODENAME", socket.gethostname()), pid=os.getpid(),
            started_at=started, wall_s=time.time() - started, cpu_s=0.0, model_s=0.0,
            peak_memory_bytes=0, bytes_read=0, windows=0, submitted_at=task.submitted_at,
            threads=task.threads, cluster="slurm",
        )  # fmt: skip
        write_record(paths, name, record)

    def checkpoint(self) -> Any:
        """The same again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class SleepScheduler(SlurmScheduler):
    """Slurm as it is, with tasks that sleep."""

    slides: dict[str, SlideLoad]

    def _submit(self, executor: Any, calls: Sequence[Any], folder: Path) -> list[str]:
        works = []
        for call in calls:
            load = self.slides[call.task.slide_id]
            values = (load.grouping_s, list(map(float, load.group_s)), load.stitching_s)
            works.append(Sleep(call.task, values))
        return super()._submit(executor, works, folder)


@dataclass(frozen=True)
class Case:
    """A real run to foretell."""

    name: str
    slides: int
    groups: int
    group_s: float
    cores_per_task: int = 4
    task_minutes: float = 0.2
    changes: tuple[tuple[str, Any], ...] = ()


def real_run(case: Case, work: list[SlideLoad], folder: Path) -> tuple[float, list[TaskRecord]]:
    """Wall seconds and records of a real run of tasks that sleep."""
    paths = RunPaths(folder)
    folder.mkdir(parents=True)
    run = RunFile(
        settings=RunSettings(),
        stride_px=1,
        model=ModelEntry(file="model.pt", window_px=2),
        slides=tuple(SlideEntry(id=s.name, path=s.name) for s in work),
        windows_per_s=1000.0,
    )
    write_run_file(paths.run_file, run)
    profile = ClusterProfile(
        cluster=Cluster.SLURM, cores_per_task=case.cores_per_task, memory_gb=0.3, poll_s=1.0,
        **dict(case.changes),
    )  # fmt: skip
    scheduler = SleepScheduler(paths.jobs, "session", profile)
    scheduler.slides = {s.name: s for s in work}
    launch = LaunchSettings(cluster=Cluster.SLURM, task_minutes=case.task_minutes)
    began = time.time()
    Master(paths, run, scheduler, launch).drive()
    return time.time() - began, read_records(paths)


def slurms_delays(records: list[TaskRecord]) -> dict[str, float]:
    """What a slot loses between two tasks, and a task between submission and start, medians.

    For a run in which each node has one slot.
    """
    gaps = []
    by_host: dict[str, list[TaskRecord]] = {}
    for record in records:
        by_host.setdefault(record.host, []).append(record)
    for mine in by_host.values():
        for a, b in itertools.pairwise(mine):
            if b.submitted_at is not None and b.submitted_at < a.ended_at:
                gaps.append(b.started_at - a.ended_at)
    starts = [
        r.started_at - r.submitted_at
        for r in records
        if r.stage == "grouping" and r.submitted_at is not None
    ]
    start_s = statistics.median(sorted(starts)[: max(1, len(by_host))])
    return {"start_s": start_s, "end_s": max(0.0, statistics.median(gaps) - start_s)}


CASES = (
    Case("calibration: 4 slots", 4, 6, 10.0),
    Case("8 slots", 6, 8, 12.0, cores_per_task=2),
    Case("8 slots, arrays of 3, 5 in the queue", 4, 6, 12.0, 2, 0.2,
         (("max_array", 3), ("max_queued", 5))),
    Case("8 slots, 2 of an array at once", 3, 8, 15.0, 2, 0.3, (("throttle", 2),)),
    Case("4 slots, longer tasks", 5, 8, 10.0, 4, 0.6),
)  # fmt: skip


def validate(folder: Path) -> None:
    """Foretell real runs."""
    delays: dict[str, float] = {}
    rows = []
    for number, case in enumerate(CASES):
        work = loads(case.slides, case.groups, case.group_s, number)
        real_s, records = real_run(case, work, folder / str(number))
        if not delays:
            delays = slurms_delays(records)
            print("Slurm's delays, from the first run:", delays, flush=True)
        changes = {k: v for k, v in case.changes if k in ClusterModel.model_fields}
        model = ClusterModel(
            nodes=4, slots_per_node=4 // case.cores_per_task, task_minutes=case.task_minutes,
            **{"max_array": 50, "max_queued": 1000, "poll_s": 0.05, **delays, **changes},
        )  # fmt: skip
        foretold = simulate(work, model)
        error = foretold.wall_s / real_s - 1
        rows.append({"case": case.name, "tasks": len(records), "simulated_tasks": foretold.tasks,
                     "real_s": real_s, "foretold_s": foretold.wall_s, "error": error})  # fmt: skip
        print(
            f"| {case.name} | {len(records)} ({foretold.tasks}) | {real_s:.1f} | "
            f"{foretold.wall_s:.1f} | {100 * error:+.1f} % |",
            flush=True,
        )
    write_json(Path("simulated-cluster.json"), {"delays": delays, "rows": rows})


# The paper's scale, and beyond.

#: Serial hours without and with stain normalization (the paper's Tables II and III).
PAPER = {
    "plain": {"extraction": 354, "prediction": 133_034, "parallel": (2.68, 34, 38), "speed": 3526},
    "normalised": {"extraction": 354, "prediction": 162_176, "parallel": (2.68, 41, 44),
                   "speed": 3714},
}  # fmt: skip
SLIDES, GROUPS, CORES, CORES_PER_TASK = 399, 27_280, 4_000, 7
#: Delays of a task on a quiet machine: facts of docs/measurements.md, in seconds.
QUIET = {"start_s": 3.0, "end_s": 1.0, "model_s": 1.0, "dispatch_s": 0.005, "poll_s": 1.5}
FAULTS = {
    "spread": 0.1, "straggler_share": 0.01, "straggler_factor": 2.0, "node_mtbf_h": 5000.0,
    "queue_wait_s": 60.0,
}  # fmt: skip


def paper_loads(kind: str, n_slides: int = SLIDES, seed: int = 0) -> list[SlideLoad]:
    """Slides as unequal as tissue is, with the paper's hours in all."""
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(0, 0.6, n_slides)
    n_groups = GROUPS * n_slides / SLIDES
    counts = np.maximum(1, np.round(sizes / sizes.sum() * n_groups)).astype(int)
    scale = n_slides / SLIDES
    group_s = HOUR_S * PAPER[kind]["prediction"] * scale / counts.sum() / CORES_PER_TASK
    grouping_s = HOUR_S * PAPER[kind]["extraction"] * scale * counts / counts.sum()
    # 6,076 GB of groups in the paper's layout; ours stores each pixel once.
    n_bytes = 6076e9 / GROUPS / 3.6
    return [
        SlideLoad(f"s{k}", float(g), np.full(n, group_s), 60.0, 1.76e9, n_bytes)
        for k, (n, g) in enumerate(zip(counts, grouping_s, strict=True))
    ]


def extent_h(records: list[TaskRecord]) -> float:
    """From the first start to the last end."""
    return (max(r.ended_at for r in records) - min(r.started_at for r in records)) / HOUR_S


def paper() -> None:
    """Tables II and III of the paper, and the simulation's beside them."""
    print("| | paper | simulated | with faults |\n|---|---:|---:|---:|")
    for kind, said in PAPER.items():
        cluster = ClusterModel(
            nodes=CORES // CORES_PER_TASK, cores_per_task=CORES_PER_TASK, max_queued=10_000, **QUIET
        )
        work = paper_loads(kind)
        runs = [simulate(work, c) for c in (cluster, cluster.model_copy(update=FAULTS))]
        serial_h = said["extraction"] + said["prediction"]
        print(f"| **{kind}** | | | |")
        for title, at, stage in (("extraction", 0, "grouping"), ("prediction", 1, "scoring")):
            found = [extent_h([r for r in run.records if r.stage == stage]) for run in runs]
            print(f"| {title}, parallel h | {said['parallel'][at]} | "
                  f"{found[0]:.2f} | {found[1]:.2f} |")  # fmt: skip
        walls = [run.wall_s / HOUR_S for run in runs]
        print(f"| all, parallel h | {said['parallel'][2]} | {walls[0]:.2f} | {walls[1]:.2f} |")
        speeds = [serial_h / wall for wall in walls]
        print(f"| speed-up | {said['speed']:,} | {speeds[0]:,.0f} | {speeds[1]:,.0f} |")
        share = [said["speed"] / CORES, *(s / CORES for s in speeds)]
        print("| parallel efficiency | " + " | ".join(f"{100 * s:.0f} %" for s in share) + " |")
        print(f"| tasks killed by nodes | | {runs[0].killed} | {runs[1].killed} |", flush=True)


@dataclass
class Count:
    """Seconds in which slots compute, without keeping records."""

    busy_s: float = 0.0

    def __call__(self, record: TaskRecord) -> None:
        """Add a task; waiting for the file system is no work."""
        self.busy_s += record.cpu_s / record.threads


def efficiency(n_slides: int, cluster: ClusterModel) -> tuple[float, SimulatedRun]:
    """Share of the slots' time that is work, in the middle of a run of many more slides.

    Slides are alike, with the paper's groups; 25,000 patches of each are grouped in 150 s.
    """
    n_groups = round(GROUPS / SLIDES)
    like = paper_loads("plain")[0]
    group_s = float(like.group_s[0])
    work = [
        replace(like, name=str(k), grouping_s=150.0, group_s=np.full(n_groups, group_s))
        for k in range(n_slides)
    ]
    count = Count()
    run = simulate(work, cluster, count)
    return count.busy_s / (cluster.slots * run.wall_s), run


def beyond(picture: Path | None) -> None:
    """100,000 cores: what gives way first."""
    cores = 100_000
    base = ClusterModel(
        nodes=cores // CORES_PER_TASK, cores_per_task=CORES_PER_TASK, max_queued=20_000,
        max_array=1000, **QUIET,
    )  # fmt: skip
    # Just under four groups for each slot.
    n = 835
    columns: dict[str, list[tuple[str, float]]] = {}
    studies: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "scheduler: seconds to start a task": [
            (f"{s:g}", {"dispatch_s": s}) for s in (0.01, 0.1, 0.3, 0.5)
        ],
        "tasks in the queue at most": [
            (f"{m:,}", {"max_queued": m}) for m in (20_000, 5_000, 1_000)
        ],
        "master: seconds a task": [(f"{s:g}", {"master_task_s": s}) for s in (0.02, 0.2, 0.5)],
        "file system, GB/s": [
            (f"{b:g}", {"bandwidth_bytes_per_s": 1e9 * b}) for b in (10, 1, 0.3, 0.1)
        ],
    }
    print(f"{n} slides of 100,000; {base.slots:,} tasks at once")
    print(
        f"as it is: {100 * efficiency(n, base)[0]:.0f} % of the slots' time is work\n", flush=True
    )
    for title, points in studies.items():
        for label, changes in points:
            share, run = efficiency(n, base.model_copy(update=changes))
            columns.setdefault(title, []).append((label, share))
            print(f"| {title} | {label} | {100 * share:.0f} % | {run.tasks:,} tasks |", flush=True)
    if picture is not None:
        draw(columns, picture)


def draw(columns: dict[str, list[tuple[str, float]]], path: Path) -> None:
    """A panel of bars for each study."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6), dpi=100, layout="constrained")
    for axis, (title, points) in zip(
        figure.subplots(1, len(columns), sharey=True), columns.items(), strict=True
    ):
        axis.bar([p[0] for p in points], [100 * p[1] for p in points], color="#2a6fb0")
        axis.set_title(title, fontsize=8)
        axis.set_ylim(0, 100)
        axis.tick_params(labelsize=7)
    figure.supylabel("slots at work, %", fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Take a part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["validate", "paper", "beyond"])
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.part == "paper":
        paper()
    elif options.part == "beyond":
        beyond(options.picture)
    else:
        with tempfile.TemporaryDirectory() as folder:
            validate(Path(folder))


if __name__ == "__main__":
    main()
