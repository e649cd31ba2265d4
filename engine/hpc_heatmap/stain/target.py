"""The stain that slides are changed to: a picture, or what was estimated from one before (JSON)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError

from hpc_heatmap.errors import SettingsError, StainError, brief
from hpc_heatmap.settings import StainMethod
from hpc_heatmap.stain.fits import StainFit, fit_stain

__all__ = ["read_target"]


def read_target(path: Path, method: StainMethod) -> StainFit:
    """Read a target: JSON as ``hpc-heatmap stain`` writes it, or a picture to estimate it from.

    Raises
    ------
    SettingsError
        There is no such file, it is neither, it is of another method, or it holds too little
        tissue.
    """
    if not path.is_file():
        raise SettingsError(
            f"There is no stain target {path}: give a picture of tissue as the model knows it, or "
            "the JSON that `hpc-heatmap stain` made of one."
        )
    if path.suffix.lower() == ".json":
        try:
            fit = StainFit.model_validate_json(path.read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise SettingsError(
                f"{path} is no stain target ({reason}): make one with `hpc-heatmap stain PICTURE "
                f"--method {method.value} --out {path.name}`."
            ) from error
        if fit.method is not method:
            raise SettingsError(
                f"{path} was made by the method {fit.method.value}, asked is {method.value}: make "
                "another with `hpc-heatmap stain`, or choose that method."
            )
        return fit
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise SettingsError(
            f"{path} cannot be read as a stain target ({brief(error)}): give a PNG, JPEG or TIFF "
            "of some megapixels at most, or a JSON of `hpc-heatmap stain`."
        ) from error
    try:
        return fit_stain(pixels, method)
    except StainError as error:
        raise SettingsError(
            f"{path} cannot be a stain target: {error}. Give a picture full of stained tissue."
        ) from error
