"""Runs with stain normalization: the same pixels for every task, and failures that are seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import reference
from slides import write_slide

from hpc_heatmap import FunctionClassifier, Run, RunSettings, start_run
from hpc_heatmap.cli.app import main
from hpc_heatmap.errors import RunConflictError, SettingsError
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.runs.report import html_page, markdown_page, report_run
from hpc_heatmap.runs.status import State
from hpc_heatmap.settings import StainMethod, StainPer
from hpc_heatmap.stain.fits import fit_stain
from hpc_heatmap.stain.transfer import change_stain

WINDOW_PX = 64
MODEL = FunctionClassifier(lambda windows: 1 - windows[..., 1].mean((1, 2)) / 255, WINDOW_PX)


def target() -> Path:
    return reference("stain_reference") / "target_camelyon_tumor_001_256.png"


def stained_run(slides: list[Path], out: Path, **settings) -> Run:
    chosen = RunSettings(**{"stride": WINDOW_PX, "patches_per_group": 16} | settings)
    run = start_run(slides, MODEL, out, settings=chosen)
    run.resume(model=MODEL)
    assert run.status().state is State.DONE
    return run


def expected_scores(run: Run, change) -> dict[tuple[int, int], float]:
    """Scores of the central windows by the plain arithmetic, patch by patch."""
    files, half = run.slides["slide"].files, WINDOW_PX // 2
    found = {}
    with open_groups(files.groups) as groups:
        for index in range(groups.header.n_groups):
            group = groups.read(index)
            for number, cell in enumerate(group.cells.tolist()):
                pixels = change(group.patch(number))
                window = pixels[half : half + WINDOW_PX, half : half + WINDOW_PX]
                found[tuple(cell)] = float(MODEL.scores([window])[0])
    return found


def scores_of(run: Run) -> dict[tuple[int, int], float]:
    with run.slides["slide"].heatmap as heatmap:
        scores = heatmap.dataset()[:]
    return {(i, j): float(scores[i, j]) for i, j in np.argwhere(~np.isnan(scores)).tolist()}


def two_slides(folder: Path) -> list[Path]:
    """`slide` is a piece of the real one on glass; `pale` has tissue of one colour alone."""
    with Image.open(reference("stain_reference") / "source_cmu1_384.png") as picture:
        real = np.asarray(picture.convert("RGB"))
    return [
        glass_around(folder / "slide.tiff", real),
        glass_around(folder / "pale.tiff", np.full_like(real, (200, 90, 160))),
    ]


def glass_around(path: Path, tissue: np.ndarray) -> Path:
    whole = np.pad(tissue, ((128, 128), (128, 128), (0, 0)), constant_values=245)

    def pixels(x, y, w, h, downsample):
        return whole[::downsample, ::downsample][y : y + h, x : x + w]

    return write_slide(path, pixels, 640, 640, downsamples=(1, 4), compression="zlib")


@pytest.mark.parametrize("method", ["vahadane", "macenko", "reinhard"])
def test_a_slide_is_changed_by_its_own_estimate(method, tmp_path):
    (slide, _) = two_slides(tmp_path)
    run = stained_run([slide], tmp_path / "RUN", stain=method, stain_target=target())
    files = run.slides["slide"].files
    source = read_summary(files.summary).stain
    assert source is not None and source.method == method
    with Image.open(target()) as picture:
        aim = fit_stain(np.asarray(picture.convert("RGB")), StainMethod(method))
    assert run.file.stain_target == aim
    expected = expected_scores(run, lambda patch: change_stain(patch, source, aim))
    assert scores_of(run) == expected
    raw = expected_scores(run, lambda patch: patch)
    assert max(abs(raw[cell] - expected[cell]) for cell in raw) > 0.02
    with Image.open(files.stain_picture) as picture:
        assert picture.width > picture.height
    # A picture that was deleted is made again, the same.
    before = files.stain_picture.read_bytes()
    files.stain_picture.unlink()
    run.resume(model=MODEL)
    assert files.stain_picture.read_bytes() == before
    assert read_summary(files.summary).stain == source


def test_each_patch_is_changed_by_its_own_estimate(tmp_path):
    (slide, _) = two_slides(tmp_path)
    run = stained_run(
        [slide],
        tmp_path / "RUN",
        stain="macenko",
        stain_target=target(),
        stain_per=StainPer.PATCH,
    )
    aim = run.file.stain_target
    assert aim is not None

    def change(patch):
        return change_stain(patch, fit_stain(patch, StainMethod.MACENKO), aim)

    assert scores_of(run) == expected_scores(run, change)
    assert run.status().slides["slide"].raw_patches == 0


@pytest.mark.parametrize("per", StainPer)
def test_a_failure_is_counted_and_shown_and_raw_colours_are_used(per, tmp_path, capfd):
    slides = two_slides(tmp_path)
    settings = {"stain": "vahadane", "stain_target": target(), "stain_per": per}
    run = stained_run(slides, tmp_path / "RUN", **settings)
    patches = read_summary(run.slides["pale"].files.summary).n_patches
    status = run.status().as_dict()["slides"]
    assert (status["slide"]["raw_patches"], status["pale"]["raw_patches"]) == (0, patches)
    with run.slides["pale"].heatmap as heatmap:
        assert heatmap.attributes["raw_patches"] == patches
        assert heatmap.attributes["stain"] == "vahadane"
        score = heatmap.at(320, 320)
    assert score == pytest.approx(1 - 90 / 255, abs=1e-6)
    capfd.readouterr()
    assert main(["status", str(run.root)]) == 0
    shown = capfd.readouterr().out
    assert "pale: " in shown and "raw colours" in shown and "\nslide: " not in shown
    report = report_run(run)
    rows = {row.slide: row for row in report.stains}
    assert rows["pale"].raw_patches == patches and rows["slide"].raw_patches == 0
    if per is StainPer.SLIDE:
        assert rows["pale"].problem and rows["slide"].haematoxylin
    assert any(f"{patches} patches were scored in their raw colours" in n for n in report.notes)
    assert "data:image/jpeg;base64," in html_page(report)
    assert "## Stain normalization" in markdown_page(report)
    assert json.dumps(report.as_dict()["stains"])


def test_bad_requests(tmp_path):
    (slide, _) = two_slides(tmp_path)
    for settings, words in (
        ({"stain": "macenko"}, "--stain macenko needs --stain-target"),
        ({"stain_target": target()}, "changes nothing without --stain"),
        ({"stain": "macenko", "stain_target": tmp_path / "no.png"}, "There is no stain target"),
    ):
        with pytest.raises(SettingsError, match=words):
            start_run([slide], MODEL, tmp_path / "RUN", settings=RunSettings(**settings))
        assert not (tmp_path / "RUN").exists()


def test_another_target_is_another_request(tmp_path):
    (slide, _) = two_slides(tmp_path)
    chosen = {"stride": WINDOW_PX, "stain": "macenko"}
    copy = tmp_path / "copy.png"
    copy.write_bytes(target().read_bytes())
    start_run([slide], MODEL, tmp_path / "R", settings=RunSettings(stain_target=target(), **chosen))
    start_run([slide], MODEL, tmp_path / "R", settings=RunSettings(stain_target=copy, **chosen))
    other = reference("stain_reference") / "seed_stain_template.png"
    with pytest.raises(RunConflictError, match="stain target is another one"):
        start_run(
            [slide], MODEL, tmp_path / "R", settings=RunSettings(stain_target=other, **chosen)
        )
