"""How fast ways to do a program are on this machine: tried on a patch, as shortly as will do.

Times are of this process's processor, so that other work on the machine changes little. What all
ways of a precision have in common, the layers that windows share, is timed once; of what a runtime
does with the rest a few batches are enough, as one takes as long as another.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.classifier import NetworkClassifier

__all__ = ["Speeds"]

#: Windows at once where each is on its own: more are not faster.
_BATCH = 8
#: Batches of shared windows that are timed behind the first.
_BATCHES = 2
#: What is done sooner is timed twice: a first time takes longer.
_SOON_S = 0.3
#: How much more a runtime may gain on whole windows than it does on what they do not share.
_MOST_GAIN = 2.0


class Speeds:
    """Times ways to do a program.

    Parameters
    ----------
    make
        A way to its classifier.
    patch
        (patch, patch, 3) uint8.
    stride_px
        From one window to the next.
    batch_size
        Windows that a run scores at once.
    """

    def __init__(
        self,
        make: Callable[[Execution], NetworkClassifier],
        patch: npt.NDArray[np.uint8],
        stride_px: int,
        batch_size: int,
    ) -> None:
        self._make, self._patch = make, patch
        self._stride_px, self._batch_size = stride_px, batch_size
        #: Seconds a patch for the shared layers in a precision, and a window for the rest in torch.
        self._shared_s: dict[str, float] = {}
        self._rest_s = 0.0

    def windows_per_s(self, ways: Mapping[str, Execution]) -> dict[str, float]:
        """Windows a second of each way, but for those that cannot be the fastest.

        Parameters
        ----------
        ways
            By name; of those that share, torch's comes before others in its precision.
        """
        found: dict[str, float] = {}
        gains: dict[tuple[str, str, int], float] = {}
        for name, way in ways.items():
            if way.cut is not None:
                seconds, rest_s = self._sharing_s(way)
                found[name] = 1 / seconds
                gains[_kind(way)] = self._rest_s / rest_s
        for name, way in ways.items():
            if way.cut is not None:
                continue
            gain = gains.get(_kind(way))
            if gain and way.runtime != "torch" and "torch window by window" in found:
                most = _MOST_GAIN * gain * found["torch window by window"]
                if most < max(found.values()):
                    continue
            found[name] = 1 / self._alone_s(way)
        return found

    def _alone_s(self, way: Execution) -> float:
        """Seconds a window, each on its own."""
        classifier = self._make(way)
        prepared, side = classifier.prepare(self._patch), classifier.window_px
        steps = np.linspace(0, len(self._patch) - side, _BATCH).astype(int).tolist()
        windows = [classifier.cut(prepared, k, k) for k in steps]
        classifier.scores(windows)
        return min(_times(lambda: [classifier.scores(windows)]))[0] / len(windows)

    def _sharing_s(self, way: Execution) -> tuple[float, float]:
        """Seconds a window that shares, and those of them behind the cut."""
        classifier = self._make(way)
        side = -(-classifier.window_px // self._stride_px)
        rows = max(1, self._batch_size // side)
        if side <= (1 + _BATCHES) * rows:
            # What a runtime compiles is done once in a task.
            list(self._batches(classifier, 1, side, 1))
            batches = _times(lambda: self._batches(classifier, side, side, rows))
            seconds = min(sum(took) for took in batches) / side**2
            self._rest_s = self._rest_s or seconds
            return seconds, seconds
        if way.runtime != "torch":
            # Fewer rows have as much behind the cut, and less before it.
            rows = 1
        whole = side if way.runtime == "torch" else 1 + _BATCHES
        timed = list(_times(lambda: self._batches(classifier, whole, side, rows)))
        rest_s = min(min(took[1:]) for took in timed) / (rows * side)
        if way.runtime == "torch":
            first_s = min(took[0] for took in timed)
            self._shared_s[way.precision] = max(first_s - rest_s * rows * side, 0.0)
            self._rest_s = self._rest_s or rest_s
        return self._shared_s[way.precision] / side**2 + rest_s, rest_s

    def _batches(
        self, classifier: NetworkClassifier, rows: int, columns: int, rows_at_once: int
    ) -> Iterator[object]:
        """The first batches of a patch of windows that share."""
        prepared = classifier.prepare(self._patch)
        tops, lefts = ([k * self._stride_px for k in range(n)] for n in (rows, columns))
        batches = classifier.shared_scores(
            prepared, tops, lefts, self._stride_px, rows_at_once * columns
        )
        return itertools.islice(batches, 1 + _BATCHES)


def _kind(way: Execution) -> tuple[str, str, int]:
    return way.runtime, way.precision, len(way.levels)


def _times(work: Callable[[], Iterable[object]]) -> list[list[float]]:
    """Seconds of processor time of the parts of some work; twice where that is soon done."""
    found: list[list[float]] = []
    while not found or (len(found) < 2 and sum(found[0]) < _SOON_S):
        took, last = [], time.process_time()
        for _ in work():
            now = time.process_time()
            took.append(max(now - last, 1e-6))
            last = now
        found.append(took)
    return found
