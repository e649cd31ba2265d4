"""A slide as a layer: exact pixels, bounded memory, and no wait for what is not decoded yet."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from chain import real_slide
from PIL import ImageCms
from slides import corrupt_tile, landmark_slide, write_slide

from hpc_heatmap import Slide
from hpc_heatmap.geometry import Box
from napari_hpc_heatmap._decoding import DecodingThreads
from napari_hpc_heatmap._screen import Screen
from napari_hpc_heatmap._slide_layer import open_slide
from napari_hpc_heatmap._slide_pyramid import TILE_PX, SlidePyramid
from napari_hpc_heatmap._tile_cache import TileCache, TileKey


def noise(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
    """Pixels that tell their position: no two tiles are alike."""
    row, column = np.mgrid[y : y + h, x : x + w] * downsample
    return np.stack([row * 7 + column, row ^ column, column * 3 - row], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "noise.tiff"
    return write_slide(path, noise, 2311, 1733, downsamples=(1, 4), compression="zlib")


def pyramid_of(slide: Path | Slide, limit_bytes: int = 2**28, **options) -> SlidePyramid:
    slide = slide if isinstance(slide, Slide) else Slide(slide)
    return SlidePyramid(slide, TileCache(limit_bytes), DecodingThreads(2), **options)


def test_levels_are_the_slides_own_with_halved_ones_between(slide_path: Path) -> None:
    levels = pyramid_of(slide_path).levels
    assert [level.factor for level in levels] == [(1, 1), (2, 2), (4, 4)]
    assert [level.shape for level in levels] == [(1733, 2311, 3), (867, 1156, 3), (433, 577, 3)]
    with Slide(slide_path) as slide:
        finest = slide.read_level(0, Box(0, 0, 2311, 1733))
        own = slide.read_level(1, Box(0, 0, 577, 433))
    assert np.array_equal(np.asarray(levels[0]), finest)
    assert np.array_equal(np.asarray(levels[2]), own)
    even = np.pad(finest, ((0, 1), (0, 1), (0, 0)), "edge").astype(float)
    means = even.reshape(867, 2, 1156, 2, 3).mean(axis=(1, 3))
    assert np.array_equal(np.asarray(levels[1]), np.floor(means + 0.5))


@pytest.mark.parametrize("kind", ["svs", "dicom"])
def test_a_real_slide_gives_the_engines_pixels(kind: str) -> None:
    with Slide(real_slide(kind)) as slide:
        pyramid = pyramid_of(slide)
        assert max(pyramid.levels[-1].shape) <= 1024
        expected = slide.read_level(0, Box(700, 900, 1200, 700))
        assert np.array_equal(pyramid.levels[0][900:1600, 700:1900], expected)


def test_slices_are_numpys(slide_path: Path) -> None:
    level = pyramid_of(slide_path).levels[0]
    pixels = np.asarray(level)
    keys = [
        np.s_[3], np.s_[-1], np.s_[5:9], np.s_[5:9, 600], np.s_[..., 1],
        np.s_[:, -3:], np.s_[9:5], np.s_[1700:9999, 2300:9999, :2], np.s_[4, ..., 1],
        np.s_[100:1200:7, 50:60:3, 0],
    ]  # fmt: skip
    for key in keys:
        assert np.array_equal(level[key], pixels[key]), key
    with pytest.raises(IndexError):
        level[9999]
    with pytest.raises(IndexError, match="forwards"):
        level[::-1]


def test_the_cache_keeps_to_its_limit_and_drops_the_least_used() -> None:
    cache = TileCache(3 * 100)
    tiles = {TileKey("slide", 0, 0, i): np.full(100, i, np.uint8) for i in range(4)}
    keys = list(tiles)
    for key in keys[:3]:
        cache.put(key, tiles[key])
    assert cache.get(keys[0]) is tiles[keys[0]]
    cache.put(keys[3], tiles[keys[3]])
    assert cache.get(keys[1]) is None
    assert cache.n_bytes == 300
    cache.put(keys[3], tiles[keys[3]])
    assert cache.n_bytes == 300
    cache.limit_bytes = 150
    assert len(cache) == 1
    cache.discard("slide")
    assert cache.n_bytes == len(cache) == 0


def test_memory_is_bounded_by_the_caches_limit(slide_path: Path) -> None:
    limit = 4 * TILE_PX * TILE_PX * 3
    pyramid = pyramid_of(slide_path, limit)
    pixels = np.asarray(pyramid.levels[0])
    assert 0 < pyramid.cache.n_bytes <= limit
    assert np.array_equal(np.asarray(pyramid.levels[0]), pixels)
    pyramid.forget()
    assert pyramid.cache.n_bytes == 0


def test_a_tile_that_cannot_be_decoded_is_grey_and_the_rest_is_right(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", noise, 1536, 512, downsamples=(1,), compression="zlib")
    with Slide(path) as slide:
        pixels = slide.read_level(0, Box(0, 0, 1536, 512))
    corrupt_tile(path, 0, 2)
    shown = np.asarray(pyramid_of(path).levels[0])
    assert (shown[:, 512:1024] == 128).all()
    assert np.array_equal(shown[:, :512], pixels[:, :512])
    assert np.array_equal(shown[:, 1024:], pixels[:, 1024:])


class Held(SlidePyramid):
    """Tiles of the finest level come only when they are let go."""

    def __init__(self, path: Path) -> None:
        self.gate = threading.Event()
        super().__init__(Slide(path), TileCache(2**28), DecodingThreads(2), recolour=self._hold)

    def _hold(self, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) == TILE_PX:
            self.gate.wait(30)
        return pixels


def test_a_screen_does_not_wait_and_is_never_black(tmp_path: Path) -> None:
    path = landmark_slide(tmp_path / "s.tiff", 2048, 2048, (700, 600), 150, downsamples=(1, 8))
    pyramid = Held(path)
    exact = Slide(path).read_level(0, Box(0, 0, 2048, 2048))
    told = threading.Event()
    screen = Screen(told.set, patience_s=0.05, pause_s=0.0)
    with screen:
        started = time.monotonic()
        preview = pyramid.levels[0][:, :]
        assert time.monotonic() - started < 10
    assert not screen.is_complete
    # It shows the slide, as coarse as the coarsest level: even tissue and disc are themselves.
    differs = (preview != exact).any(axis=-1)
    assert differs.mean() < 0.01
    assert preview.min() > 0
    assert not told.is_set()
    pyramid.gate.set()
    deadline = time.monotonic() + 30
    while not screen.is_complete:
        # Each announcement asks for one more look, and after the last one all is there.
        assert told.wait(30)
        told.clear()
        with screen:
            pixels = pyramid.levels[0][:, :]
        assert time.monotonic() < deadline
    assert np.array_equal(pixels, exact)
    # Whoever is no screen waits and gets the pixels.
    assert np.array_equal(np.asarray(pyramid.levels[0]), exact)


def test_a_preview_has_the_coarsest_pixel_below_each_centre(slide_path: Path) -> None:
    pyramid = pyramid_of(slide_path)
    for number, tile in ((0, (1, 2)), (0, (3, 4)), (1, (0, 0)), (1, (1, 2))):
        level = pyramid.levels[number]
        shown, box = level.preview(tile), level.box(tile)
        ratio = level.factor[0] / pyramid.levels[-1].factor[0]
        height, width, _ = pyramid.coarsest.shape
        for row in range(0, box.height, 37):
            for column in range(0, box.width, 41):
                y = min(int((box.y + row + 0.5) * ratio), height - 1)
                x = min(int((box.x + column + 0.5) * ratio), width - 1)
                assert (shown[row, column] == pyramid.coarsest[y, x]).all()


def test_a_tile_is_decoded_once_for_all_who_ask_meanwhile(slide_path: Path) -> None:
    pyramid = Held(slide_path)
    level = pyramid.levels[0]
    # Both threads are held, so that the third tile waits.
    first, _, third = (pyramid.ask(level, (0, column)) for column in range(3))
    assert pyramid.ask(level, (0, 0)) is first
    third.cancel()
    again = pyramid.ask(level, (0, 2))
    assert again is not third
    pyramid.gate.set()
    assert np.array_equal(again.result(30), level[:TILE_PX, 2 * TILE_PX : 3 * TILE_PX])
    assert first.result(30) is pyramid.cache.get(level.key((0, 0)))


def test_the_level_above_the_coarsest_is_foreseen(slide_path: Path) -> None:
    pyramid = pyramid_of(slide_path)
    pyramid.foresee()
    deadline = time.monotonic() + 30
    while pyramid._asked:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    level = pyramid.levels[-2]
    for tile in level.tiles(range(level.shape[0]), range(level.shape[1])):
        assert pyramid.cache.get(level.key(tile)) is not None


def test_what_is_not_looked_at_any_more_is_not_decoded(slide_path: Path) -> None:
    pyramid = Held(slide_path)
    screen = Screen(lambda: None, patience_s=0.0)
    with screen:
        pyramid.levels[0][:, :]
        pyramid.levels[0][:10, :10]
    pyramid.gate.set()
    done = threading.Event()
    pyramid.threads.submit(done.set)
    assert done.wait(30)
    # Two threads had begun on a tile each; the first is wanted still. The coarsest level has two.
    assert len(pyramid.cache) <= 2 + 1 + 2


def test_one_screen_may_take_back_what_another_waits_for(slide_path: Path) -> None:
    """As a slide that is shown twice, side by side."""
    pyramid = Held(slide_path)
    level, waiting = pyramid.levels[0], Screen(lambda: None, patience_s=1.0)
    leaving = Screen(lambda: None, patience_s=0.0)
    shown: list[np.ndarray] = []

    def look() -> None:
        with waiting:
            shown.append(level[:, :])

    with leaving:
        level[:, :]
        thread = threading.Thread(target=look)
        thread.start()
        time.sleep(0.2)
        level[:10, :10]
    thread.join(30)
    pyramid.gate.set()
    assert shown and not waiting.is_complete


def test_colours_follow_the_profile_when_that_is_chosen_and_only_then(tmp_path: Path) -> None:
    """In the profile of this slide red is what blue is in sRGB, and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"oXYZ"), (b"bXYZ", b"rXYZ"), (b"oXYZ", b"bXYZ")):
        profile = profile.replace(old, new)
    pixels = np.empty((600, 700, 3), np.uint8)
    pixels[:] = (200, 30, 60)
    path = tmp_path / "profile.tiff"
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", compression="zlib", metadata=None,
        iccprofile=profile,
    )  # fmt: skip
    layer = open_slide(path)
    assert layer.slide.icc_profile is not None
    assert not layer.icc_to_srgb
    assert np.array_equal(np.asarray(layer.data[0]), pixels)
    layer.icc_to_srgb = True
    assert np.abs(np.asarray(layer.data[0], int) - (60, 30, 200)).max() <= 2
    assert np.abs(layer.pyramid.coarsest.astype(int) - (60, 30, 200)).max() <= 2
    # What is scored stays raw.
    assert np.array_equal(layer.slide.read_level(0, Box(0, 0, 700, 600)), pixels)
    layer.icc_to_srgb = False
    assert np.array_equal(np.asarray(layer.data[0]), pixels)


def test_a_slide_without_a_profile_keeps_its_colours(slide_path: Path) -> None:
    layer = open_slide(slide_path)
    layer.icc_to_srgb = True
    assert not layer.icc_to_srgb
