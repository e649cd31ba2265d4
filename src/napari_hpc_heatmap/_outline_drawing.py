"""An outline being drawn: a layer of its own that lives until it is kept or discarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.review_file import Polygons
from napari_hpc_heatmap._world import World

__all__ = ["OutlineDrawing"]

_COLOUR = "#ffd000"
_ELLIPSE_POINTS = 64


class OutlineDrawing:
    """A Shapes layer to draw in, placed on a slide.

    Parameters
    ----------
    viewer
        The viewer.
    world
        Frame of the slide.
    polygons
        An outline to begin with; its holes are left out.
    """

    def __init__(self, viewer: Any, world: World, polygons: Polygons = ()) -> None:
        from napari.layers import Shapes

        self._viewer = viewer
        rings = [rings[0][:, ::-1] for rings in polygons]
        self.layer = Shapes(
            [ring[:-1] if (ring[0] == ring[-1]).all() else ring for ring in rings] or None,
            ndim=2,
            shape_type="polygon",
            name="outline being drawn",
            edge_color=_COLOUR,
            edge_width=4.0,
            face_color="transparent",
            blending="translucent_no_depth",
            **world.place((1, 1), (0, 0)),
        )
        viewer.add_layer(self.layer)
        viewer.layers.selection.active = self.layer
        self.layer.mode = "direct" if rings else "add_polygon"

    @property
    def is_there(self) -> bool:
        """Whether the user has not deleted the layer."""
        return self.layer in self._viewer.layers

    def polygons(self) -> list[list[npt.NDArray[np.float64]]]:
        """What was drawn: a list of one ring each, (n, 2) x, y in level-0 pixels."""
        kinds: Sequence[str] = self.layer.shape_type
        return [
            [_ring(np.asarray(points, np.float64), kind)]
            for points, kind in zip(self.layer.data, kinds, strict=True)
            if kind in ("polygon", "rectangle", "ellipse")
        ]

    def close(self) -> None:
        """Remove the layer."""
        if self.is_there:
            self._viewer.layers.remove(self.layer)


def _ring(points: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.float64]:
    if kind == "ellipse":
        # napari keeps the corners of the box around it.
        centre, a, b = points.mean(axis=0), (points[1] - points[0]) / 2, (points[3] - points[0]) / 2
        angle = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)[:, None]
        points = centre + np.cos(angle) * a + np.sin(angle) * b
    ring: npt.NDArray[np.float64] = points[:, ::-1]
    return ring
