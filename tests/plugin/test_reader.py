"""What opens, through napari's own reader machinery, and as which layers."""

from __future__ import annotations

import shutil
from pathlib import Path

import napari.layers
import numpy as np
import pytest
from chain import real_slide
from napari.components import ViewerModel
from npe2 import PluginManager

import hpc_heatmap
from napari_hpc_heatmap._reader import get_reader

LANDMARK_UM = (200.0, 150.0)


def names(layers) -> list[tuple[str, str]]:
    return [(layer._type_string, layer.name) for layer in layers]


def open_in_napari(path: Path) -> list[napari.layers.Layer]:
    manager = PluginManager.instance()
    if "napari-hpc-heatmap" not in manager:
        manager.discover()
    return ViewerModel().open(str(path), plugin="napari-hpc-heatmap")


def test_a_run_opens_its_slide_with_heatmap_and_lesions(landmark_run: hpc_heatmap.Run) -> None:
    layers = open_in_napari(landmark_run.root)
    assert names(layers) == [
        ("image", "slide"),
        ("image", "slide run"),
        ("shapes", "slide outlines"),
        ("points", "slide lesions"),
    ]
    assert {str(unit) for layer in layers for unit in layer.units} == {"micrometer"}
    # All of them agree where the landmark is.
    slide, heatmap, _outlines, points = layers
    dark = np.asarray(slide.data[0]).mean(axis=-1) < 80
    centre = slide.data_to_world(np.argwhere(dark).mean(axis=0))
    assert np.abs(np.subtract(centre, LANDMARK_UM[::-1])).max() < 0.3
    scores = np.asarray(heatmap.data[0])
    hottest = np.argwhere(scores > np.nanmax(scores) - 1e-3).mean(axis=0)
    step_um = heatmap.scale[0]
    assert np.abs(np.subtract(heatmap.data_to_world(hottest), centre)).max() < step_um / 2
    assert np.abs(np.subtract(points.data_to_world(points.data[0]), centre)).max() < step_um / 2
    assert heatmap.score_at(centre) == pytest.approx(np.nanmax(scores), abs=1e-3)
    status = points.get_status(centre, world=True)
    assert status["coordinates"].endswith(f"slide run {heatmap.score_at(centre):.3f}")


def test_a_heatmap_whose_file_was_closed_is_none_of_its_slide(
    landmark_run: hpc_heatmap.Run,
) -> None:
    _slide, heatmap, _outlines, points = open_in_napari(landmark_run.root)

    def named() -> int:
        return points.get_status((0, 0), world=True)["coordinates"].count(heatmap.name)

    before = named()
    heatmap.scores.close()
    assert named() == before - 1


def test_a_heatmap_alone_lies_where_it_does_with_its_run(
    landmark_run: hpc_heatmap.Run, tmp_path: Path
) -> None:
    inside = landmark_run.slides["slide"].files.heatmap
    (with_run,) = open_in_napari(inside)
    (tmp_path / "moved").mkdir()
    (alone,) = open_in_napari(Path(shutil.copy(inside, tmp_path / "moved" / "heatmap.h5")))
    assert with_run.name == "slide run"
    assert alone.name == "slide heatmap"
    assert np.allclose(with_run.scale, alone.scale)
    assert np.allclose(with_run.translate, alone.translate)
    assert with_run.units == alone.units


@pytest.mark.parametrize("kind", ["svs", "dicom"])
def test_a_real_slide_opens_in_micrometres(kind: str) -> None:
    path = real_slide(kind)
    (layer,) = open_in_napari(path)
    assert layer.rgb
    assert layer.multiscale
    assert layer.slide_path == path
    assert layer.scale == pytest.approx(0.499, rel=1e-3)
    assert {str(unit) for unit in layer.units} == {"micrometer"}


def test_a_slide_that_was_moved_leaves_its_heatmap(
    landmark_run: hpc_heatmap.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "run"
    shutil.copytree(landmark_run.root, root)
    text = (root / "run.json").read_text()
    path = landmark_run.slides["slide"].entry.path
    (root / "run.json").write_text(text.replace(path, str(tmp_path / "gone.tiff")))
    layers = open_in_napari(root)
    assert [kind for kind, _ in names(layers)] == ["image", "shapes", "points"]
    assert "There is no slide" in caplog.text


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("text")
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "plain.txt")) is None
    assert get_reader(str(tmp_path / "missing.svs")) is None
    assert get_reader([str(tmp_path / "heatmap.h5")]) is None
