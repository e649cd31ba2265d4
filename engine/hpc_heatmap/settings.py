"""What a user can choose, written once: the CLI's options and the GUI's form are made from here."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
)

from hpc_heatmap.errors import SettingsError

__all__ = [
    "Cluster",
    "ClusterProfile",
    "GroupLayout",
    "LaunchSettings",
    "LesionMethod",
    "MasterPlace",
    "RunSettings",
    "StainMethod",
    "StainPer",
    "settings_error",
]


#: Patches of a group by default at most, and into how many groups smaller slides are cut.
_MOST_PATCHES, _GROUPS = 64, 16

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GroupLayout(StrEnum):
    """How a group's pixels are stored."""

    AUTO = "auto"
    SLIDE_TILES = "slide-tiles"
    TILES = "tiles"
    PATCHES = "patches"


class StainMethod(StrEnum):
    """How stains are normalised."""

    NONE = "none"
    VAHADANE = "vahadane"
    MACENKO = "macenko"
    REINHARD = "reinhard"


class StainPer(StrEnum):
    """What gets a stain estimate of its own."""

    SLIDE = "slide"
    PATCH = "patch"


class LesionMethod(StrEnum):
    """How lesions are found on a heatmap."""

    REGIONS = "regions"
    NMS_MONAI = "nms-monai"
    NMS_NCRF = "nms-ncrf"


class Settings(BaseModel):
    """Frozen settings that refuse what they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def settings_error(error: ValidationError, file: Path | None = None) -> SettingsError:
    """One sentence for all that a validation found, with settings named as their options, or as
    the keys of a file.
    """

    def name(location: tuple[int | str, ...]) -> str:
        joined = ".".join(map(str, location))
        return f"{joined} =" if file else f"--{joined.replace('_', '-')}"

    problems = "; ".join(f"{name(e['loc'])} {e['input']}: {e['msg']}" for e in error.errors())
    if file is not None:
        return SettingsError(f"{file} cannot be used: {problems}.")
    return SettingsError(f"These settings cannot be used: {problems}.")


class RunSettings(Settings):
    """What is computed. Two runs with equal settings, model and slides give equal heatmaps."""

    stride: PositiveInt | None = None
    """Distance of scores in read pixels, from 1 to the model's window. Default: a quarter of the
    window. The paper uses 16, 64, 128 and 224."""

    adaptive: bool = False
    """Score at a coarse stride first, and at --stride only where a lesion could be."""

    coarse_stride: PositiveInt | None = None
    """Stride of the first pass of --adaptive, a multiple of --stride. Default: the largest one up
    to half a window."""

    adaptive_margin: float = Field(default=0.4, ge=0, le=1)
    """With --adaptive, what is around a coarse score is scored at --stride if the score reaches
    --threshold, or if it and a neighbour of it are at most this far below."""

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
    """Largest number of patches in a group, N_p. Default: from --group-memory, or 64, and less on a
    slide of fewer than 1,024 patches: a 16th of them, so that cores can share it. With --adaptive
    always 64, as neighbours are looked at within a group."""

    group_memory: PositiveFloat | None = None
    """Memory in MiB that the patches of a group may take, M: N_p = floor(M / S)."""

    group_layout: GroupLayout = GroupLayout.AUTO
    """'slide-tiles' stores the slide's own JPEG tiles untouched, where it has such and is not
    resampled; 'tiles' stores each pixel once, 'patches' is the paper's layout. 'auto' takes
    'slide-tiles' where it is possible and pays, else 'tiles'."""

    stain: StainMethod = StainMethod.NONE
    """Stain normalization before scoring: 'vahadane' (the paper's), 'macenko', 'reinhard' or
    'none'."""

    stain_target: Path | None = None
    """What colours are changed to: a picture of tissue as the model knows it, or a JSON of
    `hpc-heatmap stain`."""

    stain_per: StainPer = StainPer.SLIDE
    """Stains are estimated once a 'slide', or for each 'patch' (the paper's)."""

    batch_size: PositiveInt = 32
    """Windows that the model scores at once."""

    tolerance: float | None = Field(default=None, gt=1e-5, lt=0.5)
    """How far a score may be from the model's own, measured on windows of the run's slides, so that
    the engine may compute in coarser numbers. Default: 1e-5, which no such way reaches."""

    threshold: float = Field(default=0.9, gt=0, lt=1)
    """Smallest score of a lesion's inside."""

    lesion_method: LesionMethod = LesionMethod.REGIONS
    """How lesions are found: 'regions' (the paper's), or as peaks by non-maximum suppression,
    'nms-monai' or 'nms-ncrf'."""

    nms_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Non-maximum suppression: peaks are above it."""

    def coarse_stride_px(self, stride_px: int, window_px: int) -> int | None:
        """Stride of the first pass of an adaptive run; None for other runs.

        Raises
        ------
        SettingsError
            It does not fit the run's stride and window.
        """
        if not self.adaptive:
            if self.coarse_stride is not None:
                raise SettingsError("--coarse-stride is for --adaptive runs: give both or neither.")
            return None
        coarse = self.coarse_stride or max(1, window_px // 2 // stride_px) * stride_px
        if coarse % stride_px or not stride_px < coarse <= window_px:
            multiples = range(2 * stride_px, window_px + 1, stride_px)
            choice = ", ".join(map(str, multiples[:8])) or "none at this --stride"
            raise SettingsError(
                f"A coarse stride of {coarse} px does not fit --stride {stride_px}: it must be a "
                f"larger multiple of it, up to the window of {window_px} px ({choice})."
            )
        return coarse

    def n_p(self, patch_bytes: int, n_patches: int | None = None) -> int:
        """Patches per group: given, N_p = floor(M / S) (the paper, section III-B), or the default.

        Parameters
        ----------
        patch_bytes
            Of one patch, as it is scored, S.
        n_patches
            Patches of the slide, T_p; None for one of many.

        Raises
        ------
        SettingsError
            The memory does not hold one patch.
        """
        if self.patches_per_group is not None:
            return self.patches_per_group
        if self.group_memory is None:
            if n_patches is None or self.adaptive:
                return _MOST_PATCHES
            return min(_MOST_PATCHES, max(1, -(-n_patches // _GROUPS)))
        patches = int(self.group_memory * 2**20 // patch_bytes)
        if patches < 1:
            raise SettingsError(
                f"A group memory of {self.group_memory:g} MiB holds no patch: one takes "
                f"{patch_bytes / 2**20:.2f} MiB."
            )
        return patches


class Cluster(StrEnum):
    """Where tasks run."""

    LOCAL = "local"
    SLURM = "slurm"
    SGE = "sge"


class MasterPlace(StrEnum):
    """Where the master of a cluster run lives."""

    CLUSTER = "cluster"
    LOGIN = "login"
    HERE = "here"


class ClusterProfile(Settings):
    """What a site needs, kept in a small TOML file. Names are ours, the same for all schedulers."""

    cluster: Cluster = Cluster.SLURM
    """The scheduler: 'slurm' or 'sge' (Son of Grid Engine and its kin)."""

    partition: str | None = None
    """Slurm's partition, Grid Engine's queue."""

    account: str | None = None
    """Slurm's account, Grid Engine's project."""

    qos: str | None = None
    """Slurm's quality of service."""

    parallel_environment: str = "thread"
    """Grid Engine's parallel environment for the cores of one task."""

    cores_per_task: PositiveInt | None = None
    """Cores of one task. Default: all but one of a node, as in the paper."""

    memory_gb: PositiveFloat = 3.0
    """Memory of one task."""

    memory_resource: str | None = None
    """Grid Engine's name of the memory resource, such as 'h_vmem'; none is asked for without it."""

    time_minutes: PositiveInt = 240
    """Time limit of one task."""

    gpus: int = Field(default=0, ge=0)
    """GPUs of one task."""

    modules: tuple[str, ...] = ()
    """Environment modules to load first."""

    setup: tuple[str, ...] = ()
    """Lines of shell to run before the program."""

    scratch: str | None = None
    """Folder on a disk of the node, such as '$TMPDIR' or '/scratch'. A scoring task copies its
    groups there first and removes them in the end; the model stays for further tasks."""

    extra: dict[str, str] = Field(default_factory=dict)
    """More options of the scheduler, by its own names, such as {constraint = "avx512"}."""

    throttle: PositiveInt | None = None
    """Tasks of one array that run at once. Default: as many as the scheduler starts."""

    max_array: PositiveInt | None = None
    """Tasks in one array at most. Default: the scheduler's own limit."""

    max_queued: PositiveInt = 1000
    """Tasks that wait or run at once at most; further ones are submitted as these end."""

    master: MasterPlace = MasterPlace.CLUSTER
    """Where the master lives: 'cluster' (a job of its own), 'login' (a process that outlives the
    terminal, where nodes may not submit) or 'here' (this process)."""

    poll_s: PositiveFloat = 3.0
    """Seconds between looks at the queue."""

    @field_validator("cluster")
    @classmethod
    def _is_a_cluster(cls, value: Cluster) -> Cluster:
        if value is Cluster.LOCAL:
            raise ValueError("a profile is for 'slurm' or 'sge'; this machine needs none")
        return value


class LaunchSettings(Settings):
    """Where and how it is computed. Nothing here changes a score."""

    cluster: Cluster = Cluster.LOCAL
    """Where tasks run: 'local', 'slurm' or 'sge'."""

    profile: Path | None = None
    """TOML file with what the site needs; `hpc-heatmap doctor --profile FILE` checks it."""

    def over(self, last: LaunchSettings) -> LaunchSettings:
        """What was given here, and for the rest what was given the last time."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if "cluster" in given and "profile" not in given:
            given["profile"] = None
        if "profile" in given and "cluster" not in given:
            # The profile says which.
            given["cluster"] = Cluster.LOCAL
        return last.model_copy(update=given)

    @property
    def is_local(self) -> bool:
        """Whether tasks are processes of this machine."""
        return self.cluster is Cluster.LOCAL and self.profile is None

    workers: PositiveInt | None = None
    """Processes at once, one core each. Default: the cores that this process may use."""

    task_minutes: PositiveFloat = 2.0
    """How long a scoring task should last: groups are packed to this length."""

    retries: int = Field(default=2, ge=0)
    """How often a task that ended without a reason of its own is tried again."""
