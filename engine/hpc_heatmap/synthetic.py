"""A generated slide that looks like haematoxylin and eosin, for where no real slide can be had.

A tile is a pure function of the seed and its position, so tiles are drawn one at a time and the
memory needed does not grow with the slide.
"""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import SettingsError

__all__ = ["generate_slide"]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
PixelSource = Callable[[int, int, int, int], Pixels]
Size = tuple[int, int]
"""Height and width."""

TILE_PX = 256
FACTOR = 4
"""Each level is this many times smaller than the one before."""
SMALLEST_LEVEL_PX = 64

GLASS_RGB = (244.0, 243.0, 245.0)
#: Optical density per unit of stain in red, green and blue.
HAEMATOXYLIN_OD = (0.66, 0.78, 0.40)
EOSIN_OD = (0.12, 0.86, 0.46)
TEXTURE_TEXELS = 1024
NUCLEUS_PITCH_UM = 8.5
LARGEST_NUCLEUS_UM = 6.0
"""Half the length of the longest nucleus."""
PIECES = np.array([(0.33, 0.37, 0.25), (0.78, 0.26, 0.14), (0.68, 0.76, 0.18)])
"""Pieces of tissue in shares of the slide: centre x and y, radius; the first holds the tumour."""


class _Scene:
    """The tissue on one slide: `pixels` draws any rectangle of it."""

    def __init__(self, width_px: int, height_px: int, spacing_um: float, seed: int) -> None:
        self.size_um = (width_px * spacing_um, height_px * spacing_um)
        self.spacing_um = spacing_um
        self.seed = seed
        rng = np.random.default_rng(seed)
        self.pieces = PIECES + rng.uniform(-0.02, 0.02, PIECES.shape)
        side_um = max(self.size_um)
        self.outline = _noise(rng, 0.2 * side_um, 0.2 * side_um, side_um / TEXTURE_TEXELS)
        self.bends = [_noise(rng, 240.0, 240.0, texel_um=1.0) for _ in range(2)]
        self.clouds = _noise(rng, 36.0, 36.0, texel_um=1.0)
        self.fibres = _noise(rng, 90.0, 5.0, texel_um=0.5)
        self.grit = _noise(rng, 3.0, 3.0, texel_um=0.5)
        glass = GLASS_RGB + rng.normal(0.0, 1.1, (2 * TILE_PX, 2 * TILE_PX, 1))
        glass += rng.normal(0.0, 0.5, glass.shape)
        self.glass: Floats = glass.astype(np.float32)

    def pixels(self, x_px: int, y_px: int, width_px: int, height_px: int) -> Pixels:
        """Return the RGB pixels of a rectangle of at most one tile, shape (height, width, 3)."""
        start = int(TILE_PX * _uniform(self.seed, np.array([x_px]), np.array([y_px]), salt=99)[0])
        rgb = self.glass[start : start + height_px, start : start + width_px].copy()
        x_um = ((x_px + np.arange(width_px, dtype=np.float32)) * self.spacing_um)[None, :]
        y_um = ((y_px + np.arange(height_px, dtype=np.float32)) * self.spacing_um)[:, None]
        depth_um, tumour_um = self._depths_um(x_um, y_um)
        if depth_um.max() > -LARGEST_NUCLEUS_UM:
            nuclei = self._nuclei(x_px, y_px, width_px, height_px)
            haematoxylin, eosin = self._stains(x_um, y_um, depth_um, tumour_um, nuclei)
            for channel in range(3):
                density = HAEMATOXYLIN_OD[channel] * haematoxylin + EOSIN_OD[channel] * eosin
                rgb[..., channel] *= np.exp(-density)
        pixels: Pixels = np.clip(rgb + 0.5, 0.0, 255.0).astype(np.uint8)
        return pixels

    def _depths_um(self, x_um: Any, y_um: Any) -> tuple[Any, Any]:
        """Return how deep points lie inside the tissue and the tumour; negative is outside."""
        side_um = min(self.size_um)
        wave, clouds = _texels(self.outline, x_um, y_um), _texels(self.clouds, x_um, y_um)
        depths_um = []
        for centre_x, centre_y, radius in self.pieces:
            u, v = x_um / self.size_um[0] - centre_x, y_um / self.size_um[1] - centre_y
            depths_um.append((radius * (1.0 + 0.2 * wave) - np.hypot(u, v)) * side_um)
        centre_x, centre_y, radius = self.pieces[0] + (0.05, 0.04, 0.0)
        u, v = x_um / self.size_um[0] - centre_x, y_um / self.size_um[1] - centre_y
        tumour_um = (radius * (0.45 - 0.1 * wave) - np.hypot(u, 1.3 * v + 0.4 * u)) * side_um
        tumour_um = np.minimum(tumour_um, depths_um[0] - 15.0) + 22.0 * clouds
        return np.maximum.reduce(depths_um) + 5.0 * clouds, tumour_um

    def _stains(
        self, x_um: Any, y_um: Any, depth_um: Any, tumour_um: Any, nuclei: Floats
    ) -> tuple[Any, Any]:
        """Return the amounts of haematoxylin and eosin at each point."""
        bend_x, bend_y = (_texels(noise, x_um, y_um) for noise in self.bends)
        clouds, grit = (_texels(noise, x_um, y_um) for noise in (self.clouds, self.grit))
        along_um, across_um = x_um + 0.5 * y_um + 45.0 * bend_x, y_um - 0.5 * x_um + 45.0 * bend_y
        fibres = _texels(self.fibres, along_um, across_um)

        tissue = _ramp(depth_um + 2.0 * grit, 3.0)
        tumour = _ramp(tumour_um, 6.0)
        slits = _ramp(-fibres - 1.4 - 0.3 * bend_y, 0.15) * (1.0 - tumour)
        holes = _ramp(clouds - 2.3 + 0.3 * bend_x, 0.08)
        tissue = tissue * (1.0 - 0.93 * np.maximum(slits, holes))

        stroma = 0.46 + 0.17 * fibres + 0.07 * bend_x
        eosin = stroma * (1.0 - tumour) + (0.42 + 0.06 * clouds) * tumour + 0.03 * grit
        eosin = tissue * np.maximum(eosin, 0.0) * (1.0 - 0.25 * nuclei)
        haematoxylin = 0.05 + 0.02 * clouds + (0.22 + 0.05 * grit) * tumour
        haematoxylin = np.maximum(haematoxylin, 0.0) + nuclei * (1.0 + 0.12 * grit)
        return tissue * haematoxylin, eosin

    def _nuclei(self, x_px: int, y_px: int, width_px: int, height_px: int) -> Floats:
        """Return the haematoxylin of the nuclei in a rectangle: ellipses on a jittered grid."""
        reach_px = math.ceil(LARGEST_NUCLEUS_UM / self.spacing_um) + 1
        pitch_px = NUCLEUS_PITCH_UM / self.spacing_um
        if pitch_px < 1.0:  # too small to be seen
            return np.zeros((height_px, width_px), dtype=np.float32)
        columns, rows = (
            np.arange(int((first - reach_px) // pitch_px), int((last + reach_px) // pitch_px) + 1)
            for first, last in ((x_px, x_px + width_px), (y_px, y_px + height_px))
        )
        column, row = (grid.ravel() for grid in np.meshgrid(columns, rows))
        chance = [_uniform(self.seed, column, row, salt) for salt in range(7)]
        x_um, y_um = (column + chance[0]) * NUCLEUS_PITCH_UM, (row + chance[1]) * NUCLEUS_PITCH_UM
        depth_um, tumour_um = self._depths_um(x_um, y_um)
        malignant = tumour_um > 0.0
        keep = (chance[2] < np.where(malignant, 0.93, 0.2)) & (depth_um > 0.0)
        shapes = (
            x_um / self.spacing_um - x_px,
            y_um / self.spacing_um - y_px,
            np.where(malignant, 3.6 + 2.4 * chance[3], 3.6 + 2.2 * chance[3]),
            np.where(malignant, 2.8 + 1.6 * chance[4], 1.3 + 1.2 * chance[4] ** 2),
            np.where(malignant, math.pi * chance[5], 0.46 + 1.1 * (chance[5] - 0.5)),
            np.where(malignant, 1.0 + 0.9 * chance[6], 1.5 + 0.5 * chance[6]),
        )
        centre_x, centre_y, long_um, short_um, angle, dark = (
            value[keep, None, None].astype(np.float32) for value in shapes
        )

        # Each nucleus is drawn on a small square; the squares meet on a canvas with a border.
        offsets = np.arange(-reach_px, reach_px + 1)
        across, down = offsets[None, None, :], offsets[None, :, None]
        left, top = np.floor(centre_x).astype(np.int64), np.floor(centre_y).astype(np.int64)
        dx = (left - centre_x + across) * self.spacing_um
        dy = (top - centre_y + down) * self.spacing_um
        squared = ((dx * np.cos(angle) + dy * np.sin(angle)) / long_um) ** 2
        squared += ((dy * np.cos(angle) - dx * np.sin(angle)) / short_um) ** 2
        drawn = np.clip(3.0 - 3.0 * squared, 0.0, 1.0) * (0.72 + 0.28 * squared) * dark
        border_px = 2 * reach_px + math.ceil(pitch_px)
        canvas = np.zeros((height_px + 2 * border_px, width_px + 2 * border_px), dtype=np.float32)
        texel = (top + down + border_px) * canvas.shape[1] + left + across + border_px
        np.maximum.at(canvas.reshape(-1), texel.ravel(), drawn.astype(np.float32).ravel())
        return canvas[border_px:-border_px, border_px:-border_px]


class _Texture(NamedTuple):
    """Noise of unit variance that repeats in both directions."""

    values: Floats
    texel_um: float


def _noise(
    rng: np.random.Generator, along_um: float, across_um: float, texel_um: float
) -> _Texture:
    """Return a texture whose features have the given lengths."""
    frequency = np.fft.fftfreq(TEXTURE_TEXELS, texel_um)
    squared = (frequency[None, :] * along_um) ** 2 + (frequency[:, None] * across_um) ** 2
    white = np.fft.fft2(rng.standard_normal((TEXTURE_TEXELS, TEXTURE_TEXELS)))
    values = np.fft.ifft2(white * np.exp(-squared)).real
    return _Texture(((values - values.mean()) / values.std()).astype(np.float32), texel_um)


def _texels(texture: _Texture, x_um: Any, y_um: Any) -> Any:
    """Return the value of a texture at each position."""
    column = np.floor(x_um / texture.texel_um).astype(np.int32) % TEXTURE_TEXELS
    row = np.floor(y_um / texture.texel_um).astype(np.int32) % TEXTURE_TEXELS
    return texture.values[row, column]


def _ramp(value: Any, width: float) -> Any:
    """Return 0 below zero and 1 above, with a linear edge of the given width."""
    return np.clip(value / width + 0.5, 0.0, 1.0)


def _uniform(seed: int, column: Any, row: Any, salt: int) -> Any:
    """Return numbers in [0, 1) that depend only on the seed, the position and the salt."""
    mixed = column.astype(np.uint32) * np.uint32(0x9E3779B1)
    mixed ^= row.astype(np.uint32) * np.uint32(0x85EBCA77)
    mixed ^= np.uint32((seed * 0x27D4EB2F + salt * 0xC2B2AE3D) & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 0x9E3779B1)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    return (mixed ^ (mixed >> np.uint32(15))) / 2.0**32


def _encoded_tiles(source: PixelSource, size_px: Size, reduced: Pixels) -> Iterator[bytes]:
    """Yield the compressed tiles of a level and fill the next level, `reduced`, on the way."""
    for y_px in range(0, size_px[0], TILE_PX):
        for x_px in range(0, size_px[1], TILE_PX):
            height_px, width_px = min(TILE_PX, size_px[0] - y_px), min(TILE_PX, size_px[1] - x_px)
            tile = np.full((TILE_PX, TILE_PX, 3), 255, dtype=np.uint8)
            tile[:height_px, :width_px] = source(x_px, y_px, width_px, height_px)
            boxes = tile.reshape(TILE_PX // FACTOR, FACTOR, TILE_PX // FACTOR, FACTOR, 3)
            means = (boxes.sum(axis=(1, 3), dtype=np.uint16) + FACTOR**2 // 2) // FACTOR**2
            place = reduced[y_px // FACTOR :, x_px // FACTOR :][: len(means), : len(means)]
            place[...] = means[: place.shape[0], : place.shape[1]]
            yield zlib.compress(tile.tobytes(), level=1)


def generate_slide(
    path: str | os.PathLike[str],
    width_px: int = 4096,
    height_px: int = 4096,
    spacing_um: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write a generated slide as a tiled, pyramidal TIFF that OpenSlide opens.

    Three pieces of tissue lie on white glass: eosin-pink stroma with scattered nuclei, and in the
    largest piece one tumour-like region of crowded, dark nuclei.

    Parameters
    ----------
    path
        The file to write; one that exists is replaced when the new one is complete.
    width_px, height_px
        Size of level 0.
    spacing_um
        Micrometres per pixel at level 0; written into the file.
    seed
        The same seed gives the same slide.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    SettingsError
        If a size or the spacing is not positive.
    """
    if min(width_px, height_px) < 1 or not 0.0 < spacing_um < math.inf:
        raise SettingsError(
            f"cannot generate a slide of {width_px} x {height_px} px at {spacing_um} um per pixel: "
            "give sizes of at least 1 px and a positive spacing"
        )
    import tifffile

    path, size_px = Path(path), (height_px, width_px)
    source: PixelSource = _Scene(width_px, height_px, spacing_um, seed).pixels
    level = 0
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        partial = Path(folder) / "slide"
        with tifffile.TiffWriter(partial, bigtiff=width_px * height_px > 2**29) as writer:
            while level == 0 or min(size_px) >= SMALLEST_LEVEL_PX:
                smaller_px = (size_px[0] // FACTOR, size_px[1] // FACTOR)
                reduced = _array_on_disk(Path(folder) / f"level-{level + 1}", smaller_px)
                writer.write(
                    _encoded_tiles(source, size_px, reduced),
                    shape=(*size_px, 3),
                    dtype=np.uint8,
                    tile=(TILE_PX, TILE_PX),
                    photometric="rgb",
                    compression="zlib",
                    resolution=(1e4 / spacing_um / FACTOR**level,) * 2,
                    resolutionunit="CENTIMETER",
                    subfiletype=1 if level else 0,
                    metadata=None,
                    software="hpc-heatmap",
                )
                level, size_px, source = level + 1, smaller_px, _reader(reduced)
        del source, reduced
        os.replace(partial, path)
    return path


def _array_on_disk(path: Path, size_px: Size) -> Pixels:
    """Return an array of pixels that is kept in a file, or an empty one."""
    shape = (*size_px, 3)
    if 0 in shape:
        return np.empty(shape, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="w+", shape=shape)


def _reader(level: Pixels) -> PixelSource:
    """Return a source of the pixels of an array."""
    return lambda x, y, w, h: level[y : y + h, x : x + w]
