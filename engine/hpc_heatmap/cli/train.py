"""The command ``train``: bars while it works, a line an epoch, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hpc_heatmap.cli.app import Quiet, console, errors
from hpc_heatmap.errors import Interrupted
from hpc_heatmap.training.settings import TrainingSettings

if TYPE_CHECKING:
    from hpc_heatmap.training.sources import Progress as OnProgress
    from hpc_heatmap.training.trainer import Epoch

__all__ = ["train"]

FROM, HOW = Group("What to learn from", sort_key=0), Group("How to train", sort_key=1)


def train(
    *,
    out: Annotated[Path, Parameter(help="Directory: new, empty, or of the same training.")],
    patches: Annotated[
        list[Path] | None,
        Parameter(
            negative="",
            consume_multiple=True,
            group=FROM,
            help="Folders or tar files of images in folders normal/ and tumor/ (or 0/ and 1/). A "
            "folder with train and valid, each a folder or a tar file, brings its validation.",
        ),
    ] = None,
    valid_patches: Annotated[
        list[Path] | None,
        Parameter(
            negative="", consume_multiple=True, group=FROM, help="The same, for validation alone."
        ),
    ] = None,
    slides: Annotated[
        list[Path] | None,
        Parameter(
            negative="",
            consume_multiple=True,
            group=FROM,
            help="Slides, or folders of them, that random patches are cut from.",
        ),
    ] = None,
    outlines: Annotated[
        Path | None,
        Parameter(
            group=FROM,
            help="Truth on the slides, as for `evaluate froc --masks`. A slide without is normal.",
        ),
    ] = None,
    hard_negatives: Annotated[
        Path | None,
        Parameter(
            group=FROM,
            help="Run whose false positives, by the outlines, are learnt as normal.",
        ),
    ] = None,
    settings: Annotated[TrainingSettings | None, Parameter(name="*", group=HOW)] = None,
    quiet: Quiet = False,
) -> int:
    """Train a patch classifier by the paper's recipe: model.pt2 with descriptor, card and curves.

    A training that was stopped goes on with the same command. The same patches, settings and
    threads give the same weights. docs/training.md explains the recipe.
    """
    from hpc_heatmap.training.sources import TrainingSources
    from hpc_heatmap.training.training import train as train_model

    chosen = settings or TrainingSettings()
    sources = TrainingSources(
        tuple(patches or ()), tuple(valid_patches or ()), tuple(slides or ()), outlines,
        hard_negatives,
    )  # fmt: skip
    try:
        with _bars(quiet=quiet) as on_progress:
            measured = train_model(
                sources,
                out,
                chosen,
                on_progress=on_progress,
                on_epoch=lambda line: _print_epoch(line, chosen.epochs),
            )
    except KeyboardInterrupt:
        raise Interrupted("Stopped: the same command goes on from the last checkpoint.") from None
    if measured is None:
        console.print(f"{out} holds this training, complete: {out / 'model.pt2'}", markup=False)
        return 0
    low, high = measured.area.ci
    console.print(
        f"Validation AUC {measured.area.auc:.4f} ({low:.4f} to {high:.4f}), accuracy "
        f"{measured.accuracy:.4f}, of the saved model.\n"
        f"The model:        {out / 'model.pt2'}\n"
        f"Its card:         {out / 'MODEL_CARD.md'}\n"
        f"Learning curves:  {out / 'learning_curves.png'}\n"
        f"Next: hpc-heatmap run SLIDE... --model {out / 'model.pt2'} --out RUN",
        markup=False,
    )
    return 0


def _print_epoch(line: Epoch, n_epochs: int) -> None:
    console.print(
        f"epoch {line.epoch:3d} of {n_epochs}: training loss {line.train_loss:.4f}, "
        f"validation loss {line.valid_loss:.4f}, validation AUC {line.valid_auc:.4f}"
    )


@contextmanager
def _bars(*, quiet: bool) -> Iterator[OnProgress]:
    """One bar for each kind of work, on a terminal; elsewhere the lines of the epochs do."""
    if quiet or not errors.is_terminal:
        yield lambda what, done, total: None
        return
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=errors,
    )
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int | None) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total)
            # Not before there is work: where the request is refused the sentence stands alone.
            progress.start()
        progress.update(tasks[what], completed=done, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()
