"""Layout ``slide-tiles`` of a group: the slide's own JPEG tiles, untouched, with their index.

``slide_level`` describes the level that they come from, once a file; its dataset ``jpeg_header``
and the bytes of a tile without their first two are a whole JPEG file. Each group has its tiles one
after another in ``slide_tiles``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import h5py
import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import FormatError
from hpc_heatmap.geometry import Box
from hpc_heatmap.jpeg_tiles import NotUnderstoodError, TileGrid, decode_tile

__all__ = ["SlideLevel", "StoredTile", "TileKind", "fill_squares", "read_tiles", "write_tiles"]

Pixels = npt.NDArray[np.uint8]


class TileKind(IntEnum):
    """How a tile is stored."""

    #: As in the slide.
    JPEG = 0
    #: (height, width, 3) bytes, cut at the level's edge: OpenSlide alone can decode it.
    PIXELS = 1
    #: No bytes: all of it has the background colour.
    BACKGROUND = 2
    #: No bytes: it cannot be decoded.
    UNREADABLE = 3


@dataclass(frozen=True)
class StoredTile:
    """A tile for writing."""

    kind: TileKind
    data: bytes = b""


@dataclass(frozen=True)
class SlideLevel:
    """The level that tiles come from.

    Attributes
    ----------
    level
        Its number, 0 is the finest.
    grid
        How it is cut into tiles.
    jpeg_header
        What makes a JPEG file of a tile's bytes without their first two.
    background
        Colour outside of the level.
    """

    level: int
    grid: TileGrid
    jpeg_header: bytes
    background: tuple[int, int, int]

    def write(self, file: h5py.File) -> None:
        """Keep it in a file of groups."""
        folder = file.create_group("slide_level")
        folder.attrs["level"] = self.level
        for name in TileGrid.__dataclass_fields__:
            folder.attrs[name] = getattr(self.grid, name)
        folder.attrs["background"] = np.array(self.background, np.uint8)
        folder.create_dataset("jpeg_header", data=np.frombuffer(self.jpeg_header, np.uint8))

    @classmethod
    def read(cls, file: h5py.File) -> SlideLevel:
        """Get it from a file of groups."""
        folder = file["slide_level"]
        grid = TileGrid(**{n: int(folder.attrs[n]) for n in TileGrid.__dataclass_fields__})
        red, green, blue = folder.attrs["background"].tolist()
        header = folder["jpeg_header"][:].tobytes()
        return cls(int(folder.attrs["level"]), grid, header, (red, green, blue))


def write_tiles(
    folder: h5py.Group, index: npt.NDArray[np.int32], tiles: Sequence[StoredTile]
) -> None:
    """Write the tiles of a group; `index` has the row and column of each."""
    lengths = np.array([len(tile.data) for tile in tiles], np.int64)
    data = np.frombuffer(b"".join(tile.data for tile in tiles), np.uint8)
    folder.create_dataset("slide_tiles", data=data)
    folder.create_dataset("slide_tile_offset", data=np.cumsum(lengths) - lengths)
    folder.create_dataset("slide_tile_bytes", data=lengths)
    folder.create_dataset("slide_tile_index", data=index)
    folder.create_dataset("slide_tile_kind", data=np.array([t.kind for t in tiles], np.uint8))


def read_tiles(folder: h5py.Group, level: SlideLevel) -> Iterator[tuple[Box, Pixels]]:
    """Decode the tiles of a group that have pixels, one at a time.

    Yields
    ------
    box, pixels
        Place in the level, and (height, width, 3) pixels.

    Raises
    ------
    FormatError
        A tile that could be decoded when it was stored no longer can.
    """
    data = folder["slide_tiles"][:]
    rows = zip(
        folder["slide_tile_index"][:].tolist(),
        folder["slide_tile_kind"][:].tolist(),
        folder["slide_tile_offset"][:].tolist(),
        folder["slide_tile_bytes"][:].tolist(),
        strict=True,
    )
    for (row, column), kind, offset, length in rows:
        box = level.grid.box(row, column)
        stored = data[offset : offset + length]
        if kind == TileKind.PIXELS:
            yield box, stored.reshape(box.height, box.width, 3)
        elif kind == TileKind.JPEG:
            try:
                pixels = decode_tile(level.jpeg_header, stored.tobytes(), level.grid)
            except NotUnderstoodError as error:
                raise FormatError(
                    f"{folder.file.filename} is damaged: the tile in row {row} and column "
                    f"{column} of {folder.name} cannot be decoded ({error}); delete the file and "
                    "`hpc-heatmap resume` the run."
                ) from error
            yield box, pixels[: box.height, : box.width]


def fill_squares(
    squares: Pixels, number: Mapping[tuple[int, int], int], box: Box, pixels: Pixels
) -> None:
    """Copy a tile into the squares that it touches.

    Parameters
    ----------
    squares
        (m, side, side, 3) squares of a slide-wide grid.
    number
        Which square is at which row and column of that grid.
    box, pixels
        Place and pixels of the tile.
    """
    side = squares.shape[1]
    for i in range(box.y // side, -(-(box.y + box.height) // side)):
        y0, y1 = max(i * side, box.y), min((i + 1) * side, box.y + box.height)
        for j in range(box.x // side, -(-(box.x + box.width) // side)):
            if (i, j) not in number:
                continue
            x0, x1 = max(j * side, box.x), min((j + 1) * side, box.x + box.width)
            square = squares[number[i, j]]
            square[y0 - i * side : y1 - i * side, x0 - j * side : x1 - j * side] = pixels[
                y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x
            ]
