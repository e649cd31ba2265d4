"""Patches of all sources, put together: training and validation, with a line on each origin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpc_heatmap.errors import TrainingError
from hpc_heatmap.training.patch_files import find_patch_files, read_patch_files
from hpc_heatmap.training.patches import Patches, join, split_by_patch
from hpc_heatmap.training.settings import TrainingSettings
from hpc_heatmap.training.slides import SlideCutter
from hpc_heatmap.training.sources import Progress, TrainingSources

__all__ = ["Gathered", "gather"]


@dataclass(frozen=True)
class Gathered:
    """Patches of both splits, and what the model card says of them."""

    train: Patches
    valid: Patches
    split: str
    origins: list[str]


def gather(
    sources: TrainingSources,
    settings: TrainingSettings,
    on_progress: Progress = lambda what, done, total: None,
) -> Gathered:
    """Read and cut all patches; the same sources and settings give the same, in the same order.

    Raises
    ------
    TrainingError
        The patches cannot be trained on.
    SlideError
        A slide cannot be used.
    EvaluationError
        Outlines or masks cannot be used.
    """
    sources.check()
    train: list[Patches] = []
    valid: list[Patches] = []
    origins: list[str] = []
    seen: set[bytes] = set()

    def read(path: Path, parts: list[Patches]) -> None:
        parts.append(
            read_patch_files(path, seen, lambda n: on_progress(f"Reading {path.name}", n, None))
        )
        origins.append(f"{len(parts[-1]):,} patches from `{path.name}`")

    for source in sources.patches:
        files = find_patch_files(source)
        read(files.train, train)
        if files.valid is not None:
            read(files.valid, valid)
    for source in sources.valid_patches:
        read(find_patch_files(source).train, valid)
    splits = ["given apart from training"] if valid else []
    if sources.slides or sources.hard_negatives:
        cutter = SlideCutter(sources, settings, hold_out=not valid, on_progress=on_progress)
        if sources.slides:
            cut = cutter.cut()
            train += cut.train
            valid += cut.valid
            origins.append(cut.origin)
            splits += cut.splits
        if sources.hard_negatives is not None:
            mined, origin = cutter.mine(sources.hard_negatives)
            train.append(mined)
            origins.append(origin)
    if not any(map(len, valid)):
        everything = join(train)
        check_patches(everything, settings, "training")
        first, second = split_by_patch(everything, settings.valid_fraction, settings.seed)
        splits = ["held out at random patch by patch, so that patches of one slide may be on both "
                  "sides and the figures flatter"]  # fmt: skip
    else:
        first, second = join(train), join(valid)
    check_patches(first, settings, "training")
    check_patches(second, settings, "validation")
    return Gathered(first, second, "; ".join(splits), origins)


def check_patches(patches: Patches, settings: TrainingSettings, split: str) -> None:
    """Refuse patches of one class, too few, or smaller than the window.

    Raises
    ------
    TrainingError
        They are.
    """
    n_normal, n_tumour = patches.counts
    if min(n_normal, n_tumour) < 2:
        raise TrainingError(
            f"The {split} patches are {n_normal} normal and {n_tumour} tumour: both classes are "
            "needed, with two patches each at least."
        )
    if patches.side_px < settings.window:
        raise TrainingError(
            f"The {split} patches have a side of {patches.side_px} px, smaller than the window of "
            f"{settings.window} px: give --window {patches.side_px} or less, or larger patches."
        )
