"""Whole runs on real clusters: the same scores as here, in arrays, within the limits of a site."""

from __future__ import annotations

import itertools
import math
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runs.support import (
    command,
    dataset_bytes,
    end_of,
    make_model,
    make_slide,
    wait_until,
    workers_of,
)
from schedulers import real

from hpc_heatmap import LaunchSettings, Run, RunSettings, open_run, start_run
from hpc_heatmap.formats.task_files import TaskRecord, read_records
from hpc_heatmap.runs.status import State
from hpc_heatmap.settings import Cluster

pytestmark = pytest.mark.slow
CLUSTERS = [Cluster.SLURM, Cluster.SGE]
PROFILE = """\
cluster = "{cluster}"
cores_per_task = {cores}
memory_gb = 0.5
time_minutes = 15
poll_s = 1
master = "{master}"
"""


def write_profile(
    folder: Path, cluster: Cluster, *, cores: int = 1, master: str = "cluster"
) -> Path:
    path = folder / f"{cluster.value}.toml"
    path.write_text(PROFILE.format(cluster=cluster.value, cores=cores, master=master))
    return path


def left_of(run: Run, cluster: Cluster) -> set[str]:
    """What of a run waits or runs, by the scheduler's word."""
    live = real.scheduler(run.paths.jobs, cluster).list_live()
    assert live is not None
    return set(live)


# (a)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two slides on this machine."""
    folder = tmp_path_factory.mktemp("here")
    slides = [make_slide(folder / "a.tif"), make_slide(folder / "b.tif", 300, 500)]
    settings = RunSettings(stride=4, patches_per_group=8)
    run = start_run(slides, make_model(folder), folder / "LOCAL", settings=settings)
    assert run.resume(LaunchSettings(workers=2)).state is State.DONE
    return run


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_heatmaps_are_the_same_to_the_bit(here: Run, cluster: Cluster, tmp_path: Path) -> None:
    real.need(cluster)
    slides = [slide.path for slide in here.slides.values()]
    model = here.root.parent / "model.onnx"
    run = start_run(slides, model, tmp_path / "RUN", settings=here.settings)
    profile = write_profile(tmp_path, cluster)
    # Copies on the nodes' disks, here one, change nothing.
    node = tmp_path / "node"
    profile.write_text(f"{profile.read_text()}scratch = '{node}'\n")
    assert run.resume(LaunchSettings(profile=profile)).state is State.DONE
    assert [file.suffix for file in node.rglob("*") if file.is_file()] == [".onnx"]
    for name, slide in run.slides.items():
        expected = here.slides[name].files
        assert dataset_bytes(slide.files.heatmap) == dataset_bytes(expected.heatmap)
        assert slide.files.lesions_csv.read_bytes() == expected.lesions_csv.read_bytes()
    assert {record.threads for record in read_records(run.paths)} == {1}
    wait_until(lambda: left_of(run, cluster) == set(), 30)


# (b)


@pytest.fixture
def held_jobs(tmp_path: Path) -> Iterator[Callable[[Cluster, int], None]]:
    """Other jobs of the same user, which count against a limit and never run."""
    numbers: list[tuple[Cluster, str]] = []
    script = tmp_path / "other.sh"
    script.write_text("#!/bin/sh\nsleep 1\n")

    def hold(cluster: Cluster, n: int) -> None:
        if cluster is Cluster.SLURM:
            array = ["sbatch", "--parsable", "--hold", "--output=/dev/null", f"--array=0-{n - 1}"]
            numbers.append((cluster, real.output(*array, str(script)).strip()))
        else:
            alone = ["qsub", "-terse", "-h", "-o", "/dev/null", "-j", "y", str(script)]
            numbers.extend((cluster, real.output(*alone).strip()) for _ in range(n))
        assert all(number.isdigit() for _, number in numbers)

    yield hold
    for cluster, number in numbers:
        subprocess.run(["scancel" if cluster is Cluster.SLURM else "qdel", number], check=False)


def tasks_of_arrays(cluster: Cluster, numbers: set[str]) -> dict[str, int]:
    """Tasks of each array that accounting knows."""
    counts: Counter[str] = Counter()
    for number in numbers:
        if cluster is Cluster.SLURM:
            said = real.output("sacct", "-n", "-X", "-P", "-j", number, "--format=JobID,State")
            rows = [line.split("|") for line in said.splitlines()]
            counts[number] = sum("_" in job and state == "COMPLETED" for job, state in rows)
        else:
            said = real.output("qacct", "-j", number)
            tasks = [line.split()[1] for line in said.splitlines() if line.startswith("taskid")]
            counts[number] = len({task for task in tasks if task.isdigit()})
    return dict(counts)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_twenty_slides_within_the_limits_of_a_site(
    cluster: Cluster, tmp_path: Path, held_jobs: Callable[[Cluster, int], None]
) -> None:
    """20 slides, over 300 groups, arrays of 50 at most; where the site has a limit on submitted
    jobs, other jobs of the user take half of it, so that the run meets it.
    """
    real.need(cluster)
    slides = [make_slide(tmp_path / f"small_{n:02d}.tif", 192, 192) for n in range(19)]
    # Last, so that the others are scored while it is still grouped.
    slides.append(make_slide(tmp_path / "z_large.tif", 128 + 1120, 128 + 1120))
    settings = RunSettings(stride=16, patches_per_group=4)
    run = start_run(slides, make_model(tmp_path), tmp_path / "RUN", settings=settings)
    rate = run.file.windows_per_s
    assert rate
    windows_per_group = 4 * (32 // 16) ** 2
    # Five groups a task: the large slide needs more tasks than an array may have.
    launch = LaunchSettings(
        profile=write_profile(tmp_path, cluster, cores=2 if cluster is Cluster.SLURM else 1),
        task_minutes=5.3 * windows_per_group / rate / 60,
    )
    limit = real.submit_limit(cluster)
    if limit:
        held_jobs(cluster, limit // 2)
    started = time.monotonic()
    status = run.resume(launch)
    print(f"{cluster.value}: {time.monotonic() - started:.0f} s")
    assert status.state is State.DONE
    groups = {name: slide.groups for name, slide in status.slides.items()}
    assert len(groups) == 20 and sum(groups.values()) >= 300
    records = read_records(run.paths)
    check_arrays(cluster, records)
    check_timeline(records)
    wait_until(lambda: left_of(run, cluster) == set(), 30)


def check_arrays(cluster: Cluster, records: list[TaskRecord]) -> None:
    """No array is longer than the cluster allows, and none of the work is cut up into jobs."""
    arrays: dict[str, list[TaskRecord]] = {}
    for record in records:
        arrays.setdefault(record.job.partition("_")[0], []).append(record)
    longest = max(len(array) for array in arrays.values())
    assert longest <= 50
    scoring = [r for r in records if r.stage == "scoring" and r.slide == "z_large"]
    assert len(scoring) > 50
    assert len({r.job for r in scoring}) == len(scoring)
    cut = {r.job.partition("_")[0] for r in scoring}
    assert 2 <= len(cut) <= 10
    if not real.submit_limit(cluster):
        assert longest == 50 and len(cut) == 2
    # What was submitted alone stood alone: a slide that is scored or stitched by itself.
    many = {number for number, array in arrays.items() if len(array) > 1}
    grouping = [r for r in records if r.stage == "grouping"]
    assert len({r.job.partition("_")[0] for r in grouping}) <= 4
    expected = {number: len(arrays[number]) for number in many}
    wait_until(lambda: tasks_of_arrays(cluster, many) == expected, 60)


def check_timeline(records: list[TaskRecord]) -> None:
    """A slide does not wait for another: scoring is queued before the last slide is grouped.

    When a queued task starts is the scheduler's affair.
    """
    queued = min(r.submitted_at or math.inf for r in records if r.stage == "scoring")
    last_grouped = max(r.ended_at for r in records if r.stage == "grouping")
    assert queued < last_grouped


# (c)


@pytest.mark.parametrize(
    ("cluster", "master"), list(itertools.product(CLUSTERS, ["cluster", "login", "here"]))
)
def test_cancel_and_resume(cluster: Cluster, master: str, tmp_path: Path) -> None:
    """Start and leave; cancel takes all out of the queue; resume needs to be told nothing."""
    real.need(cluster)
    slides = [make_slide(tmp_path / f"{name}.tif") for name in "ab"]
    model = make_model(tmp_path)
    root = tmp_path / "RUN"
    profile = write_profile(tmp_path, cluster, master=master)
    options: list[Any] = ["--stride", 2, "--patches-per-group", 4, "--profile", profile, "--quiet"]
    detach = [] if master == "here" else ["--detach"]
    begun = command("run", *slides, "--model", model, "--out", root, *options, *detach)
    if detach:
        assert end_of(begun) == (0, "")
    wait_until(lambda: list(root.glob("slides/*/summary.json")), 120)
    run = open_run(root)
    assert run.status().state is State.RUNNING
    assert bool(list(run.paths.jobs.glob("*-master"))) is (master == "cluster")

    code, errors = end_of(command("cancel", root), 120)
    assert (code, errors) == (0, "")
    assert left_of(run, cluster) == set() and workers_of(root) == []
    assert run.status().state is State.CANCELLED
    if not detach:
        assert end_of(begun)[0] == 1

    code, errors = end_of(command("resume", root, "--quiet"), 240)
    assert (code, errors) == (0, "")
    assert run.status().state is State.DONE
    wait_until(lambda: left_of(run, cluster) == set(), 60)
