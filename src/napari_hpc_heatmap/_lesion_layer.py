"""The lesions of a slide in napari: a point each, and the outlines of the foremost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Points, Shapes

from hpc_heatmap.formats.lesion_files import Lesion, read_lesions
from hpc_heatmap.runs.run import RunSlide
from napari_hpc_heatmap._score_status import ScoreStatus
from napari_hpc_heatmap._world import World

__all__ = [
    "MOST_OUTLINES", "LesionLayers", "layers_of_lesions", "lesion_layers", "lesions_of",
    "make_lesion_layers",
]  # fmt: skip

#: Outlines that are drawn: those of the highest scores. napari takes about half a millisecond for
#: each, and fails on some ten thousands; points have no such limit.
MOST_OUTLINES = 500

_COLOUR = "#00e5ff"
#: Width of an outline, level-0 pixels.
_EDGE_PX = 6.0
#: Least and largest size of a point on the screen, pixels.
_POINT_SIZES = (9, 16)


class _Points(ScoreStatus, Points):  # type: ignore[misc]
    @property
    def _type_string(self) -> str:
        return "points"


class _Outlines(ScoreStatus, Shapes):  # type: ignore[misc]
    @property
    def _type_string(self) -> str:
        return "shapes"


class LesionLayers(NamedTuple):
    """Layers of one slide's lesions, in the order in which they are added.

    Attributes
    ----------
    outlines
        Outer outlines; its `features` have the lesion's `number`, since a lesion may have several.
    points
        One point a lesion, at its centroid, in the order of the lesions; its `features` have
        `number`, `score`, `max_score`, `area_px` and, where the spacing is known, `area_um2`.
        Set `shown` to hide some.
    """

    outlines: Shapes
    points: Points


def lesion_layers(slide: RunSlide) -> LesionLayers:
    """Make layers of the lesions that a run found on a slide.

    Parameters
    ----------
    slide
        A slide of a run that is done.

    Raises
    ------
    FormatError
        The lesions are not there yet, or damaged.
    """
    return layers_of_lesions(slide, lesions_of(slide))


def lesions_of(slide: RunSlide) -> list[Lesion]:
    """Read the lesions of a slide; raises what `lesion_layers` does."""
    return read_lesions(slide.files.lesions_csv, slide.files.lesions_geojson)


def layers_of_lesions(slide: RunSlide, lesions: Sequence[Lesion]) -> LesionLayers:
    """Make layers of lesions that have been read."""
    metadata = {"slide_path": slide.entry.path}
    return make_lesion_layers(lesions, World(slide.entry.spacing_um), slide.id, metadata)


def make_lesion_layers(
    lesions: Sequence[Lesion], world: World, name: str, metadata: dict[str, Any] | None = None
) -> LesionLayers:
    """Make layers of lesions, positions in level-0 pixels, for a slide in a world."""
    options: dict[str, Any] = world.place((1, 1), (0, 0)) | {"blending": "translucent_no_depth"}
    metadata = metadata or {}
    foremost = sorted(lesions, key=lambda lesion: -lesion.score)[:MOST_OUTLINES]
    rings = [
        (lesion.number, polygon[0][:, ::-1]) for lesion in foremost for polygon in lesion.polygons
    ]
    outlines = _Outlines(
        [np.concatenate([ring, ring[:1]]) for _, ring in rings],
        ndim=2,
        shape_type="path",
        name=f"{name} outlines",
        features={"number": [number for number, _ in rings]},
        edge_color=_COLOUR,
        edge_width=_EDGE_PX,
        face_color="transparent",
        metadata=metadata | {"hpc_heatmap_left_out": len(lesions) - len(foremost)},
        **options,
    )
    areas_px = np.array([lesion.area_px for lesion in lesions], float)
    features = {
        "number": [lesion.number for lesion in lesions],
        "score": [lesion.score for lesion in lesions],
        "max_score": [lesion.max_score for lesion in lesions],
        "area_px": areas_px,
    }
    if world.spacing_um is not None:
        features["area_um2"] = areas_px * math.prod(world.spacing_um)
    points = _Points(
        np.array([(lesion.y_px, lesion.x_px) for lesion in lesions], float).reshape(-1, 2),
        name=f"{name} lesions",
        features=features,
        size=np.sqrt(4 * areas_px / math.pi) if len(lesions) else 10,
        canvas_size_limits=_POINT_SIZES,
        symbol="disc",
        face_color="transparent",
        border_color=_COLOUR,
        border_width=0.2,
        metadata=metadata,
        **options,
    )
    return LesionLayers(outlines, points)
