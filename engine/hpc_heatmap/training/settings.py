"""What can be chosen of a training, written once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, PositiveInt

from hpc_heatmap.settings import Settings

__all__ = ["NetworkName", "Precision", "TrainingSettings"]

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class NetworkName(StrEnum):
    """Networks that are built in."""

    GOOGLENET = "googlenet"
    PATCH_RESNET = "patch-resnet"


class Precision(StrEnum):
    """Arithmetic of the training's forward pass; weights are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class TrainingSettings(Settings):
    """What is trained and how. Equal settings and patches give equal weights on one machine."""

    network: NetworkName = NetworkName.GOOGLENET
    """'googlenet' (Inception v1, 6 million weights, the paper's) or 'patch-resnet' (a small
    residual network, 0.2 million weights)."""

    window: int = Field(default=224, ge=32, le=1024)
    """Side of the network's input in pixels."""

    requested_spacing: PositiveFloat | None = None
    """Micrometres per pixel of the patches; slides are read at it. Default: level 0."""

    spacing: PositiveFloat | None = None
    """Micrometres per pixel of the slides' level 0; overrides what they say."""

    patch: int = Field(default=256, ge=32, le=2048)
    """Side in pixels of the patches that are cut from slides."""

    patches_per_slide: PositiveInt = 500
    """Patches of each class that are cut from a slide at most."""

    tissue_method: str = "otsu-hs"
    """How tissue is found, as in `run`."""

    min_tissue_fraction: Fraction = 0.5
    """Smallest share of tissue in a patch that is cut from a slide."""

    mask_level: int = Field(default=5, ge=0, le=12)
    """Level of the truth: one pixel of a mask is 2^LEVEL level-0 pixels."""

    hard_negative_score: PositiveFloat = 0.5
    """Smallest score of a run that makes normal tissue a hard negative."""

    hard_negatives_per_slide: PositiveInt = 500
    """Hard negatives that are taken from a slide at most, those with the highest scores."""

    valid_fraction: float = Field(default=0.2, gt=0, le=0.5)
    """Share held out for validation where no validation patches are given: of the slides, or of
    the patches of a folder."""

    hsv_noise: float = Field(default=20, ge=0, le=90)
    """Largest random change of hue (0 to 180), saturation and value (0 to 255)."""

    stain_noise: Fraction = 0
    """Largest relative change of the density of haematoxylin and eosin."""

    shift: int = Field(default=0, ge=0, le=64)
    """Pixels that a random window may reach beyond its patch, whose border is repeated."""

    epochs: PositiveInt = 20
    """Passes over the patches; the one with the highest validation AUC is kept."""

    batch: int = Field(default=64, ge=2)
    """Patches of one step."""

    learning_rate: PositiveFloat = 2e-3
    """Peak of the one-cycle schedule."""

    weight_decay: Fraction = 0.05
    """AdamW's, of kernels and matrices."""

    label_smoothing: Fraction = 0.05
    """Share of each label that is spread over both classes."""

    average_decay: Fraction = 0.995
    """Decay of the running average of the weights, which is what is kept."""

    precision: Precision = Precision.FLOAT32
    """'bfloat16' is faster on processors that have it, and slower on others."""

    seed: int = Field(default=1, ge=0, lt=2**31)
    """Of the first weights, the order of patches, and all that is random."""

    threads: PositiveInt = 1
    """Threads of torch. Another number gives other last digits."""
