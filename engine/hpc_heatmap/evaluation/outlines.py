"""Tumour outlines in level-0 pixels: ASAP XML, QuPath GeoJSON, and the JSON of CAMELYON16."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError, brief

__all__ = ["ARCHIVE_SUFFIXES", "OUTLINE_SUFFIXES", "Outline", "read_archive", "read_outlines"]

OUTLINE_SUFFIXES = (".xml", ".geojson", ".json")
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
#: Classes that mean tumour, and ASAP groups and classes that cut a hole into it; lower case.
_TUMOUR = {"tumor", "tumour", "lesion", "metastasis", "metastases", "positive", "carcinoma"}
_HOLE = {"_2", "exclusion", "normal", "negative", "hole"}


@dataclass(frozen=True)
class Outline:
    """One closed outline.

    Attributes
    ----------
    name
        For messages.
    points
        Shape (n, 2): x, y in level-0 pixels.
    is_hole
        Whether it is taken out of the tumour of its part.
    part
        Outlines of one part belong together: a hole cuts into its own part alone.
    """

    name: str
    points: npt.NDArray[np.float64]
    is_hole: bool = False
    part: int = 0


def read_outlines(path: Path) -> list[Outline]:
    """Read the outlines of one slide.

    Raises
    ------
    EvaluationError
        The file is none of the three formats, or holds no tumour.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {brief(error)}.") from error
    return parse_outlines(content, str(path))


def read_archive(path: Path) -> dict[str, list[Outline]]:
    """Read every outline file of a tar archive, by slide name.

    Raises
    ------
    EvaluationError
        It is no archive, holds no outlines, or two files of one slide.
    """
    found: dict[str, list[Outline]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                file = archive.extractfile(member) if member.isfile() else None
                if file is None or name.suffix.lower() not in OUTLINE_SUFFIXES:
                    continue
                if name.stem in found:
                    raise EvaluationError(f"{path} holds two files of the slide {name.stem}.")
                found[name.stem] = parse_outlines(file.read(), f"{path}: {member.name}")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise EvaluationError(f"{path} cannot be read as an archive: {brief(error)}.") from error
    if not found:
        raise EvaluationError(f"{path} holds no outlines (.json, .geojson or .xml).")
    return found


def parse_outlines(content: bytes, where: str) -> list[Outline]:
    """Outlines of a file's content; `where` names it in messages."""
    try:
        if content.lstrip()[:1] == b"<":
            outlines = list(_asap(content))
        else:
            document = json.loads(content.decode("utf-8-sig"))
            if isinstance(document, dict) and "positive" in document:
                outlines = list(_camelyon(document))
            else:
                outlines = list(_geojson(document, where))
    except EvaluationError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ElementTree.ParseError) as error:
        raise EvaluationError(
            f"{where} is neither ASAP XML, nor QuPath GeoJSON, nor JSON as of CAMELYON16 "
            f"({type(error).__name__}: {brief(error)})."
        ) from error
    for outline in outlines:
        points = outline.points
        if not np.isfinite(points).all():
            raise EvaluationError(f"{where}: the outline {outline.name} has a point without place.")
    # Real annotations hold stray clicks; they enclose nothing.
    outlines = [o for o in outlines if o.points.ndim == 2 and len(np.unique(o.points, axis=0)) > 2]
    if not any(not outline.is_hole for outline in outlines):
        raise EvaluationError(
            f"{where} holds no outline of tumour with 3 points or more: delete it if the "
            "slide is normal."
        )
    return outlines


def _camelyon(document: dict[str, Any]) -> Iterator[Outline]:
    for key, is_hole in (("positive", False), ("negative", True)):
        for number, entry in enumerate(document.get(key) or []):
            points = np.array(entry["vertices"], dtype=np.float64)
            yield Outline(f"{entry.get('name', number)!s} ({key})", points, is_hole)


def _asap(content: bytes) -> Iterator[Outline]:
    if b"<!ENTITY" in content:
        raise ValueError("it defines entities")
    root = ElementTree.fromstring(content)
    for number, annotation in enumerate(root.iter("Annotation")):
        name = annotation.get("Name") or str(number)
        kind = annotation.get("Type", "Polygon")
        if kind.lower() in {"dot", "pointset", "measurement"}:
            continue
        places = sorted(annotation.iter("Coordinate"), key=lambda c: int(c.get("Order", "0")))
        points = [(float(c.attrib["X"]), float(c.attrib["Y"])) for c in places]
        group = annotation.get("PartOfGroup", "")
        yield Outline(name, np.array(points, dtype=np.float64), group.lower() in _HOLE)


def _geojson(document: Any, where: str) -> Iterator[Outline]:
    features = document["features"] if isinstance(document, dict) else document
    if isinstance(document, dict) and document.get("type") == "Feature":
        features = [document]
    classes = [_class_of(feature) for feature in features]
    # Where some are tumour by their class, the others are something else.
    choose = any(name.lower() in _TUMOUR for name in classes)
    if not choose and (other := sorted({name for name in classes if name})):
        raise EvaluationError(
            f"{where}: no object is of a tumour class, only of {', '.join(other)}: name the class "
            "of tumours Tumor, or remove the classes."
        )
    part = 0
    for number, (feature, name) in enumerate(zip(features, classes, strict=True)):
        geometry = feature["geometry"]
        if (choose and name.lower() not in _TUMOUR) or "Polygon" not in geometry["type"]:
            continue
        coordinates = geometry["coordinates"]
        polygons = coordinates if geometry["type"] == "MultiPolygon" else [coordinates]
        title = str((feature.get("properties") or {}).get("name") or number)
        for polygon in polygons:
            part += 1
            for index, ring in enumerate(polygon):
                points = np.array([place[:2] for place in ring], dtype=np.float64)
                yield Outline(title, points, index > 0, part)


def _class_of(feature: dict[str, Any]) -> str:
    """Class of a QuPath object, as old and new versions write it."""
    properties = feature.get("properties") or {}
    value = properties.get("classification") or {}
    names = value.get("names") or []
    return str(value.get("name") or (names[0] if names else ""))
