"""Pictures show things where they are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from slides import landmark_slide

from hpc_heatmap.cells import tabulate_cells
from hpc_heatmap.formats.colours import colour
from hpc_heatmap.formats.heatmap import Heatmap, write_heatmap
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.slide import Slide
from hpc_heatmap.stages.pictures import draw_grid, draw_overview


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_colours_go_from_blue_to_red_and_stay_in_range():
    scores = np.array([-1, 0, 0.25, 0.5, 0.75, 1, 2])
    colours = colour(scores)
    assert colours.shape == (7, 3)
    assert colours[0].tolist() == colours[1].tolist() and colours[0].argmax() == 2
    assert colours[-1].tolist() == colours[-2].tolist() and colours[-1].argmax() == 0
    assert (np.diff(colours[1:-1, 0]) != 0).all()
    assert colours.min() >= 0 and colours.max() <= 255


@pytest.mark.parametrize("width", [640, 2400])
def test_the_overview_shows_the_peak_on_the_landmark(tmp_path, width):
    """A slide as it is and one that is drawn smaller."""
    height = width * 3 // 4
    where = width * 0.7, height * 0.3
    path = landmark_slide(tmp_path / "s.tiff", width, height, where, width / 40)
    geometry = Geometry(width, height, 64, 16)

    def block(row, column, n, m):
        y = geometry.y.origin_px + 16 * np.arange(row, row + n)
        x = geometry.x.origin_px + 16 * np.arange(column, column + m)
        away = np.hypot(x[None] - where[0], y[:, None] - where[1])
        scores = np.where(away < width / 20, 1.0, 0.0)
        scores[:, x < width / 4] = np.nan
        return scores.astype(np.float32)

    write_heatmap(tmp_path / "h.h5", geometry, block, {})
    with Slide(path) as slide, Heatmap(tmp_path / "h.h5") as heatmap:
        draw_overview(tmp_path / "o.png", slide, heatmap, "a title")
        plain, scale = slide.thumbnail(1600)
    drawn = pixels_of(tmp_path / "o.png")
    assert drawn.shape == (plain.shape[0] + 56, plain.shape[1], 3)
    drawn = drawn[: plain.shape[0]]
    # Where there is no score the slide shows as it is.
    free = int(width / 4 / scale) - int(40 / scale) - 2
    assert (drawn[:, :free] == plain[:, :free]).all()
    assert (drawn[:, -free:] != plain[:, -free:]).any()
    red = (drawn[..., 0] - drawn[..., 2]) > 100
    y, x = (np.argwhere(red).mean(axis=0) + 0.5) * scale - 0.5
    assert (x, y) == pytest.approx(where, abs=8 + scale)
    assert red.sum() * scale**2 == pytest.approx(np.pi * (width / 20) ** 2, rel=0.15)


def test_the_grid_is_drawn_on_its_cells(tmp_path):
    path = landmark_slide(tmp_path / "s.tiff", 3200, 2400, (9, 9), 3)
    geometry = Geometry(1600, 1200, 200, 50, 2.0, 2.0)
    fractions = np.zeros((geometry.y.n_cells, geometry.x.n_cells))
    fractions[2, 3] = fractions[4, 5] = 1
    with Slide(path) as slide:
        draw_grid(tmp_path / "g.png", slide, geometry, tabulate_cells(fractions, 0.05, 9))
        plain, scale = slide.thumbnail(1600)
    changed = (pixels_of(tmp_path / "g.png")[: plain.shape[0]] != plain).any(axis=2)
    assert scale == 2

    def cell(row, column):
        return changed[row * 200 + 10 : row * 200 + 190, column * 200 + 10 : column * 200 + 190]

    for row, column in np.ndindex(fractions.shape):
        assert cell(row, column).all() == cell(row, column).any() == bool(fractions[row, column])
    # The box around both cells.
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max()) == pytest.approx((400, 1000), abs=3)
    assert (columns.min(), columns.max()) == pytest.approx((600, 1200), abs=3)


def test_a_grid_without_cells_is_the_slide_alone(tmp_path):
    path = landmark_slide(tmp_path / "s.tiff", 640, 480, (9, 9), 3)
    table = tabulate_cells(np.zeros((3, 3)), 0.05, 9)
    with Slide(path) as slide:
        draw_grid(tmp_path / "g.png", slide, Geometry(640, 480, 224, 64), table)
        plain, _ = slide.thumbnail(1600)
    assert (pixels_of(tmp_path / "g.png")[:480, :640] == plain).all()
