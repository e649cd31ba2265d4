"""`classify` and `evaluate slides`: from finished runs to areas, and one sentence a mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest
from slides import landmark_slide

from hpc_heatmap import FunctionClassifier, RunSettings, start_run
from hpc_heatmap.cli.app import main
from hpc_heatmap.evaluation.auc import auc, compare

WINDOW_PX = 32
#: Radius of the dark disc on each slide; the large ones are called tumour.
RADII = {"a": 70, "b": 60, "c": 50, "d": 20, "e": 55, "f": 14}
TUMOUR = {"a", "b", "c"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of six slides, at strides 8 and 16."""
    folder = tmp_path_factory.mktemp("classify")
    slides = [
        landmark_slide(
            folder / f"{name}.tiff", 420, 360, (200, 180), radius, glass_px=(64,) * 4,
            downsamples=(1, 4),
        )
        for name, radius in RADII.items()
    ]  # fmt: skip
    found = []
    for stride in (8, 16):
        model = FunctionClassifier(lambda w: 1 - w.mean(axis=(1, 2, 3)) / 255, WINDOW_PX)
        run = start_run(slides, model, folder / f"R{stride}", settings=RunSettings(stride=stride))
        run.resume(model=model)
        found.append(run.root)
    lines = [f"{name}.tiff,{int(name in TUMOUR)}" for name in RADII]
    (folder / "labels.csv").write_text("slide,tumour\n" + "\n".join(lines) + "\n")
    return folder, *found


def call(capfd, *arguments):
    capfd.readouterr()
    return main([str(a) for a in arguments]), *capfd.readouterr()


def test_from_runs_to_a_paired_comparison(runs, tmp_path, capfd):
    folder, fine, coarse = runs
    labels = folder / "labels.csv"
    table, forest = tmp_path / "features.csv", tmp_path / "forest.skops"
    assert call(capfd, "classify", "features", fine, "--out", table)[0] == 0
    given = ["--features", table, "--labels", labels, "--truth", "tumour"]
    assert call(capfd, "classify", "fit", *given, "--out", forest)[0] == 0
    scored = tmp_path / "scores.csv"
    done = call(capfd, "classify", "predict", forest, "--features", table, "--out", scored)
    assert done[0] == 0
    rows = [line.split(",") for line in scored.read_text().splitlines()[1:]]
    assert [name for name, _ in rows] == list(RADII)
    truth = [name in TUMOUR for name in RADII]
    common = [fine, coarse, "--labels", labels, "--truth", "tumour", "--json"]
    picture, out = tmp_path / "roc.png", tmp_path / "all.csv"
    code, text, _ = call(
        capfd, "evaluate", "slides", *common, "--forest", forest, "--picture", picture,
        "--scores-out", out,
    )  # fmt: skip
    assert code == 0 and picture.exists()
    answer = json.loads(text)
    assert answer["auc"] == auc(truth, [float(value) for _, value in rows]).auc == 1
    columns = np.array([line.split(",")[1:] for line in out.read_text().splitlines()[1:]], float)
    expected = compare(columns[:, 0].astype(bool), columns[:, 1], columns[:, 2])
    assert answer["compare"]["difference"] == expected.difference
    assert answer["compare"]["difference_se"] == pytest.approx(expected.se)
    code, text, _ = call(capfd, "evaluate", "slides", *common, "--score", "largest_area")
    # Slide e has a larger disc than c.
    assert code == 0 and json.loads(text)["auc"] == pytest.approx(8 / 9)
    assert json.loads(text)["compare"]["auc"] == pytest.approx(8 / 9)


def test_bad_requests(runs, tmp_path, capfd):
    folder, fine, _ = runs
    labels = folder / "labels.csv"
    few = tmp_path / "few.csv"
    few.write_text("slide,tumour\na,1\nb,0\n")
    twice = tmp_path / "twice.csv"
    twice.write_text("slide,tumour\na,1\na,0\n")
    one = tmp_path / "one.csv"
    one.write_text("slide,tumour\n" + "".join(f"{name},1\n" for name in RADII))
    anonymous = tmp_path / "anonymous.csv"
    anonymous.write_text("x,tumour\na,1\nb,0\n")
    base = ["evaluate", "slides", fine, "--truth", "tumour", "--labels"]
    for arguments, words in (
        ([*base, few], "has no row among the labels"),
        ([*base, twice], "stands in lines 2 and 3"),
        ([*base, one], "every slide is positive"),
        ([*base, anonymous], "no column that names the slide"),
        ([*base, labels, "--score", "size"], "There is no slide score 'size'"),
        ([*base, labels, "--forest", labels], "is no forest"),
        ([*base, labels, "--picture", tmp_path / "a.gif"], "must end with .svg or .png"),
        (["classify", "fit", "--features", few, "--truth", "t", "--out", "a.pkl"], ".skops"),
        (["classify", "features", fine, "--out", tmp_path], "is a folder"),
    ):
        code, out, err = call(capfd, *arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert words in err and err.count("\n") == 1


def test_an_unfinished_run_is_named(runs, tmp_path, capfd):
    folder, _, _ = runs
    model = FunctionClassifier(lambda w: 1 - w.mean(axis=(1, 2, 3)) / 255, WINDOW_PX)
    run = start_run([folder / "a.tiff"], model, tmp_path / "RUN")
    code, _, err = call(capfd, "classify", "features", run.root, "--out", tmp_path / "f.csv")
    assert code == 2 and "hpc-heatmap resume" in err
