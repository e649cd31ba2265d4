"""Colours as the scanner's profile means them, for viewing alone: scores come from raw pixels."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

__all__ = ["to_srgb"]

RGB = npt.NDArray[np.uint8]


def to_srgb(icc_profile: bytes) -> Callable[[RGB], RGB]:
    """Make a function from pixels in a profile's colours to sRGB, shape (h, w, 3) each.

    Parameters
    ----------
    icc_profile
        The profile, as the slide holds it.

    Raises
    ------
    ValueError
        It is no profile of RGB pixels.
    """

    def make() -> ImageCms.ImageCmsTransform:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")

    # A transform has memory of its own: each thread gets one.
    transforms = threading.local()

    def convert(pixels: RGB) -> RGB:
        if not hasattr(transforms, "value"):
            transforms.value = make()
        converted = ImageCms.applyTransform(Image.fromarray(pixels), transforms.value)
        return np.asarray(converted)

    try:
        transforms.value = make()
    except (OSError, ImageCms.PyCMSError) as error:
        raise ValueError(f"the colour profile cannot be used: {error}") from error
    return convert
