"""First layer: from a slide to its lookup table and its groups of patches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpc_heatmap.cells import Cells, CellTable, tabulate_cells, tissue_cells
from hpc_heatmap.errors import (
    NoTissueError,
    SlideTooSmallError,
    StainError,
    TileError,
    UnreadableSlideError,
)
from hpc_heatmap.formats.group_file import GroupHeader, GroupWriter, open_groups, write_groups
from hpc_heatmap.formats.lookup import write_lookup
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.formats.slide_summary import SlideSummary, write_summary
from hpc_heatmap.formats.slide_tiles import SlideLevel, StoredTile, TileKind
from hpc_heatmap.geometry import Box, Geometry, raw_patch_bytes
from hpc_heatmap.jpeg_tiles import RGB, JpegLevel, NotUnderstoodError, check_tile
from hpc_heatmap.settings import GroupLayout, RunSettings, StainPer
from hpc_heatmap.slide import Slide, SlideView
from hpc_heatmap.stages.pictures import draw_grid
from hpc_heatmap.stages.staining import draw_stain, fit_sample, sample_cells
from hpc_heatmap.stain.fits import StainFit
from hpc_heatmap.tissue import TissueMask, cell_fractions, detect_tissue

__all__ = ["GroupingInput", "choose_cells", "group_slide", "slide_geometry"]

#: Tiles that are read at once: memory stays at some megabytes.
_TILES_AT_ONCE = 16
#: A slide's own tiles pay where they are not much larger than patches, in sides of a patch.
_LARGEST_TILE = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupingInput:
    """What grouping needs to know.

    Attributes
    ----------
    slide_id
        Name of the slide in its run.
    slide_path
        File to open.
    window_px, stride_px
        Side of a window and distance of scores, read pixels.
    requested_spacing_um
        Micrometres per read pixel, None for level 0.
    settings
        The run's settings.
    stain_target
        What stains are changed to, None for raw colours.
    first_groups
        How many groups to make, None for all: a trial measures a few.
    """

    slide_id: str
    slide_path: str
    window_px: int
    stride_px: int
    requested_spacing_um: float | None
    settings: RunSettings
    stain_target: StainFit | None = None
    first_groups: int | None = None


def slide_geometry(view: SlideView, window_px: int, stride_px: int) -> Geometry:
    """Grid and lattice of a slide as it is read.

    Raises
    ------
    SlideTooSmallError
        It is smaller than one patch.
    """
    geometry = Geometry(view.width_px, view.height_px, window_px, stride_px, *view.scale)
    if min(view.width_px, view.height_px) < geometry.patch_px:
        raise SlideTooSmallError(
            f"{view.slide.path} has {view.width_px} x {view.height_px} px at the spacing that it "
            f"is read at, less than one patch of {geometry.patch_px} x {geometry.patch_px} px: use "
            "a larger slide, a model with a smaller window or a finer --requested-spacing."
        )
    return geometry


def choose_cells(
    slide: Slide, geometry: Geometry, settings: RunSettings
) -> tuple[CellTable, TissueMask]:
    """Find the tissue, and the cells and groups that cover it."""
    tissue = detect_tissue(slide, settings.tissue_method)
    fractions = cell_fractions(tissue, geometry)
    n_patches = int(tissue_cells(fractions, settings.min_tissue_fraction).sum())
    n_p = settings.n_p(raw_patch_bytes(geometry.window_px), n_patches)
    return tabulate_cells(fractions, settings.min_tissue_fraction, n_p), tissue


def group_slide(
    task: GroupingInput, paths: SlidePaths, go_on: Callable[[], None] = lambda: None
) -> SlideSummary:
    """Write the lookup table, the grid's picture and the groups of a slide.

    Parameters
    ----------
    task
        What to group.
    paths
        Where to.
    go_on
        Called now and then; it raises where the work is to stop.

    Raises
    ------
    NoTissueError
        There is no tissue; the grid's picture is written all the same.
    UnreadableSlideError
        There is tissue, and nothing of it can be decoded.
    SlideError
        The slide cannot be used.
    StorageError
        The disk is full.
    """
    settings = task.settings
    with Slide(task.slide_path, spacing_um=settings.spacing) as slide:
        view = slide.view(task.requested_spacing_um)
        geometry = slide_geometry(view, task.window_px, task.stride_px)
        table, tissue = choose_cells(slide, geometry, settings)
        n_p = settings.n_p(raw_patch_bytes(geometry.window_px), table.n_patches)
        if task.first_groups is not None:
            table = table.first_groups(task.first_groups)
        draw_grid(paths.grid_picture, slide, geometry, table)
        if not table.n_patches:
            raise NoTissueError(
                f"No tissue was found on {task.slide_path} with the method "
                f"'{settings.tissue_method}': look at {paths.grid_picture}; a new run with "
                "--tissue-method all scores every cell."
            )
        tiles = _own_tiles(view, geometry, settings.group_layout)
        layout = settings.group_layout
        if layout is not GroupLayout.PATCHES:
            layout = GroupLayout.TILES if tiles is None else GroupLayout.SLIDE_TILES
        stain, stain_problem = _fit_stain(task, view, geometry, table, paths)
        spacing = view.spacing_um or (math.nan, math.nan)
        header = GroupHeader(
            slide_id=task.slide_id,
            slide_path=task.slide_path,
            width_px=view.width_px,
            height_px=view.height_px,
            window_px=task.window_px,
            patch_px=geometry.patch_px,
            tile_px=task.window_px // 2,
            scale_x=view.scale[0],
            scale_y=view.scale[1],
            spacing_x_um=spacing[0],
            spacing_y_um=spacing[1],
            n_groups=table.n_groups,
            n_patches=table.n_patches,
            patches_per_group=n_p,
            layout=layout.value,
        )
        own = _OwnTiles(view, tiles) if tiles is not None else None
        with write_groups(paths.groups, header, own.level if own else None) as add:
            for index in range(table.n_groups):
                cells = table.cells[table.group == index]
                writer = add(index, cells)
                if own is not None:
                    own.write(writer, go_on)
                elif layout is GroupLayout.TILES:
                    _fill_tiles(view, header.tile_px, writer, go_on)
                else:
                    _fill_patches(view, geometry, cells, writer, go_on)
        write_lookup(paths.lookup, table, tissue)
    with open_groups(paths.groups) as groups:
        unreadable = sum(groups.count_unreadable(i) for i in range(table.n_groups))
    if unreadable == table.n_patches:
        paths.groups.unlink()
        raise UnreadableSlideError(
            f"None of the {unreadable} tissue patches of {task.slide_path} can be decoded: it "
            "is damaged or was cut off; copy it again from where it came from."
        )
    n_windows = geometry.count_windows(table.cells[table.tissue])
    summary = SlideSummary(
        table.n_groups, table.n_patches, n_windows, unreadable, stain, stain_problem
    )
    # The summary comes last: with it the slide's grouping is complete.
    write_summary(paths.summary, summary)
    return summary


def _own_tiles(view: SlideView, geometry: Geometry, wanted: GroupLayout) -> JpegLevel | None:
    """The slide's own tiles, where its groups are to be stored as such."""
    if wanted in (GroupLayout.TILES, GroupLayout.PATCHES):
        return None
    tiles = view.stored_tiles
    if tiles is None:
        say = _log.warning if wanted is GroupLayout.SLIDE_TILES else _log.info
        say(
            "%s has no JPEG tiles of what is read that OpenSlide's pixels could be had from: its "
            "groups have the layout 'tiles'.",
            view.slide.path,
        )
        return None
    largest_px = max(tiles.grid.tile_width_px, tiles.grid.tile_height_px)
    if wanted is GroupLayout.AUTO and largest_px > _LARGEST_TILE * geometry.patch_px:
        return None
    return tiles


class _OwnTiles:
    """Stores the slide's own tiles; each is checked once, to know that it can be decoded."""

    def __init__(self, view: SlideView, tiles: JpegLevel) -> None:
        self._view = view
        self._tiles = tiles
        self._sound: set[tuple[int, int]] = set()
        self.level = SlideLevel(view.level, tiles.grid, tiles.header, view.slide.background)

    def write(self, writer: GroupWriter, go_on: Callable[[], None]) -> None:
        """Write a group."""
        index = writer.slide_tiles_wanted(self.level)
        stored = []
        for row, column in index.tolist():
            go_on()
            stored.append(self._stored(row, column))
        writer.slide_tiles(index, stored)

    def _stored(self, row: int, column: int) -> StoredTile:
        try:
            data = self._tiles.data(row, column)
            if (row, column) not in self._sound:
                check_tile(self._tiles.header, data, self._tiles.grid)
                self._sound.add((row, column))
            return StoredTile(TileKind.JPEG, data)
        except NotUnderstoodError:
            # Only OpenSlide can tell.
            box = self._tiles.grid.box(row, column)
        pixels, readable = _read_if_possible(self._view, box)
        if not readable:
            return StoredTile(TileKind.UNREADABLE)
        if (pixels == np.asarray(self.level.background, np.uint8)).all():
            return StoredTile(TileKind.BACKGROUND)
        return StoredTile(TileKind.PIXELS, pixels.tobytes())


def _fit_stain(
    task: GroupingInput, view: SlideView, geometry: Geometry, table: CellTable, paths: SlidePaths
) -> tuple[StainFit | None, str | None]:
    """Estimate and show the slide's stain; gives it, or why it cannot be estimated."""
    target = task.stain_target
    if target is None:
        return None, None
    sample = sample_cells(view, geometry, table.cells[table.tissue])
    stain, problem = None, None
    if task.settings.stain_per is StainPer.SLIDE:
        try:
            stain = fit_sample(sample, target.method)
        except StainError as error:
            problem = str(error)
    draw_stain(paths.stain_picture, sample, target, stain, problem or "")
    return stain, problem


def _fill_tiles(
    view: SlideView,
    side: int,
    writer: GroupWriter,
    go_on: Callable[[], None],
) -> None:
    """Read runs of neighbouring tiles of a row at once."""
    pixels, readable, index = writer.tiles()
    row_changes = np.diff(index[:, 0]) != 0
    gaps = np.diff(index[:, 1]) != 1
    breaks = np.flatnonzero(row_changes | gaps) + 1
    for run in np.split(np.arange(len(index)), breaks):
        for start in range(int(run[0]), int(run[-1]) + 1, _TILES_AT_ONCE):
            go_on()
            n = min(_TILES_AT_ONCE, int(run[-1]) + 1 - start)
            row, column = index[start].tolist()
            box = Box(column * side, row * side, n * side, side)
            try:
                strip = view.read(box)
            except TileError:
                for k in range(n):
                    tile = Box(box.x + k * side, box.y, side, side)
                    pixels[start + k], readable[start + k] = _read_if_possible(view, tile)
                continue
            pixels[start : start + n] = strip.reshape(side, n, side, 3).transpose(1, 0, 2, 3)


def _fill_patches(
    view: SlideView,
    geometry: Geometry,
    cells: Cells,
    writer: GroupWriter,
    go_on: Callable[[], None],
) -> None:
    """Read patch by patch, as the paper does."""
    pixels, readable = writer.patches()
    for k, (row, column) in enumerate(cells.tolist()):
        go_on()
        pixels[k], readable[k] = _read_if_possible(view, geometry.patch_box(row, column))


def _read_if_possible(view: SlideView, box: Box) -> tuple[RGB, bool]:
    """Pixels and True, or the background and False where a tile cannot be decoded."""
    try:
        return view.read(box), True
    except TileError:
        background = np.asarray(view.slide.background, np.uint8)
        return np.broadcast_to(background, (box.height, box.width, 3)), False
