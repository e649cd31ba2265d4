"""Tumour masks as pictures: PNG, or TIFF with one level or a pyramid; any value but 0 is tumour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from hpc_heatmap.errors import EvaluationError, brief

__all__ = ["MASK_SUFFIXES", "read_mask"]

MASK_SUFFIXES = (".png", ".tif", ".tiff")


def read_mask(path: Path, level: int) -> npt.NDArray[np.bool_]:
    """Read a mask at a level of the slide: True where there is tumour.

    Of a pyramid that begins at level 0, its own level is taken; a file with one level is taken as
    it is. Alpha does not count.

    Raises
    ------
    EvaluationError
        The file cannot be read, has no such level, or holds no tumour.
    """
    pixels: npt.NDArray[Any]
    try:
        pixels = _png(path) if path.suffix.lower() == ".png" else _tiff(path, level)
    except EvaluationError:
        raise
    except Exception as error:  # whatever a decoder makes of a damaged file
        raise EvaluationError(f"{path} cannot be read as a mask: {brief(error)}.") from error
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]
    if pixels.ndim == 3:
        pixels = np.asarray((pixels != 0).any(axis=2))
    if pixels.ndim != 2:
        raise EvaluationError(f"{path} is not one flat picture: its shape is {pixels.shape}.")
    mask: npt.NDArray[np.bool_] = pixels != 0
    if not mask.any():
        raise EvaluationError(
            f"{path} is an empty mask: delete it if the slide is normal; a slide without a mask is."
        )
    return mask


def _png(path: Path) -> npt.NDArray[np.generic]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            # Of a palette this is the index: the colour is for looking at it.
            return np.asarray(picture)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _tiff(path: Path, level: int) -> npt.NDArray[np.generic]:
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        if len(levels) == 1:
            return np.asarray(levels[0].asarray())
        width = levels[0].shape[1]
        for candidate in levels:
            if abs(width / candidate.shape[1] / 2**level - 1) < 0.02:
                return np.asarray(candidate.asarray())
    raise EvaluationError(
        f"{path} is a pyramid without level {level}: choose another --mask-level, or give the one "
        "level as a file of its own."
    )
