"""What a user has chosen in napari's Preferences, and what all slides of a process share by it."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from napari_hpc_heatmap._decoding import DecodingThreads
from napari_hpc_heatmap._tile_cache import TileCache

__all__ = ["ViewSettings", "decoding_threads", "tile_cache", "view_settings"]

PLUGIN = "napari-hpc-heatmap"


@dataclass(frozen=True)
class ViewSettings:
    """Settings of viewing; the manifest's `configurations` offer the same, with these defaults.

    Attributes
    ----------
    tile_cache_mib
        Memory for decoded tiles of all open slides.
    decoding_threads
        Threads that decode tiles; they are started with the first slide.
    icc_to_srgb
        Whether slides open in sRGB where they have a colour profile.
    """

    tile_cache_mib: int = 256
    decoding_threads: int = 4
    icc_to_srgb: bool = False


def view_settings() -> ViewSettings:
    """Settings as they are now; the defaults where napari does not know the plugin."""
    if not _may_be_chosen():
        return ViewSettings()
    from napari.settings import get_plugin_settings

    try:
        chosen = get_plugin_settings(PLUGIN).viewing
    except (KeyError, AttributeError):
        return ViewSettings()
    return ViewSettings(chosen.tile_cache_mib, chosen.decoding_threads, chosen.icc_to_srgb)


def _may_be_chosen() -> bool:
    """Whether some setting may be other than its default.

    napari would say, but reads all plugins' manifests again for its first answer: that takes longer
    than to open a slide. What was chosen is in a file, in variables, or in an earlier answer.
    """
    from napari import settings

    try:
        answers, napari_file = settings._PLUGIN_SETTINGS, settings._napari_settings._CFG_PATH
    except AttributeError:  # Another napari.
        return True
    if answers or any(name.upper().startswith("NAPARI_VIEWING") for name in os.environ):
        return True
    return bool(napari_file) and Path(napari_file).with_name(f"{PLUGIN}.yaml").exists()


@functools.cache
def _shared_cache() -> TileCache:
    return TileCache(0)


def tile_cache() -> TileCache:
    """The cache of all slides of this process, with the limit that is set now."""
    cache = _shared_cache()
    limit_bytes = view_settings().tile_cache_mib * 2**20
    if cache.limit_bytes != limit_bytes:
        cache.limit_bytes = limit_bytes
    return cache


@functools.cache
def decoding_threads() -> DecodingThreads:
    """The threads that decode the tiles of all slides; as many as were set at first."""
    return DecodingThreads(view_settings().decoding_threads)
