"""Lesions of a slide with what reviewers said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpc_heatmap.formats.lesion_files import (
    Lesion,
    LesionNumbers,
    lesions_from,
    read_lesion_numbers,
    read_lesions,
)
from hpc_heatmap.formats.outline_shapes import shape_of
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.review_file import Polygons, Review, ReviewJournal

__all__ = ["ReviewedLesion", "lesion_numbers", "reviewed_lesions"]

#: A review belongs to a lesion that lies where it lay when it was reviewed.
_SAME_PLACE_PX = 1.0


@dataclass(frozen=True)
class ReviewedLesion:
    """One lesion as it stands after review.

    Attributes
    ----------
    key
        The machine's number as text, or the key of an outline that a reviewer has added.
    lesion
        Its outline, place and area; the machine's scores, NaN for added outlines.
    review
        The last word on it.
    found_at_px
        Where the machine found it, (x, y), whatever its outline is now; None for added outlines.
    """

    key: str
    lesion: Lesion
    review: Review
    found_at_px: tuple[float, float] | None = None

    @property
    def outline(self) -> str:
        """Who drew the outline: machine, redrawn or drawn."""
        if self.review.is_added:
            return "drawn"
        return "machine" if self.review.polygons is None else "redrawn"


def reviewed_lesions(paths: RunPaths, slide_id: str) -> list[ReviewedLesion]:
    """Lesions of a slide, the machine's in its order, then those that reviewers have added.

    Raises
    ------
    FormatError
        The slide is not done, or a file is damaged.

    Notes
    -----
    A review of a lesion that now lies elsewhere, since the slide was scored anew with another
    result, is not applied; it stays in its journal.
    """
    files = paths.slide(slide_id)
    found = read_lesions(files.lesions_csv, files.lesions_geojson)
    reviews = ReviewJournal(paths.reviews(slide_id)).read()
    return _reviewed(found, reviews) + _added(reviews)


def lesion_numbers(paths: RunPaths, slide_id: str) -> tuple[LesionNumbers, list[ReviewedLesion]]:
    """Numbers of all lesions of a slide, and those lesions that reviewers spoke of or added.

    Fast, however many lesions there are. The machine's outlines are not read.

    Raises
    ------
    FormatError
        The slide is not done, or a file is damaged.
    """
    numbers = read_lesion_numbers(paths.slide(slide_id).lesions_csv)
    reviews = ReviewJournal(paths.reviews(slide_id)).read()
    keys = [int(key) for key, review in reviews.items() if not review.is_added]
    spoken_of = lesions_from(numbers[np.isin(numbers["number"], keys)])
    return numbers, _reviewed(spoken_of, reviews) + _added(reviews)


def _reviewed(found: Sequence[Lesion], reviews: Mapping[str, Review]) -> list[ReviewedLesion]:
    """What the machine found, after review."""
    merged = []
    for lesion in found:
        key, place_px = str(lesion.number), (lesion.x_px, lesion.y_px)
        review = reviews.get(key)
        if review is None or not _same_place(review, lesion):
            review = Review(key)
        elif review.polygons is not None:
            lesion = _with_outline(lesion, review.polygons)
        merged.append(ReviewedLesion(key, lesion, review, place_px))
    return merged


def _added(reviews: Mapping[str, Review]) -> list[ReviewedLesion]:
    """What reviewers have added."""
    nan = float("nan")
    blank = Lesion(0, nan, nan, 0.0, 0.0, 0, 0.0, ())
    return [
        ReviewedLesion(key, _with_outline(blank, review.polygons), review)
        for key, review in reviews.items()
        if review.is_added and review.polygons is not None
    ]


def _same_place(review: Review, lesion: Lesion) -> bool:
    if review.place_px is None:
        return True
    x_px, y_px = review.place_px
    return max(abs(x_px - lesion.x_px), abs(y_px - lesion.y_px)) <= _SAME_PLACE_PX


def _with_outline(lesion: Lesion, polygons: Polygons) -> Lesion:
    shape = shape_of(polygons)
    return replace(
        lesion,
        polygons=polygons,
        x_px=shape.centroid.x,
        y_px=shape.centroid.y,
        area_px=shape.area,
    )
