"""Heatmaps as overlays: levels, colours, contours, and scores that come while a run goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from runs.support import unpack_scores

import hpc_heatmap
from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.score_file import read_scores
from napari_hpc_heatmap._contours import LINE_SAMPLES, ContourLevel
from napari_hpc_heatmap._heatmap_colours import COLOURS, heatmap_colormap
from napari_hpc_heatmap._live import Watcher, follow, lattice_of
from napari_hpc_heatmap._overlay import HeatmapLayer, Look
from napari_hpc_heatmap._partial_heatmap import PartialHeatmap
from napari_hpc_heatmap._world import World

WORLD = World((0.5, 0.4))


class Scores:
    """A pyramid in memory, of any shape."""

    def __init__(self, finest: np.ndarray, origin=(11.5, 7.5), step=(16.0, 16.0)) -> None:
        from hpc_heatmap.formats.heatmap import halve

        self.slide_path, self.origin_px, self.step_px = "scores.tiff", origin, step
        self.levels = [finest.astype(np.float32)]
        while max(self.levels[-1].shape) > 16:
            self.levels.append(halve(self.levels[-1]))

    @property
    def n_levels(self) -> int:
        return len(self.levels)

    def dataset(self, level: int = 0) -> np.ndarray:
        return self.levels[level]

    def at(self, x_px: float, y_px: float) -> float:
        column, row = np.rint((np.array((x_px, y_px)) - self.origin_px) / self.step_px).astype(int)
        return float(self.levels[0][row, column])


def test_world_keeps_axes_apart() -> None:
    assert WORLD.from_px((10, 20)).tolist() == [8, 5]
    assert WORLD.to_px((8, 5)).tolist() == [10, 20]
    assert World(None).units == ("pixel", "pixel")


def test_each_level_lies_where_its_samples_do(landmark_run: hpc_heatmap.Run) -> None:
    """napari maps index i of a level to data position factor * i - 1/2 ... + factor."""
    with landmark_run.slides["slide"].heatmap as heatmap:
        layer = HeatmapLayer(heatmap, WORLD)
        scale, translate = np.array(layer.scale), np.array(layer.translate)
        for level, factor in enumerate(layer.downsample_factors):
            origin, step = heatmap.placement_px(level)
            first_centre = (factor - 1) / 2
            assert WORLD.to_px(scale * first_centre + translate) == pytest.approx(origin)
            assert WORLD.to_px(scale * factor) == pytest.approx(step)


def test_odd_sizes_do_not_shift_levels() -> None:
    layer = HeatmapLayer(Scores(np.zeros((391, 213))), WORLD)
    assert layer.downsample_factors[:, 0].tolist() == [2**n for n in range(len(layer.data))]


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.0])
def test_colours_leave_the_tissue_visible(name: str, threshold: float) -> None:
    colormap = heatmap_colormap(name, threshold)
    scores = np.array([0, threshold - 0.01, threshold + 0.01, 1, np.nan])
    below, just_below, just_above, one, none = colormap.map(scores)[:, 3]
    assert just_below == none == 0 or threshold == 0
    assert below == 0 or threshold == 0
    if threshold < 1:
        assert 0.2 < just_above < 0.35
    assert one == pytest.approx(0.7)


def test_several_heatmaps_of_a_slide_differ_in_colour() -> None:
    layers = [HeatmapLayer(Scores(np.zeros((20, 20))), WORLD) for _ in range(3)]
    assert len({layer.colour for layer in layers}) == 3
    with pytest.raises(ValueError, match="choose one of"):
        layers[0].colour = "pink"


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Scores that fall by 0.02 a sample from 0.5 at a circle."""
    rows, columns = np.indices(shape)
    return 0.5 + 0.02 * (radius - np.hypot(rows - centre[0], columns - centre[1]))


@pytest.mark.parametrize("zoom", [1, 2, 8])
def test_a_contour_runs_just_inside_of_the_threshold(zoom: int) -> None:
    scores = disc((60, 70), (28.3, 33.7), 19.4).astype(np.float32)
    lines = np.asarray(ContourLevel(scores, 0.5, zoom))
    rows, columns = np.nonzero(~np.isnan(lines))
    # Position of a sample of the contour among the samples of the scores.
    y, x = (rows + 0.5) / zoom - 0.5, (columns + 0.5) / zoom - 0.5
    distance = np.hypot(y - 28.3, x - 33.7)
    assert distance.max() <= 19.4 + 0.1
    assert distance.max() >= 19.4 - 1.5 / zoom
    # A square of samples is taken off, so the line is up to sqrt(2) wider along the diagonals.
    assert distance.min() >= 19.4 - (LINE_SAMPLES * 1.42 + 1) / zoom - 0.1
    assert np.isnan(lines[int(28.3 * zoom), int(33.7 * zoom)])


def test_a_contour_does_not_depend_on_the_part_that_is_read() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, (40, 30)).astype(np.float32)
    scores[5:9, 3:20] = np.nan
    level = ContourLevel(scores, 0.6, 4)
    whole = np.asarray(level)
    assert whole.shape == (160, 120)
    for top, left in ((0, 0), (37, 51), (100, 80)):
        part = level[top : top + 50, left : left + 37]
        assert np.array_equal(part, whole[top : top + 50, left : left + 37], equal_nan=True)


def test_contours_lie_on_the_areas() -> None:
    scores = Scores(disc((90, 80), (40.0, 30.0), 15.0))
    layer = HeatmapLayer(scores, WORLD, threshold=0.5)
    centre = layer.data_to_world((40.0, 30.0))
    layer.look = Look.CONTOUR
    assert layer.data[0].shape == (90 * 16, 80 * 16)
    rows, columns = np.nonzero(~np.isnan(np.asarray(layer.data[0])))
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert layer.data_to_world(middle) == pytest.approx(centre, abs=0.5)
    # Threshold 0.6 is 5 samples further in.
    before = np.ptp(rows)
    layer.threshold = 0.6
    rows, columns = np.nonzero(~np.isnan(np.asarray(layer.data[0])))
    assert before - np.ptp(rows) == pytest.approx(2 * 5 * 16, abs=6)
    layer.look = "fill"
    assert layer.data[0].shape == (90, 80)
    assert layer.data_to_world((40.0, 30.0)) == pytest.approx(centre)


def test_a_partial_heatmap_ends_as_the_finished_one(
    landmark_run: hpc_heatmap.Run, tmp_path: Path
) -> None:
    slide = landmark_run.slides["slide"]
    with hpc_heatmap.Slide(slide.path) as opened, slide.heatmap as finished:
        partial = PartialHeatmap(lattice_of(landmark_run, opened), slide.path)
        files = unpack_scores(slide.files, tmp_path)
        assert len(files) > 1
        counts = []
        for file in files:
            partial.add(read_scores(file))
            counts.append(int(np.isfinite(np.asarray(partial.dataset(0))).sum()))
        assert counts == sorted(set(counts))
        assert partial.n_levels == finished.n_levels
        assert partial.origin_px == pytest.approx(finished.origin_px)
        assert partial.step_px == pytest.approx(finished.step_px)
        for level in range(finished.n_levels):
            expected = finished.dataset(level)[:]
            assert np.array_equal(np.asarray(partial.dataset(level)), expected, equal_nan=True)
        for x, y in ((400, 300), (3, 5), (899, 759), (-40, 10), (5000, 10)):
            assert partial.at(x, y) == pytest.approx(finished.at(x, y), nan_ok=True)


def test_levels_of_a_large_partial_heatmap_are_the_files(tmp_path: Path) -> None:
    """Several squares and levels, with cells that cross their borders."""
    from hpc_heatmap.formats.heatmap import write_heatmap
    from hpc_heatmap.formats.score_file import GroupScores
    from hpc_heatmap.geometry import Geometry

    geometry = Geometry(width_px=3000, height_px=2500, window_px=35, stride_px=4)
    rng = np.random.default_rng(3)
    rows, columns = geometry.block_shape
    partial = PartialHeatmap(geometry, Path("slide.tiff"))
    expected = np.full(geometry.shape, np.nan, np.float32)
    for _ in range(5):
        row, column = rng.integers(0, geometry.y.n_cells), rng.integers(0, geometry.x.n_cells)
        cells = [(row, column), (geometry.y.n_cells - 1, column), (row, geometry.x.n_cells - 1)]
        scores = rng.uniform(0, 1, (3, rows, columns)).astype(np.float32)
        for (r, c), block in zip(cells, scores, strict=True):
            y, x = geometry.y.points_of(r), geometry.x.points_of(c)
            expected[y.start : y.stop, x.start : x.stop] = block[: len(y), : len(x)]
        partial.add(GroupScores(np.array(cells, np.int32), scores, np.ones(3, bool)))
    write_heatmap(
        tmp_path / "heatmap.h5", geometry, lambda i, j, n, m: expected[i : i + n, j : j + m], {}
    )
    with Heatmap(tmp_path / "heatmap.h5") as heatmap:
        assert heatmap.n_levels == partial.n_levels == 3
        for level in range(3):
            found = np.asarray(partial.dataset(level))
            assert np.array_equal(found, heatmap.dataset(level)[:], equal_nan=True)


def test_a_watcher_brings_what_comes_and_ends_with_the_heatmap(
    landmark_run: hpc_heatmap.Run, tmp_path: Path
) -> None:
    done = landmark_run.slides["slide"]
    files = type(done.files)(tmp_path)
    with hpc_heatmap.Slide(done.path) as opened:
        partial = PartialHeatmap(lattice_of(landmark_run, opened), done.path)
    watcher = Watcher(files, partial)
    assert not watcher.look()
    files.scores.mkdir()
    first, *rest = unpack_scores(done.files, tmp_path / "all")
    shutil.copy(first, files.scores)
    # What is not complete, or is damaged, does not count and is looked at again.
    (files.scores / ".000001.h5.partial").write_bytes(b"")
    (files.scores / rest[0].name).write_bytes(b"not HDF5")
    assert watcher.look()
    assert not watcher.look()
    before = np.isfinite(np.asarray(partial.dataset())).sum()
    shutil.copy(rest[0], files.scores)
    assert watcher.look()
    assert np.isfinite(np.asarray(partial.dataset())).sum() > before
    shutil.copy(done.files.heatmap, files.heatmap)
    assert watcher.look()
    assert watcher.finished is not None
    # A layer without a window shows what is there.
    layer = HeatmapLayer(PartialHeatmap(partial.geometry, done.path), WORLD)
    follow(layer, Watcher(files, layer.scores))
    assert isinstance(layer.scores, Heatmap)
    layer.scores.close()
    watcher.finished.close()
