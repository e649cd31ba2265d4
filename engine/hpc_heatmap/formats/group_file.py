"""Groups of patches, ``groups.h5``: all that a task needs to score its groups.

Layout ``slide-tiles`` stores the compressed tiles of the slide that a group needs (slide_tiles.py).
Layout ``tiles`` stores each pixel that any patch of a group needs once, as squares of half a window
on a grid anchored at the slide's origin; a patch is put together from 16 of them. Layout
``patches`` stores the patches as they are, as the paper does. In memory the first two are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from hpc_heatmap.cells import Cells
from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.hdf5 import open_for_reading, open_for_writing
from hpc_heatmap.formats.slide_tiles import (
    SlideLevel,
    StoredTile,
    TileKind,
    fill_squares,
    read_tiles,
    write_tiles,
)
from hpc_heatmap.geometry import Box, Geometry
from hpc_heatmap.settings import GroupLayout

__all__ = [
    "Group",
    "GroupFile",
    "GroupHeader",
    "GroupWriter",
    "copy_groups",
    "open_groups",
    "write_groups",
]

KIND = "hpc-heatmap groups"
#: 2 brought the layout ``slide-tiles``.
VERSION = 2

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GroupHeader:
    """What a task needs beside the pixels.

    Attributes
    ----------
    slide_id, slide_path
        Which slide it is.
    width_px, height_px
        Size of the slide, read pixels.
    window_px, patch_px, tile_px
        Sides of a window, a patch and a stored square, read pixels.
    scale_x, scale_y
        Level-0 pixels per read pixel.
    spacing_x_um, spacing_y_um
        Micrometres per read pixel, NaN where unknown.
    n_groups, n_patches, patches_per_group
        N_g, T_p and N_p.
    layout
        How pixels are stored.
    """

    slide_id: str
    slide_path: str
    width_px: int
    height_px: int
    window_px: int
    patch_px: int
    tile_px: int
    scale_x: float
    scale_y: float
    spacing_x_um: float
    spacing_y_um: float
    n_groups: int
    n_patches: int
    patches_per_group: int
    layout: str

    def geometry(self, stride_px: int) -> Geometry:
        """Grid and lattice of the slide at a stride."""
        return Geometry(
            self.width_px, self.height_px, self.window_px, stride_px, self.scale_x, self.scale_y
        )


class GroupWriter:
    """Writes one group; made by :func:`write_groups`."""

    def __init__(self, folder: h5py.Group, header: GroupHeader, cells: Cells) -> None:
        self._folder = folder
        self._header = header
        self._cells = cells
        folder.create_dataset("cells", data=cells)

    def tiles(self) -> tuple[h5py.Dataset, h5py.Dataset, npt.NDArray[np.int32]]:
        """Datasets to fill for layout ``tiles``: pixels, readable flags; and the tiles wanted."""
        index = tiles_of(self._cells, self._header)
        side = self._header.tile_px
        self._folder.create_dataset("tile_index", data=index)
        pixels = self._folder.create_dataset("tiles", (len(index), side, side, 3), np.uint8)
        readable = self._folder.create_dataset("tile_readable", data=np.ones(len(index), bool))
        return pixels, readable, index

    def slide_tiles_wanted(self, level: SlideLevel) -> npt.NDArray[np.int32]:
        """The slide's own tiles that the patches touch, (m, 2) row and column."""
        return _touched(self._cells, self._header, level.grid.touching)

    def slide_tiles(self, index: npt.NDArray[np.int32], tiles: Sequence[StoredTile]) -> None:
        """Write layout ``slide-tiles``."""
        write_tiles(self._folder, index, tiles)

    def patches(self) -> tuple[h5py.Dataset, h5py.Dataset]:
        """Datasets to fill for layout ``patches``: pixels and readable flags."""
        side, n = self._header.patch_px, len(self._cells)
        pixels = self._folder.create_dataset("patches", (n, side, side, 3), np.uint8)
        readable = self._folder.create_dataset("patch_readable", data=np.ones(n, bool))
        return pixels, readable


#: Gives rows and columns of the tiles that a box touches.
Touching = Callable[[Box], tuple[range, range]]


def tiles_of(cells: Cells, header: GroupHeader) -> npt.NDArray[np.int32]:
    """Squares that the patches of some cells touch: (m, 2) row and column, in reading order."""
    return _touched(cells, header, _squares(header.tile_px))


def _touched(cells: Cells, header: GroupHeader, touching: Touching) -> npt.NDArray[np.int32]:
    """Tiles that the patches of some cells touch: (m, 2) row and column, in reading order."""
    wanted: set[tuple[int, int]] = set()
    geometry = header.geometry(header.window_px)
    for row, column in cells.tolist():
        rows, columns = touching(geometry.patch_box(row, column))
        wanted.update((i, j) for i in rows for j in columns)
    return np.array(sorted(wanted), np.int32).reshape(-1, 2)


def _squares(side: int) -> Touching:
    """Squares that a box touches."""

    def touching(box: Box) -> tuple[range, range]:
        rows = range(box.y // side, -(-(box.y + box.height) // side))
        return rows, range(box.x // side, -(-(box.x + box.width) // side))

    return touching


@dataclass(frozen=True)
class Group:
    """One group in memory.

    Attributes
    ----------
    cells
        (n, 2) row and column.
    readable
        (n,) False where a tile of the patch could not be decoded.
    bytes_read
        Bytes read from the file.
    recolour
        Gives the pixels of a patch, from its number and the stored ones, other colours.
    """

    cells: Cells
    readable: npt.NDArray[np.bool_]
    bytes_read: int
    _header: GroupHeader
    _pixels: Pixels
    _tile_number: dict[tuple[int, int], int]
    recolour: Callable[[int, Pixels], Pixels] | None = None

    def patch(self, number: int) -> Pixels:
        """Pixels of a patch, (patch, patch, 3), recoloured where that is asked for."""
        pixels = self._stored(number)
        return pixels if self.recolour is None else self.recolour(number, pixels)

    def _stored(self, number: int) -> Pixels:
        if not self._tile_number:
            return np.asarray(self._pixels[number])
        header = self._header
        row, column = self.cells[number].tolist()
        box = header.geometry(header.window_px).patch_box(row, column)
        patch = np.empty((box.height, box.width, 3), np.uint8)
        side = header.tile_px
        rows, columns = _squares(side)(box)
        for i in rows:
            y0, y1 = max(i * side, box.y), min((i + 1) * side, box.y + box.height)
            for j in columns:
                x0, x1 = max(j * side, box.x), min((j + 1) * side, box.x + box.width)
                tile = self._pixels[self._tile_number[i, j]]
                patch[y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x] = tile[
                    y0 - i * side : y1 - i * side, x0 - j * side : x1 - j * side
                ]
        return patch


class GroupFile:
    """An open ``groups.h5``; made by :func:`open_groups`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self.header = GroupHeader(**{n: _plain(file.attrs[n]) for n in _FIELDS})
        has_level = self.header.layout == GroupLayout.SLIDE_TILES
        #: The slide's level whose tiles are stored, in layout ``slide-tiles``.
        self.level = SlideLevel.read(file) if has_level else None

    def read(self, index: int) -> Group:
        """Read one group whole.

        Raises
        ------
        FormatError
            There is no such group.
        """
        folder = self._folder(index)
        cells = self.cells(index)
        readable = self._readable(folder, cells)
        if self.header.layout == GroupLayout.PATCHES:
            pixels = np.asarray(folder["patches"])
            return Group(cells, readable, pixels.nbytes, self.header, pixels, {})
        if self.level is not None:
            pixels, numbers = self._decode(folder, cells, self.level)
            stored = folder["slide_tiles"].nbytes
            return Group(cells, readable, stored, self.header, pixels, numbers)
        pixels = np.asarray(folder["tiles"])
        numbers = _numbers(folder["tile_index"][:])
        return Group(cells, readable, pixels.nbytes, self.header, pixels, numbers)

    def _decode(
        self, folder: h5py.Group, cells: Cells, level: SlideLevel
    ) -> tuple[Pixels, dict[tuple[int, int], int]]:
        """Squares as layout ``tiles`` has them, from the slide's own tiles, each decoded once."""
        side = self.header.tile_px
        index = tiles_of(cells, self.header)
        squares = np.empty((len(index), side, side, 3), np.uint8)
        squares[:] = level.background
        numbers = _numbers(index)
        for box, pixels in read_tiles(folder, level):
            fill_squares(squares, numbers, box, pixels)
        return squares, numbers

    def cells(self, index: int) -> Cells:
        """Cells of a group, (n, 2) row and column."""
        return np.asarray(self._folder(index)["cells"])

    def count_unreadable(self, index: int) -> int:
        """Number of patches of a group that touch a tile which could not be decoded."""
        return int((~self._readable(self._folder(index), self.cells(index))).sum())

    def _folder(self, index: int) -> h5py.Group:
        name = f"groups/{index:06d}"
        if name not in self._file:
            raise FormatError(f"{self._file.filename} has no group {index}.")
        return self._file[name]

    def _readable(self, folder: h5py.Group, cells: Cells) -> npt.NDArray[np.bool_]:
        if self.header.layout == GroupLayout.PATCHES:
            return np.asarray(folder["patch_readable"])
        touching = _squares(self.header.tile_px)
        if self.level is not None:
            lost = folder["slide_tile_index"][:][
                folder["slide_tile_kind"][:] == TileKind.UNREADABLE
            ]
            touching = self.level.grid.touching
        else:
            lost = folder["tile_index"][:][~folder["tile_readable"][:]]
        readable = np.ones(len(cells), bool)
        if len(lost):
            unreadable = {(i, j) for i, j in lost.tolist()}
            geometry = self.header.geometry(self.header.window_px)
            for k, (row, column) in enumerate(cells.tolist()):
                rows, columns = touching(geometry.patch_box(row, column))
                readable[k] = not any((i, j) in unreadable for i in rows for j in columns)
        return readable


def _numbers(index: npt.NDArray[np.int32]) -> dict[tuple[int, int], int]:
    """Where each tile is in the dataset of tiles."""
    return {(i, j): k for k, (i, j) in enumerate(index.tolist())}


_FIELDS = tuple(GroupHeader.__dataclass_fields__)


def _plain(value: Any) -> Any:
    """A Python value of an HDF5 attribute."""
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def write_groups(
    path: Path, header: GroupHeader, level: SlideLevel | None = None
) -> Iterator[Callable[[int, Cells], GroupWriter]]:
    """Write a group file; gives a function (index, cells) -> :class:`GroupWriter`.

    Layout ``slide-tiles`` needs the level that its tiles come from.
    """
    with open_for_writing(path, KIND, VERSION) as file:
        file.attrs.update(asdict(header))
        if level is not None:
            level.write(file)

        def add(index: int, cells: Cells) -> GroupWriter:
            return GroupWriter(file.create_group(f"groups/{index:06d}"), header, cells)

        yield add


@contextmanager
def open_groups(path: Path) -> Iterator[GroupFile]:
    """Open a group file for reading.

    Raises
    ------
    FormatError
        The file is missing or damaged.
    """
    with open_for_reading(path, KIND, VERSION) as file:
        yield GroupFile(file)


def copy_groups(source: Path, target: Path, indices: Sequence[int]) -> None:
    """Copy some groups of a file, and what is said of all, to a file of their own.

    Raises
    ------
    FormatError
        The source is missing or damaged.
    StorageError
        The disk is full.
    """
    with (
        open_for_reading(source, KIND, VERSION) as given,
        open_for_writing(target, KIND, VERSION) as file,
    ):
        file.attrs.update({name: given.attrs[name] for name in _FIELDS})
        if "slide_level" in given:
            given.copy("slide_level", file)
        for index in indices:
            name = f"groups/{index:06d}"
            if name in given:
                given.copy(name, file.require_group("groups"))
