"""Copies on a node's disk: the same scores, and nothing of the groups left."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from runs.support import dataset_bytes, make_model, make_slide

from hpc_heatmap import Run, RunSettings, start_run
from hpc_heatmap.formats.group_file import copy_groups, open_groups
from hpc_heatmap.formats.task_files import read_failures
from hpc_heatmap.stages import scratch as scratch_module
from hpc_heatmap.stages.scratch import cached_model, local_groups
from hpc_heatmap.stages.task import Stage, Task, perform


def plan(folder: Path, name: str, layout: str = "tiles") -> Run:
    slide = folder / "a.tif"
    if not slide.exists():
        make_slide(slide, compression="jpeg" if layout == "slide-tiles" else "zlib")
        make_model(folder)
    settings = RunSettings(stride=8, patches_per_group=16, group_layout=layout)
    run = start_run([slide], folder / "model.onnx", folder / name, settings=settings)
    perform(Task(str(run.root), Stage.GROUPING, "a"))
    return run


def score(run: Run, scratch: str | None) -> dict[str, object]:
    n_groups = run.status().slides["a"].groups
    assert n_groups > 2
    perform(Task(str(run.root), Stage.SCORING, "a", tuple(range(n_groups)), scratch=scratch))
    assert read_failures(run.paths) == []
    files = sorted(run.slides["a"].files.scores.glob("*.h5"))
    assert len(files) == n_groups
    return {file.name: dataset_bytes(file) for file in files}


def kept(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("layout", ["slide-tiles", "tiles", "patches"])
def test_scores_are_the_same_and_the_copy_is_removed(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score(plan(tmp_path, "SHARED", layout), None)
    node = tmp_path / "node"
    monkeypatch.setenv("NODE_DISK", str(node))
    read: list[Path] = []

    def remember(source: Path, target: Path, indices: object) -> None:
        copy_groups(source, target, indices)  # type: ignore[arg-type]
        read.append(target)

    monkeypatch.setattr(scratch_module, "copy_groups", remember)
    run = plan(tmp_path, "COPIED", layout)
    assert score(run, "$NODE_DISK/scratch") == expected
    (copy,) = read
    assert copy.is_relative_to(node / "scratch") and not copy.exists()
    (model,) = kept(node)
    assert model.endswith(".onnx")
    # Not a model of another name, nor a second copy.
    stamp = next(node.rglob(model)).stat().st_mtime_ns
    for file in run.slides["a"].files.scores.glob("*.h5"):
        file.unlink()
    assert score(run, str(node / "scratch")) == expected
    assert kept(node) == [model] and next(node.rglob(model)).stat().st_mtime_ns == stamp
    (own,) = (node / "scratch").iterdir()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


@pytest.mark.parametrize("layout", ["slide-tiles", "tiles"])
def test_only_the_groups_that_are_wanted_are_copied(tmp_path: Path, layout: str) -> None:
    source = plan(tmp_path, "RUN", layout).slides["a"].files.groups
    with local_groups(source, [1], str(tmp_path / "node")) as copy, open_groups(copy) as groups:
        assert copy != source and copy.stat().st_size < source.stat().st_size / 2
        with open_groups(source) as whole:
            assert groups.header == whole.header
            assert (groups.read(1).patch(0) == whole.read(1).patch(0)).all()
    assert kept(tmp_path / "node") == []


def test_the_copy_is_removed_when_the_task_fails(tmp_path: Path) -> None:
    source = plan(tmp_path, "RUN").slides["a"].files.groups
    with (
        pytest.raises(ZeroDivisionError),
        local_groups(source, [0], str(tmp_path / "node")) as copy,
    ):
        assert copy.exists()
        _ = 1 / 0
    assert kept(tmp_path / "node") == []


@pytest.mark.parametrize("folder", ["relative", "$NOT_SET_ANYWHERE", "/proc/none", "{file}"])
def test_without_a_usable_folder_the_runs_own_files_are_read(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    scratch = folder.format(file=tmp_path / "file")
    source = plan(tmp_path, "RUN").slides["a"].files.groups
    with local_groups(source, [0], scratch) as same:
        assert same == source
    assert cached_model(source, "0" * 64, scratch) == source


def test_a_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    real_uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: real_uid + 1)
    # Somebody else, here this user, has made it first.
    (tmp_path / f"hpc-heatmap-{real_uid + 1}").mkdir()
    assert cached_model(file, "0" * 64, str(tmp_path)) == file
    monkeypatch.undo()
    copy = cached_model(file, "0" * 64, str(tmp_path))
    assert copy != file and copy.read_bytes() == b"model"


def test_a_disk_that_is_full_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = plan(tmp_path, "RUN")
    monkeypatch.setattr(scratch_module, "copy_groups", full)
    monkeypatch.setattr(scratch_module.shutil, "copyfile", full)
    score(run, str(tmp_path / "node"))
    assert kept(tmp_path / "node") == []
