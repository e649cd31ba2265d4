"""A trained network as a model file (torch.export, ``.pt2``) with its descriptor."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from hpc_heatmap.errors import ModelError
from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.training.patches import CLASS_NAMES, Patches
from hpc_heatmap.training.settings import TrainingSettings
from hpc_heatmap.training.trainer import Colours, logits_of

__all__ = ["MAX_BATCH", "descriptor", "export_network", "load_exported"]

MAX_BATCH = 4096
#: Largest change of a logit that saving may bring.
_TOLERANCE = 1e-5


def descriptor(settings: TrainingSettings, colours: Colours, name: str) -> dict[str, Any]:
    """The model's descriptor, WSInfer's JSON."""
    found: dict[str, Any] = {
        "spec_version": "1.0",
        "architecture": settings.network.value,
        "num_classes": len(CLASS_NAMES),
        "class_names": list(CLASS_NAMES),
        "name": name,
        "patch_size_pixels": settings.window,
        "spacing_um_px": settings.requested_spacing,
        "transform": [
            {"name": "ToTensor"},
            {
                "name": "Normalize",
                "arguments": {"mean": list(colours.mean), "std": list(colours.std)},
            },
        ],
        "lesion_class": CLASS_NAMES[1],
    }
    return {key: value for key, value in found.items() if value is not None}


def export_network(
    network: Any, path: Path, settings: TrainingSettings, colours: Colours, check: Patches
) -> float:
    """Write a network with a free batch size; gives the largest change of a logit.

    Records of where each operation came from and the example input are left out: they name folders
    of the machine and double the size.

    Parameters
    ----------
    check
        Patches on which the file must give what the network gives.

    Raises
    ------
    ModelError
        It does not.
    """
    example = torch.zeros(4, 3, settings.window, settings.window)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with writing(path) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
            for node in program.graph.nodes:
                for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
                    node.meta.pop(key, None)
            program.example_inputs = None
            file = io.BytesIO()
            torch.export.save(program, file)
        partial.write_bytes(file.getvalue())
        exported = load_exported(partial)
        change = 0.0
        for n in (1, 7, 32):
            few = Patches(check.images[:n], check.labels[:n])
            mine = logits_of(network, few, settings.window, colours)
            theirs = logits_of(exported, few, settings.window, colours)
            change = max(change, float((mine - theirs).abs().max()))
        if not change < _TOLERANCE:
            raise ModelError(f"The saved network differs from the trained one by {change:.1e}.")
    return change


def load_exported(path: Path) -> Any:
    """A saved network."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(file).module()
