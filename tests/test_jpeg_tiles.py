"""JPEG tiles: OpenSlide's own pixels to the bit, and OpenSlide itself wherever that is in doubt."""

from __future__ import annotations

import io
import itertools
import logging
import shutil

import h5py
import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from chain import group, real_slide
from PIL import Image
from slides import corrupt_tile, landmark_slide

from hpc_heatmap.errors import TileError
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.slide_tiles import TileKind
from hpc_heatmap.geometry import Box
from hpc_heatmap.jpeg_tiles import (
    NotUnderstoodError,
    TileGrid,
    check_tile,
    decode_tile,
    find_jpeg_levels,
)
from hpc_heatmap.slide import Slide


def noise(width_px, height_px, seed=0):
    """Smooth colours with noise: chroma subsampling and clipping both matter."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (height_px // 8 + 2, width_px // 8 + 2, 3))
    smooth = rough.repeat(8, 0).repeat(8, 1)[:height_px, :width_px]
    return np.clip(smooth + rng.integers(-40, 40, smooth.shape), 0, 255).astype(np.uint8)


def write_jpeg_tiff(
    path, width_px, height_px, tile=(128, 128), subsampling="420", quality=80, colour="YCBCR",
    levels=(1,), without=(),
):  # fmt: skip
    """A tiled JPEG pyramid; `tile` is (height, width), `without` numbers of tiles not stored."""
    with tifffile.TiffWriter(path) as writer:
        for downsample in levels:
            picture = noise(width_px // downsample, height_px // downsample, downsample)
            h, w = picture.shape[:2]

            def encoded(picture=picture, h=h, w=w):
                starts = itertools.product(range(0, h, tile[0]), range(0, w, tile[1]))
                for number, (y, x) in enumerate(starts):
                    part = picture[y : y + tile[0], x : x + tile[1]]
                    beyond = tile[0] - part.shape[0], tile[1] - part.shape[1]
                    part = np.pad(part, ((0, beyond[0]), (0, beyond[1]), (0, 0)), mode="wrap")
                    if number in without:
                        yield b""
                        continue
                    yield bytes(
                        imagecodecs.jpeg8_encode(
                            part, level=quality, colorspace="RGB", outcolorspace=colour,
                            subsampling=subsampling if colour == "YCBCR" else None,
                        )
                    )  # fmt: skip

            ratio = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[subsampling]
            writer.write(
                encoded(), shape=(h, w, 3), dtype=np.uint8, tile=tile, compression="jpeg",
                photometric="ycbcr" if colour == "YCBCR" else "rgb", metadata=None,
                subfiletype=int(downsample > 1),
                **({"subsampling": ratio} if colour == "YCBCR" else {}),
            )  # fmt: skip
    return path


def plain(path, level, box):
    """OpenSlide's pixels, white outside of the slide."""
    with openslide.OpenSlide(path) as slide:
        downsample = slide.level_downsamples[level]
        corner = round(box.x * downsample), round(box.y * downsample)
        rgba = np.asarray(slide.read_region(corner, level, (box.width, box.height)))
    return np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)


def check_level(path, level):
    """The level is read from its tiles, and all of it and some of its edges are OpenSlide's."""
    with Slide(path) as slide:
        assert slide.jpeg_level(level) is not None
        width_px, height_px = slide.level_dimensions[level]
        boxes = [
            Box(-70, -50, width_px + 150, height_px + 130),
            Box(width_px - 30, height_px - 20, 100, 90),
            Box(-100, 5, 60, 60),
            Box(width_px + 3, height_px + 3, 40, 40),
            Box(61, 67, 101, 1),
        ]
        for box in boxes:
            assert slide.read_level(level, box).tobytes() == plain(path, level, box).tobytes()


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
@pytest.mark.parametrize("quality", [20, 80, 100])
def test_pixels_are_openslides(tmp_path, subsampling, quality):
    path = tmp_path / "s.tiff"
    check_level(write_jpeg_tiff(path, 517, 389, (128, 128), subsampling, quality), 0)


@pytest.mark.parametrize("size", [(256, 256), (257, 255), (128, 640), (300, 100)])
@pytest.mark.parametrize("tile", [(128, 128), (64, 192), (240, 240)])
def test_any_size_and_tile(tmp_path, size, tile):
    check_level(write_jpeg_tiff(tmp_path / "s.tiff", *size, tile), 0)


def test_tiles_encoded_as_rgb(tmp_path, caplog):
    path = write_jpeg_tiff(tmp_path / "s.tiff", 500, 400, colour="RGB")
    caplog.set_level(logging.INFO)
    with Slide(path) as slide:
        # tifffile has called them YCbCr; OpenSlide believes the TIFF, a decoder the JPEG.
        assert slide.jpeg_level(0) is None
    assert "has other pixels" in caplog.text
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(2)
    check_level(path, 0)
    with Slide(path) as slide:
        picture = slide.read_level(0, Box(0, 0, 500, 400)).astype(int)
    assert np.abs(picture - noise(500, 400, 1)).mean() < 10


def test_every_level_of_a_pyramid_with_whole_downsamples(tmp_path):
    path = write_jpeg_tiff(tmp_path / "s.tiff", 1024, 768, levels=(1, 2, 4))
    for level in range(3):
        check_level(path, level)


def test_a_level_between_the_pixels_of_level_0_is_openslides(tmp_path, caplog):
    path = write_jpeg_tiff(tmp_path / "s.tiff", 1022, 769, levels=(1, 4))
    caplog.set_level(logging.INFO)
    with Slide(path) as slide:
        assert slide.jpeg_level(0) is not None and slide.jpeg_level(1) is None
        assert slide.read_level(1, Box(3, 4, 50, 60)).shape == (60, 50, 3)
    assert "is no whole number" in caplog.text


def test_the_real_slide(caplog):
    """All of it, by tiles and by OpenSlide."""
    path = real_slide("svs")
    check_level(path, 0)
    with Slide(path) as slide:
        tiles = slide.jpeg_level(0)
        assert tiles.grid == TileGrid(2220, 2967, 240, 240)
        # Each is a JPEG file of its own behind the header.
        whole = tiles.header + tiles.data(3, 4)[2:]
        decoded = imagecodecs.jpeg8_decode(whole)
        assert decoded.tobytes() == plain(path, 0, Box(960, 720, 240, 240)).tobytes()


@pytest.mark.parametrize("kind", ["zlib", "dicom"])
def test_what_is_no_tiled_jpeg_is_openslides(tmp_path, caplog, kind):
    caplog.set_level(logging.INFO)
    path = real_slide("dicom") if kind == "dicom" else tmp_path / "s.tiff"
    if kind == "zlib":
        landmark_slide(path, 500, 400, (100, 100), 30)
    with Slide(path) as slide:
        assert slide.jpeg_level(0) is None
        box = Box(-20, 30, 200, 100)
        assert slide.read_level(0, box).tobytes() == plain(path, 0, box).tobytes()
    assert "is read by OpenSlide" in caplog.text


def test_two_directories_of_one_size_are_for_openslide(tmp_path):
    path = tmp_path / "s.tiff"
    picture = noise(512, 512)
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(
                picture, tile=(128, 128), compression="jpeg", photometric="rgb", metadata=None
            )
    with pytest.raises(NotUnderstoodError, match="2 directories"):
        find_jpeg_levels(path, "generic-tiff", ((512, 512),))


def test_a_level_whose_pixels_differ_is_not_used(tmp_path, caplog, monkeypatch):
    """As with a decoder that rounds in another way."""
    path = write_jpeg_tiff(tmp_path / "s.tiff", 500, 400)
    caplog.set_level(logging.INFO)
    decode = "hpc_heatmap.jpeg_tiles.decode_tile"
    monkeypatch.setattr(decode, lambda header, data, grid: np.zeros((128, 128, 3), np.uint8))
    with Slide(path) as slide:
        box = Box(100, 100, 200, 200)
        assert slide.read_level(0, box).tobytes() == plain(path, 0, box).tobytes()
        assert slide.jpeg_level(0) is None
    assert "has other pixels" in caplog.text


def test_tiles_that_are_not_stored_are_openslides(tmp_path):
    path = write_jpeg_tiff(tmp_path / "s.tiff", 512, 512, without={5, 6})
    check_level(path, 0)
    paths = group(path, tmp_path / "g", 64, 64, None, tissue_method="all", patches_per_group=64)
    with h5py.File(paths.groups) as file:
        members = file["groups/000000"]
        none = members["slide_tile_kind"][:] == TileKind.BACKGROUND
        assert members["slide_tile_index"][:][none].tolist() == [[1, 1], [1, 2]]
        assert (members["slide_tile_bytes"][:] == 0).tolist() == none.tolist()
    with open_groups(paths.groups) as groups:
        members = groups.read(0)
    assert members.readable.all()
    for number, (row, column) in enumerate(members.cells.tolist()):
        expected = plain(path, 0, Box(column * 64 - 32, row * 64 - 32, 128, 128))
        assert np.array_equal(members.patch(number), expected)


def test_a_broken_tile_is_an_error_and_the_rest_is_read(tmp_path):
    path = write_jpeg_tiff(tmp_path / "s.tiff", 512, 512)
    corrupt_tile(path, 0, 5)
    with Slide(path) as slide:
        assert slide.jpeg_level(0) is not None
        with pytest.raises(TileError, match="x 128, y 128"):
            slide.read_level(0, Box(100, 100, 100, 100))
        box = Box(0, 0, 512, 128)
        assert slide.read_level(0, box).tobytes() == plain(path, 0, box).tobytes()


def with_damage(tile, kind, rng):
    """A tile with a flipped bit, zeros to its end, a strange marker or strange bytes."""
    damaged = bytearray(tile)
    at = int(rng.integers(2, len(tile) - 60))
    if kind % 4 == 0:
        damaged[at] ^= 1 << int(rng.integers(8))
    elif kind % 4 == 1:
        damaged[at:] = bytes(len(damaged) - at)
    elif kind % 4 == 2:
        damaged[at : at + 2] = bytes([0xFF, int(rng.integers(1, 256))])
    else:
        damaged[at : at + 50] = rng.bytes(50)
    return bytes(damaged)


def refused_by(judge, header, data, grid):
    """Whether a function does not understand a tile."""
    try:
        judge(header, data, grid)
    except NotUnderstoodError:
        return True
    return False


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": "4:2:0"},
        {"subsampling": "4:2:0", "progressive": True},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:4:4"},
        {"keep_rgb": True},
    ],
    ids=str,
)
def test_a_check_refuses_what_decoding_would(options):
    """Tables, frame header and coefficients are damaged: all that the decoder reads."""
    file = io.BytesIO()
    Image.fromarray(noise(120, 128)).save(file, "JPEG", quality=80, **options)
    sound = file.getvalue()
    colours = b"\x00" if "keep_rgb" in options else b"\x01"
    header = b"\xff\xd8\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + colours
    grid = TileGrid(1000, 1000, 120, 128)
    assert not refused_by(check_tile, header, sound, grid)
    # As large as the tile where both are an eighth.
    assert refused_by(check_tile, header, sound, TileGrid(1000, 1000, 119, 127))
    rng = np.random.default_rng(1)
    outcomes = set()
    for trial in range(1200):
        # Every other one in the first bytes, the headers.
        head = sound[:700] if trial % 2 else sound
        tile = with_damage(head, trial // 2, rng) + sound[len(head) :]
        refused = refused_by(decode_tile, header, tile, grid)
        assert refused_by(check_tile, header, tile, grid) == refused
        outcomes.add(refused)
    assert outcomes == {True, False}


def test_damage_of_any_kind_is_judged_as_by_openslide(tmp_path):
    """Flipped bits, zeros to the end, early ends and strange markers in a tile of a real slide."""
    path = tmp_path / "s.svs"
    shutil.copyfile(real_slide("svs"), path)
    path.chmod(0o644)
    with tifffile.TiffFile(path) as tiff:
        offsets, lengths = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    rng = np.random.default_rng(1)
    outcomes = set()
    for trial in range(120):
        number = int(rng.integers(len(offsets)))
        row, column = divmod(number, 10)
        with path.open("r+b") as file:
            file.seek(offsets[number])
            sound = file.read(lengths[number])
            file.seek(offsets[number])
            file.write(with_damage(sound, trial, rng))
        box = TileGrid(2220, 2967, 240, 240).box(row, column)
        try:
            expected = plain(path, 0, box)
        except openslide.OpenSlideError:
            expected = None
        with Slide(path) as slide:
            assert slide.jpeg_level(0) is not None
            if expected is None:
                with pytest.raises(TileError):
                    slide.read_level(0, box)
            else:
                assert slide.read_level(0, box).tobytes() == expected.tobytes()
        outcomes.add(expected is None)
        with path.open("r+b") as file:
            file.seek(offsets[number])
            file.write(sound)
    assert outcomes == {True, False}
