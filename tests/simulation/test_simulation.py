"""The simulated cluster: by hand where that is possible, else by what must hold."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import hpc_heatmap.simulation
from hpc_heatmap.formats.task_files import TaskRecord
from hpc_heatmap.runs.report.timing import peak_cores
from hpc_heatmap.simulation import ClusterModel, SlideLoad, loads_from_records, simulate


def slide(name: str = "a", n: int = 8, group_s: float = 100.0, **changes: float) -> SlideLoad:
    values = {"grouping_s": 60.0, "stitching_s": 5.0, **changes}
    return SlideLoad(name, group_s=np.full(n, group_s), **values)


def test_the_example_in_the_documentation() -> None:
    assert doctest.testmod(hpc_heatmap.simulation).failed == 0


def test_every_cost_counts_where_it_belongs() -> None:
    cluster = ClusterModel(
        nodes=4, start_s=2, end_s=1, model_s=10, dispatch_s=0.5, submit_s=4, poll_s=3
    )
    run = simulate([slide(n=4)], cluster)
    grouping = 4.004 + 0.5 + 2 + 60 + 1 + 3
    # Four tasks are started one after another; the master's look at the first finds all ended.
    scoring = 4.016 + 0.5 + 2 + 10 + 100 + 1 + 3
    stitching = 4.004 + 0.5 + 2 + 5 + 1 + 3
    assert run.wall_s == pytest.approx(grouping + scoring + stitching)
    assert run.tasks == 6 and run.arrays == 3
    assert run.dispatch_s == pytest.approx(3)


def test_no_task_is_lost_and_none_done_twice() -> None:
    slides = [slide(f"s{k}", 3 + k % 7, 50.0 + k) for k in range(40)]
    cluster = ClusterModel(
        nodes=10, slots_per_node=2, max_array=5, max_queued=30, throttle=3, spread=0.4,
        straggler_share=0.1, node_mtbf_h=0.2, queue_wait_s=20, poll_s=1, dispatch_s=0.1,
        bandwidth_bytes_per_s=1e8, client_bytes_per_s=1e7, task_minutes=1.5,
    )  # fmt: skip
    run = simulate(slides, cluster)
    done = sorted((r.slide, g) for r in run.records if r.stage == "scoring" for g in r.groups)
    assert done == sorted((s.name, g) for s in slides for g in range(s.n_groups))
    for stage in ("grouping", "stitching"):
        assert sorted(r.slide for r in run.records if r.stage == stage) == sorted(
            s.name for s in slides
        )
    assert run.killed > 0
    assert peak_cores(run.records) <= 20
    assert run.peak_queued <= 30
    again = simulate(slides, cluster)
    assert again.wall_s == run.wall_s
    assert simulate(slides, cluster.model_copy(update={"seed": 1})).wall_s != run.wall_s


def test_layers_follow_each_other_for_each_slide() -> None:
    run = simulate([slide(f"s{k}", 5) for k in range(6)], ClusterModel(nodes=3, spread=0.3))
    for name in {r.slide for r in run.records}:
        mine = {
            stage: [r for r in run.records if (r.slide, r.stage) == (name, stage)]
            for stage in ("grouping", "scoring", "stitching")
        }
        assert mine["grouping"][0].ended_at <= min(r.started_at for r in mine["scoring"])
        assert max(r.ended_at for r in mine["scoring"]) <= mine["stitching"][0].started_at


def test_a_file_system_that_is_too_slow_bounds_the_run() -> None:
    slides = [slide(f"s{k}", 10, 1.0, group_bytes=1e9) for k in range(10)]
    cluster = ClusterModel(nodes=100, bandwidth_bytes_per_s=1e9, client_bytes_per_s=1e8)
    run = simulate(slides, cluster)
    assert run.read_bytes == 100e9
    assert run.wall_s >= 100
    assert simulate(slides, ClusterModel(nodes=100)).wall_s < 80
    # One client alone could read more than there is.
    shared = cluster.model_copy(update={"client_bytes_per_s": 2e9})
    assert simulate(slides, shared).wall_s >= 100


def test_loads_of_a_run_that_was() -> None:
    def record(stage: str, wall_s: float, groups: list[int]) -> TaskRecord:
        return TaskRecord(stage, "a", groups, "", "h", 0, 0.0, wall_s, 0.0, 0.0, 0, 40, 0)

    records = [
        record("grouping", 60, []), record("scoring", 12, [0, 1]), record("scoring", 7, [2]),
        record("stitching", 5, []),
    ]  # fmt: skip
    (load,) = loads_from_records(records, fixed_s=2)
    assert (load.grouping_s, load.stitching_s) == (60, 5)
    assert list(load.group_s) == [5, 5, 5]
    assert load.scoring_s(1, 3) == 10
