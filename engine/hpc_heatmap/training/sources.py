"""What a training learns from."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpc_heatmap.errors import TrainingError
from hpc_heatmap.training.settings import TrainingSettings

__all__ = ["Progress", "TrainingSources"]

#: Called with what is done, how much of it is done, and of how much (None where unknown).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class TrainingSources:
    """What a training learns from.

    Attributes
    ----------
    patches
        Folders and tar files of patches in folders by class; a folder with train and valid (folders
        or tar files) brings its own validation.
    valid_patches
        The same, for validation alone.
    slides
        Slides that patches are cut from.
    outlines
        Truth on the slides: a folder of masks or outlines named like them, or a tar archive of
        outlines. A slide without is normal.
    hard_negatives
        A finished run: normal tissue that its model took for tumour is learnt as normal.
    """

    patches: tuple[Path, ...] = ()
    valid_patches: tuple[Path, ...] = ()
    slides: tuple[Path, ...] = ()
    outlines: Path | None = None
    hard_negatives: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be a training, before any file is read.

        Raises
        ------
        TrainingError
            Nothing to learn from, or slides without outlines.
        """
        if not self.patches and not self.slides:
            raise TrainingError(
                "There are no patches to train on: give --patches, or --slides with --outlines."
            )
        if (self.slides or self.hard_negatives) and self.outlines is None:
            raise TrainingError(
                "Slides need the truth about them: give --outlines, a folder of masks or outlines "
                "named like the slides."
            )

    def command(self, out: Path, settings: TrainingSettings) -> str:
        """The command that repeats a training."""
        words = ["hpc-heatmap", "train", "--out", str(out)]
        for name, value in vars(self).items():
            paths = value if isinstance(value, tuple) else [value]
            if value:
                words += [f"--{name.replace('_', '-')}", *map(str, paths)]
        for name, value in settings.model_dump(mode="json", exclude_defaults=True).items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join(words)
