"""Shares of rectangles against counting pixels."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpc_heatmap.training.coverage import Coverage

MASK = np.random.default_rng(0).random((17, 23)) < 0.4


@given(
    left=st.floats(-50, 400),
    top=st.floats(-50, 400),
    width=st.floats(0.5, 300),
    height=st.floats(0.5, 300),
    origin=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_share_is_the_mean_of_the_pixels_that_are_touched(left, top, width, height, origin):
    scale = (16.0, 8.0)
    found = Coverage(MASK, scale, origin).share(left, top, left + width, top + height)
    x = range(math.floor(left / 16 + 1e-6), math.ceil((left + width) / 16 - 1e-6))
    y = range(math.floor(top / 8 + 1e-6), math.ceil((top + height) / 8 - 1e-6))
    x, y = x or range(x.start, x.start + 1), y or range(y.start, y.start + 1)
    covered = [
        0 <= j - origin[1] < 17 and 0 <= i - origin[0] < 23 and MASK[j - origin[1], i - origin[0]]
        for j in y
        for i in x
    ]
    assert abs(found - np.mean(covered)) < 1e-12


def test_random_places_lie_in_the_mask_and_reach_all_of_it():
    coverage = Coverage(MASK, (16.0, 8.0), (2, 3))
    x, y = coverage.random_places(5000, np.random.default_rng(1))
    columns, rows = (x // 16 - 2).astype(int), (y // 8 - 3).astype(int)
    assert MASK[rows, columns].all()
    assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) == MASK.sum()
    empty = Coverage(np.zeros((3, 3), bool), (1, 1))
    assert len(empty.random_places(4, np.random.default_rng(0))[0]) == 0
