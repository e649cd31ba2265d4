"""Thumbnails are napari's, but for where between two pixels a sample falls."""

from __future__ import annotations

import napari.layers
import numpy as np
import pytest

from napari_hpc_heatmap._heatmap_colours import heatmap_colormap
from napari_hpc_heatmap._thumbnail import NearestThumbnail


class Layer(NearestThumbnail, napari.layers.Image):
    @property
    def _type_string(self) -> str:
        return "image"


@pytest.mark.parametrize("shape", [(320, 640), (97, 33), (20, 9), (3, 900)])
def test_the_thumbnail_is_naparis(shape: tuple[int, int]) -> None:
    y, x = np.indices(shape)
    scores = (0.5 + 0.5 * np.sin(x / 200) * np.cos(y / 150)).astype(np.float32)
    scores[y > 0.8 * shape[0]] = np.nan
    rgb = np.stack([x % 256 // 4, y % 256 // 4, (x + y) % 256 // 8], axis=-1).astype(np.uint8)
    given = {"opacity": 0.6}
    colours = {"colormap": heatmap_colormap("yellow to red", 0.5), "contrast_limits": (0, 1)}
    for data, options in ((rgb, {"rgb": True}), (scores, {"rgb": False} | colours)):
        ours = Layer(data, **given, **options).thumbnail.astype(int)
        theirs = napari.layers.Image(data, **given, **options).thumbnail.astype(int)
        assert ours.shape == theirs.shape
        assert np.median(np.abs(ours - theirs)) <= 4
