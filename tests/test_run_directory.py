"""docs/run-directory.md against a real run."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from slides import write_slide

import hpc_heatmap
from hpc_heatmap.formats.paths import FORMAT_VERSION
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.runs.status import State

DOCUMENT = Path(__file__).parents[1] / "docs" / "run-directory.md"
ID = "slide"
#: Files that a run has only in some of its lives.
SOMETIMES = {
    "slides/ID/scores/NNNNNN.h5",
    "tasks/ID-STAGE-TOKEN.json",
    "failures/ID-STAGE*.json",
    "model/traced.pt",
    "model/program.npz",
    "slides/ID/stain.png",
    "jobs/SESSION/submitted-*.json",
    "jobs/SESSION/worker-TOKEN-N.task",
    "master.json",
    "master.log",
    "cancelled",
    "exports/FORMAT/*",
    "reviews/ID/SESSION.jsonl",
}
#: Datasets of `groups.h5` in the layouts that this run does not have.
OTHER_LAYOUTS = {
    "slide_level/jpeg_header",
    *(
        f"groups/NNNNNN/slide_tile{suffix}"
        for suffix in ("s", "_offset", "_bytes", "_index", "_kind")
    ),
    "groups/NNNNNN/patches",
    "groups/NNNNNN/patch_readable",
}


def documented_files() -> list[str]:
    section = DOCUMENT.read_text().split("## Files")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def as_glob(path: str) -> str:
    path = path.replace("ID", ID).replace("NNNNNN", "[0-9]" * 6)
    return (
        path.replace("STAGE", "*ing")
        .replace("TOKEN", "*")
        .replace("SESSION", "*")
        .replace("FORMAT", "*")
    )


def documented_datasets(name: str) -> set[str]:
    section = DOCUMENT.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))


def documented_attributes(name: str) -> set[str]:
    section = DOCUMENT.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    paragraph = re.search(r"^Attributes: (.*?)\n\n", section, re.MULTILINE | re.DOTALL)
    assert paragraph is not None
    return set(re.findall(r"`([a-z0-9_]+)`", paragraph[1])) - {"tiles"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> hpc_heatmap.Run:
    """A run through real worker processes."""
    folder = tmp_path_factory.mktemp("run-directory")

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        columns, rows = np.arange(x, x + w) * downsample, np.arange(y, y + h) * downsample
        tissue = (rows[:, None] > 200) & (columns[None] > 200)
        return np.where(tissue[..., None], (200, 90, 160), (245, 245, 245)).astype(np.uint8)

    slide = write_slide(folder / f"{ID}.tiff", pixels_at, 700, 600, downsamples=(1,))
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 32), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()
    torch.jit.trace(network, torch.zeros(1, 3, 32, 32)).save(str(folder / "model.pt"))
    (folder / "model.json").write_text(
        '{"num_classes": 2, "class_names": ["normal", "tumor"], "patch_size_pixels": 32,'
        ' "lesion_class": "tumor"}'
    )
    settings = hpc_heatmap.RunSettings(stride=16, patches_per_group=64)
    run = hpc_heatmap.start_run([slide], folder / "model.pt", folder / "RUN", settings=settings)
    assert run.resume().state is State.DONE
    return run


def test_every_file_is_documented_and_every_documented_file_is_there(
    finished: hpc_heatmap.Run,
) -> None:
    files = [str(p.relative_to(finished.root)) for p in finished.root.rglob("*") if p.is_file()]
    documented = documented_files()
    assert len(documented) > 15
    unknown = [f for f in files if not any(fnmatch(f, as_glob(d)) for d in documented)]
    assert unknown == []
    missing = [
        d
        for d in documented
        if d not in SOMETIMES and not any(fnmatch(f, as_glob(d)) for f in files)
    ]
    assert missing == []


def test_format_version_is_documented(finished: hpc_heatmap.Run) -> None:
    assert DOCUMENT.read_text().startswith(
        f"# The run directory, format version {FORMAT_VERSION}\n"
    )
    assert finished.file.format_version == FORMAT_VERSION


@pytest.mark.parametrize(
    ("name", "file", "optional"),
    [
        ("groups.h5", "groups.h5", OTHER_LAYOUTS),
        ("lookup.h5", "lookup.h5", set()),
        ("scores.h5", "scores.h5", {"refined"}),
        ("heatmap.h5", "heatmap.h5", {"levels/1", "refined"}),
    ],
)
def test_every_dataset_is_documented_and_there(
    finished: hpc_heatmap.Run, name: str, file: str, optional: set[str]
) -> None:
    found: set[str] = set()
    with h5py.File(finished.slides[ID].files.root / file) as opened:
        opened.visititems(
            lambda path, item: found.add(path) if isinstance(item, h5py.Dataset) else None
        )
        attributes = set(opened.attrs) - {"format", "format_version"}
    found = {re.sub(r"\d{6}", "NNNNNN", path) for path in found}
    documented = documented_datasets(name)
    assert found <= documented
    assert documented - optional <= found and not optional & found - {"levels/1"}
    if "Attributes: " in DOCUMENT.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]:
        assert attributes == documented_attributes(name)


def test_no_partial_files_stay(finished: hpc_heatmap.Run) -> None:
    assert list(finished.root.rglob(".*")) == []


def test_pickles_of_tasks_that_ended_well_are_gone_and_logs_stay(
    finished: hpc_heatmap.Run,
) -> None:
    assert list(finished.root.rglob("*.pkl")) == []
    logs = list(finished.paths.jobs.glob("*/*_log.out"))
    assert 1 <= len(logs) <= len(read_records(finished.paths))
    assert list(finished.paths.jobs.glob("*/*.task*")) == []


def test_the_number_of_files_keeps_its_bound(finished: hpc_heatmap.Run) -> None:
    files = [p for p in finished.root.rglob("*") if p.is_file()]
    tasks = len(read_records(finished.paths))
    arrays = len(list(finished.paths.jobs.glob("*/*.sh")))
    assert len(files) <= 10 * len(finished.slides) + tasks + 2 * arrays + 10
