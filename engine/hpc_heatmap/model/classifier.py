"""Classifiers: windows of pixels in, lesion probabilities out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import ModelOutputError
from hpc_heatmap.model.descriptor import Descriptor

__all__ = ["EXACT", "Classifier", "FunctionClassifier", "Network", "NetworkClassifier"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_log = logging.getLogger(__name__)

#: How far the exact probabilities of two ways of computing may differ.
EXACT = 1e-5
#: How far a probability may be out of its range by rounding.
_ROUNDING = 1e-5


class Network(Protocol):
    """What a model file is turned into."""

    def __call__(self, batch: npt.NDArray[Any]) -> Floats:
        """Logits (n, outputs) or (n,) of a batch.

        It is normalised, (n, 3, height, width), or where the network has `takes_pixels`, which is
        then true, the windows as they are, (n, height, width, 3) uint8.
        """


class Classifier(Protocol):
    """The seam between scoring and models.

    `prepare` is called once a patch; `scores` with windows cut from what it gave, as views.
    """

    @property
    def window_px(self) -> int:
        """Side of a window, read pixels."""

    @property
    def requested_spacing_um(self) -> float | None:
        """Micrometres per read pixel; None reads slides at level 0."""

    def prepare(self, patch: Pixels) -> npt.NDArray[Any]:
        """Work that is done once a patch; gives an array whose windows can be cut out."""

    def cut(self, prepared: npt.NDArray[Any], top: int, left: int) -> npt.NDArray[Any]:
        """The window at a position of a prepared patch: a view."""

    def scores(self, windows: Sequence[npt.NDArray[Any]]) -> Floats:
        """Lesion probabilities (n,) of windows that `cut` gave.

        Raises
        ------
        ModelOutputError
            The model gave NaN or the wrong shape.
        """


class NetworkClassifier:
    """A network with its descriptor.

    Parameters
    ----------
    network
        Batch to logits.
    descriptor
        How the network is fed.
    lesion_class
        Name of the class whose probability is the score, where the descriptor does not say.
    tolerance
        How far probabilities of windows that share work may be from those of windows alone.

    Raises
    ------
    ModelError
        No class is named.
    """

    def __init__(
        self,
        network: Network,
        descriptor: Descriptor,
        lesion_class: str | None = None,
        tolerance: float = EXACT,
    ) -> None:
        self.network = network
        self.descriptor = descriptor
        self.tolerance = tolerance
        self.lesion_index = descriptor.lesion_index(lesion_class)
        self._resize = descriptor.resize_px is not None
        #: The batch, made once: fresh memory for each costs more than filling it.
        self._batch: Floats = np.empty((0, 3, 0, 0), np.float32)
        #: Whether sharing has been seen to give what windows scored alone do.
        self._agreed = False

    @property
    def window_px(self) -> int:
        """Side of a window, read pixels."""
        return self.descriptor.patch_size_pixels

    @property
    def requested_spacing_um(self) -> float | None:
        """Micrometres per read pixel."""
        return self.descriptor.spacing_um_px

    def prepare(self, patch: Pixels) -> npt.NDArray[Any]:
        """Normalise a patch once, unless its windows are resized first or taken as they are."""
        return patch if self._as_pixels else self._planes(patch)

    @property
    def _as_pixels(self) -> bool:
        """Whether windows are cut from pixels."""
        return self._resize or self._takes_pixels

    @property
    def _takes_pixels(self) -> bool:
        return getattr(self.network, "takes_pixels", False)

    def _planes(self, pixels: Pixels) -> Floats:
        return self.descriptor.prepare(pixels, channels_last=self._channels_last)

    @property
    def _channels_last(self) -> bool:
        return getattr(self.network, "channels_last", False)

    def cut(self, prepared: npt.NDArray[Any], top: int, left: int) -> npt.NDArray[Any]:
        """The window at a position of a prepared patch: a view."""
        side = self.window_px
        if self._as_pixels:
            return prepared[top : top + side, left : left + side]
        return prepared[:, top : top + side, left : left + side]

    def scores(self, windows: Sequence[npt.NDArray[Any]]) -> Floats:
        """Lesion probabilities (n,) of windows that `cut` gave."""
        if self._resize:
            windows = [self.descriptor.resize(w) for w in windows]
            if not self._takes_pixels:
                windows = [self._planes(w) for w in windows]
        logits = np.asarray(self.network(self._stack(windows)))
        return self._lesion_probability(logits, len(windows))

    def shares(self, stride_px: int) -> bool:
        """Whether :meth:`patch_scores` may be used at a stride."""
        shared = getattr(self.network, "shared", None)
        return not self._resize and shared is not None and shared(stride_px) is not None

    def patch_scores(
        self,
        prepared: npt.NDArray[Any],
        tops: Sequence[int],
        lefts: Sequence[int],
        stride_px: int,
        batch_size: int,
    ) -> Iterator[Floats]:
        """Lesion probabilities of a patch's windows, which share their early layers.

        The first patch is scored the other way too, in part: a model that does not give the same
        is scored window by window from then on, and the log says so.

        Parameters
        ----------
        prepared
            What `prepare` gave.
        tops, lefts
            Where the rows and columns of windows begin, `stride_px` apart.
        stride_px
            See :meth:`shares`.
        batch_size
            Windows at once.

        Yields
        ------
        (rows, columns) float32
            Some rows of windows, from the first one on.
        """
        batches = self.shared_scores(prepared, tops, lefts, stride_px, batch_size)
        if self._agreed:
            yield from batches
            return
        scores = np.concatenate(list(batches))
        difference = self._difference(scores, prepared, tops, lefts)
        self._agreed = difference <= self.tolerance
        if self._agreed:
            yield scores
            return
        _log.warning(
            "Windows that share their early layers differ by %.1e from windows scored alone, more "
            "than %.0e: each is scored alone.",
            difference,
            self.tolerance,
        )
        self.network.part(stride_px)  # type: ignore[attr-defined]
        for top in tops:
            yield self.scores([self.cut(prepared, top, left) for left in lefts])[None]

    def shared_scores(
        self,
        prepared: npt.NDArray[Any],
        tops: Sequence[int],
        lefts: Sequence[int],
        stride_px: int,
        batch_size: int,
    ) -> Iterator[Floats]:
        """What :meth:`patch_scores` gives, without its comparison."""
        side, size = self.window_px, (len(tops), len(lefts))
        rows, columns = slice(tops[0], tops[-1] + side), slice(lefts[0], lefts[-1] + side)
        takes_pixels = self._takes_pixels
        cropped = (
            self._planes(prepared[rows, columns]) if takes_pixels else prepared[:, rows, columns]
        )
        for logits in self.network.patch_logits(cropped, size, stride_px, batch_size):  # type: ignore[attr-defined]
            yield self._lesion_probability(logits, len(logits)).reshape(-1, size[1])

    def _difference(
        self,
        scores: Floats,
        prepared: npt.NDArray[Any],
        tops: Sequence[int],
        lefts: Sequence[int],
    ) -> float:
        """Largest difference to windows scored alone: the corners and the middle of a patch."""
        places = {(i, j) for i in (0, len(tops) - 1) for j in (0, len(lefts) - 1)}
        places.add((len(tops) // 2, len(lefts) // 2))
        rows, columns = zip(*sorted(places), strict=True)
        windows = [self.cut(prepared, tops[i], lefts[j]) for i, j in sorted(places)]
        return float(np.abs(self.scores(windows) - scores[rows, columns]).max())

    def _stack(self, windows: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Windows as one batch, in memory that the next batch takes over."""
        n = len(windows)
        if self._takes_pixels:
            return np.stack(windows)
        channels, height, width = windows[0].shape
        order = (0, 2, 3, 1) if self._channels_last else (0, 1, 2, 3)
        laid = self._batch.transpose(order)
        shape = (n, channels, height, width)
        fits = self._batch.shape[1:] == shape[1:] and len(self._batch) >= n
        if not (fits and laid.flags.c_contiguous):
            whole = np.empty([shape[axis] for axis in order], np.float32)
            self._batch = whole.transpose(np.argsort(order))
        batch = self._batch[:n]
        for place, window in zip(batch, windows, strict=True):
            place[...] = window
        return batch

    def _lesion_probability(self, logits: npt.NDArray[Any], n_windows: int) -> Floats:
        classes = self.descriptor.num_classes
        shape = logits.shape
        if logits.ndim == 1:
            logits = logits[:, None]
        if logits.shape not in {(n_windows, classes), (n_windows, 1 if classes <= 2 else classes)}:
            raise ModelOutputError(
                f"The model gives an array of shape {shape} for {n_windows} windows; its "
                f"descriptor promises ({n_windows}, {classes})."
            )
        if not np.isfinite(logits).all():
            raise ModelOutputError(
                f"The model gives NaN or infinity for {int((~np.isfinite(logits)).any(1).sum())} "
                f"of {n_windows} windows: check its weights and its normalization."
            )
        probabilities = _activate(logits.astype(np.float64), self.descriptor.activation)
        if probabilities.shape[1] == 1:
            # One output is the probability of the last class that is named.
            p = probabilities[:, 0]
            lesion = p if self.lesion_index == classes - 1 else 1 - p
        else:
            lesion = probabilities[:, self.lesion_index]
        return _probabilities(lesion.astype(np.float32))


def _probabilities(scores: Floats) -> Floats:
    """Scores as they are, if they can be probabilities."""
    if scores.size and not (scores.min() >= -_ROUNDING and scores.max() <= 1 + _ROUNDING):
        raise ModelOutputError(
            f"The model gives scores from {scores.min():g} to {scores.max():g}; probabilities are "
            'from 0 to 1: name its "activation" in the descriptor, "softmax" or "sigmoid".'
        )
    return scores


def _activate(logits: npt.NDArray[np.float64], activation: str | None) -> npt.NDArray[np.float64]:
    """Probabilities of logits; WSInfer's rule where none is named."""
    activation = activation or ("softmax" if logits.shape[1] > 1 else "sigmoid")
    if activation == "none":
        return logits
    if activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class FunctionClassifier:
    """Any Python function from a batch of windows to lesion probabilities.

    Parameters
    ----------
    function
        Takes uint8 RGB windows (n, window, window, 3), returns n probabilities.
    window_px
        Side of a window, read pixels.
    requested_spacing_um
        Micrometres per read pixel; None reads slides at level 0.
    """

    def __init__(
        self,
        function: Callable[[Pixels], npt.ArrayLike],
        window_px: int,
        requested_spacing_um: float | None = None,
    ) -> None:
        self.function = function
        self._window_px = window_px
        self._requested_spacing_um = requested_spacing_um

    @property
    def window_px(self) -> int:
        """Side of a window, read pixels."""
        return self._window_px

    @property
    def requested_spacing_um(self) -> float | None:
        """Micrometres per read pixel."""
        return self._requested_spacing_um

    def prepare(self, patch: Pixels) -> npt.NDArray[Any]:
        """Nothing to do: the function takes pixels."""
        return patch

    def cut(self, prepared: npt.NDArray[Any], top: int, left: int) -> npt.NDArray[Any]:
        """The window at a position of a patch: a view."""
        return prepared[top : top + self.window_px, left : left + self.window_px]

    def scores(self, windows: Sequence[npt.NDArray[Any]]) -> Floats:
        """Probabilities (n,) of windows."""
        scores = np.asarray(self.function(np.stack(windows)), np.float32)
        if scores.shape != (len(windows),) or not np.isfinite(scores).all():
            raise ModelOutputError(
                f"The function gives shape {scores.shape} for {len(windows)} windows"
                f"{'' if np.isfinite(scores).all() else ', with NaN'}: it must give one "
                "probability a window."
            )
        return _probabilities(scores)
