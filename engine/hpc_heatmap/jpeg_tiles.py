"""Tiled JPEG in TIFF files: the tiles as they are stored, and their pixels. The one door to JPEG.

OpenSlide decodes a tile again for every region that touches it. Here a tile is decoded once, or
handed on as it is stored. The decoder is the same library that OpenSlide has inside, so the pixels
are the same; :func:`first_difference` proves it for a level. Whatever is not understood to the last
detail is left to OpenSlide: the functions say so by an exception.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg

from hpc_heatmap.errors import TileError
from hpc_heatmap.geometry import Box

__all__ = [
    "JpegLevel",
    "NotUnderstoodError",
    "TileGrid",
    "check_tile",
    "decode_tile",
    "first_difference",
    "find_jpeg_levels",
]

RGB = npt.NDArray[np.uint8]

#: Formats whose levels are plain grids of tiles, as OpenSlide names them.
VENDORS = ("aperio", "generic-tiff", "philips")
#: Decoded tiles of a level that are kept, as many as OpenSlide keeps of a slide.
_BYTES_IN_MEMORY = 2**25
_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
#: Adobe's marker, which says what the three components of a JPEG are.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_TIFF_JPEG, _TIFF_RGB, _TIFF_YCBCR = 7, 2, 6


class NotUnderstoodError(Exception):
    """A file or a tile that is for OpenSlide; the message says why."""


@dataclass(frozen=True)
class TileGrid:
    """How a level is cut into tiles. All sides in pixels of the level."""

    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int

    @property
    def n_rows(self) -> int:
        """Rows of tiles."""
        return -(-self.height_px // self.tile_height_px)

    @property
    def n_columns(self) -> int:
        """Columns of tiles."""
        return -(-self.width_px // self.tile_width_px)

    def box(self, row: int, column: int) -> Box:
        """The part of the level that a tile shows: the last ones of a row or column are cut."""
        x, y = column * self.tile_width_px, row * self.tile_height_px
        width = min(self.tile_width_px, self.width_px - x)
        return Box(x, y, width, min(self.tile_height_px, self.height_px - y))

    def touching(self, box: Box) -> tuple[range, range]:
        """Rows and columns of the tiles that a box touches; it may reach beyond the level."""
        x0, x1 = max(box.x, 0), min(box.x + box.width, self.width_px)
        y0, y1 = max(box.y, 0), min(box.y + box.height, self.height_px)
        if x0 >= x1 or y0 >= y1:
            return range(0), range(0)
        rows = range(y0 // self.tile_height_px, -(-y1 // self.tile_height_px))
        return rows, range(x0 // self.tile_width_px, -(-x1 // self.tile_width_px))


def decode_tile(header: bytes, data: bytes, grid: TileGrid) -> RGB:
    """Pixels of a tile, (tile height, tile width, 3).

    Parameters
    ----------
    header
        What makes a JPEG file of a stored tile: markers and tables that come before it.
    data
        The tile as it is stored.
    grid
        Says how large a tile is.

    Raises
    ------
    NotUnderstoodError
        The decoder complains, be it only a warning, or the size is another one.
    """
    pixels = np.empty((grid.tile_height_px, grid.tile_width_px, 3), np.uint8)
    jpeg = _whole_jpeg(header, data)
    try:
        found = simplejpeg.decode_jpeg(jpeg, "RGB", buffer=pixels, strict=True)
    except ValueError as error:
        raise NotUnderstoodError(str(error)) from error
    if found.shape != pixels.shape:
        raise NotUnderstoodError(f"the tile has {found.shape[1]} x {found.shape[0]} px")
    return pixels


def check_tile(header: bytes, data: bytes, grid: TileGrid) -> None:
    """Raise what :func:`decode_tile` would, in half the time.

    The decoder complains of markers and of coded coefficients. Those it reads whatever is asked
    for; so the least is, brightness at an eighth of the size.
    """
    jpeg = _whole_jpeg(header, data)
    try:
        height_px, width_px, *_ = simplejpeg.decode_jpeg_header(jpeg)
        if (height_px, width_px) != (grid.tile_height_px, grid.tile_width_px):
            raise NotUnderstoodError(f"the tile has {width_px} x {height_px} px")
        simplejpeg.decode_jpeg(jpeg, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        raise NotUnderstoodError(str(error)) from error


def _whole_jpeg(header: bytes, data: bytes) -> bytes:
    if not data.startswith(_START_OF_IMAGE):
        raise NotUnderstoodError("the tile is no JPEG")
    return header + data[len(_START_OF_IMAGE) :]


class JpegLevel:
    """One level of a slide as its file stores it.

    Parameters
    ----------
    path
        The TIFF file; it is kept open.
    grid
        How the level is cut.
    header
        Markers and tables that come before the data of each tile.
    offsets, lengths
        Where each tile is in the file, in reading order; of length 0 where it is not stored.
    """

    def __init__(
        self,
        path: Path,
        grid: TileGrid,
        header: bytes,
        offsets: tuple[int, ...],
        lengths: tuple[int, ...],
    ) -> None:
        self.grid = grid
        self.header = header
        self.lengths = lengths
        self._offsets = offsets
        self._file = path.open("rb")
        self._lock = threading.Lock()
        tile_bytes = 3 * grid.tile_width_px * grid.tile_height_px
        self.pixels = lru_cache(max(4, _BYTES_IN_MEMORY // tile_bytes))(self._pixels)

    def data(self, row: int, column: int) -> bytes:
        """A tile as it is stored.

        Raises
        ------
        NotUnderstoodError
            The file does not hold it.
        """
        number = row * self.grid.n_columns + column
        with self._lock:
            self._file.seek(self._offsets[number])
            data = self._file.read(self.lengths[number])
        if not data or len(data) < self.lengths[number]:
            raise NotUnderstoodError("the tile is not in the file")
        return data

    def _pixels(self, row: int, column: int) -> RGB:
        """Pixels of a tile, cut at the level's edge; those that were read last are kept.

        Raises
        ------
        NotUnderstoodError
            The tile is for OpenSlide.
        """
        box = self.grid.box(row, column)
        pixels = decode_tile(self.header, self.data(row, column), self.grid)
        pixels.flags.writeable = False
        return pixels[: box.height, : box.width]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def find_jpeg_levels(
    path: Path, vendor: str, dimensions: tuple[tuple[int, int], ...]
) -> dict[int, JpegLevel]:
    """Levels of a slide that are tiled JPEG.

    Parameters
    ----------
    path
        The slide.
    vendor
        Its format as OpenSlide names it.
    dimensions
        (width, height) of each level as OpenSlide counts them.

    Raises
    ------
    NotUnderstoodError
        There is no such level.
    """
    if vendor not in VENDORS:
        raise NotUnderstoodError(f"tiles of the format {vendor} are not a plain grid")
    import tifffile

    levels = {}
    reason = "no directory of the file is a tiled JPEG of three components"
    try:
        with tifffile.TiffFile(path) as tiff:
            for level, size in enumerate(dimensions):
                pages = [p for p in tiff.pages if p.is_tiled and p.shape[1::-1] == size]
                if len(pages) != 1:
                    reason = f"{len(pages)} directories are as large as level {level}"
                elif header := _header(pages[0]):
                    grid = TileGrid(*size, pages[0].tilewidth, pages[0].tilelength)
                    found = JpegLevel(
                        path, grid, header, pages[0].dataoffsets, pages[0].databytecounts
                    )
                    levels[level] = found
    except Exception as error:
        # tifffile raises all kinds of errors on files that OpenSlide is content with.
        for found in levels.values():
            found.close()
        raise NotUnderstoodError(f"tifffile cannot read it ({error})") from error
    if not levels:
        raise NotUnderstoodError(reason)
    return levels


def _header(page: object) -> bytes | None:
    """What comes before the data of a tile; None where the directory is not for us."""
    wanted = {"compression": _TIFF_JPEG, "bitspersample": 8, "samplesperpixel": 3}
    wanted |= {"planarconfig": 1, "predictor": 1, "fillorder": 1, "imagedepth": 1}
    if any(getattr(page, name) != value for name, value in wanted.items()):
        return None
    transform = {_TIFF_RGB: b"\x00", _TIFF_YCBCR: b"\x01"}.get(getattr(page, "photometric", 0))
    if transform is None:
        return None
    tables: bytes = getattr(page, "jpegtables", None) or _START_OF_IMAGE + _END_OF_IMAGE
    if not (tables.startswith(_START_OF_IMAGE) and tables.endswith(_END_OF_IMAGE)):
        return None
    # The colour space stands in the TIFF alone; in a JPEG file Adobe's marker says it.
    return _START_OF_IMAGE + _ADOBE + transform + tables[2:-2]


def first_difference(level: JpegLevel, read: Callable[[Box], RGB]) -> str | None:
    """Compare tiles of a level with what OpenSlide gives: corners, middle, those with most data.

    Parameters
    ----------
    level
        The level.
    read
        OpenSlide's pixels of a box of the level; it may raise TileError.

    Returns
    -------
    str or None
        Why the level is for OpenSlide; None where all that could be compared is the same.
    """
    rows, columns = level.grid.n_rows, level.grid.n_columns
    last = rows * columns - 1
    fullest = np.argsort(np.array(level.lengths[: last + 1]), kind="stable")[-3:].tolist()
    middle = rows // 2 * columns + columns // 2
    compared = 0
    for number in sorted({0, columns - 1, last - columns + 1, last, middle, *fullest}):
        row, column = divmod(number, columns)
        try:
            ours = level.pixels(row, column)
        except NotUnderstoodError:
            continue
        try:
            theirs = read(level.grid.box(row, column))
        except TileError:
            return f"the tile in row {row} and column {column} is not decoded by OpenSlide"
        if not np.array_equal(ours, theirs):
            return f"the tile in row {row} and column {column} has other pixels"
        compared += 1
    return None if compared else "none of the tiles that were tried can be decoded"
