"""Bad input: one clear sentence, the right exit code, and nothing half-written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import REAL_SLIDES
from models import Nan, Tiny, save_onnx, save_script, tiny_model, write_descriptor
from slides import corrupt_tile, landmark_slide, truncate, two_level_blank

from hpc_heatmap import FunctionClassifier, Run, RunSettings, open_run, start_run
from hpc_heatmap.cli.app import main
from hpc_heatmap.errors import (
    MissingSpacingError,
    ModelOutputError,
    ReadOnlyError,
    RunConflictError,
    SlideNotFoundError,
    SlideTooSmallError,
    StorageError,
    UnsupportedSlideError,
)
from hpc_heatmap.settings import GroupLayout

WINDOW_PX = 32
TILE_PX = 128


def good_slide(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {
        "spacing_um": 0.5, "downsamples": (1, 4), "tile_px": TILE_PX, "glass_px": (64, 64, 64, 64)
    }  # fmt: skip
    return landmark_slide(path, 600, 500, (300, 250), 60, **(arguments | changes))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good_slide(tmp_path_factory.mktemp("slide") / "good.tif")


def darkness(windows: Any) -> Any:
    return 1 - windows.mean(axis=(1, 2, 3)) / 255


FUNCTION = FunctionClassifier(darkness, WINDOW_PX, 0.5)
SETTINGS = RunSettings(stride=16, patches_per_group=16, threshold=0.6)


def score(slides: list[Path], out: Path, settings: RunSettings = SETTINGS) -> Run:
    """Do a whole run in this process."""
    run = start_run(slides, FUNCTION, out, settings=settings)
    run.resume(model=FUNCTION)
    return run


def scores_of(run: Run, name: str) -> np.ndarray:
    with run.slides[name].heatmap as heatmap:
        return np.asarray(heatmap.scores)


def content(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, with the bytes of files."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


class Refusal:
    """Runs a command that must be refused: exit code 2, one sentence, nothing written."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: Any, code: int = 2) -> str:
        self._capfd.readouterr()
        assert main([str(a) for a in arguments]) == code
        out, err = self._capfd.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("hpc-heatmap: ") and lines[0].endswith((".", "`"))
        for noise in ("Traceback", "Warning", "Error:", "None"):
            assert noise not in lines[0]
        return lines[0].removeprefix("hpc-heatmap: ")


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capfd)


# Slides that cannot be used


def bad_slides(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no slide, and what the sentence says."""
    good = good_slide(folder / "whole.tif")
    for share in (0.01, 0.5, 0.9):
        shutil.copyfile(good, folder / f"cut-{share}.tif")
        truncate(folder / f"cut-{share}.tif", share)
    (folder / "text.svs").write_text("not a slide\n")
    (folder / "empty.tif").write_bytes(b"")
    (folder / "noise.ndpi").write_bytes(np.random.default_rng(0).bytes(4096))
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("no slide here")
    (folder / "nothing").mkdir()
    no_slide = "is not a slide that OpenSlide can open"
    return {
        "missing": (folder / "none.svs", "There is no slide"),
        "text": (folder / "text.svs", no_slide),
        "empty": (folder / "empty.tif", no_slide),
        "noise": (folder / "noise.ndpi", no_slide),
        "header": (folder / "cut-0.01.tif", no_slide),
        "half": (folder / "cut-0.5.tif", no_slide),
        "most": (folder / "cut-0.9.tif", no_slide),
        "folder": (folder / "folder", "holds no slide"),
        "nothing": (folder / "nothing", "holds no slide"),
        "small": (good_slide(folder / "small.tif", spacing_um=5.0), "less than one patch of 64"),
        "spacing": (good_slide(folder / "spacing.tif", spacing_um=None), "--spacing UM"),
    }


KINDS = (
    "missing", "text", "empty", "noise", "header", "half", "most", "folder", "nothing", "small",
    "spacing",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_slide_is_refused(tmp_path: Path, model: Path, refused: Refusal, kind: str) -> None:
    path, words = bad_slides(tmp_path)[kind]
    if kind == "small":
        # Read at 0.5 um it would be ten times as large; at 50 um it is 60 x 50 px.
        sentence = refused(
            "run", path, "--model", model, "--out", tmp_path / "run", "--requested-spacing", 50
        )
        assert "60 x 50 px" in sentence
    else:
        sentence = refused("run", path, "--model", model, "--out", tmp_path / "run")
    assert words in sentence
    assert str(path) in sentence
    assert not (tmp_path / "run").exists()


def test_a_bad_slide_has_its_own_error(tmp_path: Path) -> None:
    expected = {
        "missing": SlideNotFoundError,
        "text": UnsupportedSlideError,
        "half": UnsupportedSlideError,
        "nothing": SlideNotFoundError,
        "spacing": MissingSpacingError,
    }
    slides = bad_slides(tmp_path)
    for kind, error in expected.items():
        with pytest.raises(error):
            start_run([slides[kind][0]], FUNCTION, tmp_path / "run")
    with pytest.raises(SlideTooSmallError):
        coarse = RunSettings(requested_spacing=50)
        start_run([slides["small"][0]], FUNCTION, tmp_path / "run", settings=coarse)
    assert not (tmp_path / "run").exists()


def test_a_slide_of_exactly_one_patch_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "one.tif"
    landmark_slide(path, 64, 64, (40, 40), 20, downsamples=(1,), tile_px=64)
    run = score([path], tmp_path / "run", SETTINGS.model_copy(update={"tissue_method": "all"}))
    assert np.isfinite(scores_of(run, "one")).all()
    landmark_slide(path, 63, 64, (40, 40), 20, downsamples=(1,), tile_px=64)
    with pytest.raises(SlideTooSmallError, match="63 x 64 px"):
        start_run([path], FUNCTION, tmp_path / "other")


def test_a_spacing_is_needed_only_where_one_is_asked_for(tmp_path: Path) -> None:
    path = good_slide(tmp_path / "slide.tif", spacing_um=None)
    expected = scores_of(score([good_slide(tmp_path / "said.tif")], tmp_path / "said"), "said")
    given = score([path], tmp_path / "given", SETTINGS.model_copy(update={"spacing": 0.5}))
    np.testing.assert_array_equal(scores_of(given, "slide"), expected)
    level_0 = FunctionClassifier(darkness, WINDOW_PX)
    run = start_run([path], level_0, tmp_path / "level-0", settings=SETTINGS)
    run.resume(model=level_0)
    np.testing.assert_array_equal(scores_of(run, "slide"), expected)


def test_no_tissue_at_all(tmp_path: Path) -> None:
    path = two_level_blank(tmp_path / "blank.tif", 600, 500)
    run = score([path], tmp_path / "run")
    status = run.status()
    assert status.state == "failed"
    (failure,) = status.slides["blank"].failures
    assert failure.reason.startswith(f"No tissue was found on {path} with the method 'otsu-hs'")
    files = run.slides["blank"].files
    assert [p.name for p in sorted(files.root.iterdir())] == ["grid.png"]
    every = score([path], tmp_path / "all", SETTINGS.model_copy(update={"tissue_method": "all"}))
    assert every.status().state == "done"


# A tile that cannot be decoded


@pytest.mark.parametrize("layout", ["slide-tiles", "tiles", "patches"])
def test_a_corrupt_tile_costs_its_patches_alone(tmp_path: Path, layout: str) -> None:
    settings = SETTINGS.model_copy(update={"group_layout": GroupLayout(layout)})
    compression = "jpeg" if layout == "slide-tiles" else "zlib"
    whole = good_slide(tmp_path / "a" / "s.tif", compression=compression)
    damaged = tmp_path / "b" / "s.tif"
    damaged.parent.mkdir()
    shutil.copyfile(whole, damaged)
    corrupt_tile(damaged, 0, 1 * 5 + 2)
    expected = scores_of(score([whole], tmp_path / "whole", settings), "s")
    run = score([damaged], tmp_path / "damaged", settings)
    scores = scores_of(run, "s")

    # The tile has the columns 256 to 383 and the rows 128 to 255. A cell of 32 px is lost where
    # its patch, 16 px wider on each side, touches them.
    # Point k lies at 16 k: the lattice has the centre of the first cell, 16, and begins at 0.
    rows, columns = (16 * np.arange(n) // WINDOW_PX for n in expected.shape)
    lost_rows = (rows * 32 - 16 < 256) & (rows * 32 + 48 > 128)
    lost_columns = (columns * 32 - 16 < 384) & (columns * 32 + 48 > 256)
    lost = lost_rows[:, None] & lost_columns[None, :]
    assert np.isfinite(expected[lost]).all() and lost.sum() == 12 * 12
    assert np.isnan(scores[lost]).all()
    np.testing.assert_array_equal(scores[~lost], expected[~lost])

    status = run.status().as_dict()
    assert status["state"] == "done"
    assert status["slides"]["s"]["unreadable_patches"] == 6 * 6
    with run.slides["s"].heatmap as heatmap:
        assert heatmap.attributes["unreadable_patches"] == 36


@pytest.mark.parametrize("compression", ["zlib", "jpeg"])
def test_a_slide_that_is_lost_whole_fails(tmp_path: Path, compression: str) -> None:
    damaged = good_slide(tmp_path / "s.tif", compression=compression)
    for tile in range(5 * 4):
        corrupt_tile(damaged, 0, tile)
    status = score([damaged], tmp_path / "run", SETTINGS).status()
    assert status.state == "failed"
    (failure,) = status.slides["s"].failures
    assert failure.error == "UnreadableSlideError"
    assert f"tissue patches of {damaged} can be decoded" in failure.reason
    files = [p.name for p in (tmp_path / "run" / "slides" / "s").iterdir()]
    assert "groups.h5" not in files and "summary.json" not in files


# Good and bad together


@pytest.mark.slow
def test_good_slides_are_finished_among_bad_ones(
    tmp_path: Path, slide: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.svs").write_text("not a slide\n")
    damaged = tmp_path / "damaged.tif"
    shutil.copyfile(slide, damaged)
    corrupt_tile(damaged, 0, 7)
    blank = two_level_blank(tmp_path / "blank.tif", 600, 500)
    paths = [tmp_path / "bad.svs", blank, slide, damaged]
    out = tmp_path / "run"
    write_descriptor(tmp_path / "model.json")
    model = save_onnx(tmp_path / "model.onnx", Tiny())
    arguments = ["run", *paths, "--model", model, "--out", out, "--stride", 32, "--quiet"]
    assert main([str(a) for a in arguments]) == 1
    printed, err = capfd.readouterr()
    done = [line.partition(":")[0] for line in printed.splitlines()]
    assert done == ["good", "damaged"]
    lines = [line.removeprefix("hpc-heatmap: ") for line in err.splitlines()]
    assert len(lines) == 4, err
    assert lines[0] == "36 patches of damaged could not be read; their scores are NaN."
    assert lines[1].startswith(f"bad: {tmp_path}/bad.svs is not a slide that OpenSlide can open")
    assert lines[2].startswith(f"blank: No tissue was found on {blank}")
    assert lines[3].startswith("2 of 4 slides have their heatmap")
    status = open_run(out).status()
    assert {name: str(s.state) for name, s in status.slides.items()} == {
        "bad": "failed", "blank": "failed", "good": "done", "damaged": "done"
    }  # fmt: skip


def test_a_slide_that_is_gone_when_its_turn_comes(tmp_path: Path) -> None:
    kept, gone = good_slide(tmp_path / "kept.tif"), good_slide(tmp_path / "gone.tif")
    run = start_run([gone, kept], FUNCTION, tmp_path / "run", settings=SETTINGS)
    gone.rename(tmp_path / "elsewhere.tif")
    status = run.resume(model=FUNCTION)
    assert {n: str(s.state) for n, s in status.slides.items()} == {"gone": "failed", "kept": "done"}
    assert f"There is no slide {gone}" in status.slides["gone"].failures[0].reason
    (tmp_path / "elsewhere.tif").rename(gone)
    assert run.resume(model=FUNCTION).state == "done"


def test_all_slides_bad_is_a_wrong_request(tmp_path: Path, model: Path, refused: Refusal) -> None:
    for name in ("a.svs", "b.svs"):
        (tmp_path / name).write_text("not a slide\n")
    paths = (tmp_path / "a.svs", tmp_path / "b.svs")
    sentence = refused("run", *paths, "--model", model, "--out", tmp_path / "run")
    assert all(str(path) in sentence for path in paths)
    assert not (tmp_path / "run").exists()


# Which slides are meant


def test_slides_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    first = good_slide(tmp_path / "first" / "s.tif")
    second = landmark_slide(
        tmp_path / "first" / ".." / "s.tif", 600, 500, (200, 200), 90, downsamples=(1, 4),
        tile_px=TILE_PX, glass_px=(64, 64, 64, 64),
    )  # fmt: skip
    (tmp_path / "second").mkdir()
    second = second.rename(tmp_path / "second" / "s.tif")
    run = score([first, second], tmp_path / "run")
    assert list(run.slides) == ["first_s", "second_s"]
    for name, path in (("first_s", first), ("second_s", second)):
        alone = score([path], tmp_path / f"alone-{name}")
        np.testing.assert_array_equal(scores_of(run, name), scores_of(alone, "s"))
    assert not np.array_equal(scores_of(run, "first_s"), scores_of(run, "second_s"))


def test_a_slide_that_is_named_twice_counts_once(
    tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(slide.parent)
    named = [slide, Path("good.tif"), slide.parent, Path("..") / slide.parent.name / "good.tif"]
    run = start_run(named, FUNCTION, tmp_path / "run", settings=SETTINGS)
    assert list(run.slides) == ["good"]
    assert run.slides["good"].path == slide


def test_a_dicom_slide_is_one_however_it_is_named(tmp_path: Path) -> None:
    found = sorted(REAL_SLIDES.glob("*_dicom")) if REAL_SLIDES.is_dir() else []
    if not found:
        pytest.skip(f"no DICOM slide in {REAL_SLIDES}")
    folder = found[0]
    files = sorted(folder.iterdir())
    requests = [[folder], files, [folder, *files], *([file] for file in files)]
    model = FunctionClassifier(darkness, 224)
    for number, request in enumerate(requests):
        run = start_run(request, model, tmp_path / f"run-{number}")
        assert list(run.slides) == [folder.name]
        assert run.slides[folder.name].entry.width_px == 2220
    # Named otherwise it is the same request.
    for request in requests:
        assert list(start_run(request, model, tmp_path / "run-0").slides) == [folder.name]


# Models


def bad_models(folder: Path) -> dict[str, tuple[Path, str]]:
    """Model files that cannot be used, and what the sentence says."""
    network = Tiny()

    def save(name: str, what: Any, **changes: Any) -> Path:
        write_descriptor(folder / f"{name}.json", **changes)
        return save_script(folder / f"{name}.pt", what)

    (folder / "junk.pt").write_text("no model")
    write_descriptor(folder / "junk.json")
    write_descriptor(folder / "pickled.json")
    write_descriptor(folder / "weights.json")
    torch.save(network, folder / "pickled.pt")
    torch.save(network.state_dict(), folder / "weights.pth")
    (folder / "no-json.json").write_text("{")
    save_script(folder / "no-json.pt", network)
    save_script(folder / "lonely.pt", network)
    size = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 48 * 48, 2))
    return {
        "missing": (folder / "none.pt", "There is no model file"),
        "junk": (folder / "junk.pt", "is not a .pt model"),
        "pickled": (folder / "pickled.pt", "holds a pickled Python object"),
        "weights": (folder / "weights.pth", "holds a pickled Python object"),
        "no-json": (folder / "no-json.pt", "is not a model descriptor in JSON"),
        "lonely": (folder / "lonely.pt", "has no descriptor: put lonely.json"),
        "size": (save("size", size), "fails on windows of 32 x 32 px"),
        "nan": (save("nan", Nan()), "gives NaN or infinity"),
        "shape": (save("shape", Tiny(outputs=3)), "gives an array of shape (1, 3)"),
        "unnamed": (save("unnamed", network, lesion_class=None), "Name one of 'normal', 'tumor'"),
        "wrong": (save("wrong", network, lesion_class="x"), "no class 'x': choose one of 'normal'"),
        "classes": (save("classes", network, class_names=["a"]), "num_classes 2 but names 1"),
        "key": (save("key", network, patch_size_pixels=None), "patch_size_pixels: Field required"),
    }


MODELS = (
    "missing", "junk", "pickled", "weights", "no-json", "lonely", "size", "nan", "shape", "unnamed",
    "wrong", "classes", "key",
)  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_a_bad_model_is_refused(tmp_path: Path, slide: Path, refused: Refusal, kind: str) -> None:
    path, words = bad_models(tmp_path)[kind]
    before = content(tmp_path)
    assert words in refused("run", slide, "--model", path, "--out", tmp_path / "run")
    assert content(tmp_path) == before


def test_a_lesion_class_is_taken_from_the_command_line(
    tmp_path: Path, slide: Path, refused: Refusal
) -> None:
    unnamed = bad_models(tmp_path)["unnamed"][0]
    arguments = ("run", slide, "--model", unnamed, "--out", tmp_path / "run", "--lesion-class")
    assert "no class 'tumour': choose one of 'normal', 'tumor'" in refused(*arguments, "tumour")
    run = start_run([slide], unnamed, tmp_path / "run", settings=RunSettings(lesion_class="tumor"))
    assert run.file.model.lesion_class == "tumor"


def test_a_model_that_gives_nan_on_a_slide_stops_the_run(tmp_path: Path, slide: Path) -> None:
    def sometimes(windows: Any) -> Any:
        # Noise, which the model is checked with, is not even; tissue is.
        return np.where(windows.std(axis=(1, 2, 3)) < 60, np.nan, 0.5)

    model = FunctionClassifier(sometimes, WINDOW_PX)
    run = start_run([slide], model, tmp_path / "run", settings=SETTINGS)
    with pytest.raises(ModelOutputError, match="with NaN"):
        run.resume(model=model)
    status = run.status()
    assert status.state == "failed"
    assert "with NaN" in status.slides["good"].failures[0].reason
    assert not run.slides["good"].files.heatmap.exists()


# Run directories


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, slide: Path, model: Path) -> Path:
    out = tmp_path_factory.mktemp("planned") / "run"
    start_run([slide], model, out, settings=SETTINGS)
    return out


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--stride", "32"], "stride is 16, asked 32"),
        (["--threshold", "0.5"], "threshold is 0.6, asked 0.5"),
        (["--patches-per-group", "8"], "patches-per-group is 16, asked 8"),
        (["--spacing", "0.25"], "spacing is not given, asked 0.25"),
        (["--requested-spacing", "1"], "requested-spacing is not given, asked 1.0"),
        (["--tissue-method", "all"], "tissue-method is otsu-hs, asked all"),
        (["--min-tissue-fraction", "0.5"], "min-tissue-fraction is 0.05, asked 0.5"),
        (["--group-layout", "patches"], "group-layout is auto, asked patches"),
        (["--lesion-class", "normal"], "lesion class is tumor, asked normal"),
    ],
)
def test_a_run_with_other_settings_is_refused(
    planned: Path, slide: Path, model: Path, refused: Refusal, options: list[str], difference: str
) -> None:
    before = content(planned)
    same = ["--stride", "16", "--threshold", "0.6", "--patches-per-group", "16"]
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name in same:
            same[same.index(name) + 1] = value
        else:
            same += [name, value]
    sentence = refused("run", slide, "--model", model, "--out", planned, *same)
    assert sentence.startswith(f"{planned} holds another run: ")
    assert difference in sentence
    assert f"`hpc-heatmap resume {planned}`" in sentence
    assert content(planned) == before


def test_a_run_of_other_slides_or_another_model_is_refused(
    tmp_path: Path, planned: Path, slide: Path, model: Path
) -> None:
    before = content(planned)
    other = good_slide(tmp_path / "other.tif")
    with pytest.raises(RunConflictError, match=f"it lacks the slide {other}"):
        start_run([slide, other], model, planned, settings=SETTINGS)
    with pytest.raises(RunConflictError, match=f"it has the slide {slide}, which is not asked"):
        start_run([other], model, planned, settings=SETTINGS)
    network = tiny_model(tmp_path / "model", network=Tiny(seed=1))
    with pytest.raises(RunConflictError, match="the model's sha256 is"):
        start_run([slide], network, planned, settings=SETTINGS)
    with pytest.raises(RunConflictError, match="the model's sha256 is"):
        start_run([slide], FUNCTION, planned, settings=SETTINGS)
    # The same slide at a place, changed.
    changed = good_slide(tmp_path / "changed.tif")
    start_run([changed], model, tmp_path / "run", settings=SETTINGS)
    good_slide(changed, glass_px=(96, 64, 64, 64))
    with pytest.raises(RunConflictError, match=f"the slide {changed} is another file now"):
        start_run([changed], model, tmp_path / "run", settings=SETTINGS)
    assert content(planned) == before


def test_a_changed_descriptor_makes_another_run(tmp_path: Path, slide: Path) -> None:
    model = tiny_model(tmp_path / "model")
    start_run([slide], model, tmp_path / "run", settings=SETTINGS)
    write_descriptor(model.with_suffix(".json"), transform=[{"name": "ToTensor"}])
    with pytest.raises(RunConflictError, match="descriptor"):
        start_run([slide], model, tmp_path / "run", settings=SETTINGS)


def test_the_same_request_is_the_same_run(planned: Path, slide: Path, model: Path) -> None:
    before = content(planned)
    start_run([slide], model, planned, settings=SETTINGS)
    assert content(planned) == before


def test_a_directory_of_other_files_is_left_alone(
    tmp_path: Path, slide: Path, model: Path, refused: Refusal
) -> None:
    out = tmp_path / "work"
    out.mkdir()
    (out / "thesis.txt").write_text("years of it")
    sentence = refused("run", slide, "--model", model, "--out", out)
    assert sentence.startswith(f"{out} is not empty and holds no run")
    assert content(out) == {"thesis.txt": b"years of it"}
    sentence = refused("run", slide, "--model", model, "--out", out / "thesis.txt")
    assert "is a file: give a directory with --out" in sentence
    sentence = refused("run", slide, "--model", model, "--out", out / "thesis.txt" / "run")
    assert "thesis.txt" in sentence
    assert content(out) == {"thesis.txt": b"years of it"}


def test_a_run_file_that_is_damaged(tmp_path: Path, slide: Path, refused: Refusal) -> None:
    out = tmp_path / "run"
    start_run([slide], FUNCTION, out, settings=SETTINGS)
    good = (out / "run.json").read_text()
    for text, words, code in (
        ("{", "is not valid JSON", 1),
        ("[]", "is not the file of a run", 2),
        (good.replace('"stride_px": 16', '"stride_px": "wide"'), "is damaged: stride_px", 1),
        (re.sub(r'"format_version": \d+', '"format_version": 99', good), "install a newer", 2),
    ):
        (out / "run.json").write_text(text)
        for name in ("status", "resume", "cancel"):
            assert words in refused(name, out, code=code)


# Full and read-only disks


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    if shutil.which("mount") is None or os.name != "posix":
        pytest.skip("no mount command")
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def drafts(folder: Path) -> list[str]:
    """Files that are not complete."""
    return [
        str(p) for p in folder.rglob("*") if p.name.endswith((".partial", ".save_tmp", ".draft.h5"))
    ]


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, slide: Path) -> Run:
    return score([slide], tmp_path_factory.mktemp("reference") / "run")


def used_bytes(folder: Path) -> int:
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("share", [0.02, 0.3, 0.75, 0.9, 0.97])
def test_a_full_disk_loses_nothing_that_was_done(
    tmp_path: Path, slide: Path, reference: Run, share: float
) -> None:
    """The disk is filled up at each stage in turn; with space the run goes on."""
    size = max(20, int(share * used_bytes(reference.root) / 1024))
    with _mounted(tmp_path / "disk", f"size={size}k") as disk:
        run = start_run([slide], FUNCTION, disk / "run", settings=SETTINGS)
        with pytest.raises(StorageError) as error:
            run.resume(model=FUNCTION)
        assert error.value.exit_code == 1
        assert "full" in str(error.value) and "`hpc-heatmap resume" in str(error.value)
        assert drafts(disk) == []
        assert not run.slides["good"].files.overview.exists() or share > 0.9
        # Scores of single groups go into one file in the end.
        complete = {
            p: p.read_bytes()
            for p in disk.rglob("*.h5")
            if p.stat().st_size and p.parent.name != "scores"
        }
        remount(disk, "size=64m")
        assert run.resume(model=FUNCTION).state == "done"
        assert {p: p.read_bytes() for p in complete} == complete
        np.testing.assert_array_equal(scores_of(run, "good"), scores_of(reference, "good"))


def test_a_file_that_does_not_fit_gives_its_space_back(tmp_path: Path, slide: Path) -> None:
    """Otherwise the reason could not be written, and the disk would look as if it had space."""
    with _mounted(tmp_path / "disk", "size=200k") as disk:
        run = start_run([slide], FUNCTION, disk / "run", settings=SETTINGS)
        before = free_bytes(disk)
        with pytest.raises(StorageError, match=r"groups\.h5 cannot be written: the disk is full"):
            run.resume(model=FUNCTION)
        assert free_bytes(disk) > before - 100_000


def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, slide: Path, model: Path, refused: Refusal
) -> None:
    with _mounted(tmp_path / "disk", "size=64k") as disk:
        (disk / "filler").write_bytes(bytes(64 * 1024))
        sentence = refused("run", slide, "--model", model, "--out", disk / "run", code=1)
        assert "cannot be written: the disk is full: free some space" in sentence
        assert [p.name for p in disk.iterdir()] == ["filler"]


@pytest.mark.slow
def test_a_full_disk_under_worker_processes(
    tmp_path: Path, slide: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """submitit cannot write its own files either; the master neither hangs nor tries for ever."""
    write_descriptor(tmp_path / "model.json")
    options = ("--model", save_onnx(tmp_path / "model.onnx", Tiny()), "--stride", 16, "--quiet")

    def lines(code: int, *arguments: Any) -> list[str]:
        capfd.readouterr()
        assert main([str(a) for a in arguments]) == code
        return capfd.readouterr().err.splitlines()

    with _mounted(tmp_path / "disk", "size=300k") as disk:
        out = disk / "run"
        (line,) = lines(1, "run", slide, "--out", out, *options)
        assert "the disk is full" in line and "hpc-heatmap resume" in line
        assert drafts(disk) == []
        # Not a byte is left, not even for the reason.
        with (disk / "filler").open("ab", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(bytes(1024))
        (line,) = lines(1, "resume", out, "--quiet")
        assert "full" in line and "hpc-heatmap resume" in line
        (disk / "filler").unlink()
        remount(disk, "size=64m")
        assert lines(0, "resume", out, "--quiet") == []
        assert drafts(disk) == []
        assert lines(0, "run", slide, "--out", tmp_path / "run", *options) == []
        np.testing.assert_array_equal(
            scores_of(open_run(out), "good"), scores_of(open_run(tmp_path / "run"), "good")
        )


def test_a_read_only_directory_is_refused(
    tmp_path: Path, slide: Path, model: Path, refused: Refusal
) -> None:
    with _mounted(tmp_path / "disk", "size=8m") as disk:
        run = start_run([slide], model, disk / "run", settings=SETTINGS)
        before = content(disk)
        remount(disk, "ro")
        # New, existing and empty, and inside of what does not exist.
        for out in (disk / "new", disk / "new" / "run"):
            sentence = refused("run", slide, "--model", model, "--out", out)
            assert "cannot be written: the file system is read-only: choose a directory" in sentence
        for name in ("resume", "cancel"):
            assert "read-only" in refused(name, run.root)
        assert "read-only" in refused("resume", run.root, "--detach")
        assert main(["status", str(run.root), "--json"]) == 0
        assert content(disk) == before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop root"
)
def test_a_directory_without_permission_is_refused(
    tmp_path: Path, slide: Path, model: Path, refused: Refusal
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    sentence = refused("run", slide, "--model", model, "--out", closed / "run")
    assert "permission is denied: choose a directory that can be written" in sentence
    with pytest.raises(ReadOnlyError):
        start_run([slide], model, closed)
    assert list(closed.iterdir()) == []
