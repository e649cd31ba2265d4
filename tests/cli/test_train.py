"""`train`: what it writes, that it goes on, and one sentence for each mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from patch_sets import dark_slide, patch_set, write_patches
from PIL import Image

from hpc_heatmap.cli.app import main
from hpc_heatmap.model import check_classifier, load_classifier, read_descriptor
from hpc_heatmap.training import training
from hpc_heatmap.training.export import load_exported

QUICK = ["--network", "patch-resnet", "--window", "32", "--epochs", "2", "--batch", "16"]


def train(capfd, *arguments):
    capfd.readouterr()
    return main(["train", *map(str, arguments)]), *capfd.readouterr()


def refused(result, words, out=None):
    code, printed, err = result
    assert (code, printed) == (2, ""), err
    assert err.startswith("hpc-heatmap: ")
    assert err.count("\n") == 1
    assert words in err
    assert out is None or not out.exists(), "nothing was written"


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches")
    write_patches(folder / "train", 24)
    write_patches(folder / "valid", 8, seed=1)
    return folder


@pytest.fixture(scope="module")
def trained(patches, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", "--patches", str(patches), "--out", str(out), "--quiet", *QUICK]) == 0
    return out


def test_what_is_written(trained):
    assert {path.name for path in trained.iterdir()} == {
        "training.json", "training_log.csv", "learning_curves.png", "model.pt2", "model.json",
        "MODEL_CARD.md",
    }  # fmt: skip
    lines = (trained / "training_log.csv").read_text().splitlines()
    assert lines[0] == "epoch,train_loss,valid_loss,valid_auc"
    assert len(lines) == 3
    card = (trained / "MODEL_CARD.md").read_text()
    assert f"{max(float(line.split(',')[3]) for line in lines[1:]):.4f}" in card
    assert "\nhpc-heatmap train --out " in card
    assert " --network patch-resnet --window 32 --epochs 2 --batch 16\n" in card
    assert "Not a medical device" in card
    assert "{" not in card
    with Image.open(trained / "learning_curves.png") as picture:
        assert picture.size == (1120, 840)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_the_model_is_one_that_runs_take(trained):
    descriptor = read_descriptor(trained / "model.json")
    classifier = load_classifier(trained / "model.pt2", descriptor)
    check_classifier(classifier, 16)
    valid = patch_set(8, seed=1)
    windows = [classifier.cut(classifier.prepare(image), 4, 4) for image in valid.images]
    scores = np.asarray(classifier.scores(windows))
    assert scores[valid.labels == 1].mean() > scores[valid.labels == 0].mean()


def test_the_same_command_twice(capfd, patches, trained, tmp_path):
    """In another directory it gives the same weights; in the same one it has nothing to do."""
    before = (trained / "model.pt2").stat().st_mtime_ns
    code, out, _ = train(capfd, "--patches", patches, "--out", trained, *QUICK)
    assert (code, (trained / "model.pt2").stat().st_mtime_ns) == (0, before)
    assert "complete" in out
    assert train(capfd, "--patches", patches, "--out", tmp_path / "again", *QUICK)[0] == 0
    mine = load_exported(trained / "model.pt2").state_dict()
    theirs = load_exported(tmp_path / "again" / "model.pt2").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_training_that_was_stopped_goes_on(capfd, patches, trained, tmp_path, monkeypatch):
    out = tmp_path / "stopped"

    def interrupt(folder, log, n_epochs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "_write_log", interrupt)
        code, _, err = train(capfd, "--patches", patches, "--out", out, *QUICK)
    assert code == 1
    assert "the same command goes on" in err
    assert (out / "checkpoint.pt").is_file()
    assert not (out / "model.pt2").exists()
    code, printed, _ = train(capfd, "--patches", patches, "--out", out, *QUICK)
    assert code == 0
    assert printed.count("epoch ") == 2
    assert not (out / "checkpoint.pt").exists()
    mine = load_exported(trained / "model.pt2").state_dict()
    theirs = load_exported(out / "model.pt2").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_from_slides_with_outlines(capfd, tmp_path):
    for name, centre in {"a": (400, 380), "b": (450, 400)}.items():
        dark_slide(tmp_path, name, annotated=True, centre=centre)
    out = tmp_path / "model"
    code, printed, err = train(
        capfd, "--slides", tmp_path / "slides", "--outlines", tmp_path / "outlines", "--out", out,
        "--patch", "40", "--patches-per-slide", "20", "--mask-level", "2",
        "--requested-spacing", "0.5", *QUICK,
    )  # fmt: skip
    assert code == 0, err
    assert "Validation AUC" in printed
    assert json.loads((out / "model.json").read_text())["spacing_um_px"] == 0.5
    card = (out / "MODEL_CARD.md").read_text()
    assert "1 slides held out" in card
    assert "80 random patches from 2 slides" in card


def test_another_training_is_refused(capfd, patches, trained, tmp_path):
    given = ("--patches", patches, "--out", trained)
    refused(train(capfd, *given, *QUICK, "--seed", "9"), "seed is 1, asked 9")
    other = write_patches(tmp_path / "other", 24, seed=5)
    refused(train(capfd, "--patches", other, "--out", trained, *QUICK), "holds another training")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    refused(
        train(capfd, "--patches", patches, "--out", tmp_path / "full", *QUICK),
        "holds something else than a training",
    )
    refused(
        train(capfd, "--patches", patches, "--out", tmp_path / "full" / "thesis.tex", *QUICK),
        "is a file",
    )


def test_a_damaged_checkpoint(capfd, patches, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "training.json").write_text('{"format": "something else"}')
    refused(train(capfd, "--patches", patches, "--out", out, *QUICK), "is not the file of a")
    (out / "training.json").unlink()
    train(capfd, "--patches", patches, "--out", out, *QUICK)
    (out / "model.pt2").unlink()
    (out / "checkpoint.pt").write_bytes(b"PK damaged")
    code, _, err = train(capfd, "--patches", patches, "--out", out, *QUICK)
    assert code == 1
    assert "delete it to train from the beginning" in err


def test_requests_that_cannot_be(capfd, patches, tmp_path):
    out = tmp_path / "out"
    refused(train(capfd, "--out", out), "There are no patches to train on", out)
    refused(train(capfd, "--slides", patches, "--out", out), "give --outlines", out)
    refused(
        train(capfd, "--patches", tmp_path / "absent", "--out", out), "neither a folder of", out
    )
    refused(train(capfd, "--patches", patches, "--out", out), "give --window 40 or less", out)
    refused(
        train(capfd, "--patches", patches, "--out", out, *QUICK, "--epochs", "0"), "--epochs", out
    )
    one_class = write_patches(tmp_path / "one", 4, seed=7)
    for path in (one_class / "tumor").iterdir():
        path.unlink()
    refused(
        train(capfd, "--patches", one_class, "--out", out, *QUICK),
        "The training patches are 4 normal and 0 tumour: both classes are needed",
        out,
    )
    refused(
        train(
            capfd, "--patches", patches / "train", "--valid-patches", one_class, "--out", out,
            *QUICK,
        ),
        "The validation patches are 4 normal and 0 tumour",
        out,
    )  # fmt: skip
