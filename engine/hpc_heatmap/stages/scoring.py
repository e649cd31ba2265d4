"""Second layer: from a group of patches to the scores of all its windows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.group_file import Group
from hpc_heatmap.formats.score_file import GroupScores
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.model import Classifier

__all__ = ["ScoringWork", "score_group"]


@dataclass
class ScoringWork:
    """What scoring a group took."""

    windows: int = 0
    model_s: float = 0.0


def score_group(
    group: Group,
    geometry: Geometry,
    classifier: Classifier,
    batch_size: int = 32,
    go_on: Callable[[], None] = lambda: None,
) -> tuple[GroupScores, ScoringWork]:
    """Score every window of a group: the plain sliding window, exact.

    A patch is normalised once; its windows are views of it. Batches run over patches, so that
    wide strides fill them too.

    Parameters
    ----------
    group
        Cells and pixels.
    geometry
        Lattice of the slide.
    classifier
        Windows to lesion probabilities.
    batch_size
        Windows that are scored at once.
    go_on
        Called before each batch; it raises where the work is to stop.

    Raises
    ------
    ModelOutputError
        The model gave NaN or the wrong shape.
    """
    rows, columns = geometry.block_shape
    scores = np.full((len(group.cells), rows, columns), np.nan, np.float32)
    work = ScoringWork()
    places: list[tuple[int, int, int]] = []
    windows: list[npt.NDArray[Any]] = []

    def flush() -> None:
        if not windows:
            return
        go_on()
        started = time.perf_counter()
        values = classifier.scores(windows)
        work.model_s += time.perf_counter() - started
        work.windows += len(windows)
        scores[tuple(np.array(places).T)] = values
        windows.clear()
        places.clear()

    for number, (row, column) in enumerate(group.cells.tolist()):
        if not group.readable[number]:
            continue
        prepared = classifier.prepare(group.patch(number))
        for i, j, top, left in geometry.windows_in_patch(row, column):
            windows.append(classifier.cut(prepared, top, left))
            places.append((number, i, j))
            if len(windows) == batch_size:
                flush()
    flush()
    return GroupScores(group.cells, scores, group.readable), work
