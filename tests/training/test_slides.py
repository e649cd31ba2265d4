"""Patches from slides: labels are true to the outlines, and no slide is on both sides."""

from __future__ import annotations

import json

import numpy as np
import pytest
from patch_sets import dark_slide
from PIL import Image

from hpc_heatmap import FunctionClassifier, RunSettings, start_run
from hpc_heatmap.errors import EvaluationError, RunConflictError, TrainingError
from hpc_heatmap.training.settings import TrainingSettings
from hpc_heatmap.training.slides import SlideCutter
from hpc_heatmap.training.sources import TrainingSources

SETTINGS = TrainingSettings(patch=48, window=32, patches_per_slide=30, mask_level=2, seed=3)
CENTRES = {"a": (400, 380), "b": (450, 400), "c": (420, 430), "n": (400, 400)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three slides with an outlined dark tumour; n has a dark disc that nobody outlined."""
    root = tmp_path_factory.mktemp("slides")
    for name, centre in CENTRES.items():
        dark_slide(root, name, annotated=name != "n", centre=centre)
    return root


def cutter(folder, *, hold_out=True, slides=("slides",), outlines="outlines", **changes):
    sources = TrainingSources(
        slides=tuple(folder / name for name in slides), outlines=folder / outlines
    )
    settings = SETTINGS.model_copy(update=changes)
    return SlideCutter(sources, settings, hold_out=hold_out, on_progress=lambda *_: None)


def dark_share(image):
    """The disc is a third as bright as the tissue; glass is brighter."""
    return float((image.astype(float).sum(axis=2) < 300).mean())


def test_labels_are_true_to_the_outlines(folder):
    slides = tuple(f"slides/{name}.tif" for name in "abc")
    cut = cutter(folder, slides=slides).cut()
    parts = [*cut.train, *cut.valid]
    assert [len(part) for part in parts] == [30] * 6
    for part in parts:
        for image, label in zip(part.images, part.labels, strict=True):
            # A mask pixel of 4 px is tumour where an outline falls into it.
            assert dark_share(image) >= 0.4 if label else dark_share(image) == 0
    assert {int(label) for part in parts for label in part.labels} == {0, 1}
    assert "180 random patches from 3 slides, 3 with tumour" in cut.origin


def test_patches_reach_all_of_the_tumour(folder):
    part = cutter(folder, slides=("slides/a.tif", "slides/b.tif"), patches_per_slide=200).cut()
    shares = np.array([dark_share(image) for image in part.train[1].images])
    assert (shares == 1).any()
    assert (shares < 0.8).any()


def test_the_same_seed_gives_the_same_patches_whatever_other_slides_there_are(folder):
    alone = cutter(folder, hold_out=False, slides=("slides/b.tif",)).cut()
    among = cutter(folder, hold_out=False).cut()
    assert {part.sha256() for part in alone.train} <= {part.sha256() for part in among.train}
    other = cutter(folder, hold_out=False, slides=("slides/b.tif",), seed=4).cut()
    assert {p.sha256() for p in alone.train}.isdisjoint({p.sha256() for p in other.train})


def test_validation_is_of_slides_of_its_own(folder):
    cut = cutter(folder).cut()
    assert len(cut.valid) == 2, "one slide with both classes"
    assert len(cut.train) == 5, "two slides with both classes, and the normal one"
    (split,) = cut.splits
    assert split.startswith("1 slides held out")


def test_patches_are_read_at_the_requested_spacing(folder):
    one = cutter(folder, hold_out=False, slides=("slides/a.tif",), requested_spacing=1.0)
    cut = one.cut()
    assert cut.train[0].side_px == 48
    assert max(dark_share(image) for image in cut.train[1].images) == 1


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """Darkness taken for tumour: right on a, wrong on n."""
    model = FunctionClassifier(lambda w: (w.mean(axis=(1, 2, 3)) < 100) * 0.9, 32, 0.5)
    slides = [folder / "slides" / f"{name}.tif" for name in "an"]
    settings = RunSettings(stride=16, tissue_method="all")
    out = tmp_path_factory.mktemp("run") / "run"
    started = start_run(slides, model, out, settings=settings)
    started.resume(model=model)
    return started.root


def test_hard_negatives_are_false_positives_alone(folder, run):
    mined, origin = cutter(folder, hold_out=False, slides=()).mine(run)
    assert len(mined) > 20
    assert not mined.labels.any()
    # Those of slide a touch no tumour, so that the dark ones are of the disc of slide n.
    assert all(dark_share(image) > 0.3 for image in mined.images)
    assert "from 2 slides of a run" in origin


def test_hard_negatives_of_slides_held_out_are_left_out(folder, run):
    held = cutter(folder, hold_out=False, slides=())
    held._held = {"n"}
    with pytest.raises(TrainingError, match="has no false positive with a score of"):
        held.mine(run)


def test_hard_negatives_need_a_run(folder, tmp_path):
    with pytest.raises(RunConflictError, match="is no run directory"):
        cutter(folder, hold_out=False, slides=()).mine(tmp_path)


def test_slides_without_outlines(folder):
    with pytest.raises(TrainingError, match="None of the slides has outlines in"):
        cutter(folder, slides=("slides/n.tif",))
    with pytest.raises(TrainingError, match="a is the only slide with tumour"):
        cutter(folder, slides=("slides/a.tif", "slides/n.tif"))


def test_a_mask_of_another_level(folder, tmp_path):
    Image.fromarray(np.ones((100, 112), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(TrainingError, match="has 112 x 100 px, but the slide has 225 x 200"):
        cutter(folder, hold_out=False, slides=("slides/a.tif",), outlines=tmp_path).cut()


def test_outlines_without_tumour_and_outside_of_the_slide(folder, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"positive": [], "negative": []}))
    one = {"hold_out": False, "slides": ("slides/a.tif",), "outlines": tmp_path}
    with pytest.raises(EvaluationError, match="holds no outline of tumour"):
        cutter(folder, **one).cut()
    far = [[5000, 5000], [6000, 5000], [6000, 6000]]
    path.write_text(json.dumps({"positive": [{"name": "x", "vertices": far}]}))
    with pytest.raises(EvaluationError, match="outside of the slide"):
        cutter(folder, **one).cut()


def test_no_tissue_to_cut_from(folder):
    with pytest.raises(TrainingError, match="No patch of 900 px inside tissue could be cut"):
        cutter(folder, hold_out=False, patch=900).cut()
