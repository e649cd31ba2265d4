"""Lesions of a heatmap by the method that is asked for."""

from __future__ import annotations

from hpc_heatmap.formats.heatmap import ScoreMap
from hpc_heatmap.formats.lesion_files import Lesion
from hpc_heatmap.settings import LesionMethod, RunSettings
from hpc_heatmap.stages.lesions import detect_lesions, kernel_radius
from hpc_heatmap.stages.suppression import detect_peaks, reach

__all__ = ["find_lesions", "threshold_of"]


def threshold_of(settings: RunSettings) -> float:
    """The threshold of the method: of a region's inside, or of a peak."""
    if settings.lesion_method is LesionMethod.REGIONS:
        return settings.threshold
    return settings.nms_threshold


def find_lesions(
    heatmap: ScoreMap, settings: RunSettings, window_px: int, stride_px: int
) -> list[Lesion]:
    """Find the lesions of a heatmap, the highest score first.

    Parameters
    ----------
    heatmap
        Scores on a lattice.
    settings
        The method and its threshold.
    window_px, stride_px
        Side of a window and step of the lattice, read pixels: sizes scale with them.
    """
    method, threshold = settings.lesion_method, threshold_of(settings)
    if method is LesionMethod.REGIONS:
        return detect_lesions(heatmap, threshold, kernel_radius(window_px, stride_px))
    before, after = reach(method, window_px, stride_px)
    columns_first = method is LesionMethod.NMS_NCRF
    return detect_peaks(heatmap, threshold, before, after, columns_first=columns_first)
