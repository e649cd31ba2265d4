"""The training log: a table, and learning curves as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from hpc_heatmap.evaluation.pictures import Plot, Series, plot_png
from hpc_heatmap.training.trainer import Epoch

__all__ = ["curves_png", "log_csv"]


def log_csv(log: Sequence[Epoch]) -> str:
    """One line an epoch."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("epoch", "train_loss", "valid_loss", "valid_auc"))
    for line in log:
        numbers = (line.train_loss, line.valid_loss, line.valid_auc)
        rows.writerow((line.epoch, *(f"{value:.5f}" for value in numbers)))
    return text.getvalue()


def curves_png(log: Sequence[Epoch], n_epochs: int) -> bytes:
    """Losses and AUC over the epochs; what is above 1 is drawn at 1."""
    best = max(log, key=lambda line: line.valid_auc)
    epochs = np.array([line.epoch for line in log], dtype=np.float64)
    curves = [
        Series(name, epochs, np.clip([getattr(line, key) for line in log], 0, 1))
        for name, key in (
            ("training loss", "train_loss"),
            ("validation loss", "valid_loss"),
            ("validation AUC", "valid_auc"),
        )
    ]
    title = f"Validation AUC {best.valid_auc:.4f} in epoch {best.epoch}"
    ticks = sorted({*np.linspace(1, max(2, n_epochs), min(max(2, n_epochs), 7)).round().tolist()})
    return plot_png(Plot(title, "epoch", "loss (up to 1), AUC", ticks, curves))
