"""The mean of two runs, and lesions found again on a run's heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
from slides import landmark_slide

from hpc_heatmap import FunctionClassifier, Run, RunSettings, average_runs, open_run, start_run
from hpc_heatmap.cli.app import main
from hpc_heatmap.errors import RunConflictError
from hpc_heatmap.evaluation.detections import read_detections
from hpc_heatmap.formats.lesion_files import read_lesions_csv
from hpc_heatmap.runs.status import State

WINDOW_PX = 32
#: Two models: darkness of red, and of green.
MODELS = [
    FunctionClassifier(lambda w, c=c: 1 - w[..., c].mean(axis=(1, 2)) / 255, WINDOW_PX)
    for c in (0, 1)
]


def run_of(slides, model, out, **settings) -> Run:
    chosen = RunSettings(**{"stride": 16, "threshold": 0.6, "patches_per_group": 20} | settings)
    run = start_run(slides, model, out, settings=chosen)
    run.resume(model=model)
    return run


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaging")
    slides = [
        landmark_slide(
            folder / f"{name}.tiff", 420, 360, (200, 180), radius, glass_px=(64,) * 4,
            downsamples=(1, 4),
        )
        for name, radius in (("a", 70), ("b", 0))
    ]  # fmt: skip
    runs = [run_of(slides, model, folder / f"R{k}") for k, model in enumerate(MODELS)]
    return slides, runs


def scores_of(run, slide):
    with run.slides[slide].heatmap as heatmap:
        return heatmap.dataset()[:]


def test_scores_are_the_means_and_lesions_are_of_them(case, tmp_path):
    _, runs = case
    made = average_runs(runs, tmp_path / "mean")
    assert made.status().state is State.DONE
    for slide in made.slides:
        both = [scores_of(run, slide).astype(np.float64) for run in runs]
        np.testing.assert_array_equal(scores_of(made, slide), np.mean(both, 0).astype(np.float32))
    (lesion,) = read_lesions_csv(made.slides["a"].files.lesions_csv)
    assert 0.6 < lesion.score < 1 and lesion.x_px == pytest.approx(200, abs=16)
    assert not read_lesions_csv(made.slides["b"].files.lesions_csv)
    # Begun before: what is there is kept, what is missing is made again.
    made.slides["a"].files.heatmap.unlink()
    made.slides["a"].files.slide_scores.unlink()
    again = average_runs([run.root for run in runs], tmp_path / "mean")
    assert again.status().state is State.DONE
    assert open_run(tmp_path / "mean").file.provenance["averaged"] == [str(r.root) for r in runs]


def test_runs_that_differ_are_refused(case, tmp_path, capfd):
    slides, runs = case
    coarse = run_of(slides, MODELS[0], tmp_path / "coarse", stride=32)
    groups = run_of(slides, MODELS[0], tmp_path / "groups", patches_per_group=7)
    planned = start_run(slides, MODELS[0], tmp_path / "plan", settings=RunSettings(stride=16))
    for others, words in (
        ([], "name two or more"),
        ([coarse], "have another stride"),
        ([groups], "other groups"),
        ([planned], "is not finished"),
    ):
        with pytest.raises(RunConflictError, match=words):
            average_runs([runs[0], *others], tmp_path / "out")
        assert not (tmp_path / "out").exists()
    paths = [str(runs[0].root), str(coarse.root), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["average", *paths]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert main(["average", *map(str, (r.root for r in runs)), "--out", str(tmp_path / "o")]) == 0


def lesions(capfd, run, out, *more):
    capfd.readouterr()
    code = main(["lesions", str(run.root), "--out", str(out), *map(str, more)])
    return code, capfd.readouterr().err


def test_lesions_again_by_another_rule_and_with_a_gate(case, tmp_path, capfd):
    _, (run, _) = case
    assert lesions(capfd, run, tmp_path / "same")[0] == 0
    own = read_lesions_csv(run.slides["a"].files.lesions_csv)
    found = read_detections(tmp_path / "same" / "a.csv")
    np.testing.assert_allclose(found.probability, [le.score for le in own], atol=1e-6)
    assert (tmp_path / "same" / "b.csv").read_bytes() == b""
    nms = ["--method", "nms-ncrf", "--threshold", "0.6"]
    assert lesions(capfd, run, tmp_path / "nms", *nms)[0] == 0
    peaks = read_detections(tmp_path / "nms" / "a.csv")
    assert peaks.probability[0] == pytest.approx(own[0].max_score, abs=1e-6)
    table = tmp_path / "scores.csv"
    table.write_text("slide,score\na,0.2\nb,0.9\n")
    gate = ["--scores", table, "--gate"]
    assert lesions(capfd, run, tmp_path / "gate", *gate, "0.5")[0] == 0
    assert (tmp_path / "gate" / "a.csv").read_bytes() == b""
    assert lesions(capfd, run, tmp_path / "open", *gate, "0.1")[0] == 0
    assert (tmp_path / "open" / "a.csv").read_bytes() == (tmp_path / "same" / "a.csv").read_bytes()


def test_bad_requests_for_lesions(case, tmp_path, capfd):
    _, (run, _) = case
    table = tmp_path / "scores.csv"
    table.write_text("slide,score\na,0.2\n")
    for more, words in (
        (["--gate", "0.5"], "go together"),
        (["--gate", "0.5", "--scores", table], "no slide score of b"),
        (["--gate", "0.5", "--scores", table, "--score", "p"], "has no column p"),
        (["--threshold", "1.5"], "above 0 and below 1"),
        (["--method", "eyes"], "eyes"),
    ):
        code, err = lesions(capfd, run, tmp_path / "out", *more)
        assert code == 2 and words in err and err.count("\n") == 1
        assert not (tmp_path / "out").exists()
