"""A training from sources to a model with its descriptor and card; it goes on where it stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpc_heatmap.formats.atomic import storage_errors, write_json, writing
from hpc_heatmap.runs.provenance import provenance
from hpc_heatmap.training.card import Measured, measure, model_card
from hpc_heatmap.training.curves import curves_png, log_csv
from hpc_heatmap.training.export import descriptor, export_network
from hpc_heatmap.training.folder import TrainingFolder
from hpc_heatmap.training.gathering import Gathered, gather
from hpc_heatmap.training.settings import TrainingSettings
from hpc_heatmap.training.sources import Progress, TrainingSources
from hpc_heatmap.training.trainer import Epoch, Trainer, exact_arithmetic

__all__ = ["train"]

#: Seconds between two checkpoints in the middle of an epoch.
_CHECKPOINT_S = 60.0


def train(
    sources: TrainingSources,
    out: str | os.PathLike[str],
    settings: TrainingSettings | None = None,
    *,
    on_progress: Progress = lambda what, done, total: None,
    on_epoch: Callable[[Epoch], None] = lambda line: None,
) -> Measured | None:
    """Train a classifier and write it; a training that was stopped goes on.

    Parameters
    ----------
    sources
        What it learns from.
    out
        Directory: new, empty, or of the same training.
    settings
        What is trained and how.
    on_progress
        Called with what is done, how far, and of how much.
    on_epoch
        Called with each line of the log.

    Returns
    -------
    Measured | None
        What the model gives on the validation patches; None where it was there already.

    Raises
    ------
    TrainingError
        The patches cannot be trained on.
    RunConflictError
        The directory holds something else.
    RequestError
        Another part of the request is wrong; nothing was written.
    StorageError
        The directory cannot be written.
    """
    settings = settings or TrainingSettings()
    folder = TrainingFolder(Path(out))
    folder.check()
    gathered = gather(sources, settings, on_progress)
    folder.claim(_request(sources, settings, gathered))
    if folder.model.is_file():
        return None
    with exact_arithmetic(settings.threads):
        trainer = Trainer(gathered.train, gathered.valid, settings)
        _go_on(trainer, folder, on_progress, on_epoch)
        return _write(trainer, folder, gathered, sources)


def _request(
    sources: TrainingSources, settings: TrainingSettings, gathered: Gathered
) -> dict[str, Any]:
    """What makes two trainings the same, and where they came from."""
    named = {name: str(value) for name, value in asdict(sources).items() if value}
    return {
        "settings": settings.model_dump(mode="json"),
        "patches": {
            "sha256 of the training patches": gathered.train.sha256(),
            "sha256 of the validation patches": gathered.valid.sha256(),
        },
        "provenance": {**provenance(), "sources": named, "origins": gathered.origins},
    }


def _go_on(
    trainer: Trainer,
    folder: TrainingFolder,
    on_progress: Progress,
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Train from the last checkpoint to the end."""
    state = folder.read_state()
    if state is not None:
        trainer.load_state(state)
        for line in trainer.log:
            on_epoch(line)
    saved_at = time.monotonic()

    def save() -> None:
        nonlocal saved_at
        folder.save_state(trainer.state())
        saved_at = time.monotonic()

    def stepped(trainer: Trainer) -> None:
        on_progress("Training", trainer.step, trainer.n_steps)
        if time.monotonic() - saved_at > _CHECKPOINT_S:
            save()

    def ended(line: Epoch) -> None:
        save()
        _write_log(folder, trainer.log, trainer.settings.epochs)
        on_epoch(line)

    trainer.run(stepped, ended)


def _write_log(folder: TrainingFolder, log: Sequence[Epoch], n_epochs: int) -> None:
    with writing(folder.log) as partial:
        partial.write_text(log_csv(log), "utf-8")
    with writing(folder.curves) as partial:
        partial.write_bytes(curves_png(log, n_epochs))


def _write(
    trainer: Trainer, folder: TrainingFolder, gathered: Gathered, sources: TrainingSources
) -> Measured:
    """Write descriptor and card, then the model: what is there is complete."""
    settings = trainer.settings
    name = f"{folder.root.resolve().name}-{settings.network.value}"
    write_json(folder.descriptor, descriptor(settings, trainer.colours, name))
    network = trainer.best_network()
    change = export_network(network, folder.unchecked, settings, trainer.colours, trainer.valid)
    measured = measure(folder.unchecked, trainer)
    text = model_card(
        name,
        trainer,
        gathered.train,
        measured,
        model=folder.unchecked,
        change=change,
        origins=gathered.origins,
        split=gathered.split,
        command=sources.command(folder.root, settings),
    )
    with writing(folder.card) as partial:
        partial.write_text(text, "utf-8")
    with storage_errors(folder.model):
        folder.unchecked.replace(folder.model)
        folder.checkpoint.unlink(missing_ok=True)
    return measured
