"""What a user can choose, written once: the CLI's options and the GUI's form are made from here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from hpc_heatmap.errors import SettingsError

__all__ = ["GroupLayout", "LaunchSettings", "RunSettings", "settings_error"]


PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GroupLayout(StrEnum):
    """How a group's pixels are stored."""

    TILES = "tiles"
    PATCHES = "patches"


class Settings(BaseModel):
    """Frozen settings that refuse what they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def settings_error(error: ValidationError) -> SettingsError:
    """One sentence for all that a validation found, with settings named as their options."""
    problems = "; ".join(
        f"--{'.'.join(map(str, e['loc'])).replace('_', '-')} {e['input']}: {e['msg']}"
        for e in error.errors()
    )
    return SettingsError(f"These settings cannot be used: {problems}.")


class RunSettings(Settings):
    """What is computed. Two runs with equal settings, model and slides give equal heatmaps."""

    stride: PositiveInt | None = None
    """Distance of scores in read pixels, from 1 to the model's window. Default: a quarter of the
    window. The paper uses 16, 64, 128 and 224."""

    spacing: PositiveFloat | None = None
    """Micrometres per pixel of the slides' level 0; overrides what they say."""

    requested_spacing: PositiveFloat | None = None
    """Micrometres per pixel to run the model at; overrides what its descriptor says."""

    lesion_class: str | None = None
    """The class whose probability is the score, where the descriptor does not say."""

    tissue_method: str = "otsu-hs"
    """How tissue is found: 'otsu-hs' (the paper's), 'otsu-s' or 'all'."""

    min_tissue_fraction: float = Field(default=0.05, ge=0, le=1)
    """Smallest share of tissue that makes a cell a tissue cell."""

    patches_per_group: PositiveInt | None = None
    """Largest number of patches in a group, N_p. Default: 64, or from --group-memory."""

    group_memory: PositiveFloat | None = None
    """Memory in MiB that the patches of a group may take, M: N_p = floor(M / S)."""

    group_layout: GroupLayout = GroupLayout.TILES
    """'tiles' stores each pixel once, 'patches' is the paper's layout."""

    batch_size: PositiveInt = 32
    """Windows that the model scores at once."""

    threshold: float = Field(default=0.9, gt=0, lt=1)
    """Smallest score of a lesion's inside."""

    def n_p(self, patch_bytes: int) -> int:
        """Patches per group: given, or N_p = floor(M / S) (the paper, section III-B).

        Raises
        ------
        SettingsError
            The memory does not hold one patch.
        """
        if self.patches_per_group is not None:
            return self.patches_per_group
        if self.group_memory is None:
            return 64
        patches = int(self.group_memory * 2**20 // patch_bytes)
        if patches < 1:
            raise SettingsError(
                f"A group memory of {self.group_memory:g} MiB holds no patch: one takes "
                f"{patch_bytes / 2**20:.2f} MiB."
            )
        return patches


class LaunchSettings(Settings):
    """Where and how it is computed. Nothing here changes a score."""

    cluster: Literal["local"] = "local"
    """Where tasks run: 'local'."""

    workers: PositiveInt | None = None
    """Processes at once, one core each. Default: the cores that this process may use."""

    task_minutes: PositiveFloat = 2.0
    """How long a scoring task should last: groups are packed to this length."""

    retries: int = Field(default=2, ge=0)
    """How often a task that ended without a reason of its own is tried again."""
