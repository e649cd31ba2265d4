"""A heatmap as a picture: colours of the scores, transparent off tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.colours import colour
from hpc_heatmap.formats.heatmap import Heatmap

__all__ = ["write_heatmap_png"]

#: The finest level that is not longer is drawn.
LONGEST_PX = 4096


def write_heatmap_png(path: Path, heatmap: Heatmap) -> None:
    """Write the finest level that fits, one pixel a sample, RGBA."""
    level = 0
    while level + 1 < heatmap.n_levels and max(heatmap.dataset(level).shape) > LONGEST_PX:
        level += 1
    scores = heatmap.dataset(level)[:]
    scored = ~np.isnan(scores)
    rgba = np.zeros((*scores.shape, 4), np.uint8)
    rgba[scored, :3] = np.rint(colour(scores[scored]))
    rgba[scored, 3] = 255
    with writing(path) as partial:
        Image.fromarray(rgba).save(partial, format="PNG")
