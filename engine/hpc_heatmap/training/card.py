"""The model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from torch.nn import functional

from hpc_heatmap.evaluation.auc import Auc, auc
from hpc_heatmap.training.export import MAX_BATCH, load_exported
from hpc_heatmap.training.networks import count_weights
from hpc_heatmap.training.patches import Patches
from hpc_heatmap.training.trainer import Trainer, logits_of, tumour_scores

__all__ = ["Measured", "measure", "model_card"]


@dataclass(frozen=True)
class Measured:
    """What a saved model gives on the validation patches."""

    area: Auc
    loss: float
    accuracy: float


def measure(model: Path, trainer: Trainer) -> Measured:
    """Measure a saved model on the validation patches."""
    valid = trainer.valid
    logits = logits_of(load_exported(model), valid, trainer.settings.window, trainer.colours)
    return Measured(
        auc(valid.labels, tumour_scores(logits)),
        float(functional.cross_entropy(logits, torch.from_numpy(valid.labels))),
        float(np.mean(logits.argmax(1).numpy() == valid.labels)),
    )


def model_card(
    name: str,
    trainer: Trainer,
    train: Patches,
    measured: Measured,
    *,
    model: Path,
    change: float,
    origins: Sequence[str],
    split: str,
    command: str,
) -> str:
    """Text of the card.

    Parameters
    ----------
    origins
        A line on each source of patches.
    split
        How the validation patches were held out.
    command
        What repeats the training.
    """
    values: dict[str, Any] = {
        "name": name,
        "settings": trainer.settings,
        "max_batch": MAX_BATCH,
        "n_weights": count_weights(trainer.network),
        "torch_version": torch.__version__.partition("+")[0],
        "size_bytes": model.stat().st_size,
        "change": change,
        "origins": origins,
        "train": train,
        "valid": trainer.valid,
        "split": split,
        "area": measured.area,
        "accuracy": measured.accuracy,
        "loss": measured.loss,
        "best": trainer.best,
        "command": command,
        "minutes": f"{trainer.seconds / 60:.1f}",
    }
    source = (files("hpc_heatmap.training") / "card.md.j2").read_text("utf-8")
    # The card is Markdown: nothing in it is HTML that could be escaped.
    template = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    return template.from_string(source).render(values) + "\n"
