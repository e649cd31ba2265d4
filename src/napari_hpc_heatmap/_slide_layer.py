"""A slide in napari: an RGB layer over the levels of a slide."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import napari
import numpy as np
import numpy.typing as npt
from napari.layers import Image

from hpc_heatmap import Slide
from napari_hpc_heatmap._colour_profile import to_srgb
from napari_hpc_heatmap._main_thread import in_main_thread
from napari_hpc_heatmap._one_frame import OneFrame
from napari_hpc_heatmap._score_status import ScoreStatus
from napari_hpc_heatmap._screen import Screen
from napari_hpc_heatmap._slide_pyramid import SlidePyramid
from napari_hpc_heatmap._thumbnail import NearestThumbnail
from napari_hpc_heatmap._view_settings import decoding_threads, tile_cache, view_settings
from napari_hpc_heatmap._world import World

__all__ = ["SlideLayer", "open_pyramid", "open_slide"]


class SlideLayer(ScoreStatus, NearestThumbnail, OneFrame, Image):  # type: ignore[misc]
    """One slide: multiscale, RGB, in micrometres where the spacing is known.

    What is drawn waits for tiles no longer than a user should; ``layer.data`` gives exact pixels.

    Parameters
    ----------
    pyramid
        The slide's levels.
    """

    def __init__(self, pyramid: SlidePyramid, **options: Any) -> None:
        self.pyramid = pyramid
        self._screen: Screen | None = None
        self._factors = np.array([level.factor[::-1] for level in pyramid.levels])
        viewer = napari.current_viewer()
        if viewer is not None and not viewer.layers:
            # While napari makes its first layer, which it will show as a whole.
            pyramid.foresee()
        slide = pyramid.slide
        self.world = World(slide.spacing_um)
        given = {"name": slide.path.stem, "metadata": {"slide_path": str(slide.path)}}
        super().__init__(
            pyramid.levels,
            rgb=True,
            multiscale=True,
            **(self.world.place((1, 1), (0, 0)) | given | options),
        )

    @property
    def slide(self) -> Slide:
        """The slide."""
        return self.pyramid.slide

    @property
    def slide_path(self) -> Path:
        """The slide's file."""
        return self.pyramid.slide.path

    @property
    def is_complete(self) -> bool:
        """Whether all that is drawn is exact: no preview is left in it."""
        return not self.visible or self._screen is None or self._screen.is_complete

    @property
    def icc_to_srgb(self) -> bool:
        """Whether colours are shown as the slide's colour profile means them."""
        return self.pyramid.recolour is not None

    @icc_to_srgb.setter
    def icc_to_srgb(self, value: bool) -> None:
        profile = self.slide.icc_profile if value else None
        if self.icc_to_srgb == (profile is not None):
            return
        self.pyramid.recolour = None if profile is None else to_srgb(profile)
        self._reset_thumbnail_level_data()
        self.refresh()

    @property
    def _type_string(self) -> str:
        return "image"

    @property
    def downsample_factors(self) -> npt.NDArray[np.float64]:
        """Exact factors: napari's own, from the sizes of levels, are off by rounded sizes."""
        return self._factors

    def refresh(self, *args: Any, **options: Any) -> None:
        """Draw anew with what can be decoded in time; the rest follows."""
        if self._screen is None:
            self._screen = _screen_of(self)
        if self._screen is None:
            super().refresh(*args, **options)
            return
        with self._screen:
            super().refresh(*args, **options)


def _screen_of(layer: SlideLayer) -> Screen | None:
    """A screen that draws a layer again when more has come; None without an event loop."""
    reference = weakref.ref(layer)

    def show_more() -> None:
        if (alive := reference()) is None:
            return
        if new := alive.pyramid.coarsest is None:
            alive._reset_thumbnail_level_data()
        alive.refresh(extent=False, thumbnail=new)

    announce = in_main_thread(show_more)
    return None if announce is None else Screen(announce)


def open_slide(path: str | Path, *, spacing_um: float | None = None, **options: Any) -> SlideLayer:
    """Open a slide as a layer.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.
    spacing_um
        Micrometres per level-0 pixel; wins over what the slide says.
    options
        More options of the layer.

    Raises
    ------
    SlideError
        OpenSlide does not open the file.
    """
    return SlideLayer(open_pyramid(path, spacing_um=spacing_um), **options)


def open_pyramid(path: str | Path, *, spacing_um: float | None = None) -> SlidePyramid:
    """Open a slide, in the colours that the user prefers, and read its coarsest level.

    Any thread may do it, and wait for a disk; a layer is made of it in no time.
    """
    slide = Slide(path, spacing_um=spacing_um)
    profile = slide.icc_profile if view_settings().icc_to_srgb else None
    recolour = None if profile is None else to_srgb(profile)
    pyramid = SlidePyramid(slide, tile_cache(), decoding_threads(), recolour)
    _ = pyramid.coarsest
    return pyramid
