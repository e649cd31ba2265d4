"""Cells and lattice against their definitions, for every size, window and stride."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_heatmap.geometry import Axis, Geometry

axes = st.builds(
    lambda size, window, share: Axis(size, window, max(1, round(share * window))),
    st.integers(1, 700),
    st.integers(8, 80),
    st.floats(0, 1),
)


def definition(axis):
    """x_k = half a window + k * stride, for every whole k that falls on the slide."""
    ks = range(-axis.window_px, axis.size_px)
    points = (axis.window_px // 2 + k * axis.stride_px for k in ks)
    return [x for x in points if 0 <= x < axis.size_px]


@given(axes)
def test_lattice_points_are_those_of_the_definition(axis):
    assert [axis.position_px(i) for i in range(axis.n_points)] == definition(axis)


@given(axes)
def test_every_point_belongs_to_the_one_cell_that_it_lies_in(axis):
    of_cells = [list(axis.points_of(cell)) for cell in range(axis.n_cells)]
    assert [i for points in of_cells for i in points] == list(range(axis.n_points))
    for cell, points in enumerate(of_cells):
        assert len(points) <= axis.points_per_cell
        assert all(axis.position_px(i) // axis.window_px == cell for i in points)


@given(axes)
def test_windows_never_leave_the_patch(axis):
    patch = axis.window_px + 2 * axis.half_px
    for cell in range(axis.n_cells):
        patch_start = cell * axis.window_px - axis.half_px
        for i, offset in zip(axis.points_of(cell), axis.offsets_in_patch(cell), strict=True):
            assert 0 <= offset <= patch - axis.window_px
            assert patch_start + offset == axis.position_px(i) - axis.window_px // 2


@given(axes)
def test_the_origin_is_the_centre_of_the_first_window(axis):
    if axis.n_points:
        start = definition(axis)[0] - axis.window_px // 2
        assert axis.origin_px == np.arange(start, start + axis.window_px).mean()


@pytest.mark.parametrize(("window", "stride"), [(224, 224), (35, 35), (96, 96)])
def test_a_stride_of_one_window_has_one_point_a_cell(window, stride):
    axis = Axis(window * 7, window, stride)
    assert [len(axis.points_of(cell)) for cell in range(7)] == [1] * 7


@pytest.mark.parametrize("stride", [32, 64, 112, 128, 224])
def test_coarser_strides_are_subsets_of_the_papers(stride):
    assert set(definition(Axis(4000, 224, stride))) <= set(definition(Axis(4000, 224, 16)))


def test_scale_places_samples_in_level_0():
    axis = Axis(1000, 224, 64, scale=2.5)
    assert axis.step_px == 160
    # Read pixel i covers [2.5 i, 2.5 (i + 1)): the border at 48 lies at level-0 border 120.
    assert axis.origin_px == 48 * 2.5 - 0.5


@given(st.integers(50, 400), st.integers(50, 400), st.integers(8, 40), st.integers(1, 40))
def test_windows_are_counted_without_listing_them(width, height, window, stride):
    geometry = Geometry(width, height, window, min(stride, window))
    cells = np.argwhere(np.ones((geometry.y.n_cells, geometry.x.n_cells)))
    listed = sum(len(list(geometry.windows_in_patch(*cell))) for cell in cells.tolist())
    assert geometry.count_windows(cells) == listed == np.prod(geometry.shape)
