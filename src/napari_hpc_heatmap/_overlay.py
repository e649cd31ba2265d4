"""Heatmaps in napari: lazy overlays, exactly on the pixels that were scored."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.events import Event

from napari_hpc_heatmap._contours import ContourLevel
from napari_hpc_heatmap._heatmap_colours import COLOURS, heatmap_colormap, unlike
from napari_hpc_heatmap._one_frame import OneFrame
from napari_hpc_heatmap._score_status import ScoreStatus, overlays_of, remember_overlay
from napari_hpc_heatmap._thumbnail import NearestThumbnail
from napari_hpc_heatmap._world import World

__all__ = ["HeatmapLayer", "HeatmapSource", "Look"]

DEFAULT_THRESHOLD = 0.5
#: Contours are interpolated until a sample is as small as this, level-0 pixels.
_FINEST_CONTOUR_PX = 1.0


class HeatmapSource(Protocol):
    """What an overlay shows: a finished heatmap or one that fills in."""

    slide_path: str
    origin_px: tuple[float, float]
    step_px: tuple[float, float]

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        ...

    def dataset(self, level: int = 0) -> Any:
        """A level as an array-like, (rows, columns); each halves the one before."""
        ...

    def at(self, x_px: float, y_px: float) -> float:
        """Score nearest to a level-0 position, NaN where there is none."""
        ...


class Look(StrEnum):
    """How an overlay shows scores."""

    FILL = "fill"
    CONTOUR = "contour"


class HeatmapLayer(ScoreStatus, NearestThumbnail, OneFrame, Image):  # type: ignore[misc]
    """The heatmap of one slide.

    Parameters
    ----------
    scores
        The scores.
    world
        Frame of the slide.
    threshold
        The lowest score that is shown.
    colour
        One of the colours; by default one that no other heatmap of the slide has.
    look
        Areas or lines.
    """

    # napari's own.
    data: Any
    corner_pixels: npt.NDArray[np.int_]
    _data_level: int

    def __init__(
        self,
        scores: HeatmapSource,
        world: World,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        colour: str | None = None,
        look: Look = Look.FILL,
        **options: Any,
    ) -> None:
        self.scores = scores
        self.world = world
        self._threshold = threshold
        self._look = look
        others = {layer.colour for layer in overlays_of(scores.slide_path)}
        self._colour = colour or unlike(others)
        levels, place = self._arrange()
        metadata = {"slide_path": scores.slide_path} | options.pop("metadata", {})
        super().__init__(
            levels,
            multiscale=True,
            rgb=False,
            contrast_limits=(0.0, 1.0),
            colormap=self._colours(),
            blending="translucent_no_depth",
            interpolation2d="nearest",
            metadata=metadata,
            **(place | options),
        )
        self.events.add(look=Event, threshold=Event, colour=Event)
        remember_overlay(self)

    def _arrange(self) -> tuple[list[Any], dict[str, Any]]:
        """Levels, finest first, and the place of the finest."""
        source = self.scores
        levels = [source.dataset(level) for level in range(source.n_levels)]
        zoom = 1
        if self._look is Look.CONTOUR:
            finer: list[Any] = []
            while min(source.step_px) / (2 * zoom) >= _FINEST_CONTOUR_PX:
                zoom *= 2
                finer.insert(0, ContourLevel(levels[0], self._threshold, zoom))
            levels = finer + [ContourLevel(level, self._threshold) for level in levels]
        self._factors = np.array([(2.0**n, 2.0**n) for n in range(len(levels))])
        step = (source.step_px[0] / zoom, source.step_px[1] / zoom)
        # The first of `zoom` samples in place of one lies half of them before it.
        origin = (
            source.origin_px[0] - (source.step_px[0] - step[0]) / 2,
            source.origin_px[1] - (source.step_px[1] - step[1]) / 2,
        )
        return levels, self.world.place(step, origin)

    def _colours(self) -> Any:
        return heatmap_colormap(self._colour, self._threshold, opaque=self._look is Look.CONTOUR)

    def show_scores(self, scores: HeatmapSource) -> None:
        """Show other scores in place of these."""
        self.scores = scores
        self._rearrange()

    def reload(self) -> None:
        """Draw anew, after the scores have changed."""
        self._reset_thumbnail_level_data()
        self.refresh()

    def _rearrange(self) -> None:
        levels, place = self._arrange()
        shapes = [level.shape for level in levels]
        seen = self._data_level, self.corner_pixels
        stays = shapes == [level.shape for level in self.data]
        with self._block_refresh():
            self.data = levels
            self.scale, self.translate = place["scale"], place["translate"]
        # napari goes to the coarsest level and forgets which part of it that is.
        coarsest = len(levels) - 1, np.array([(0, 0), np.subtract(shapes[-1], 1)])
        self._data_level, self.corner_pixels = seen if stays else coarsest
        self.refresh()

    @property
    def threshold(self) -> float:
        """The lowest score that is shown; the contour's score."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._threshold = float(value)
        self.colormap = self._colours()
        if self._look is Look.CONTOUR:
            self._rearrange()
        self.events.threshold(value=self._threshold)

    @property
    def colour(self) -> str:
        """One of the colours."""
        return self._colour

    @colour.setter
    def colour(self, value: str) -> None:
        if value not in COLOURS:
            raise ValueError(f"There is no colour {value!r}: choose one of {', '.join(COLOURS)}.")
        self._colour = value
        self.colormap = self._colours()
        self.events.colour(value=value)

    @property
    def look(self) -> Look:
        """Areas or lines."""
        return self._look

    @look.setter
    def look(self, value: Look | str) -> None:
        if self._look is Look(value):
            return
        self._look = Look(value)
        self.colormap = self._colours()
        self._rearrange()
        self.events.look(value=self._look)

    @property
    def _type_string(self) -> str:
        return "image"

    @property
    def downsample_factors(self) -> npt.NDArray[np.float64]:
        """Exact factors: napari's own, from the sizes of levels, are off by rounded sizes."""
        return self._factors

    def score_at(self, position: npt.ArrayLike) -> float:
        """Score nearest to a position in the world, (y, x); NaN where there is none."""
        x_px, y_px = self.world.to_px(np.asarray(position, float)[-2:])
        return self.scores.at(float(x_px), float(y_px))
