"""The fastest way to do a model that gives the same scores, chosen when a run is planned.

Whether windows share is decided by the estimate of the work; a trial on this machine may only speak
against it. What runs the program is decided by a trial, in which another than torch must win by a
margin. So noise does not change what is chosen, and what a trial says is kept in the user's cache.
All is tried on pixels of the run's own slides.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import platformdirs

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.classifier import EXACT, NetworkClassifier

if TYPE_CHECKING:
    from hpc_heatmap.model.program import Program

__all__ = ["Trial", "choose_execution"]

_log = logging.getLogger(__name__)

#: Operations of a window below which a network is too small for steps of ours to pay.
_SMALLEST = 2e7
Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

#: Windows of a patch that are compared, about.
_COMPARED = 14
#: A trial that takes longer is not done twice.
_LONG_S = 1.0
#: Windows on an axis of a patch that is compared, at most.
_COMPARED_SIDE = 7
#: How much faster than torch another runtime must be.
_MARGIN = 1.1
#: What makes one way another.
_WAY = {"backend", "runtime", "precision", "stride_px", "cut"}
#: Version of what is kept of a trial.
_VERSION = 2


@dataclass(frozen=True)
class Trial:
    """What is to be chosen for.

    Attributes
    ----------
    path, sha256
        The model file.
    stride_px
        From one window to the next.
    batch_size
        Windows at once.
    patches
        Patches of the run's slides, (patch, patch, 3) uint8.
    tolerance
        How far probabilities may be from the model's own; None asks for the exact ones.
    """

    path: Path
    sha256: str
    stride_px: int
    batch_size: int
    patches: Sequence[npt.NDArray[np.uint8]]
    tolerance: float | None = None


def choose_execution(classifier: NetworkClassifier, trial: Trial) -> Execution:
    """Choose how a model is done; says in the log why not otherwise.

    Parameters
    ----------
    classifier
        The model as its library runs it.
    trial
        What for.
    """
    execution = _choose(classifier, trial)
    _log.info("%s", execution.reason)
    return execution


def _choose(classifier: NetworkClassifier, trial: Trial) -> Execution:
    if trial.path.suffix == ".onnx":
        return Execution(reason="Each window is scored by itself: ONNX Runtime runs the model.")
    if not trial.patches:
        return Execution(reason="The model is run as it is: no slide gave pixels to try it on.")
    from hpc_heatmap.model.capture import CaptureError
    from hpc_heatmap.model.program_network import capture_model
    from hpc_heatmap.model.torch import operations

    side = classifier.descriptor.resize_px or classifier.window_px
    if operations(classifier.network, side) < _SMALLEST:
        return Execution(reason="The model is run as it is: it is too small to gain.")
    try:
        program = capture_model(trial.path, trial.sha256, side)
    except CaptureError as error:
        return Execution(reason=f"The model is run as it is: {error}.")
    return _Choice(classifier, trial, program).made()


class _Choice:
    """Ways to do a program, compared with the model on pixels of the run's slides."""

    def __init__(self, classifier: NetworkClassifier, trial: Trial, program: Program) -> None:
        self._classifier = classifier
        self._trial = trial
        self._program = program
        self._windows = -(-classifier.window_px // trial.stride_px)
        # A single window of a patch shares nothing: it may be compared anywhere.
        step = trial.stride_px if self._windows > 1 else classifier.window_px // 4
        n = min(self._windows, _COMPARED_SIDE) if self._windows > 1 else 4
        self._offsets = [k * step for k in range(n)]
        ends = {(i, j) for i in (0, n - 1) for j in (0, n - 1)}
        others = np.random.default_rng(0).integers(0, n, (_COMPARED - len(ends), 2))
        self._places = sorted(ends | {(i, j) for i, j in others.tolist()})
        self._exact = self._alone(classifier)

    def made(self) -> Execution:
        """The fastest way that is as exact as asked, and why."""
        chosen, reasons = Execution(backend="program"), []
        chosen = self._compared(chosen)
        if not _is_within(chosen, EXACT):
            return Execution(
                reason=f"The model is run as it is: folded it differs by {chosen.difference:.1e}."
            )
        if self._trial.tolerance is not None:
            chosen, reason = self._rougher(chosen, self._trial.tolerance)
            reasons.append(reason)
        chosen, reason = self._sharing(chosen)
        chosen, ran = self._fastest(chosen)
        return chosen.model_copy(update={"reason": " ".join([reason, ran, *reasons])})

    def _rougher(self, exact: Execution, tolerance: float) -> tuple[Execution, str]:
        """In bfloat16, where the processor has it and scores stay within the tolerance."""
        from hpc_heatmap.model.program_network import has_bfloat16

        if not has_bfloat16():
            return exact, "This processor has no bfloat16: float32 is used."
        rough = self._compared(exact.model_copy(update={"precision": "bfloat16"}))
        said = f"bfloat16 differs by {rough.difference:.1e} of a probability"
        if _is_within(rough, tolerance):
            return rough, f"{said}."
        return exact, f"{said}: float32 is used."

    def _sharing(self, alone: Execution) -> tuple[Execution, str]:
        """With early layers shared, where that pays and gives the same."""
        from hpc_heatmap.model.sharing import WORTH_SHARING, share

        stride = self._trial.stride_px
        single = f"Each window is scored by itself at stride {stride}:"
        if self._classifier.descriptor.resize_px is not None:
            return alone, f"{single} windows are resized one by one."
        found = share(self._program, stride, self._windows)
        if found is None:
            return alone, f"{single} no layer can be shared."
        # Other strides are another question.
        alone = alone.model_copy(update={"share": True, "stride_px": stride})
        if found.cost > WORTH_SHARING:
            return alone, f"{single} sharing would save too little."
        shared = self._compared(
            alone.model_copy(
                update={"cut": found.cut, "jump_px": found.jump_px, "cost": found.cost}
            )
        )
        exact = alone.precision == "float32"
        limit = EXACT if exact or self._trial.tolerance is None else self._trial.tolerance
        if not _is_within(shared, limit):
            alone = alone.model_copy(update={"share": False})
            return alone, f"{single} shared layers differ by {shared.difference:.1e}."
        speeds = self._speeds({"alone": alone, "shared": shared})
        if speeds["shared"] < speeds["alone"]:
            return alone, f"{single} sharing was slower when it was tried."
        said = f"Windows share their early layers at stride {stride}: {found.cost:.0%} of the work."
        return shared.model_copy(update={"alone_windows_per_s": speeds["alone"]}), said

    def _fastest(self, chosen: Execution) -> tuple[Execution, str]:
        """Done by the runtime that is fastest here and gives the same."""
        from hpc_heatmap.model.onnx_graph import GraphError
        from hpc_heatmap.model.runtimes import RUNTIMES, installed

        exact = chosen.precision == "float32"
        limit = EXACT if exact or self._trial.tolerance is None else self._trial.tolerance
        ways, notes = {"torch": chosen}, []
        for name in installed():
            if not exact and name == "onnxruntime":
                continue
            try:
                way = self._compared(chosen.model_copy(update={"runtime": name}))
            except GraphError as error:
                return chosen, f"torch runs the model: {error}."
            if _is_within(way, limit):
                ways[name] = way
            else:
                notes.append(f" {RUNTIMES[name]} differs by {way.difference:.1e}.")
        speeds = self._speeds(ways)
        best = max(ways, key=lambda name: speeds[name] / (1 if name == "torch" else _MARGIN))
        found = ways[best].model_copy(update={"windows_per_s": speeds[best]})
        if found.alone_windows_per_s is not None:
            gain = speeds[best] / speeds["torch"]
            alone = found.alone_windows_per_s * gain
            found = found.model_copy(update={"alone_windows_per_s": alone})
        names = {"torch": "torch"} | RUNTIMES
        tried = ", ".join(f"{names[name]} {speeds[name]:.1f}" for name in ways)
        said = f"{names[best]} runs the model (windows a second when tried: {tried})."
        return found, said + "".join(notes)

    def _compared(self, execution: Execution) -> Execution:
        """A way with how far it is from the model."""
        network = self._made_of(execution)
        scores = self._alone(network) if execution.cut is None else self._shared(network)
        difference = float(np.abs(scores - self._exact).max())
        return execution.model_copy(
            update={"compared_windows": scores.size, "difference": difference}
        )

    def _made_of(self, execution: Execution) -> NetworkClassifier:
        from hpc_heatmap.model.program_network import ProgramNetwork

        given = self._classifier
        names = given.descriptor.class_names
        network = ProgramNetwork(self._program, execution, given.descriptor.normalization())
        return NetworkClassifier(network, given.descriptor, names[given.lesion_index])

    def _alone(self, classifier: NetworkClassifier) -> Floats:
        """Scores of the places, each window by itself."""
        scores = []
        for patch in self._trial.patches:
            prepared = classifier.prepare(patch)
            at = self._offsets
            windows = [classifier.cut(prepared, at[i], at[j]) for i, j in self._places]
            scores.append(classifier.scores(windows))
        return np.concatenate(scores)

    def _shared(self, classifier: NetworkClassifier) -> Floats:
        """Scores of the places, from patches of windows that share."""
        rows, columns = np.array(self._places).T
        lattices = [self._lattice(classifier, p, self._offsets) for p in self._trial.patches]
        return np.concatenate([lattice[rows, columns] for lattice in lattices])

    def _lattice(self, classifier: NetworkClassifier, patch: Pixels, at: list[int]) -> Floats:
        prepared = classifier.prepare(patch)
        stride, batch_size = self._trial.stride_px, self._trial.batch_size
        return np.concatenate(list(classifier.shared_scores(prepared, at, at, stride, batch_size)))

    def _speeds(self, ways: dict[str, Execution]) -> dict[str, float]:
        """Windows a second of processor time in each way; as it was the last time, if known."""
        stored = _file_of(self._trial, ways)
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads(stored.read_text("utf-8"))
            return {name: float(known[name]) for name in ways}
        speeds = {name: self._speed(way) for name, way in ways.items()}
        with contextlib.suppress(OSError):
            stored.parent.mkdir(parents=True, exist_ok=True)
            partial = stored.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(speeds), "utf-8")
            os.replace(partial, stored)
        return speeds

    def _speed(self, way: Execution) -> float:
        classifier, patch = self._made_of(way), self._trial.patches[0]
        offsets = [k * self._trial.stride_px for k in range(self._windows)]
        if way.cut is not None:
            return _rate(lambda: self._lattice(classifier, patch, offsets), len(offsets) ** 2)
        prepared = classifier.prepare(patch)
        windows = [classifier.cut(prepared, 0, left) for left in offsets] * self._windows
        some = (windows * self._trial.batch_size)[: self._trial.batch_size]
        return _rate(lambda: classifier.scores(some), len(some))


def _is_within(execution: Execution, limit: float) -> bool:
    return execution.difference is not None and execution.difference <= limit


def _rate(work: Callable[[], object], windows: int) -> float:
    """Windows a second of processor time, after a first batch where that is soon done."""
    for _ in range(2):
        started = time.process_time()
        work()
        took = time.process_time() - started
        if took > _LONG_S:
            break
    return windows / max(took, 1e-6)


def _file_of(trial: Trial, ways: Mapping[str, Execution]) -> Path:
    """Where the outcome of a trial is kept: by machine, versions, model and request."""
    import torch

    asked = [_VERSION, platform.machine(), platform.processor()]
    asked += [torch.backends.cpu.get_cpu_capability(), trial.sha256, trial.stride_px]
    asked += [version(way.runtime) for way in ways.values()]
    asked += [trial.batch_size, *(way.model_dump_json(include=_WAY) for way in ways.values())]
    name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    folder = platformdirs.user_cache_path("hpc-heatmap", appauthor=False)
    return folder / "trials" / f"{name}.json"
