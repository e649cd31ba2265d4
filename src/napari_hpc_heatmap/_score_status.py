"""The score under the cursor in the status bar, whichever layer of the slide is selected."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from hpc_heatmap.errors import HpcHeatmapError

if TYPE_CHECKING:
    from napari_hpc_heatmap._overlay import HeatmapLayer

__all__ = ["ScoreStatus", "overlays_of", "remember_overlay", "same_slide"]

_overlays: weakref.WeakSet[HeatmapLayer] = weakref.WeakSet()


def remember_overlay(layer: HeatmapLayer) -> None:
    """Count a heatmap among those of its slide."""
    _overlays.add(layer)


def overlays_of(slide_path: str | Path) -> list[HeatmapLayer]:
    """Heatmaps of a slide that exist in this process and whose file was not closed."""
    return [
        layer
        for layer in _overlays
        if Path(layer.scores.slide_path) == Path(slide_path)
        and not getattr(layer.scores, "closed", False)
    ]


def same_slide(one: Any, other: Any) -> bool:
    """Whether two layers belong to one slide."""
    paths = [layer.metadata.get("slide_path") for layer in (one, other)]
    return None not in paths and Path(paths[0]) == Path(paths[1])


class ScoreStatus:
    """Mixed into the layers of a slide, before napari's class."""

    def get_status(
        self, position: npt.ArrayLike | None = None, *, world: bool = False, **options: Any
    ) -> dict[str, str]:
        """Napari's status with the scores of all visible heatmaps of the slide."""
        status: dict[str, str] = super().get_status(position, world=world, **options)  # type: ignore[misc]
        path = self.metadata.get("slide_path")  # type: ignore[attr-defined]
        if position is None or path is None:
            return status
        place = position if world else self.data_to_world(position)  # type: ignore[attr-defined]
        overlays = [layer for layer in overlays_of(path) if layer.visible]
        said = [f"{layer.name} {_score(layer, place)}" for layer in overlays]
        if said:
            status["value"] = ", ".join(said)
            status["coordinates"] = f"{status['coords']}: {status['value']}"
        return status


def _score(layer: HeatmapLayer, position: npt.ArrayLike) -> str:
    try:
        score = layer.score_at(position)
    except (HpcHeatmapError, OSError, ValueError, KeyError):
        # The file was closed meanwhile, or its disk is gone.
        return "unreachable"
    return "no score" if math.isnan(score) else f"{score:.3f}"
