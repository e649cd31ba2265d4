"""Reading for a screen: what is decoded in time, previews for the rest, and word when it is there.

Whoever reads a level gets exact pixels, and waits for them. A layer that is drawn reads inside of
``with screen:`` and waits no longer than a user should; nothing that it gets is ever black.
"""

from __future__ import annotations

import contextvars
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_hpc_heatmap._slide_pyramid import Level
    from napari_hpc_heatmap._tile_cache import TileKey

__all__ = ["Screen", "current_screen"]

RGB = npt.NDArray[np.uint8]

#: The screen that is read for; each thread has its own.
current_screen: contextvars.ContextVar[Screen | None] = contextvars.ContextVar(
    "current_screen", default=None
)


class Screen:
    """What one layer shows.

    Parameters
    ----------
    on_more
        Called from any thread when tiles have come for which a preview was given.
    patience_s
        How long a read may take. Tiles that come later are announced.
    pause_s
        Least time between two announcements while more tiles are to come.
    """

    def __init__(
        self, on_more: Callable[[], None], *, patience_s: float = 0.08, pause_s: float = 0.25
    ) -> None:
        self._on_more = on_more
        self.patience_s = patience_s
        self.pause_s = pause_s
        self._pending: dict[TileKey, Future[RGB]] = {}
        self._told_at = 0.0
        self._is_exact = True
        self._lock = threading.Lock()

    @property
    def is_complete(self) -> bool:
        """Whether the last read gave exact pixels alone."""
        return self._is_exact

    def read(self, level: Level, rows: range, columns: range) -> RGB:
        """Pixels of a level, previews where tiles do not come in time."""
        if level.is_coarsest:
            # Previews are made of it: nothing is faster.
            self._ask(level, {})
            self._is_exact = True
            return level.pyramid.coarsest[
                rows.start : rows.stop, columns.start : columns.stop
            ].copy()
        deadline = time.monotonic() + self.patience_s
        tiles = {level.key(tile): tile for tile in level.tiles(rows, columns)}
        there = {
            key: cached for key in tiles if (cached := level.pyramid.cache.get(key)) is not None
        }
        futures = self._ask(level, {k: t for k, t in tiles.items() if k not in there})
        wait(futures.values(), max(0.0, deadline - time.monotonic()))
        pixels = np.empty((len(rows), len(columns), 3), np.uint8)
        late: dict[TileKey, Future[RGB]] = {}
        for key, tile in tiles.items():
            source = there.get(key)
            if source is None:
                # Another screen of the same slide may have taken back what both have asked for.
                if futures[key].done() and not futures[key].cancelled():
                    source = futures[key].result()
                else:
                    late[key], source = futures[key], level.preview(tile)
            level.paste(pixels, rows, columns, tile, source)
        self._is_exact = not late
        self._wait_for(late)
        return pixels

    def _ask(
        self, level: Level, tiles: dict[TileKey, tuple[int, int]]
    ) -> dict[TileKey, Future[RGB]]:
        """Futures of tiles; what was asked for before and is not wanted any more is taken back."""
        with self._lock:
            before, self._pending = self._pending, {}
        for key, future in before.items():
            if key not in tiles:
                future.cancel()
        ask = level.pyramid.ask
        return {key: before.get(key) or ask(level, tile) for key, tile in tiles.items()}

    def _wait_for(self, futures: dict[TileKey, Future[RGB]]) -> None:
        with self._lock:
            self._pending = dict(futures)
            self._told_at = time.monotonic()
        for key, future in futures.items():
            future.add_done_callback(functools.partial(self._arrived, key))

    def _arrived(self, key: TileKey, future: Future[RGB]) -> None:
        with self._lock:
            if self._pending.get(key) is not future:
                return
            del self._pending[key]
            now = time.monotonic()
            if self._pending and now - self._told_at < self.pause_s:
                return
            self._told_at = now
        self._on_more()

    def __enter__(self) -> Screen:
        self._token = current_screen.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        current_screen.reset(self._token)
