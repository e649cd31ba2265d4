"""Slides: the one door to OpenSlide.

A :class:`Slide` knows its size and its spacing; a :class:`SlideView` reads it at a requested
spacing. A pixel of a view depends on its position alone, never on the region that it is read with:
patches that overlap agree to the bit, however they are read.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import openslide

from hpc_heatmap.errors import (
    MissingSpacingError,
    SlideNotFoundError,
    TileError,
    UnsupportedSlideError,
)
from hpc_heatmap.geometry import Box
from hpc_heatmap.jpeg_tiles import (
    RGB,
    JpegLevel,
    NotUnderstoodError,
    find_jpeg_levels,
    first_difference,
)
from hpc_heatmap.resampling import resample
from hpc_heatmap.spacing import spacing_of

__all__ = ["RGB", "Slide", "SlideView", "vendor_of"]

WHITE = (255, 255, 255)
#: Spacings and downsamples that differ by less count as equal (0.499 against 0.4990003 um).
RELATIVE_TOLERANCE = 2e-3
#: Levels whose grid does not fall on whole level-0 pixels are read in squares of this side.
_LEVEL_SQUARE_PX = 512

_log = logging.getLogger(__name__)


class Slide:
    """One whole-slide image, in OpenSlide's own frame (bounds not subtracted).

    Parameters
    ----------
    path
        Any file that OpenSlide opens: SVS, MRXS, NDPI, tiled TIFF, DICOM and others.
    spacing_um
        Micrometres per level-0 pixel; wins over what the slide says.

    Raises
    ------
    SlideNotFoundError
        There is no such file.
    UnsupportedSlideError
        OpenSlide does not open it.
    """

    def __init__(self, path: str | os.PathLike[str], *, spacing_um: float | None = None) -> None:
        self.path = Path(path)
        self._is_closed = False
        self._handle = self._open()
        self.width_px, self.height_px = self._handle.dimensions
        #: (width, height) of each level, finest first. Asked for once: after an error of one thread
        #: the handle answers nothing.
        self.level_dimensions: Sequence[tuple[int, int]] = self._handle.level_dimensions
        #: Downsample of each level as OpenSlide counts it, finest first.
        self.level_downsamples: Sequence[float] = self._handle.level_downsamples
        properties = self._handle.properties
        self.vendor: str = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.quickhash: str | None = properties.get(openslide.PROPERTY_NAME_QUICKHASH1)
        self.has_icc_profile: bool = self._handle.color_profile is not None
        self.background = _parse_colour(properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR))
        self.spacing_source, self.spacing_um = spacing_of(properties, spacing_um)
        self._jpeg_levels: dict[int, JpegLevel] | None = None
        self._proven: dict[int, JpegLevel | None] = {}
        #: Where the scanned part of the slide begins, (x, y): (0, 0) where the slide does not say.
        self.bounds_origin_px = (
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        )

    def _open(self) -> openslide.OpenSlide:
        if not self.path.exists():
            raise SlideNotFoundError(f"There is no slide {self.path}: check the path.")
        try:
            return openslide.OpenSlide(self.path)
        except (openslide.OpenSlideError, OSError) as error:
            raise UnsupportedSlideError(
                f"{self.path} is not a slide that OpenSlide can open ({error}): give an SVS, NDPI, "
                "MRXS, SCN, BIF, DICOM or tiled TIFF file that is complete."
            ) from error

    def close(self) -> None:
        """Free the file; a slide that is closed stays so."""
        if self._is_closed:
            return
        self._is_closed = True
        self._handle.close()
        for level in (self._jpeg_levels or {}).values():
            level.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def icc_profile(self) -> bytes | None:
        """The colour profile, for viewing; pixels are never changed by it here."""
        profile = self._handle.color_profile
        return None if profile is None else bytes(profile.tobytes())

    def view(
        self,
        requested_spacing_um: float | None = None,
        *,
        scale: tuple[float, float] | None = None,
    ) -> SlideView:
        """Look at the slide at a requested spacing, or at level 0 where none is requested.

        Parameters
        ----------
        requested_spacing_um
            Micrometres per read pixel.
        scale
            Instead of a spacing: level-0 pixels per read pixel, (x, y).

        Raises
        ------
        MissingSpacingError
            A spacing is requested and the slide's own is unknown.
        """
        if scale is None and requested_spacing_um is not None:
            if self.spacing_um is None:
                raise MissingSpacingError(
                    f"{self.path} does not say its micrometres per pixel, which are needed to read "
                    f"it at {requested_spacing_um} um per pixel: give them with --spacing UM."
                )
            spacing_x, spacing_y = self.spacing_um
            scale = (requested_spacing_um / spacing_x, requested_spacing_um / spacing_y)
        return SlideView(self, scale or (1.0, 1.0))

    def read_level(self, level: int, box: Box) -> RGB:
        """Read pixels of a level; what lies outside the slide has the background colour.

        Parameters
        ----------
        level
            Index of the level, 0 is the finest.
        box
            Rectangle in the level's own pixels.

        Returns
        -------
        (height, width, 3) array of uint8

        Raises
        ------
        TileError
            A tile inside the box cannot be decoded. The slide stays usable.
        """
        tiles = self.jpeg_level(level)
        if tiles is not None:
            return self._put_together(level, tiles, box)
        downsample = self.level_downsamples[level]
        if downsample == round(downsample):
            return self._read_region(level, box, int(downsample))
        # OpenSlide takes level-0 positions: reading on a fixed grid makes each pixel come from
        # the same call whatever box is asked for.
        side = _LEVEL_SQUARE_PX
        pixels = np.empty((box.height, box.width, 3), np.uint8)
        for top in range(box.y // side * side, box.y + box.height, side):
            for left in range(box.x // side * side, box.x + box.width, side):
                square = self._read_region(level, Box(left, top, side, side), downsample)
                y0, y1 = max(top, box.y), min(top + side, box.y + box.height)
                x0, x1 = max(left, box.x), min(left + side, box.x + box.width)
                pixels[y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x] = square[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return pixels

    def _read_region(self, level: int, box: Box, downsample: float) -> RGB:
        location = (round(box.x * downsample), round(box.y * downsample))
        call = location, level, (box.width, box.height)
        try:
            image = self._handle.read_region(*call)
        except openslide.OpenSlideError:
            # After an error every call on the same handle fails, those of other threads too: a
            # handle of this call's own tells whether it is this region that cannot be read. The
            # old one is not closed: it goes when its last reader has ended.
            fresh = self._open()
            try:
                image = fresh.read_region(*call)
            except openslide.OpenSlideError as error:
                self._handle = self._open()
                raise TileError(
                    f"{self.path} cannot be read at level {level}, x {location[0]}, "
                    f"y {location[1]}, {box.width} x {box.height} px ({error})."
                ) from error
            self._handle = fresh
        return _on_background(np.asarray(image), self.background)

    def jpeg_level(self, level: int) -> JpegLevel | None:
        """The JPEG tiles of a level, where they are known to give OpenSlide's own pixels.

        The first call for a level decodes some of its tiles both ways. None is given, and the log
        says why, where a tile differs, where the level is not tiled JPEG, or where its grid does
        not fall on whole level-0 pixels, so that OpenSlide resamples it.
        """
        if level not in self._proven:
            try:
                self._proven[level] = self._prove(level)
            except NotUnderstoodError as reason:
                _log.info("%s, level %d, is read by OpenSlide: %s", self.path, level, reason)
                self._proven[level] = None
        return self._proven[level]

    def _prove(self, level: int) -> JpegLevel:
        downsample = self.level_downsamples[level]
        if downsample != round(downsample):
            raise NotUnderstoodError(f"its downsample, {downsample:g}, is no whole number")
        if self._jpeg_levels is None:
            self._jpeg_levels = {}
            sizes = tuple(self.level_dimensions)
            self._jpeg_levels = find_jpeg_levels(self.path, self.vendor, sizes)
        if level not in self._jpeg_levels:
            raise NotUnderstoodError("it is not tiled JPEG")
        tiles = self._jpeg_levels[level]
        difference = first_difference(
            tiles, lambda box: self._read_region(level, box, int(downsample))
        )
        if difference is not None:
            raise NotUnderstoodError(difference)
        return tiles

    def _put_together(self, level: int, tiles: JpegLevel, box: Box) -> RGB:
        """Pixels of a box from the JPEG tiles; a tile that is not understood is OpenSlide's."""
        pixels = np.empty((box.height, box.width, 3), np.uint8)
        width_px, height_px = self.level_dimensions[level]
        if min(box.x, box.y, width_px - box.x - box.width, height_px - box.y - box.height) < 0:
            pixels[:] = self.background
        rows, columns = tiles.grid.touching(box)
        for row in rows:
            for column in columns:
                at = tiles.grid.box(row, column)
                try:
                    tile = tiles.pixels(row, column)
                except NotUnderstoodError:
                    tile = self._read_region(level, at, self.level_downsamples[level])
                y0, y1 = max(at.y, box.y), min(at.y + at.height, box.y + box.height)
                x0, x1 = max(at.x, box.x), min(at.x + at.width, box.x + box.width)
                pixels[y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x] = tile[
                    y0 - at.y : y1 - at.y, x0 - at.x : x1 - at.x
                ]
        return pixels

    def thumbnail(self, longest_px: int = 1024) -> tuple[RGB, float]:
        """Small picture of the slide, and its level-0 pixels per pixel."""
        scale = max(1.0, max(self.width_px, self.height_px) / longest_px)
        view = self.view(scale=(scale, scale))
        picture = np.empty((view.height_px, view.width_px, 3), np.uint8)
        for box in view.boxes(256):
            try:
                pixels = view.read(box)
            except TileError:
                pixels = np.full((box.height, box.width, 3), 128, np.uint8)
            picture[box.y : box.y + box.height, box.x : box.x + box.width] = pixels
        return picture, scale


class SlideView:
    """A slide at a spacing. Pixels are resampled from the best level with a triangle filter.

    The filter is as wide as one read pixel on each side (antialiased bilinear). Its weights are
    a function of the absolute position of a read pixel; values half-way between two grey levels
    go up.

    Parameters
    ----------
    slide
        The slide to look at.
    scale
        Level-0 pixels per read pixel, (x, y).
    """

    def __init__(self, slide: Slide, scale: tuple[float, float]) -> None:
        self.slide = slide
        self.level, downsample = _best_level(slide.level_downsamples, min(scale))
        self._factor = (
            _snap(scale[0] / downsample),
            _snap(scale[1] / downsample),
        )
        self.scale = (self._factor[0] * downsample, self._factor[1] * downsample)
        self.width_px = max(1, math.floor(slide.width_px / self.scale[0] + 1e-6))
        self.height_px = max(1, math.floor(slide.height_px / self.scale[1] + 1e-6))

    @property
    def spacing_um(self) -> tuple[float, float] | None:
        """Micrometres per read pixel, (x, y), where known."""
        if self.slide.spacing_um is None:
            return None
        return (
            self.slide.spacing_um[0] * self.scale[0],
            self.slide.spacing_um[1] * self.scale[1],
        )

    def read(self, box: Box) -> RGB:
        """Read a rectangle of read pixels.

        Returns
        -------
        (height, width, 3) array of uint8
            Outside the slide it has the background colour.

        Raises
        ------
        TileError
            A tile inside the box cannot be decoded.
        """
        if self._factor == (1.0, 1.0):
            return self.slide.read_level(self.level, box)
        return resample(lambda source: self.slide.read_level(self.level, source), box, self._factor)

    @property
    def stored_tiles(self) -> JpegLevel | None:
        """The slide's own tiles of what the view shows, where that needs no resampling."""
        return self.slide.jpeg_level(self.level) if self._factor == (1.0, 1.0) else None

    def boxes(self, side_px: int) -> Iterator[Box]:
        """Cut the slide into squares, row by row; the last ones of a row may be smaller."""
        for y in range(0, self.height_px, side_px):
            for x in range(0, self.width_px, side_px):
                width = min(side_px, self.width_px - x)
                height = min(side_px, self.height_px - y)
                yield Box(x, y, width, height)


def _best_level(downsamples: Sequence[float], scale: float) -> tuple[int, float]:
    """Coarsest level that is not coarser than `scale`, and its downsample."""
    fitting = [i for i, d in enumerate(downsamples) if d <= scale * (1 + RELATIVE_TOLERANCE)]
    level = fitting[-1] if fitting else 0
    return level, downsamples[level]


def _snap(factor: float) -> float:
    """A factor within the tolerance of 1 needs no resampling."""
    return 1.0 if abs(factor - 1) < RELATIVE_TOLERANCE else factor


def _parse_colour(text: str | None) -> tuple[int, int, int]:
    """OpenSlide's ``RRGGBB``, white where the slide does not say."""
    if not text:
        return WHITE
    value = int(text, 16)
    return value >> 16 & 255, value >> 8 & 255, value & 255


def _on_background(rgba: npt.NDArray[np.uint8], background: tuple[int, int, int]) -> RGB:
    """Composite what OpenSlide gives (transparent outside the slide) on a colour."""
    rgb = np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return rgb
    share = alpha[..., None].astype(np.float32) / 255
    mixed = rgb * share + np.asarray(background, np.float32) * (1 - share)
    return np.rint(mixed).astype(np.uint8)


def vendor_of(path: Path) -> str | None:
    """Format of a file as OpenSlide recognises it; None where it is no slide."""
    vendor: str | None = openslide.OpenSlide.detect_format(path)
    return vendor
