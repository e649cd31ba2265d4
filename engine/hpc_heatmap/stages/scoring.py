"""Second layer: from a group of patches to the scores of all its windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.group_file import Group
from hpc_heatmap.formats.score_file import GroupScores
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.model import Classifier, NetworkClassifier

__all__ = ["ScoringWork", "score_group"]


@dataclass
class ScoringWork:
    """What scoring a group took: windows with a score, and those of them that were not scored
    themselves but took a coarser one.
    """

    windows: int = 0
    model_s: float = 0.0
    skipped: int = 0


def score_group(
    group: Group,
    geometry: Geometry,
    classifier: Classifier,
    batch_size: int = 32,
    go_on: Callable[[], None] = lambda: None,
    *,
    numbers: Sequence[int] | None = None,
) -> tuple[GroupScores, ScoringWork]:
    """Score every window of a group: the sliding window, exact.

    A patch is normalised once; its windows are views of it. Where the classifier can, the windows
    of a patch share their early layers; else batches run over patches, so that wide strides fill
    them too.

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
    numbers
        Cells to score, by their number in the group. Default: all; the others are NaN.

    Raises
    ------
    ModelOutputError
        The model gave NaN or the wrong shape.
    """
    scores = np.full((len(group.cells), *geometry.block_shape), np.nan, np.float32)
    asked = range(len(group.cells)) if numbers is None else numbers
    readable = [number for number in asked if group.readable[number]]
    if isinstance(classifier, NetworkClassifier) and classifier.shares(geometry.stride_px):
        work = _score_shared(group, geometry, classifier, batch_size, go_on, readable, scores)
    else:
        work = _score_alone(group, geometry, classifier, batch_size, go_on, readable, scores)
    return GroupScores(group.cells, scores, group.readable), work


def _score_shared(
    group: Group,
    geometry: Geometry,
    classifier: NetworkClassifier,
    batch_size: int,
    go_on: Callable[[], None],
    numbers: Sequence[int],
    scores: npt.NDArray[np.float32],
) -> ScoringWork:
    """Patch by patch."""
    work = ScoringWork()
    for number in numbers:
        row, column = group.cells[number].tolist()
        tops, lefts = geometry.y.offsets_in_patch(row), geometry.x.offsets_in_patch(column)
        if not tops or not lefts:
            continue
        prepared = classifier.prepare(group.patch(number))
        batches = classifier.patch_scores(prepared, tops, lefts, geometry.stride_px, batch_size)
        first = 0
        while first < len(tops):
            go_on()
            started = time.perf_counter()
            values = next(batches)
            work.model_s += time.perf_counter() - started
            work.windows += values.size
            scores[number, first : first + len(values), : len(lefts)] = values
            first += len(values)
    return work


def _score_alone(
    group: Group,
    geometry: Geometry,
    classifier: Classifier,
    batch_size: int,
    go_on: Callable[[], None],
    numbers: Sequence[int],
    scores: npt.NDArray[np.float32],
) -> ScoringWork:
    """Window by window, in batches over all patches."""
    batch = _Batch(classifier, scores, go_on)
    for number in numbers:
        row, column = group.cells[number].tolist()
        prepared = classifier.prepare(group.patch(number))
        for i, j, top, left in geometry.windows_in_patch(row, column):
            batch.add(classifier.cut(prepared, top, left), (number, i, j))
            if len(batch.windows) == batch_size:
                batch.flush()
    batch.flush()
    return batch.work


@dataclass
class _Batch:
    """Windows that wait to be scored, and where their scores go."""

    classifier: Classifier
    scores: npt.NDArray[np.float32]
    go_on: Callable[[], None]
    windows: list[npt.NDArray[Any]] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    work: ScoringWork = field(default_factory=ScoringWork)

    def add(self, window: npt.NDArray[Any], place: tuple[int, int, int]) -> None:
        """Put a window into the batch."""
        self.windows.append(window)
        self.places.append(place)

    def flush(self) -> None:
        """Score what waits."""
        if not self.windows:
            return
        self.go_on()
        started = time.perf_counter()
        values = self.classifier.scores(self.windows)
        self.work.model_s += time.perf_counter() - started
        self.work.windows += len(self.windows)
        self.scores[tuple(np.array(self.places).T)] = values
        self.windows.clear()
        self.places.clear()
