"""`tradeoff` against runs at the wider strides themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from slides import landmark_slide

from hpc_heatmap import FunctionClassifier, RunSettings, open_run, start_run
from hpc_heatmap.cli.app import main
from hpc_heatmap.formats.camelyon_csv import detections_of, write_camelyon_csv
from hpc_heatmap.formats.lesion_files import read_lesions_csv

WINDOW_PX = 32
#: Radius and number of dark discs; normal slides have small ones or none.
DISCS = {"a": 70, "b": 60, "c": 52, "d": 0, "e": 26}
TUMOUR = {"a", "b", "c"}
SETTINGS = {"threshold": 0.7, "patches_per_group": 64}


def run_at(stride, slides, out, **more):
    model = FunctionClassifier(lambda w: 1 - w.mean(axis=(1, 2, 3)) / 255, WINDOW_PX)
    run = start_run(slides, model, out, settings=RunSettings(stride=stride, **SETTINGS, **more))
    run.resume(model=model)
    return run.root


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A run at stride 8, its truth, and the slides."""
    folder = tmp_path_factory.mktemp("tradeoff")
    slides = []
    (folder / "masks").mkdir()
    for name, radius in DISCS.items():
        path = landmark_slide(
            folder / f"{name}.tiff", 420, 360, (200, 180), radius, glass_px=(64,) * 4,
            downsamples=(1, 4),
        )  # fmt: skip
        slides.append(path)
        if name in TUMOUR:
            y, x = np.mgrid[:180, :210]
            mask = np.hypot(2 * x - 200, 2 * y - 180) <= radius
            Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    lines = [f"{name},{int(name in TUMOUR)}" for name in DISCS]
    (folder / "labels.csv").write_text("slide,tumour\n" + "\n".join(lines) + "\n")
    return folder, slides, run_at(8, slides, folder / "fine")


FROC = ["--mask-level", "1", "--spacing", "5"]


def call(capfd, *arguments):
    capfd.readouterr()
    return main([str(a) for a in arguments]), *capfd.readouterr()


def truth_of(folder):
    labels = ["--labels", folder / "labels.csv", "--truth", "tumour", "--score", "largest_area"]
    return ["--masks", folder / "masks", *FROC, *labels]


def test_a_wider_stride_is_as_a_run_of_its_own(case, tmp_path, capfd):
    wider = 16
    folder, slides, fine = case
    own = open_run(run_at(wider, slides, tmp_path / "own"))
    for name, slide in own.slides.items():
        marks = detections_of(read_lesions_csv(slide.files.lesions_csv))
        write_camelyon_csv(tmp_path / "detections" / f"{name}.csv", marks)
    code, out, _ = call(
        capfd, "tradeoff", fine, "--strides", "8", wider, "--out", tmp_path / "t", "--json",
        *truth_of(folder), "--bootstrap", "200",
    )  # fmt: skip
    assert code == 0
    first, row = json.loads(out)["strides"]
    assert (first["stride"], row["stride"]) == (8, wider)
    given = ["--detections", tmp_path / "detections", "--masks", folder / "masks", *FROC]
    text = call(
        capfd, "evaluate", "froc", *given, "--bootstrap", "200", "--json", "--quiet"
    )[1]  # fmt: skip
    expected = json.loads(text)
    assert row["froc"]["score"] == expected["score"]
    assert row["froc"]["sensitivity"] == expected["sensitivity"]
    assert row["froc"]["ci"] == expected["ci"]
    arguments = ["--labels", folder / "labels.csv", "--truth", "tumour", "--score", "largest_area"]
    expected = json.loads(call(capfd, "evaluate", "slides", own.root, *arguments, "--json")[1])
    assert row["auc"] == {key: expected[key] for key in ("auc", "se", "ci")}
    status = own.status().slides.values()
    assert row["windows"] == sum(s.summary.n_windows for s in status if s.summary)
    assert 0 < row["core_hours"] < first["core_hours"]
    files = {path.name for path in (tmp_path / "t").iterdir()}
    assert files == {"tradeoff.md", "tradeoff.json", "roc.png", "froc.png", "cost.png"}


def test_strides_by_themselves_and_a_gate(case, tmp_path, capfd):
    folder, _, fine = case
    common = ["tradeoff", fine, "--out", tmp_path / "t", "--bootstrap", "0", *truth_of(folder)]
    code, out, _ = call(capfd, *common, "--json")
    rows = json.loads(out)["strides"]
    assert code == 0 and [row["stride"] for row in rows] == [8, 16, 32]
    gated = json.loads(call(capfd, *common, "--json", "--gate", "1e9")[1])["strides"]
    assert rows[0]["lesions"] >= 3 and {row["lesions"] for row in gated} == {0}
    assert {row["froc"]["score"] for row in gated} == {0}
    code, out, _ = call(capfd, *common, "--quiet")
    page = (tmp_path / "t" / "tradeoff.md").read_text()
    assert code == 0 and "Table IV" in page and "Table V" in page and "Table V" in out


def test_bad_requests(case, tmp_path, capfd):
    folder, _, fine = case
    out = ["--out", tmp_path / "t"]
    lesions = ["--masks", folder / "masks", *FROC]
    slides = ["--labels", folder / "labels.csv", "--truth", "tumour"]
    for arguments, words in (
        (out, "Give the truth"),
        ([*out, *lesions, "--strides", "12"], "--strides 12: this run has a stride of 8 px"),
        ([*out, *lesions, "--strides", "64"], "up to its window of 32 px"),
        ([*out, "--labels", folder / "labels.csv"], "go together"),
        ([*out, *lesions, "--gate", "0.5"], "needs slide scores"),
        ([*out, *slides, "--score", "size"], "There is no slide score"),
        (["--out", folder / "labels.csv", *slides], "is a file"),
        ([*out, "--masks", folder / "none"], "neither a folder of masks"),
    ):
        code, _, err = call(capfd, "tradeoff", fine, *arguments, "--quiet")
        assert code == 2 and words in err and err.count("\n") == 1, (arguments, err)
        assert not (tmp_path / "t").exists()
