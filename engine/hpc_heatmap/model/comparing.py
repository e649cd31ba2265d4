"""Scores of a model and of a way to do it, side by side on pixels of a run's slides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.classifier import NetworkClassifier
from hpc_heatmap.model.torch import several_threads

__all__ = ["Comparison"]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

#: Windows of a patch that are compared, at most.
_COMPARED = 14
#: A single window of a patch shares nothing: so many on an axis may begin anywhere.
_ANYWHERE = 4


class _Windows(NamedTuple):
    """Windows of a patch: where their rows and columns begin."""

    patch: Pixels
    tops: list[int]
    lefts: list[int]


class Comparison:
    """Compares ways with a model, on a row of windows of one patch, a column of the next.

    So windows that share do it as far as they ever do, and none is computed in vain.

    Parameters
    ----------
    classifier
        The model as its library runs it.
    patches
        Patches of the run's slides, (patch, patch, 3) uint8.
    stride_px
        From one window to the next.
    batch_size
        Windows at once.
    """

    def __init__(
        self,
        classifier: NetworkClassifier,
        patches: Sequence[Pixels],
        stride_px: int,
        batch_size: int,
    ) -> None:
        self._classifier = classifier
        self._stride_px, self._batch_size = stride_px, batch_size
        self._windows = list(_lines(patches, stride_px, classifier.window_px))
        self._exact: list[Floats] = []

    def measured(
        self, execution: Execution, made: NetworkClassifier, n_patches: int | None = None
    ) -> tuple[Execution, float]:
        """A way with how far it is from the model, on windows of so many patches, or all."""
        windows = self._windows[:n_patches]
        with several_threads():
            for given in windows[len(self._exact) :]:
                self._exact.append(_alone(self._classifier, given))
        scores = [self._scores(made, execution, given) for given in windows]
        differences = [
            np.abs(a - b).max() for a, b in zip(scores, self._exact[: len(scores)], strict=True)
        ]
        difference = float(max(differences))
        compared = sum(values.size for values in scores)
        found = {"compared_windows": compared, "difference": difference}
        return execution.model_copy(update=found), difference

    def _scores(self, made: NetworkClassifier, way: Execution, given: _Windows) -> Floats:
        if way.cut is None:
            return _alone(made, given)
        prepared = made.prepare(given.patch)
        stride, size = self._stride_px, self._batch_size
        batches = made.shared_scores(prepared, given.tops, given.lefts, stride, size)
        return np.concatenate(list(batches)).ravel()


def _lines(patches: Sequence[Pixels], stride_px: int, window_px: int) -> Iterator[_Windows]:
    """Neighbours in line, and lines beside each other where they are short; two lines at least."""
    n, step = -(-window_px // stride_px), stride_px
    if n == 1:
        n, step = _ANYWHERE, window_px // _ANYWHERE
    along = min(n, _COMPARED)
    across = min(n, _COMPARED // along)
    rng = np.random.default_rng(0)
    for number in range(max(2, len(patches))):
        axes = []
        for count in (across, along):
            first = int(rng.integers(0, n - count + 1))
            axes.append([k * step for k in range(first, first + count)])
        tops, lefts = axes if number % 2 == 0 else reversed(axes)
        yield _Windows(patches[number % len(patches)], tops, lefts)


def _alone(classifier: NetworkClassifier, given: _Windows) -> Floats:
    """Scores of windows, each by itself."""
    prepared = classifier.prepare(given.patch)
    return classifier.scores(
        [classifier.cut(prepared, top, left) for top in given.tops for left in given.lefts]
    )
