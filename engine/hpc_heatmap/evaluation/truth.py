"""The truth of all slides: masks and outlines of a folder or an archive, found by slide name."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError
from hpc_heatmap.evaluation.lesions import LesionMap, find_lesions
from hpc_heatmap.evaluation.masks import MASK_SUFFIXES, read_mask
from hpc_heatmap.evaluation.outlines import (
    ARCHIVE_SUFFIXES,
    OUTLINE_SUFFIXES,
    Outline,
    read_archive,
    read_outlines,
)
from hpc_heatmap.evaluation.raster import rasterise

__all__ = ["Grid", "Truth", "TumourMask", "find_truth"]


@dataclass(frozen=True)
class Grid:
    """Pixels on which lesions are told apart.

    Attributes
    ----------
    level
        Level of the masks: a pixel is 2**level level-0 pixels wide.
    spacing_um
        Micrometres of a level-0 pixel, for all slides.
    """

    level: int = 5
    spacing_um: float = 0.243

    @property
    def pixel_px(self) -> int:
        """Side of a pixel, level-0 pixels."""
        return int(2**self.level)

    @property
    def pixel_um(self) -> float:
        """Side of a pixel, micrometres."""
        return self.spacing_um * self.pixel_px


@dataclass(frozen=True)
class TumourMask:
    """Tumour of one slide.

    Attributes
    ----------
    mask
        (rows, columns) bool: the part of the grid with tumour.
    origin
        (column, row) of ``mask[0, 0]`` on the grid.
    size
        (columns, rows) of the whole grid, or None where the extent of the slide is unknown.
    """

    mask: npt.NDArray[np.bool_]
    origin: tuple[int, int]
    size: tuple[int, int] | None


class Truth:
    """Where the truth of each tumour slide is; read when it is asked for."""

    def __init__(
        self, files: Mapping[str, Path], archived: Mapping[str, tuple[Path, list[Outline]]]
    ) -> None:
        self._files = files
        self._archived = archived

    def match(self, slides: Collection[str]) -> None:
        """Refuse truth of slides that have no detections file.

        Raises
        ------
        EvaluationError
            A slide with tumour has no CSV; it would be left out of the count in silence.
        """
        known = {name.casefold() for name in slides}
        lost = sorted(name for name in self._files if name not in known)
        if lost:
            more = f" (and {len(lost) - 1} others)" if len(lost) > 1 else ""
            raise EvaluationError(
                f"{self._files[lost[0]]}{more} has no CSV of its name among the detections: masks "
                "and detections do not match; a slide without detections needs an empty CSV."
            )

    def has(self, slide: str) -> bool:
        """Whether a slide has truth, and so tumour."""
        return slide.casefold() in self._files

    def lesions(
        self, slide: str, grid: Grid, size_px: tuple[int, int] | None = None
    ) -> LesionMap | None:
        """Lesions of a slide; None for a slide without truth, which is normal.

        Parameters
        ----------
        size_px
            (width, height) of the slide, level-0 pixels, where it is known; masks know it.
        """
        drawn = self.tumour(slide, grid, size_px)
        if drawn is None:
            return None
        return find_lesions(drawn.mask, grid.pixel_um, origin=drawn.origin, size=drawn.size)

    def tumour(
        self, slide: str, grid: Grid, size_px: tuple[int, int] | None = None
    ) -> TumourMask | None:
        """Tumour of a slide as it was drawn; None for a slide without truth, which is normal.

        Parameters
        ----------
        size_px
            (width, height) of the slide, level-0 pixels, where it is known; masks know it.
        """
        key = slide.casefold()
        archived, path = self._archived.get(key), self._files.get(key)
        if path is not None and path.suffix.lower() in MASK_SUFFIXES:
            mask = read_mask(path, grid.level)
            return TumourMask(mask, (0, 0), (mask.shape[1], mask.shape[0]))
        if archived is not None:
            where, outlines = f"{archived[0]}: {slide}", archived[1]
        elif path is not None:
            where, outlines = str(path), read_outlines(path)
        else:
            return None
        size = None
        if size_px is not None:
            size = (-(-size_px[0] // grid.pixel_px), -(-size_px[1] // grid.pixel_px))
        return TumourMask(*rasterise(outlines, grid.pixel_px, where, size), size)


def find_truth(source: str | os.PathLike[str]) -> Truth:
    """Find masks and outlines in a folder, or in a tar archive of outlines.

    A file is of the slide that it is named like, case aside; a suffix ``_mask`` is left out of the
    name.

    Raises
    ------
    EvaluationError
        There is no such folder, or two files are of one slide.
    """
    source = Path(source)
    if source.is_file() and source.name.lower().endswith(ARCHIVE_SUFFIXES):
        return _with_archives({}, [source])
    if not source.is_dir():
        raise EvaluationError(
            f"{source} is neither a folder of masks or outlines nor a tar archive of outlines."
        )
    files: dict[str, Path] = {}
    archives = []
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.name.lower().endswith(ARCHIVE_SUFFIXES):
            archives.append(path)
        elif path.suffix.lower() in (*MASK_SUFFIXES, *OUTLINE_SUFFIXES):
            key = path.stem.casefold().removesuffix("_mask")
            if key in files:
                raise EvaluationError(
                    f"{files[key]} and {path.name} are both of one slide: keep one of them."
                )
            files[key] = path
    return _with_archives(files, archives)


def _with_archives(files: dict[str, Path], archives: list[Path]) -> Truth:
    archived: dict[str, tuple[Path, list[Outline]]] = {}
    for archive in archives:
        for name, outlines in read_archive(archive).items():
            key = name.casefold()
            if key in files:
                raise EvaluationError(
                    f"{files[key]} and {archive.name} both hold the slide {name}: keep one."
                )
            archived[key] = (archive, outlines)
            files[key] = archive
    return Truth(files, archived)
