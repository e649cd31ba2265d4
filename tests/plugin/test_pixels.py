"""What is on the screen: slide, heatmap and lesions lie on each other, on every level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plugin.canvas_support import settle
from slides import LANDMARK_RGB, TISSUE_RGB, landmark_slide

from napari_hpc_heatmap._overlay import HeatmapLayer, Look
from napari_hpc_heatmap._slide_layer import open_slide
from napari_hpc_heatmap._world import World

pytestmark = pytest.mark.gui

SIZE_PX = (5003, 4007)
LANDMARK_PX = (2401.5, 1903.5)
RADIUS_PX = 320.0
STEP_PX = 16.0


class Disc:
    """Scores of 1 on the landmark and 0 beside it, as the mean of each sample's square."""

    def __init__(self, slide_path: Path) -> None:
        self.slide_path = str(slide_path)
        self.origin_px, self.step_px = (7.5, 7.5), (STEP_PX, STEP_PX)
        self.levels = []
        for level in range(4):
            step = STEP_PX * 2**level
            shape = [-(-size // int(step)) for size in SIZE_PX[::-1]]
            y, x = ((np.arange(n) + 0.5) * step - 0.5 for n in shape)
            distance = np.hypot(y[:, None] - LANDMARK_PX[1], x - LANDMARK_PX[0])
            self.levels.append(
                np.clip((RADIUS_PX - distance) / step + 0.5, 0, 1).astype(np.float32)
            )

    n_levels = 4

    def dataset(self, level: int = 0) -> np.ndarray:
        return self.levels[level]

    def at(self, x_px: float, y_px: float) -> float:
        row, column = round((y_px - 7.5) / STEP_PX), round((x_px - 7.5) / STEP_PX)
        return float(self.levels[0][row, column])


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pixels") / "slide.tiff"
    return landmark_slide(path, *SIZE_PX, LANDMARK_PX, RADIUS_PX, downsamples=(1, 4, 16))


def on_canvas(viewer, position_px, spacing_um: float, shape) -> np.ndarray:
    """Pixel of the canvas, (row, column), of a level-0 position, pixel-centre convention."""
    world = np.array(position_px[::-1]) * spacing_um
    centre, zoom = np.array(viewer.scene.camera.center[-2:]), viewer.scene.camera.zoom
    return (world - centre) * zoom + np.array(shape[:2]) / 2 - 0.5


def edges_of(mask: np.ndarray, centre: np.ndarray) -> tuple[float, ...]:
    """Where a mask begins and ends on the column and on the row through a point.

    Its border is that of its outermost pixels, half a pixel beyond their centres.
    """
    row, column = np.rint(centre).astype(int)
    rows, columns = np.flatnonzero(mask[:, column]), np.flatnonzero(mask[row])
    return rows[0] - 0.5, rows[-1] + 0.5, columns[0] - 0.5, columns[-1] + 0.5


@pytest.mark.parametrize("spacing_um", [0.5, None])
def test_landmark_and_heatmap_are_where_they_must_be(
    viewer, qtbot, slide_path: Path, spacing_um: float | None
) -> None:
    slide = open_slide(slide_path, spacing_um=spacing_um)
    # The slide says 0.5 itself; without a spacing the world is in pixels.
    world = slide.world if spacing_um else World(None)
    if spacing_um is None:
        slide.scale, slide.units = (1, 1), ("pixel", "pixel")
    unit = spacing_um or 1.0
    viewer.add_layer(slide)
    # Opaque where the score is 0.5 or more, so that its edge can be measured.
    heatmap = HeatmapLayer(Disc(slide_path), world, threshold=0.5)
    heatmap.visible = False
    viewer.add_layer(heatmap)
    levels_seen: set[tuple[int, int]] = set()
    viewer.scene.camera.center = np.array(LANDMARK_PX[::-1]) * unit
    for pixels_a_screen_pixel in (0.5, 0.99, 1.9, 3.7, 7.4, 9.5):
        viewer.scene.camera.zoom = 1 / (pixels_a_screen_pixel * unit)
        heatmap.visible = False
        picture = settle(viewer, qtbot)
        shown = on_canvas(viewer, LANDMARK_PX, unit, picture.shape)
        radius = RADIUS_PX / pixels_a_screen_pixel
        expected = np.array(
            [shown[0] - radius, shown[0] + radius, shown[1] - radius, shown[1] + radius]
        )
        inside = (expected[::2] > 1).all() and (
            expected[1::2] < np.array(picture.shape[:2]) - 2
        ).all()
        # Beyond the slide the canvas is black.
        colours = np.array([LANDMARK_RGB, TISSUE_RGB, (0, 0, 0)])
        is_dark = np.abs(picture[:, :, None] - colours).sum(axis=-1).argmin(axis=-1) == 0
        if inside:
            assert np.abs(np.array(edges_of(is_dark, shown)) - expected).max() <= 1.0, (
                pixels_a_screen_pixel
            )
        heatmap.visible = True
        covered = settle(viewer, qtbot)
        differs = np.abs(covered - picture).sum(axis=-1) > 0
        if inside:
            # A sample covers up to STEP_PX beyond the edge; the edge is inside of it.
            sample = STEP_PX / pixels_a_screen_pixel / 2 * 2**heatmap.data_level
            found = np.array(edges_of(differs, shown))
            outward = (found - expected) * (-1, 1, -1, 1)
            assert outward.max() <= sample + 1.0
            assert outward.min() >= -sample - 1.0
            # The two lie on each other: their centres are one.
            for axis in (0, 2):
                middle = found[axis : axis + 2].mean() - expected[axis : axis + 2].mean()
                assert abs(middle) <= max(1.0, sample / 2)
            levels_seen.add((slide.data_level, heatmap.data_level))
        # Where the heatmap is transparent, the slide is what it was, to the last bit.
        far = (
            np.hypot(*(np.indices(differs.shape) - shown[:, None, None]))
            > radius + 2 * STEP_PX / pixels_a_screen_pixel * 2**heatmap.data_level + 2
        )
        assert not differs[far].any()
    assert {slide_level for slide_level, _ in levels_seen} >= {1, 2, 3}


def test_contours_run_along_the_edge_as_thin_lines(viewer, qtbot, slide_path: Path) -> None:
    slide = open_slide(slide_path)
    viewer.add_layer(slide)
    scores = Disc(slide_path)
    heatmap = HeatmapLayer(scores, slide.world, threshold=0.5, look=Look.CONTOUR, visible=False)
    viewer.add_layer(heatmap)
    viewer.scene.camera.center = np.array(LANDMARK_PX[::-1]) * 0.5
    for pixels_a_screen_pixel in (1.2, 2.5, 6.0):
        viewer.scene.camera.zoom = 1 / (pixels_a_screen_pixel * 0.5)
        heatmap.visible = False
        picture = settle(viewer, qtbot)
        heatmap.visible = True
        drawn = np.abs(settle(viewer, qtbot) - picture).sum(axis=-1) > 0
        shown = on_canvas(viewer, LANDMARK_PX, 0.5, picture.shape)
        distance = np.hypot(*(np.indices(drawn.shape) - shown[:, None, None]))[drawn]
        radius = RADIUS_PX / pixels_a_screen_pixel
        assert drawn.any()
        assert distance.max() <= radius + 2
        assert distance.min() >= radius - 8
