"""What the tests of models look at."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
from chain import real_slide


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Tissue of the real slide, 512 x 512."""
    with openslide.OpenSlide(real_slide("svs")) as slide:
        return np.asarray(slide.read_region((900, 1300), 0, (512, 512)).convert("RGB"))
