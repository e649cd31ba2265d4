"""Exports read back with other programs' readers: the same values at the same places."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
import zarr
from models import Tiny, save_onnx, write_descriptor
from PIL import Image
from runs.support import finish, function_run, make_slide
from slides import leica_slide

from hpc_heatmap import Heatmap, LaunchSettings, Run, RunSettings, start_run
from hpc_heatmap.errors import SettingsError, SlideNotFoundError
from hpc_heatmap.evaluation.detections import read_detections
from hpc_heatmap.formats.heatmap import write_heatmap
from hpc_heatmap.formats.lesion_files import read_lesions, read_lesions_csv
from hpc_heatmap.formats.ome_tiff import write_ome_tiff
from hpc_heatmap.formats.ome_zarr import write_ome_zarr
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.runs.export import ExportFormat, Frame, export_run

SPACING_UM = 0.5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("export")
    made = function_run([make_slide(folder / "a.tif")], folder / "RUN")
    finish(made)
    return made


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Heatmap:
    """A heatmap of several chunks and levels, tissue in a half, read at 1.5 level-0 px."""
    geometry = Geometry(
        width_px=2800, height_px=2404, window_px=32, stride_px=4, scale_x=1.5, scale_y=1.5
    )
    rng = np.random.default_rng(0)
    values = rng.random(geometry.shape, np.float32)
    values[:, : values.shape[1] // 2] = np.nan
    path = tmp_path_factory.mktemp("large") / "heatmap.h5"
    write_heatmap(
        path,
        geometry,
        lambda row, column, n, m: values[row : row + n, column : column + m],
        {"window_px": 32, "read_spacing_um": (1.5 * SPACING_UM, 1.5 * SPACING_UM)},
    )
    heatmap = Heatmap(path)
    assert heatmap.n_levels == 3
    return heatmap


def one(run: Run, kind: ExportFormat, out: Path, **keys: object) -> Path:
    exported = export_run(run, kind, out=out, slides=["a"], **keys)  # type: ignore[arg-type]
    assert exported.left_out == ()
    return exported.files["a"]


def test_ome_tiff_has_every_level_and_its_place(large: Heatmap, tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tiff"
    write_ome_tiff(path, large, "name", (10.0, 20.0))
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        (series,) = file.series
        assert [level.shape for level in series.levels] == [
            large.dataset(level).shape for level in range(large.n_levels)
        ]
        for level, stored in enumerate(series.levels):
            np.testing.assert_array_equal(stored.asarray(), large.dataset(level)[:])
        xml = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (xml["PhysicalSizeX"], xml["PhysicalSizeXUnit"]) == (
        pytest.approx(large.step_px[0] * SPACING_UM),
        "µm",
    )
    assert xml["Plane"]["PositionX"] == pytest.approx((large.origin_px[0] - 10) * SPACING_UM)
    assert xml["Plane"]["PositionY"] == pytest.approx((large.origin_px[1] - 20) * SPACING_UM)


def test_ome_zarr_has_every_level_and_its_place(large: Heatmap, tmp_path: Path) -> None:
    path = tmp_path / "x.ome.zarr"
    for _ in range(2):  # an earlier one is replaced
        write_ome_zarr(path, large, "name", (10.0, 20.0))
    group = zarr.open_group(path, mode="r")
    (multiscale,) = group.attrs["multiscales"]
    assert multiscale["version"] == "0.4"
    assert [a["unit"] for a in multiscale["axes"]] == ["micrometer"] * 2
    for level, entry in enumerate(multiscale["datasets"]):
        np.testing.assert_array_equal(group[entry["path"]][:], large.dataset(level)[:])
        origin, step = large.placement_px(level)
        scale, translation = entry["coordinateTransformations"]
        assert scale["scale"] == pytest.approx([step[1] * SPACING_UM, step[0] * SPACING_UM])
        assert translation["translation"] == pytest.approx(
            [(origin[1] - 20) * SPACING_UM, (origin[0] - 10) * SPACING_UM]
        )
    # Chunks without a score are not stored, and names are those that NGFF 0.4 wants.
    assert not (path / "0" / "0" / "0").exists()
    assert (path / "0" / "0" / "2").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["x.ome.zarr"]


def test_without_a_spacing_places_are_pixels(tmp_path: Path) -> None:
    geometry = Geometry(width_px=64, height_px=64, window_px=32, stride_px=16)
    path = tmp_path / "heatmap.h5"
    nan = float("nan")
    attributes = {"window_px": 32, "read_spacing_um": (nan, nan)}
    write_heatmap(path, geometry, lambda *box: np.ones(box[2:], np.float32), attributes)
    with Heatmap(path) as heatmap:
        write_ome_zarr(tmp_path / "x.ome.zarr", heatmap, "name")
        write_ome_tiff(tmp_path / "x.ome.tiff", heatmap, "name")
    (multiscale,) = zarr.open_group(tmp_path / "x.ome.zarr", mode="r").attrs["multiscales"]
    assert multiscale["axes"] == [{"name": n, "type": "space"} for n in "yx"]
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"] == [16.0, 16.0]
    with tifffile.TiffFile(tmp_path / "x.ome.tiff") as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (16.0, "pixel")


def test_geojson_has_the_lesions(run: Run, tmp_path: Path) -> None:
    document = json.loads(one(run, ExportFormat.GEOJSON, tmp_path).read_text())
    files = run.slides["a"].files
    lesions = read_lesions(files.lesions_csv, files.lesions_geojson)
    assert len(document["features"]) == len(lesions) > 0
    assert document["hpc_heatmap"]["frame"] == "openslide"
    for feature, lesion in zip(document["features"], lesions, strict=True):
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        # Outlines and the number of samples are two ways to the same area.
        assert shape.area == pytest.approx(lesion.area_px, rel=0.35)
        centroid = (shape.centroid.x, shape.centroid.y)
        assert centroid == pytest.approx((lesion.x_px, lesion.y_px), abs=8)


def test_camelyon_csv_is_read_by_the_evaluation(run: Run, tmp_path: Path) -> None:
    read = read_detections(one(run, ExportFormat.CAMELYON_CSV, tmp_path))
    lesions = read_lesions_csv(run.slides["a"].files.lesions_csv)
    np.testing.assert_allclose(read.probability, [x.score for x in lesions], atol=1e-6)
    assert len(lesions) > 0


def test_wsinfer_csv_has_each_window_and_its_score(run: Run, tmp_path: Path) -> None:
    with one(run, ExportFormat.WSINFER_CSV, tmp_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["minx", "miny", "width", "height", "prob_lesion"]
    with run.slides["a"].heatmap as heatmap:
        scores = heatmap.dataset()[:]
        assert len(rows) == np.isfinite(scores).sum()
        for row in rows[:: len(rows) // 50]:
            assert (row["width"], row["height"]) == ("32", "32")
            x, y = int(row["minx"]) + 15.5, int(row["miny"]) + 15.5
            assert float(row["prob_lesion"]) == pytest.approx(heatmap.at(x, y), abs=1e-6)


def test_wsinfer_csv_names_both_classes_of_a_model_that_has_two(tmp_path: Path) -> None:
    write_descriptor(tmp_path / "model.json", patch_size_pixels=32)
    model = save_onnx(tmp_path / "model.onnx", Tiny())
    made = start_run(
        [make_slide(tmp_path / "a.tif")], model, tmp_path / "RUN", settings=RunSettings(stride=32)
    )
    made.resume(LaunchSettings(workers=1))
    with one(made, ExportFormat.WSINFER_CSV, tmp_path / "out").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = json.loads((tmp_path / "model.json").read_text())["class_names"]
    assert list(rows[0])[4:] == [f"prob_{name}" for name in names]
    lesion = made.file.model.lesion_class
    other = next(name for name in names if name != lesion)
    with made.slides["a"].heatmap as heatmap:
        for row in rows:
            p = heatmap.at(int(row["minx"]) + 15.5, int(row["miny"]) + 15.5)
            assert float(row[f"prob_{lesion}"]) == pytest.approx(p, abs=1e-6)
            assert float(row[f"prob_{other}"]) == pytest.approx(1 - p, abs=1e-6)


def test_png_is_transparent_off_tissue(run: Run, tmp_path: Path) -> None:
    with Image.open(one(run, ExportFormat.PNG, tmp_path)) as image:
        rgba = np.asarray(image)
    with run.slides["a"].heatmap as heatmap:
        np.testing.assert_array_equal(rgba[..., 3] > 0, np.isfinite(heatmap.dataset()[:]))


def test_qupaths_frame_subtracts_the_bounds(tmp_path: Path) -> None:
    pixels = np.full((320, 400, 3), (216, 117, 183), np.uint8)
    pixels[100:220, 120:260] = (72, 39, 61)
    slide = leica_slide(tmp_path / "a.scn", pixels, (40, 24), (560, 480))
    made = function_run([slide], tmp_path / "RUN", tissue_method="all")
    finish(made)
    bounds = {}
    for frame in Frame:
        path = one(made, ExportFormat.GEOJSON, tmp_path / frame.value, frame=frame)
        document = json.loads(path.read_text())
        assert document["hpc_heatmap"]["frame"] == frame.value
        bounds[frame] = np.array(shapely.geometry.shape(document["features"][0]["geometry"]).bounds)
    np.testing.assert_allclose(bounds[Frame.OPENSLIDE] - bounds[Frame.QUPATH], [40, 24, 40, 24])
    # In QuPath's frame the dark square lies where it lies in the scanned part.
    np.testing.assert_allclose(bounds[Frame.QUPATH], [120, 100, 260, 220], atol=16)


def test_a_slide_that_is_gone_is_named_before_anything_is_written(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "a.tif")
    made = function_run([slide], tmp_path / "RUN")
    finish(made)
    slide.unlink()
    with pytest.raises(SlideNotFoundError, match=r"a\.tif"):
        export_run(made, ExportFormat.GEOJSON, frame=Frame.QUPATH)
    assert not made.paths.exports.exists()
    export_run(made, ExportFormat.GEOJSON)


def test_slides_without_a_heatmap_are_named_and_others_written(tmp_path: Path) -> None:
    slides = [make_slide(tmp_path / f"{name}.tif") for name in "ab"]
    made = function_run(slides, tmp_path / "RUN")
    finish(made)
    made.slides["b"].files.heatmap.unlink()
    exported = export_run(made, ExportFormat.PNG)
    assert exported.left_out == ("b",)
    assert exported.files == {"a": made.paths.exports / "png" / "a.png"}
    with pytest.raises(SettingsError, match="no slide 'c'"):
        export_run(made, ExportFormat.PNG, slides=["c"])
