"""Decoded tiles of all open slides: the latest used stay in memory, up to a limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["TileCache", "TileKey"]

RGB = npt.NDArray[np.uint8]


class TileKey(NamedTuple):
    """Name of a tile: whose it is, its level, and its row and column on that level's grid."""

    owner: Hashable
    level: int
    row: int
    column: int


class TileCache:
    """Least recently used tiles leave first. All methods may be called from any thread.

    Parameters
    ----------
    limit_bytes
        Memory that the tiles may take in all.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._tiles: OrderedDict[TileKey, RGB] = OrderedDict()
        self._lock = threading.Lock()
        self.n_bytes = 0

    @property
    def limit_bytes(self) -> int:
        """Memory that the tiles may take in all; setting it drops what is too much."""
        return self._limit_bytes

    @limit_bytes.setter
    def limit_bytes(self, value: int) -> None:
        with self._lock:
            self._limit_bytes = value
            self._shrink()

    def get(self, key: TileKey) -> RGB | None:
        """A tile that is there, which is now the latest used."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: TileKey, tile: RGB) -> None:
        """Keep a tile."""
        with self._lock:
            old = self._tiles.pop(key, None)
            self.n_bytes += tile.nbytes - (0 if old is None else old.nbytes)
            self._tiles[key] = tile
            self._shrink()

    def discard(self, owner: Hashable) -> None:
        """Forget all tiles of a slide."""
        with self._lock:
            for key in [key for key in self._tiles if key.owner == owner]:
                self.n_bytes -= self._tiles.pop(key).nbytes

    def _shrink(self) -> None:
        while self.n_bytes > self._limit_bytes and self._tiles:
            self.n_bytes -= self._tiles.popitem(last=False)[1].nbytes

    def __len__(self) -> int:
        return len(self._tiles)
