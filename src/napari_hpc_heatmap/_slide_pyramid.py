"""A slide as napari wants it: array-like levels whose tiles are decoded when they are looked at.

Between the slide's own levels, and below its coarsest, stand levels that are made of them: each
pixel the mean of 2 x 2. Neighbouring levels then differ by about two, so that no more is decoded,
copied and drawn than a screen can show, and the coarsest is small enough to stay in memory.
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hpc_heatmap import Slide
from hpc_heatmap.errors import HpcHeatmapError
from hpc_heatmap.geometry import Box
from napari_hpc_heatmap._decoding import DecodingThreads
from napari_hpc_heatmap._screen import current_screen
from napari_hpc_heatmap._tile_cache import TileCache, TileKey

__all__ = ["TILE_PX", "Level", "SlidePyramid"]

RGB = npt.NDArray[np.uint8]

#: Side of a tile, pixels of its level.
TILE_PX = 512
#: The coarsest level has no side longer than this.
COARSEST_PX = 1024
#: What cannot be decoded is shown in this grey.
UNREADABLE_GREY = 128
#: Levels that are further apart get one between them.
_WIDE_GAP = 3.0
#: OpenSlide's downsamples are off by rounded sizes; those this near to a whole number are meant so.
_WHOLE = 2e-3

_logger = logging.getLogger(__name__)
_numbers = itertools.count()


class SlidePyramid:
    """The levels of a slide, finest first, and the tiles of them.

    Parameters
    ----------
    slide
        The slide; it is closed when the pyramid is gone.
    cache, threads
        Where tiles are kept, and what decodes them.
    recolour
        Changes the colours of decoded tiles (shape (h, w, 3) to the same), for instance to sRGB.
    """

    def __init__(
        self,
        slide: Slide,
        cache: TileCache,
        threads: DecodingThreads,
        recolour: Callable[[RGB], RGB] | None = None,
    ) -> None:
        self.slide = slide
        self.cache = cache
        self.threads = threads
        self._recolour = recolour
        self._finding_out = threading.Lock()
        self._asked: dict[TileKey, Future[RGB]] = {}
        self.key = next(_numbers)
        self._keys = [self.key]
        self.levels = self._make_levels()
        # Whoever decodes a tile holds the pyramid, so nothing is being read then.
        weakref.finalize(self, _let_go, slide, cache, self._keys).atexit = False

    def _make_levels(self) -> list[Level]:
        levels: list[Level] = []
        n_own = len(self.slide.level_dimensions)
        factors = [_factor(self.slide, i) for i in range(n_own)]
        for i in range(n_own):
            own = Level(self, len(levels), self.slide.level_dimensions[i], factors[i], own=i)
            levels.append(own)
            while i + 1 < n_own and factors[i + 1][0] / levels[-1].factor[0] > _WIDE_GAP:
                levels.append(self._halved(levels[-1], len(levels)))
        while max(levels[-1].shape) > COARSEST_PX:
            levels.append(self._halved(levels[-1], len(levels)))
        return levels

    def _halved(self, finer: Level, number: int) -> Level:
        size = -(-finer.shape[1] // 2), -(-finer.shape[0] // 2)
        return Level(self, number, size, (finer.factor[0] * 2, finer.factor[1] * 2), finer=finer)

    @property
    def recolour(self) -> Callable[[RGB], RGB] | None:
        """What changes the colours of decoded tiles; setting it forgets the tiles."""
        return self._recolour

    @recolour.setter
    def recolour(self, function: Callable[[RGB], RGB] | None) -> None:
        self._recolour = function
        # Work that has begun still puts its tiles, in the old colours, under the old key.
        self.forget()
        self.key = next(_numbers)
        self._keys.append(self.key)
        self.__dict__.pop("coarsest", None)

    def find_out(self, own: int) -> None:
        """Have the slide find out, in one thread, how it reads one of its own levels fastest."""
        with self._finding_out:
            self.slide.jpeg_level(own)

    def ask(self, level: Level, tile: tuple[int, int]) -> Future[RGB]:
        """Have a tile decoded by a thread; whoever asks meanwhile gets the same future."""
        key = level.key(tile)
        future = self._asked.get(key)
        if future is None or future.cancelled():
            future = self._asked[key] = self.threads.submit(functools.partial(level.decode, tile))
            future.add_done_callback(lambda _: self._asked.pop(key, None))
        return future

    def foresee(self) -> None:
        """Have decoded what a first view of the whole slide shows on most screens."""
        for level in self.levels[-2:-1]:
            for tile in level.tiles(range(level.shape[0]), range(level.shape[1])):
                self.ask(level, tile)

    @functools.cached_property
    def coarsest(self) -> RGB:
        """All pixels of the coarsest level; they stay in memory."""
        level = self.levels[-1]
        # In this thread: it must not wait for tiles that are queued before it.
        return level.collect(range(level.shape[0]), range(level.shape[1]))

    def forget(self) -> None:
        """Drop the tiles from memory; they are decoded again when they are looked at."""
        self.cache.discard(self.key)


def _let_go(slide: Slide, cache: TileCache, keys: list[int]) -> None:
    slide.close()
    for key in keys:
        cache.discard(key)


def _factor(slide: Slide, level: int) -> tuple[float, float]:
    """Level-0 pixels per pixel of one of the slide's own levels, (x, y)."""
    downsample = slide.level_downsamples[level]
    if abs(downsample - round(downsample)) < _WHOLE * downsample:
        return (float(round(downsample)),) * 2
    width_px, height_px = slide.level_dimensions[level]
    return slide.width_px / width_px, slide.height_px / height_px


class Level:
    """One level as an array-like of shape (height, width, 3), uint8; slices read pixels.

    Attributes
    ----------
    factor
        Level-0 pixels per pixel, (x, y). Pixel 0 begins where level-0 pixel 0 does.
    chunks
        Shape of a tile: napari reads whole tiles.
    """

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        pyramid: SlidePyramid,
        number: int,
        size_px: tuple[int, int],
        factor: tuple[float, float],
        *,
        own: int | None = None,
        finer: Level | None = None,
    ) -> None:
        self.pyramid = pyramid
        self.number = number
        self.shape = (size_px[1], size_px[0], 3)
        self.size = size_px[0] * size_px[1] * 3
        self.factor = factor
        self.chunks = (min(TILE_PX, self.shape[0]), min(TILE_PX, self.shape[1]), 3)
        self._own = own
        self._finer = finer

    @property
    def is_coarsest(self) -> bool:
        """Whether no level is coarser."""
        return self.number == len(self.pyramid.levels) - 1

    def tiles(self, rows: range, columns: range) -> list[tuple[int, int]]:
        """Row and column of the tiles that hold pixels of these ranges."""
        if not rows or not columns:
            return []
        tile_rows = range(rows.start // TILE_PX, (rows.stop - 1) // TILE_PX + 1)
        tile_columns = range(columns.start // TILE_PX, (columns.stop - 1) // TILE_PX + 1)
        return [(row, column) for row in tile_rows for column in tile_columns]

    def box(self, tile: tuple[int, int]) -> Box:
        """Pixels of a tile."""
        top, left = tile[0] * TILE_PX, tile[1] * TILE_PX
        height, width = min(TILE_PX, self.shape[0] - top), min(TILE_PX, self.shape[1] - left)
        return Box(left, top, width, height)

    def key(self, tile: tuple[int, int]) -> TileKey:
        """Name of a tile in the cache."""
        return TileKey(self.pyramid.key, self.number, *tile)

    def decode(self, tile: tuple[int, int]) -> RGB:
        """A tile, from the cache or from the slide."""
        key, recolour = self.key(tile), self.pyramid.recolour
        cached = self.pyramid.cache.get(key)
        if cached is not None:
            return cached
        if self._finer is None:
            pixels = self._read(self.box(tile))
            if recolour is not None:
                pixels = recolour(pixels)
        else:
            pixels = self._halve(self.box(tile), self._finer)
        self.pyramid.cache.put(key, pixels)
        return pixels

    def _read(self, box: Box) -> RGB:
        """Pixels of one of the slide's own levels, uncoloured."""
        assert self._own is not None
        try:
            self.pyramid.find_out(self._own)
            return self.pyramid.slide.read_level(self._own, box)
        except HpcHeatmapError as error:
            _logger.warning("%s", error)
            return np.full((box.height, box.width, 3), UNREADABLE_GREY, np.uint8)

    def _halve(self, box: Box, finer: Level) -> RGB:
        """Means of 2 x 2 pixels of the finer level; the last row or column may have but one."""
        height = min(2 * box.height, finer.shape[0] - 2 * box.y)
        width = min(2 * box.width, finer.shape[1] - 2 * box.x)
        rows, columns = range(2 * box.y, 2 * box.y + height), range(2 * box.x, 2 * box.x + width)
        return np.asarray(Image.fromarray(finer.collect(rows, columns)).reduce(2))

    def collect(self, rows: range, columns: range) -> RGB:
        """Pixels put together in this thread from tiles."""
        pixels = np.empty((len(rows), len(columns), 3), np.uint8)
        for tile in self.tiles(rows, columns):
            self.paste(pixels, rows, columns, tile, self.decode(tile))
        return pixels

    def read(self, rows: range, columns: range) -> RGB:
        """Pixels of whole ranges of rows and columns, decoded in parallel."""
        tiles = self.tiles(rows, columns)
        if len(tiles) < 2:
            return self.collect(rows, columns)
        submit = self.pyramid.threads.submit
        decoded = [submit(functools.partial(self.decode, tile)) for tile in tiles]
        pixels = np.empty((len(rows), len(columns), 3), np.uint8)
        for tile, future in zip(tiles, decoded, strict=True):
            self.paste(pixels, rows, columns, tile, future.result())
        return pixels

    def preview(self, tile: tuple[int, int]) -> RGB:
        """A tile enlarged from the coarsest level: at hand without decoding."""
        coarsest, box = self.pyramid.coarsest, self.box(tile)
        last = self.pyramid.levels[-1].factor
        y, x = (
            np.minimum(((start + np.arange(n) + 0.5) * mine / theirs).astype(np.intp), limit - 1)
            for start, n, mine, theirs, limit in (
                (box.y, box.height, self.factor[1], last[1], coarsest.shape[0]),
                (box.x, box.width, self.factor[0], last[0], coarsest.shape[1]),
            )
        )
        # A few rows are widened, then repeated whole: pixel by pixel it takes 25 times as long.
        enlarged: RGB = coarsest[y[0] : y[-1] + 1, x][y - y[0]]
        return enlarged

    def paste(
        self, pixels: RGB, rows: range, columns: range, tile: tuple[int, int], source: RGB
    ) -> None:
        """Copy the part of a tile that lies in the ranges to its place."""
        box = self.box(tile)
        y0, y1 = max(rows.start, box.y), min(rows.stop, box.y + box.height)
        x0, x1 = max(columns.start, box.x), min(columns.stop, box.x + box.width)
        pixels[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start] = source[
            y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x
        ]

    def __getitem__(self, key: Any) -> RGB:
        """Pixels; slices with positive steps, whole numbers and an ellipsis are understood."""
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        ranges: list[range] = []
        inside: list[int | slice] = []
        for item, length in zip(keys[:2], self.shape[:2], strict=True):
            if isinstance(item, slice):
                start, stop, step = item.indices(length)
                if step < 0:
                    raise IndexError("a slide's level is read forwards: give positive steps")
                ranges.append(range(start, max(start, stop)))
                inside.append(slice(None, None, step))
            else:
                index = range(length)[item]
                ranges.append(range(index, index + 1))
                inside.append(0)
        screen = current_screen.get()
        read = self.read if screen is None else functools.partial(screen.read, self)
        return read(*ranges)[(*inside, keys[2])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All pixels; mind the size."""
        return np.asarray(self[:], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Level({str(self.pyramid.slide.path)!r}, {self.shape[1]} x {self.shape[0]} px)"
