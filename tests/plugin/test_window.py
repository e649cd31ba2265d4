"""A napari window comes up, shows pixels and goes away."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.gui


def test_a_window_draws_what_its_layers_hold(make_napari_viewer) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.full((40, 40, 3), (200, 20, 60), np.uint8), rgb=True)
    picture = viewer.screenshot(flash=False)
    row, column = picture.shape[0] // 2, picture.shape[1] // 2
    assert picture[row, column].tolist() == [200, 20, 60, 255]
