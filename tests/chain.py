"""The engine's stages one after another in this process, without a run around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.formats.score_file import open_scores, pack_scores, remove_packed, write_scores
from hpc_heatmap.model import Classifier
from hpc_heatmap.settings import RunSettings
from hpc_heatmap.stages.grouping import GroupingInput, group_slide
from hpc_heatmap.stages.scoring import score_group
from hpc_heatmap.stages.stitching import stitch

REAL_SLIDES = Path(__file__).parents[2] / "shared" / "data" / "slides"


def real_slide(kind: str) -> Path:
    """Return CMU-1-Small-Region as "svs" or "dicom"; skip the test where it is not there."""
    name = "*.svs" if kind == "svs" else "*_dicom/*.dcm"
    found = sorted(REAL_SLIDES.glob(f"CMU-1-Small-Region{name}"))
    if not found:
        pytest.skip(f"the real slide (CMU-1-Small-Region, {kind}) is not in {REAL_SLIDES}")
    return found[0]


def group(
    slide: Path, folder: Path, window_px: int, stride_px: int, spacing_um: float | None, **settings
) -> SlidePaths:
    """Write the groups of a slide into a folder."""
    paths = SlidePaths(folder)
    chosen = RunSettings(**settings)
    group_slide(GroupingInput("slide", str(slide), window_px, stride_px, spacing_um, chosen), paths)
    return paths


def score_and_stitch(paths: SlidePaths, classifier: Classifier, stride_px: int) -> Heatmap:
    """Score the groups of a folder at a stride and open the stitched heatmap."""
    with open_groups(paths.groups) as groups:
        geometry = groups.header.geometry(stride_px)
        for index in range(groups.header.n_groups):
            scores, _ = score_group(groups.read(index), geometry, classifier)
            write_scores(paths.group_scores(index), scores)
        pack_scores(paths, groups.header.n_groups, groups.header.n_patches)
    with open_scores(paths.slide_scores) as packed:
        stitch(paths.heatmap, geometry, packed, {"window_px": geometry.window_px})
    remove_packed(paths)
    paths.slide_scores.unlink()
    return Heatmap(paths.heatmap)


def heatmap_of(
    slide: Path, folder: Path, classifier: Classifier, stride_px: int, **settings
) -> Heatmap:
    """Group, score and stitch a slide; give its heatmap, opened."""
    spacing_um = classifier.requested_spacing_um
    paths = group(slide, folder, classifier.window_px, stride_px, spacing_um, **settings)
    return score_and_stitch(paths, classifier, stride_px)
