"""Outlines of lesions as shapes that can be measured."""

from __future__ import annotations

from collections.abc import Iterable

import shapely
from shapely.geometry import MultiPolygon, Polygon

from hpc_heatmap.formats.lesion_files import Ring

__all__ = ["shape_of"]


def shape_of(polygons: Iterable[Iterable[Ring]]) -> MultiPolygon:
    """Polygons (outer ring, then holes) as one valid shape; what has no area is left out."""
    parts = []
    for outer, *holes in polygons:
        if len(outer) > 3 or (len(outer) == 3 and (outer[0] != outer[-1]).any()):
            parts.append(Polygon(outer, [h for h in holes if len(h) > 2]))
    merged = shapely.union_all([shapely.make_valid(part) for part in parts])
    faces = [g for g in getattr(merged, "geoms", [merged]) if isinstance(g, Polygon)]
    return MultiPolygon([face for face in faces if face.area > 0])
