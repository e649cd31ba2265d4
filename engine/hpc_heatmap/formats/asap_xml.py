"""Outlines as ASAP writes them, and CAMELYON with it: XML of polygons, level-0 pixels.

Each ring is an annotation of its own. Holes are in the group ``Exclusion``, which this package's
own reader (`evaluate froc --masks`) and ASAP's tools cut out of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.lesion_files import Ring

__all__ = ["Annotation", "write_asap_xml"]

_HOLES = "Exclusion"


@dataclass(frozen=True)
class Annotation:
    """One thing outlined.

    Attributes
    ----------
    name
        Its name.
    group
        Group that it belongs to.
    color
        Colour as ``#rrggbb``.
    polygons
        Outlines, level-0 pixels: one list of rings a polygon, the outer ring first, then holes.
    """

    name: str
    group: str
    color: str
    polygons: tuple[tuple[Ring, ...], ...]


def write_asap_xml(path: Path, annotations: Iterable[Annotation]) -> None:
    """Write annotations and the groups that they belong to."""
    root = ElementTree.Element("ASAP_Annotations")
    listed = ElementTree.SubElement(root, "Annotations")
    groups: dict[str, str] = {}
    for annotation in annotations:
        groups.setdefault(annotation.group, annotation.color)
        for rings in annotation.polygons:
            for index, ring in enumerate(rings):
                if index:
                    groups.setdefault(_HOLES, "#0000ff")
                element = ElementTree.SubElement(
                    listed,
                    "Annotation",
                    Name=annotation.name,
                    Type="Polygon",
                    PartOfGroup=_HOLES if index else annotation.group,
                    Color=annotation.color,
                )
                _add_ring(element, ring)
    listed_groups = ElementTree.SubElement(root, "AnnotationGroups")
    for name, color in groups.items():
        group = ElementTree.SubElement(
            listed_groups, "Group", Name=name, PartOfGroup="None", Color=color
        )
        ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root)
    with writing(path) as partial:
        ElementTree.ElementTree(root).write(partial, "utf-8", xml_declaration=True)


def _add_ring(element: ElementTree.Element, ring: Ring) -> None:
    places = ElementTree.SubElement(element, "Coordinates")
    # ASAP closes a polygon itself.
    open_ring = ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring
    for order, (x_px, y_px) in enumerate(open_ring.tolist()):
        ElementTree.SubElement(
            places, "Coordinate", Order=str(order), X=f"{x_px:.2f}", Y=f"{y_px:.2f}"
        )
