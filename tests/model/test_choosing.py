"""How a model is done is chosen once, and every task then gives the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import Tiny, descriptor, save_onnx, save_script
from slides import _stained_texture

import hpc_heatmap
from hpc_heatmap.model import (
    Descriptor,
    NetworkClassifier,
    Trial,
    choose_execution,
    known_execution,
    load_classifier,
    program_copy,
    read_descriptor,
)

DEMO = Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tissue(side: int) -> np.ndarray:
    return np.ascontiguousarray(_stained_texture(1)[:side, :side])


def trial_of(path: Path, stride: int, side: int, tolerance: float | None = None) -> Trial:
    return Trial(path, f"sha of {path.name}", stride, 16, [tissue(side)], tolerance)


def test_the_demo_model_becomes_a_program_that_gives_the_same(tmp_path):
    fed = read_descriptor(DEMO.with_suffix(".json"))
    plain = load_classifier(DEMO, fed, channels_last=True)
    chosen = choose_execution(plain, trial_of(DEMO, 16, 192, 0.02))
    assert chosen.backend == "program" and chosen.reason
    assert chosen.compared_windows >= 8
    assert chosen.difference <= (1e-5 if chosen.precision == "float32" else 0.02)
    # Asked again, the trial that is kept says the same; exact ways are then compared less.
    again = choose_execution(plain, trial_of(DEMO, 16, 192, 0.02))
    compared = {"compared_windows", "difference"}
    assert again.model_dump(exclude=compared) == chosen.model_dump(exclude=compared)
    assert 6 <= again.compared_windows <= chosen.compared_windows

    file = tmp_path / "program.npz"
    file.write_bytes(program_copy(DEMO, "sha of model.pt2", fed))
    loaded = load_classifier(DEMO, fed, execution=chosen, program=file)
    again = load_classifier(DEMO, fed, execution=chosen, program=tmp_path / "none.npz")
    prepared = loaded.prepare(tissue(192))
    windows = [loaded.cut(prepared, top, 10) for top in range(0, 96, 16)]
    scores = loaded.scores(windows)
    np.testing.assert_array_equal(again.scores(windows), scores)
    if chosen.precision == "float32":
        np.testing.assert_allclose(plain.scores(windows), scores, atol=1e-5)
    file.write_bytes(b"damaged")
    damaged = load_classifier(DEMO, fed, execution=chosen, program=file)
    np.testing.assert_array_equal(damaged.scores(windows), scores)


@pytest.mark.parametrize("save", [save_script, save_onnx])
def test_what_cannot_gain_is_run_as_it_is(tmp_path, save):
    path = save(tmp_path / ("m.onnx" if save is save_onnx else "m.pt"), Tiny())
    classifier = load_classifier(path, Descriptor(**descriptor()))
    chosen = choose_execution(classifier, trial_of(path, 8, 64))
    assert chosen.backend == "model" and chosen.cut is None
    assert "ONNX" in chosen.reason or "too small" in chosen.reason


def test_without_pixels_nothing_is_chosen():
    fed = read_descriptor(DEMO.with_suffix(".json"))
    classifier = load_classifier(DEMO, fed)
    chosen = choose_execution(classifier, Trial(DEMO, "x", 16, 16, []))
    assert chosen.backend == "model" and "no slide gave pixels" in chosen.reason


def test_a_program_is_captured_once_by_a_user(tmp_path, monkeypatch):
    from hpc_heatmap.model import capture, program_cache

    fed = read_descriptor(DEMO.with_suffix(".json"))
    first = program_copy(DEMO, "a sha", fed)
    (kept,) = (tmp_path / "cache" / "hpc-heatmap" / "programs").iterdir()
    monkeypatch.setattr(program_cache, "_captured", {})
    monkeypatch.setattr(capture, "capture", None)
    assert program_copy(DEMO, "a sha", fed) == first
    # What is damaged is made again.
    kept.write_bytes(b"damaged")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program_cache, "_captured", {})
    assert program_copy(DEMO, "a sha", fed) == first


def test_fewer_multiplications_are_left_where_they_round_too_much(monkeypatch):
    """A model may be so sensitive that its scores change: here the points are as bad as can be."""
    from hpc_heatmap.model import winograd

    plain = load_classifier(DEMO, read_descriptor(DEMO.with_suffix(".json")), channels_last=True)
    monkeypatch.setattr("hpc_heatmap.model.runtimes.installed", list)
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", 1)
    assert choose_execution(plain, trial_of(DEMO, 96, 192)).winograd
    monkeypatch.setattr(winograd, "_POINTS", (0.0, 1.0, -1.0, 1000.0, -1000.0))
    chosen = choose_execution(plain, trial_of(DEMO, 96, 192))
    assert chosen.backend == "program" and not chosen.winograd
    assert chosen.difference <= 1e-5


def test_a_choice_is_known_for_the_same_pixels_alone():
    fed = read_descriptor(DEMO.with_suffix(".json"))
    plain = load_classifier(DEMO, fed, channels_last=True)
    asked = trial_of(DEMO, 96, 192)
    assert known_execution(asked) is None
    chosen = choose_execution(plain, asked)
    assert known_execution(asked) == chosen
    others = [patch[::-1] for patch in asked.patches]
    for other in (
        replace(asked, patches=others),
        replace(asked, sha256="another"),
        replace(asked, fed="otherwise"),
        replace(asked, tolerance=0.02),
        replace(asked, stride_px=48),
    ):
        assert known_execution(other) is None


def test_shared_layers_that_differ_are_not_used(monkeypatch):
    """However fast; and at no other stride either."""
    shared_scores = NetworkClassifier.shared_scores

    def wrong(self, *asked):
        for scores in shared_scores(self, *asked):
            yield scores + 1e-4

    monkeypatch.setattr(NetworkClassifier, "shared_scores", wrong)
    # Windows alone would be chosen first if they were as fast in a trial, as beside other work.
    monkeypatch.setattr("hpc_heatmap.model.runtimes.installed", list)
    monkeypatch.setattr(
        "hpc_heatmap.model.trials.Speeds.windows_per_s",
        lambda self, ways: {name: 1.0 if way.cut is None else 2.0 for name, way in ways.items()},
    )
    fed = read_descriptor(DEMO.with_suffix(".json"))
    plain = load_classifier(DEMO, fed, channels_last=True)
    chosen = choose_execution(plain, trial_of(DEMO, 16, 192))
    assert chosen.backend == "program" and chosen.cut is None and not chosen.share
    assert "torch differs by 1.0e-04" in chosen.reason
    assert "shared layers differ" in chosen.reason


def test_a_program_that_differs_leaves_the_model_as_it_is(monkeypatch):
    from hpc_heatmap.model import choosing

    made_of = choosing._Choice._made_of

    def wrong(self, way):
        made = made_of(self, way)
        made.lesion_index = 1 - made.lesion_index
        return made

    monkeypatch.setattr(choosing._Choice, "_made_of", wrong)
    fed = read_descriptor(DEMO.with_suffix(".json"))
    plain = load_classifier(DEMO, fed, channels_last=True)
    chosen = choose_execution(plain, trial_of(DEMO, 96, 192))
    assert chosen.backend == "model" and "torch differs by" in chosen.reason
