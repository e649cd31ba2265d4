"""Cells, patches and the lattice: pure integer arithmetic on read pixels.

Conventions (see ARCHITECTURE.md, "Geometry"):

* *Read pixels* are pixels at the spacing that the model asks for; read pixel ``i`` covers the
  level-0 interval ``[i * scale, (i + 1) * scale)``.
* Cell ``c`` covers read pixels ``[c * window, (c + 1) * window)``; its patch adds half a window on
  each side.
* Lattice points lie at ``x_k = window // 2 + k * stride`` for every integer ``k`` with
  ``0 <= x_k < width``; the window of ``x`` covers ``[x - window // 2, x - window // 2 + window)``.
  Lattice index 0 is the first of them, so stride 16 is the paper's lattice, and a stride that is a
  multiple of another one gives a subset of its points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Axis", "Box", "Geometry", "patch_side_px", "raw_patch_bytes"]


class Box(NamedTuple):
    """A rectangle of pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


def patch_side_px(window_px: int) -> int:
    """Side of the patch around a cell, read pixels: a window, and half of one on each side."""
    return window_px + 2 * (window_px // 2)


def raw_patch_bytes(window_px: int) -> int:
    """Bytes of a patch in RGB, not compressed: S of the paper's N_p = floor(M / S)."""
    return 3 * patch_side_px(window_px) ** 2


@dataclass(frozen=True)
class Axis:
    """One axis of the grid and of the lattice.

    Parameters
    ----------
    size_px
        Length of the slide on this axis, read pixels.
    window_px
        Side of the model's input, read pixels.
    stride_px
        Distance of lattice points, read pixels, from 1 to `window_px`.
    scale
        Level-0 pixels per read pixel.
    """

    size_px: int
    window_px: int
    stride_px: int
    scale: float = 1.0

    @property
    def half_px(self) -> int:
        """Half a window: the halo of a patch, read pixels."""
        return self.window_px // 2

    @property
    def first_px(self) -> int:
        """Position of lattice point 0, read pixels."""
        return self.half_px % self.stride_px

    @property
    def n_cells(self) -> int:
        """Number of cells that cover the slide."""
        return -(-self.size_px // self.window_px)

    @property
    def n_points(self) -> int:
        """Number of lattice points on the slide."""
        return max(0, -((self.first_px - self.size_px) // self.stride_px))

    @property
    def points_per_cell(self) -> int:
        """Largest number of lattice points in a cell."""
        return -(-self.window_px // self.stride_px)

    def _index_at(self, position_px: int) -> int:
        """Index of the first lattice point at or after a position, clipped to the slide."""
        index = -((self.first_px - position_px) // self.stride_px)
        return min(max(index, 0), self.n_points)

    def points_of(self, cell: int) -> range:
        """Lattice indices of the points inside a cell."""
        start = self._index_at(cell * self.window_px)
        return range(start, self._index_at((cell + 1) * self.window_px))

    def position_px(self, index: int) -> int:
        """Position of a lattice point, read pixels."""
        return self.first_px + index * self.stride_px

    def offsets_in_patch(self, cell: int) -> list[int]:
        """Where the windows of a cell's points start inside the cell's patch, read pixels."""
        return [self.position_px(i) - cell * self.window_px for i in self.points_of(cell)]

    @property
    def origin_px(self) -> float:
        """Level-0 position of lattice point 0, pixel-centre convention."""
        centre = self.first_px - self.half_px + self.window_px / 2
        return centre * self.scale - 0.5

    @property
    def step_px(self) -> float:
        """Distance of lattice points, level-0 pixels."""
        return self.stride_px * self.scale


@dataclass(frozen=True)
class Geometry:
    """Grid and lattice of one slide at one stride.

    Parameters
    ----------
    width_px, height_px
        Size of the slide, read pixels.
    window_px
        Side of the model's input, read pixels.
    stride_px
        Distance of lattice points, read pixels, from 1 to `window_px`.
    scale_x, scale_y
        Level-0 pixels per read pixel.
    """

    width_px: int
    height_px: int
    window_px: int
    stride_px: int
    scale_x: float = 1.0
    scale_y: float = 1.0

    @property
    def x(self) -> Axis:
        """The horizontal axis."""
        return Axis(self.width_px, self.window_px, self.stride_px, self.scale_x)

    @property
    def y(self) -> Axis:
        """The vertical axis."""
        return Axis(self.height_px, self.window_px, self.stride_px, self.scale_y)

    @property
    def patch_px(self) -> int:
        """Side of a patch: a cell with half a window on each side, read pixels."""
        return patch_side_px(self.window_px)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the heatmap."""
        return self.y.n_points, self.x.n_points

    @property
    def block_shape(self) -> tuple[int, int]:
        """Largest number of lattice points in a cell: rows and columns."""
        return self.y.points_per_cell, self.x.points_per_cell

    def patch_box(self, row: int, column: int) -> Box:
        """The patch of a cell, read pixels; may reach beyond the slide."""
        half = self.window_px // 2
        left, top = column * self.window_px - half, row * self.window_px - half
        return Box(left, top, self.patch_px, self.patch_px)

    def windows_in_patch(self, row: int, column: int) -> Iterator[tuple[int, int, int, int]]:
        """Windows of a cell in lattice order.

        Yields
        ------
        i, j, top, left
            Index of the score in the cell's block, and where the window starts in the patch.
        """
        lefts = self.x.offsets_in_patch(column)
        for i, top in enumerate(self.y.offsets_in_patch(row)):
            for j, left in enumerate(lefts):
                yield i, j, top, left

    def count_windows(self, cells: npt.NDArray[np.integer]) -> int:
        """Number of windows of cells given as rows of (row, column)."""
        rows = np.array([len(self.y.points_of(r)) for r in range(self.y.n_cells)], dtype=np.int64)
        columns = np.array(
            [len(self.x.points_of(c)) for c in range(self.x.n_cells)], dtype=np.int64
        )
        return int((rows[cells[:, 0]] * columns[cells[:, 1]]).sum())
