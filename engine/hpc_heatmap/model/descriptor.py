"""The model's descriptor: WSInfer's JSON (``spec_version`` 1.0), as its zoo ships it.

Two keys of ours may be added: ``lesion_class`` names the class whose probability is the score,
``activation`` (``softmax``, ``sigmoid`` or ``none``) replaces WSInfer's rule (softmax where there
is more than one output, else sigmoid).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from hpc_heatmap.errors import ModelError, brief

__all__ = ["Descriptor", "Transform", "find_descriptor", "read_descriptor"]

EXAMPLE = (
    '{"num_classes": 2, "class_names": ["normal", "tumor"], "patch_size_pixels": 224, '
    '"spacing_um_px": 0.5, "transform": [{"name": "ToTensor"}, {"name": "Normalize", '
    '"arguments": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}], "lesion_class": "tumor"}'
)


class Transform(BaseModel):
    """One step between pixels and the network: Resize, ToTensor or Normalize."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Literal["Resize", "ToTensor", "Normalize"]
    arguments: dict[str, Any] = Field(default_factory=dict)


class Descriptor(BaseModel):
    """How a network is fed and what comes out of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    spec_version: str = "1.0"
    name: str = ""
    architecture: str = ""
    num_classes: PositiveInt
    class_names: tuple[str, ...]
    #: Side of a window, read pixels.
    patch_size_pixels: int = Field(ge=8, le=4096)
    #: Micrometres per read pixel; without it slides are read at level 0.
    spacing_um_px: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    transform: tuple[Transform, ...] = (Transform(name="ToTensor"),)
    lesion_class: str | None = None
    activation: Literal["softmax", "sigmoid", "none"] | None = None

    @property
    def resize_px(self) -> int | None:
        """Side that a window is resized to before the network, where it is."""
        for step in self.transform:
            if step.name == "Resize":
                size = step.arguments.get("size")
                side, *others = size if isinstance(size, list) and size else [size]
                if type(side) is not int or side < 1 or any(other != side for other in others):
                    raise ModelError(f"Resize needs one whole number as its size, not {size!r}.")
                return side if side != self.patch_size_pixels else None
        return None

    def normalization(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Factor and offset, (3, 1, 1) each: tensor = pixel * factor + offset."""
        factor, offset = np.full(3, 1 / 255), np.zeros(3)
        for step in self.transform:
            if step.name == "Normalize":
                try:
                    mean = np.broadcast_to(np.asarray(step.arguments["mean"], float), 3)
                    std = np.broadcast_to(np.asarray(step.arguments["std"], float), 3)
                except (KeyError, ValueError, TypeError) as error:
                    raise ModelError(
                        "Normalize needs three numbers each in mean and std."
                    ) from error
                if (std <= 0).any():
                    raise ModelError(f"Normalize needs a std above zero, not {std.tolist()}.")
                factor, offset = factor / std, (offset - mean) / std
        shape = (3, 1, 1)
        return factor.astype(np.float32).reshape(shape), offset.astype(np.float32).reshape(shape)

    def prepare(
        self, pixels: npt.NDArray[np.uint8], *, channels_last: bool = False
    ) -> npt.NDArray[np.float32]:
        """Pixels (height, width, 3) as the network wants them: (3, height, width), normalised.

        In memory plane by plane or, with `channels_last`, pixel by pixel; the values are the same.
        """
        factor, offset = self.normalization()
        if channels_last:
            height, width, _ = pixels.shape
            rows = pixels.reshape(height, 3 * width).astype(np.float32)
            rows *= np.tile(factor.ravel(), width)
            rows += np.tile(offset.ravel(), width)
            return rows.reshape(height, width, 3).transpose(2, 0, 1)
        prepared = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
        prepared *= factor
        prepared += offset
        return prepared

    def resize(self, window: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize a window as torchvision does with PIL images: bilinear, antialiased."""
        side = self.resize_px
        if side is None:
            return window
        image = Image.fromarray(np.ascontiguousarray(window))
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))

    def lesion_index(self, asked: str | None = None) -> int:
        """Index of the class whose probability is the score.

        Raises
        ------
        ModelError
            Neither the descriptor nor the user names one of the classes.
        """
        name = asked or self.lesion_class
        if name is None and len(self.class_names) == 1:
            return 0
        choices = ", ".join(f"'{c}'" for c in self.class_names)
        if name is None:
            raise ModelError(
                f"Which class of the model is the lesion? Name one of {choices} with "
                '--lesion-class, or as "lesion_class" in the descriptor.'
            )
        if name not in self.class_names:
            raise ModelError(f"The model has no class '{name}': choose one of {choices}.")
        return self.class_names.index(name)


def find_descriptor(model: Path, config: Path | None = None) -> Path:
    """Where the descriptor of a model file is.

    In this order: the one given, the model file with the suffix ``.json``, ``config.json`` beside.

    Raises
    ------
    ModelError
        There is none.
    """
    candidates: Sequence[Path] = (
        [config] if config else [model.with_suffix(".json"), model.parent / "config.json"]
    )
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if config:
        raise ModelError(f"There is no model descriptor {config}: check --model-config.")
    raise ModelError(
        f"{model} has no descriptor: put {candidates[0].name} or config.json beside it, or give "
        f"--model-config; it looks like {EXAMPLE}."
    )


def read_descriptor(path: Path) -> Descriptor:
    """Read a descriptor.

    Raises
    ------
    ModelError
        It is not JSON, a key is missing, or a value cannot be.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path} is not a model descriptor in JSON ({brief(error)}).") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a model descriptor: it looks like {EXAMPLE}.")
    try:
        descriptor = Descriptor(**values)
        descriptor.normalization()
        _ = descriptor.resize_px
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{path} cannot be used as a model descriptor: {problems}.") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if len(descriptor.class_names) != descriptor.num_classes:
        raise ModelError(
            f"{path} says num_classes {descriptor.num_classes} but names "
            f"{len(descriptor.class_names)} classes: they must agree."
        )
    if len({*descriptor.class_names}) < descriptor.num_classes:
        raise ModelError(f"{path} names a class twice: {', '.join(descriptor.class_names)}.")
    return descriptor
