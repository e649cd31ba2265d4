"""Slides for tests: real files that the real OpenSlide opens, with known pixels at known places.

Positions are level-0 pixels in the pixel-centre convention: (3, 5) is the centre of the pixel in
column 3 and row 5, and (3.5, 5) lies between two pixels. Pixel (i, j) of a level with downsample d
shows the d x d level-0 pixels that start at (i * d, j * d). Levels are cut down to whole pixels, so
OpenSlide's downsamples are exact only where the size of the slide is divisible.
"""

from __future__ import annotations

import functools
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

Pixels = npt.NDArray[np.uint8]
PixelsAt = Callable[[int, int, int, int, int], "Pixels | None"]
Compression = Literal["jpeg", "zlib"] | None

GLASS_RGB = (245, 245, 245)
TISSUE_RGB = (216, 117, 183)
#: A third of the tissue's: same hue and saturation, so a threshold on these takes both as tissue.
LANDMARK_RGB = (72, 39, 61)
NUCLEUS_RGB = (84, 26, 112)


def write_slide(
    path: Path,
    pixels_at: PixelsAt,
    width_px: int,
    height_px: int,
    *,
    tile_px: int = 256,
    spacing_um: float | tuple[float, float] | None = 0.5,
    downsamples: Sequence[int] = (1, 4, 16),
    compression: Compression = "jpeg",
    quality: int = 90,
    subsampling: Literal["444", "420"] = "444",
    glass_rgb: tuple[int, int, int] = GLASS_RGB,
) -> Path:
    """Write a tiled, pyramidal TIFF, one tile at a time.

    `pixels_at(x, y, w, h, downsample)` returns the uint8 RGB pixels of a rectangle of the level
    with that downsample, in pixels of that level, or None for nothing but glass: such tiles are
    encoded once. A spacing is one number or (x, y); with None the file has a resolution of 1
    without a unit, which says nothing.
    """
    raw_bytes = 3 * sum((width_px // d) * (height_px // d) for d in downsamples)
    with tifffile.TiffWriter(path, bigtiff=raw_bytes > 3e9) as writer:
        for level, downsample in enumerate(downsamples):
            w, h = max(1, width_px // downsample), max(1, height_px // downsample)
            placement: dict[str, object] = {}
            if spacing_um is not None:
                x_um, y_um = np.broadcast_to(np.asarray(spacing_um, dtype=float), 2)
                placement["resolution"] = (1e4 / (x_um * downsample), 1e4 / (y_um * downsample))
                placement["resolutionunit"] = "CENTIMETER"
            if compression == "jpeg":
                placement["subsampling"] = (1, 1) if subsampling == "444" else (2, 2)
            writer.write(
                _encoded_tiles(
                    functools.partial(_level_pixels, pixels_at, downsample),
                    (w, h, tile_px),
                    functools.partial(_encoded, compression, quality, subsampling),
                    glass_rgb,
                ),
                shape=(h, w, 3),
                dtype=np.uint8,
                tile=(tile_px, tile_px),
                photometric="ycbcr" if compression == "jpeg" else "rgb",
                compression=compression,
                subfiletype=1 if level else 0,
                metadata=None,
                software=False,
                **placement,  # type: ignore[arg-type]
            )
    return path


def _level_pixels(
    pixels_at: PixelsAt, downsample: int, x: int, y: int, w: int, h: int
) -> Pixels | None:
    return pixels_at(x, y, w, h, downsample)


def _encoded_tiles(
    source: Callable[[int, int, int, int], Pixels | None],
    size: tuple[int, int, int],
    encode: Callable[[Pixels], bytes],
    glass_rgb: tuple[int, int, int],
) -> Iterator[bytes]:
    width_px, height_px, tile_px = size
    glass = np.full((tile_px, tile_px, 3), glass_rgb, dtype=np.uint8)
    encoded_glass = encode(glass)
    for y in range(0, height_px, tile_px):
        for x in range(0, width_px, tile_px):
            w, h = min(tile_px, width_px - x), min(tile_px, height_px - y)
            pixels = source(x, y, w, h)
            if pixels is None:
                yield encoded_glass
                continue
            assert pixels.shape == (h, w, 3) and pixels.dtype == np.uint8, pixels.shape
            yield encode(np.pad(pixels, ((0, tile_px - h), (0, tile_px - w), (0, 0)), mode="edge"))


def _encoded(compression: Compression, quality: int, subsampling: str, tile: Pixels) -> bytes:
    if compression is None:
        return tile.tobytes()
    if compression == "zlib":
        return zlib.compress(tile.tobytes(), level=1)
    return bytes(
        imagecodecs.jpeg8_encode(
            tile,
            level=quality,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling=subsampling,
            optimize=True,
        )
    )


def landmark_slide(
    path: Path,
    width_px: int,
    height_px: int,
    landmark_xy: tuple[float, float],
    radius_px: float,
    *,
    spacing_um: float | tuple[float, float] | None = 0.5,
    downsamples: Sequence[int] = (1, 4, 16),
    tile_px: int = 256,
    compression: Compression = "zlib",
    glass_px: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Path:
    """Write a slide of even pink tissue with one dark disc around a level-0 position.

    The disc differs from the tissue in brightness only, so that a threshold on hue and saturation
    takes both; where the threshold is found by Otsu's method, leave it some glass to find.
    `glass_px` gives the widths of strips of white glass on the left, top, right and bottom. A level
    pixel belongs to the disc, or to the glass, when its centre does; level-0 pixel (i, j) is dark
    exactly where hypot(i - x, j - y) <= radius_px.
    """
    left, top, right, bottom = glass_px

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> Pixels:
        column = (x + np.arange(w) + 0.5)[None, :] * downsample - 0.5
        row = (y + np.arange(h) + 0.5)[:, None] * downsample - 0.5
        pixels = np.full((h, w, 3), TISSUE_RGB, dtype=np.uint8)
        outside = (column < left) | (column >= width_px - right)
        pixels[outside | (row < top) | (row >= height_px - bottom)] = GLASS_RGB
        near = np.hypot(column - landmark_xy[0], row - landmark_xy[1]) <= radius_px
        pixels[near] = LANDMARK_RGB
        return pixels

    return write_slide(
        path,
        pixels_at,
        width_px,
        height_px,
        tile_px=tile_px,
        spacing_um=spacing_um,
        downsamples=downsamples,
        compression=compression,
    )


def big_slide_blobs(width_px: int, height_px: int) -> tuple[tuple[float, float, float], ...]:
    """Return centre x, centre y and radius of the tissue of `big_slide`, about 1.5% of its area."""
    side_px = min(width_px, height_px)
    shares = ((0.31, 0.27, 0.050), (0.66, 0.58, 0.035), (0.20, 0.81, 0.025), (0.90, 0.12, 0.020))
    return tuple((x * width_px, y * height_px, radius * side_px) for x, y, radius in shares)


def big_slide(
    path: Path,
    width_px: int = 40_000,
    height_px: int = 40_000,
    *,
    spacing_um: float | tuple[float, float] | None = 0.25,
    downsamples: Sequence[int] = (1, 4, 16, 64),
    quality: int = 80,
) -> Path:
    """Write a whole-slide-sized JPEG slide of white glass with discs of stained tissue."""
    blobs = big_slide_blobs(width_px, height_px)
    factors = tuple(d for d in downsamples if min(width_px, height_px) // d >= 1)

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> Pixels | None:
        column = (x + np.arange(w) + 0.5) * downsample - 0.5
        row = (y + np.arange(h) + 0.5) * downsample - 0.5
        inside = np.zeros((h, w), dtype=bool)
        for centre_x, centre_y, radius in blobs:
            # The nearest point of the rectangle says whether the disc touches it at all.
            nearest_x = min(max(centre_x, column[0]), column[-1])
            nearest_y = min(max(centre_y, row[0]), row[-1])
            if math.hypot(nearest_x - centre_x, nearest_y - centre_y) <= radius:
                inside |= np.hypot(column[None, :] - centre_x, row[:, None] - centre_y) <= radius
        if not inside.any():
            return None
        texture = _stained_texture(downsample)
        side = len(texture)
        rows, columns = (y + np.arange(h)) % side, (x + np.arange(w)) % side
        pixels = texture[rows[:, None], columns[None, :]]
        pixels[~inside] = GLASS_RGB
        return pixels

    return write_slide(
        path,
        pixels_at,
        width_px,
        height_px,
        spacing_um=spacing_um,
        downsamples=factors,
        quality=quality,
        subsampling="420",
    )


@functools.cache
def _stained_texture(downsample: int) -> Pixels:
    """Return a periodic picture of pink tissue with purple nuclei, averaged down."""
    side = 1024
    if side % downsample:
        raise ValueError(f"the texture needs a downsample that divides {side}, not {downsample}")
    rng = np.random.default_rng(7)
    frequency = np.fft.fftfreq(side)
    squared = frequency[None, :] ** 2 * 400.0 + frequency[:, None] ** 2 * 4000.0
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * np.exp(-squared)).real
    noise /= noise.std()
    pixels = np.array(TISSUE_RGB) + noise[..., None] * (9.0, 20.0, 12.0)
    reach = np.arange(-14, 15)
    for centre_x, centre_y in rng.integers(0, side, (1500, 2)):
        angle, long, short = rng.uniform(0, np.pi), rng.uniform(8, 13), rng.uniform(5, 8)
        along = reach[None, :] * np.cos(angle) + reach[:, None] * np.sin(angle)
        across = reach[:, None] * np.cos(angle) - reach[None, :] * np.sin(angle)
        rows, columns = np.nonzero((along / long) ** 2 + (across / short) ** 2 <= 1.0)
        place = (reach[rows] + centre_y) % side, (reach[columns] + centre_x) % side
        pixels[place] = np.array(NUCLEUS_RGB) + rng.uniform(0, 30)
    small = side // downsample
    means = pixels.reshape(small, downsample, small, downsample, 3).mean(axis=(1, 3))
    return np.clip(np.rint(means), 0, 255).astype(np.uint8)


def two_level_blank(
    path: Path,
    width_px: int = 2048,
    height_px: int = 1536,
    *,
    noise_levels: int = 0,
    seed: int = 0,
    spacing_um: float | tuple[float, float] | None = 0.5,
) -> Path:
    """Write a white slide of two levels without tissue.

    With `noise_levels` n every channel of every pixel is 253 - n ... 253 + n, at most 255.
    """

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> Pixels | None:
        if noise_levels == 0:
            return None
        rng = np.random.default_rng((seed, x, y, downsample))
        noise = rng.integers(-noise_levels, noise_levels + 1, (h, w, 3))
        return np.clip(253 + noise, 0, 255).astype(np.uint8)

    return write_slide(
        path,
        pixels_at,
        width_px,
        height_px,
        spacing_um=spacing_um,
        downsamples=(1, 4),
        compression="zlib",
        glass_rgb=(255, 255, 255),
    )


def corrupt_tile(path: Path, level: int, tile_index: int) -> None:
    """Overwrite one tile, counted along the rows of a level, so that it cannot be decoded."""
    with tifffile.TiffFile(path) as tiff:
        tiled = [page for page in tiff.pages if page.is_tiled]
        page = sorted(tiled, key=lambda page: -page.imagewidth)[level]
        if page.compression == 1:
            raise ValueError(f"{path}: a tile that is not compressed cannot be made undecodable")
        offset, count = page.dataoffsets[tile_index], page.databytecounts[tile_index]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))


def truncate(path: Path, share: float) -> None:
    """Keep only the first part of a file, as an interrupted copy does."""
    os.truncate(path, int(path.stat().st_size * share))


def leica_slide(
    path: Path, pixels: Pixels, origin_px: tuple[int, int], size_px: tuple[int, int]
) -> Path:
    """Write a slide of Leica's format, 0.5 um: pixels that were scanned at a place of the glass.

    OpenSlide's bounds are the scanned part; level 0 is the whole glass, `size_px`.
    """
    nm = 500
    (width_px, height_px), (rows, columns) = size_px, pixels.shape[:2]
    macro = np.full((64, 64 * width_px // height_px, 3), 240, np.uint8)

    def image(ifd: int, shape: tuple[int, ...], view: Sequence[int], power: int) -> str:
        size = f'sizeX="{shape[1]}" sizeY="{shape[0]}"'
        w, h, x, y = (nm * value for value in view)
        return (
            '<image uuid="u"><creationDate>2020-01-01T00:00:00Z</creationDate>'
            f'<device model="SCN" version="1"/><pixels {size}><dimension {size} r="0" ifd="{ifd}"/>'
            f'</pixels><view sizeX="{w}" sizeY="{h}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>'
            f"<scanSettings><objectiveSettings><objective>{power}</objective></objectiveSettings>"
            "<illuminationSettings><numericalAperture>0.5</numericalAperture><illuminationSource>"
            "brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
        )

    document = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection uuid="u" sizeX="{nm * width_px}" sizeY="{nm * height_px}" barcode="">'
        f"{image(0, macro.shape, (width_px, height_px, 0, 0), 1)}"
        f"{image(1, pixels.shape, (columns, rows, *origin_px), 20)}</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        options: dict[str, object] = {"photometric": "rgb", "tile": (256, 256), "metadata": None}
        options["resolution"] = (1e4 / 0.5, 1e4 / 0.5)
        options["resolutionunit"] = "CENTIMETER"
        writer.write(macro, description=document, **options)
        writer.write(pixels, **options)
    return path
