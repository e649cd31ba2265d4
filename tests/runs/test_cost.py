"""What a run would cost, against what it then has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs.support import WINDOW_PX, darkness, finish, function_run, make_model, make_slide

from hpc_heatmap import FunctionClassifier, Run, RunSettings
from hpc_heatmap.cli.app import main
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.runs.cost import (
    Estimate,
    SlideSize,
    Speed,
    Survey,
    Trial,
    estimate,
    pool_of,
    predict,
    read_sizes,
)
from hpc_heatmap.runs.cost.trial import Time
from hpc_heatmap.runs.report import report_run
from hpc_heatmap.settings import LaunchSettings
from hpc_heatmap.simulation import ClusterModel

SETTINGS = {"stride": 8, "patches_per_group": 16, "threshold": 0.7}
MODEL = FunctionClassifier(darkness, WINDOW_PX)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("slides")
    return [make_slide(folder / "a.tif"), make_slide(folder / "b.tif", 300, 330)]


@pytest.fixture(scope="module")
def cost(slides: list[Path]) -> Estimate:
    return estimate(slides, MODEL, settings=RunSettings(**SETTINGS), cores=1)


def test_what_is_counted_is_what_a_run_has(
    slides: list[Path], cost: Estimate, tmp_path: Path
) -> None:
    run = function_run(slides, tmp_path / "RUN")
    finish(run)
    row = report_run(run).data[-1]
    assert (cost.slides, cost.cells, cost.groups) == (2, row.patches, row.groups)
    assert cost.windows == row.windows
    assert cost.slides_measured == 2
    stored = sum(f.stat().st_size for f in (tmp_path / "RUN").rglob("*") if f.is_file())
    groups = row.group_bytes
    assert groups < cost.bytes and cost.bytes == pytest.approx(stored, rel=0.15)
    assert cost.bytes_read == pytest.approx(read_by(run), rel=0.15)
    assert cost.core_hours > 0 and cost.wall_hours > 0


def read_by(run: Run) -> int:
    """What tasks say that they read, and the slides."""
    records = [r for r in read_records(run.paths) if r.stage != "grouping"]
    return sum(r.bytes_read for r in records) + sum(s.bytes for s in run.file.slides)


def test_the_slides_own_tiles_in_groups_of_other_sizes(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "a.tif", 1500, 1400, compression="jpeg")
    asked = {"patches_per_group": 64, "stride": 32, "group_layout": "slide-tiles"}
    cost = estimate([slide], MODEL, settings=RunSettings(**asked), cores=1)
    assert cost.trial.tile_cells > 1
    sizes = {f"--patches-per-group {n}": n for n in (16, 256)}
    for choice in cost.choices:
        if choice.option in sizes:
            n_p = sizes[choice.option]
            run = function_run([slide], tmp_path / str(n_p), **asked | {"patches_per_group": n_p})
            finish(run)
            assert choice.groups == run.status().slides["a"].groups
            stored = sum(f.stat().st_size for f in run.root.rglob("*") if f.is_file())
            assert choice.bytes == pytest.approx(stored, rel=0.15), choice.option


def test_choices_change_what_they_should(cost: Estimate) -> None:
    options = {choice.option: choice for choice in cost.choices}
    asked = cost.choices[0]
    assert asked.option == "as asked (--stride 8)" and asked.windows == cost.windows
    finer = options["--stride 2"]
    assert finer.windows > 12 * asked.windows and finer.bytes > asked.bytes
    adaptive = options["--adaptive"]
    assert adaptive.windows == asked.windows and adaptive.core_hours > 0
    tried = cost.trial.ways["--adaptive"]
    assert tried.patches > 1 and tried.skipped < tried.windows
    share = 100 * (1 - tried.skipped / tried.windows)
    assert any(f"With --adaptive {share:.0f} % of the windows" in note for note in cost.notes)
    # No tolerance for a Python function.
    assert not any("--tolerance" in text for text in (*options, *cost.notes))
    large = options["--patches-per-group 256"]
    assert large.groups < asked.groups and large.bytes < asked.bytes
    assert options["2 cores"].wall_hours <= asked.wall_hours * 1.01


def test_an_adaptive_request_is_offered_strides_that_leave_room_for_a_coarser_one(
    slides: list[Path],
) -> None:
    cost = estimate(slides[:1], MODEL, settings=RunSettings(**SETTINGS, adaptive=True), cores=1)
    strides = [choice.option for choice in cost.choices if choice.option.startswith("--stride")]
    assert strides == ["--stride 2"]
    assert "--adaptive" not in {choice.option for choice in cost.choices}


def test_nothing_is_left_behind(slides: list[Path], tmp_path: Path) -> None:
    estimate(
        slides, MODEL, settings=RunSettings(**SETTINGS), directory=tmp_path / "a" / "RUN",
        choices=False,
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_the_contract(
    slides: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, out = make_model(tmp_path), tmp_path / "RUN"
    arguments: list[Any] = ["plan", *slides, "--model", model, "--out", out, "--stride", 8]
    capfd.readouterr()
    code = main([*map(str, arguments), "--patches-per-group", "16", "--no-choices", "--json"])
    printed, said = capfd.readouterr()
    assert (code, said) == (0, "")
    values = json.loads(printed)
    keys = {"slides", "cells", "groups", "bytes", "windows", "core_hours", "wall_hours"}
    assert keys <= set(values)
    assert all(isinstance(values[k], int | float) and values[k] > 0 for k in keys)
    assert not out.exists()
    assert {f.name for f in tmp_path.iterdir()} == {"model.onnx", "model.json"}


# Arithmetic, with a trial that is made up.


def trial(**changes: Any) -> Trial:
    values: dict[str, Any] = {
        "host": "h", "threads": 1, "start_s": 0.0, "end_s": 0.0, "grouping": Time(10, 8),
        "grouping_patch": Time(0.1, 0.1), "area_px": 1000 * 1000, "patch_bytes": 1000.0,
        "patches_per_group": 50, "model": Time(2, 1), "stitching": Time(5, 5),
        "speeds": {50: Speed(Time(0.5, 0.4), 100)}, "stitching_window": Time(0, 0),
        "peak_memory_bytes": 10**8, "seconds": 1.0,
    }  # fmt: skip
    return Trial(**(values | changes))


def one_slide(n_cells: int = 100) -> Survey:
    cells = np.stack(np.divmod(np.arange(n_cells), 10), axis=1).astype(np.int32)
    return Survey((SlideSize("a", 1000, 1000, 77, cells),), 1, 100)


def test_hours_by_hand() -> None:
    settings = RunSettings(patches_per_group=50)
    pool = ClusterModel(slots_per_node=1, task_minutes=1000, cores_per_task=2)
    found = predict(one_slide(), trial(), pool, settings, 50)
    # 100 cells with 4 windows each; 2 groups, in 9 tasks at most: few enough for one here.
    assert (found.cells, found.groups, found.windows) == (100, 2, 400)
    grouping, scoring, stitching = 10 + 10, 400 * 0.5, 5
    tasks = found.tasks - 2
    total = grouping + scoring + stitching + 2 * tasks
    assert found.core_hours == pytest.approx(2 * total / 3600)
    assert found.wall_hours == pytest.approx(total / 3600)
    assert found.cpu_hours == pytest.approx((8 + 10 + 160 + 5 + tasks) / 3600)
    # Scores are read from two files, then from one.
    assert found.bytes_read == 77 + 100 * 1000 + 2 * 4 * 400 + 3 * 6400


def test_the_formula_for_very_large_runs_meets_the_simulation() -> None:
    slides = tuple(replace(one_slide().slides[0], name=str(k)) for k in range(1500))
    settings = RunSettings(patches_per_group=20)
    pool = ClusterModel(slots_per_node=40, task_minutes=0.6)
    many = predict(Survey(slides, 1, 100), trial(), pool, settings, 50)
    assert many.tasks > 10_000
    few = predict(Survey(slides[:1300], 1, 100), trial(), pool, settings, 50)
    assert few.tasks < 10_000
    per_slide = few.wall_hours / 1300
    assert many.wall_hours == pytest.approx(1500 * per_slide, rel=0.02)


def test_more_workers_are_the_pool() -> None:
    assert pool_of(LaunchSettings(workers=7)).slots == 7
    assert pool_of(LaunchSettings(), cores=5).cores == 5


def test_a_cluster_that_is_not_here_needs_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    profile = tmp_path / "site.toml"
    profile.write_text('cluster = "slurm"\ncores_per_task = 7\nmax_array = 50\n')
    launch = LaunchSettings(profile=profile)
    with pytest.raises(Exception, match="--cores"):
        pool_of(launch)
    pool = pool_of(launch, cores=4000)
    assert (pool.slots, pool.cores_per_task, pool.max_array) == (571, 7, 50)
    with pytest.raises(SettingsError, match="not enough for one task of 7 cores"):
        pool_of(launch, cores=6)


# Tables of sizes


def test_sizes_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "sizes.csv"
    table.write_text(
        "slide,width_px,height_px,spacing_um,tissue_share,bytes\na,2000,1000,0.25,0.5,99\n"
        "b,1000,1000,0.5,,\n"
    )
    found = read_sizes(table, 100, 0.5, share=0.1)
    assert [(s.name, s.width_px, s.height_px, s.bytes) for s in found.slides] == [
        ("a", 1000, 500, 99), ("b", 1000, 1000, 0),
    ]  # fmt: skip
    assert [s.n_cells(100) for s in found.slides] == [25, 10]
    assert found.slides[0].n_windows(100, 50) == 100
    assert "1 slides have no tissue_share: 10.0 % is taken" in found.notes[-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no line of sizes"),
        ("width,height\n1,2\n", "columns width_px,height_px"),
        ("width_px,height_px\n1000,-3\n", "line 2: height_px is '-3'"),
        ("width_px,height_px\n1000,1e999\n", "line 2: height_px"),
        ("width_px,height_px,tissue_share\n1000,900,20\n", "tissue_share is '20'"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, words: str) -> None:
    table = tmp_path / "sizes.csv"
    table.write_text(text)
    with pytest.raises(SettingsError, match=words):
        read_sizes(table, 100, None)


def test_a_table_needs_spacings_where_the_model_asks_for_one(tmp_path: Path) -> None:
    table = tmp_path / "sizes.csv"
    table.write_text("width_px,height_px\n1000,1000\n")
    with pytest.raises(SettingsError, match="spacing_um is needed"):
        read_sizes(table, 100, 0.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "m.pt"], "No slide was given"),
        (["--model", "m.pt", "--sizes", "none.csv", "--cores", "0"], "--cores 0"),
        (["s.tif", "--model", "m.pt"], "s.tif"),
        (["s.tif"], "--model"),
    ],
)
def test_wrong_requests(
    arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and words in said[0]


def test_the_report_shows_planned_against_actual(
    slides: list[Path], cost: Estimate, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = function_run(slides, tmp_path / "RUN")
    finish(run)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(cost.as_dict()))
    assert main(["report", str(run.root), "--plan", str(plan), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)["planned"]}
    for name in ("cells", "groups", "windows"):
        assert rows[name]["planned"] == rows[name]["actual"] and rows[name]["ratio"] == 1
    for name in ("core_hours", "cpu_hours", "wall_hours"):
        assert rows[name]["planned"] == cost.as_dict()[name]
        assert rows[name]["actual"] > 0
    assert main(["report", str(run.root), "--plan", str(plan), "--html", str(plan) + ".html"]) == 0
    assert "Planned against actual" in (tmp_path / "plan.json.html").read_text()
    plan.write_text("[]")
    assert main(["report", str(run.root), "--plan", str(plan)]) == 2
    assert "is no plan" in capfd.readouterr().err
