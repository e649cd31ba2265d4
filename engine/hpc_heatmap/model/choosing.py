"""The fastest way to do a model that gives the same scores, chosen when a run is planned.

Whether windows share is decided by the estimate of the work; a trial on this machine may only speak
against it. What runs the program is decided by a trial, in which another than torch must win by a
margin. So noise does not change what is chosen, and what a trial says is kept in the user's cache.
All is tried on pixels of the run's own slides.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.classifier import EXACT, NetworkClassifier
from hpc_heatmap.model.loading import network_of
from hpc_heatmap.model.user_cache import cached_file, keep

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
#: Windows of a patch by which levels of bytes are found.
_CALIBRATED = 4
#: Ways of a trial whose speeds are told.
_SHOWN = 4
#: A trial that takes longer is not done twice.
_LONG_S = 1.0
#: Windows on an axis of a patch that is compared, at most.
_COMPARED_SIDE = 7
#: How much faster than torch another runtime must be.
_MARGIN = 1.1
#: What makes one way another.
_WAY = {"backend", "runtime", "precision", "winograd", "stride_px", "cut"}
#: Version of what is kept of a trial.
_VERSION = 3


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
    from hpc_heatmap.model.program_cache import capture_model, kept_program
    from hpc_heatmap.model.torch import TorchNetwork, operations

    network, side = classifier.network, classifier.descriptor.resize_px or classifier.window_px
    program = kept_program(trial.sha256, side)
    if program is None:
        if operations(network, side) < _SMALLEST:
            return Execution(reason="The model is run as it is: it is too small to gain.")
        module = network.module if isinstance(network, TorchNetwork) else None
        try:
            program = capture_model(trial.path, trial.sha256, side, module)
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
        chosen = self._compared(Execution(backend="program", winograd=True))
        if not _is_within(chosen, EXACT):
            chosen = self._compared(Execution(backend="program"))
        if not _is_within(chosen, EXACT):
            return Execution(
                reason=f"The model is run as it is: folded it differs by {chosen.difference:.1e}."
            )
        able, reason = self._sharing(chosen)
        chosen, ran = self._fastest(able)
        if able.cut is not None and chosen.cut is None:
            reason = f"{self._single} sharing was slower when it was tried."
        return chosen.model_copy(update={"reason": f"{reason} {ran}"})

    @property
    def _single(self) -> str:
        return f"Each window is scored by itself at stride {self._trial.stride_px}:"

    def _sharing(self, alone: Execution) -> tuple[Execution, str]:
        """With early layers shared, where that pays and gives the same."""
        from hpc_heatmap.model.sharing import WORTH_SHARING, share

        stride = self._trial.stride_px
        single = self._single
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
        if not _is_within(shared, EXACT):
            alone = alone.model_copy(update={"share": False})
            return alone, f"{single} shared layers differ by {shared.difference:.1e}."
        speeds = self._speeds({"alone": alone, "shared": shared})
        if speeds["shared"] < speeds["alone"]:
            return alone, f"{single} sharing was slower when it was tried."
        said = f"Windows share their early layers at stride {stride}: {found.cost:.0%} of the work."
        return shared.model_copy(update={"alone_windows_per_s": speeds["alone"]}), said

    def _fastest(self, chosen: Execution) -> tuple[Execution, str]:
        """The fastest way here that stays within what is allowed."""
        ways, notes = self._ways(chosen)
        speeds = self._speeds(ways)
        best, least = "torch", _MARGIN * speeds["torch"]
        fastest = sorted(ways, key=lambda name: -speeds[name])
        for name in fastest:
            if speeds[name] < least:
                break
            found = self._compared(ways[name])
            if _is_within(found, self._limit(found)):
                best, chosen = name, found
                break
            notes.append(f"{name} differs by {found.difference:.1e}.")
        rates = {"windows_per_s": speeds[best]}
        if chosen.alone_windows_per_s is not None:
            gain = speeds[best] / speeds["torch"]
            rates["alone_windows_per_s"] = chosen.alone_windows_per_s * gain
        shown = [name for name in fastest if name in {"torch", best, *fastest[:_SHOWN]}]
        tried = ", ".join(f"{name} {speeds[name]:.1f}" for name in shown)
        said = f"{best} runs the model (windows a second when tried: {tried})."
        return chosen.model_copy(update=rates), " ".join([said, *notes])

    def _limit(self, way: Execution) -> float:
        exact = way.precision == "float32" and not way.levels
        return EXACT if exact or self._trial.tolerance is None else self._trial.tolerance

    def _ways(self, exact: Execution) -> tuple[dict[str, Execution], list[str]]:
        """What may be chosen, by name, and why not more."""
        from hpc_heatmap.model.onnx_graph import GraphError, window_graph
        from hpc_heatmap.model.runtimes import RUNTIMES, installed

        notes, able = [], {name: RUNTIMES[name] for name in installed()}
        try:
            window_graph(self._program, 1, None, self._classifier.descriptor.normalization())
        except GraphError as error:
            notes, able = [f"Other runtimes cannot run the model: {error}."], {}
        ways = {"torch": exact}
        ways |= {name: exact.model_copy(update={"runtime": key}) for key, name in able.items()}
        if self._trial.tolerance is not None:
            ways |= self._rough_ways(exact, able)
        if exact.cut is not None:
            # Windows that share lie in torch's memory first, which may cost more than it saves.
            apart = {"cut": None, "jump_px": 1, "cost": 1.0, "alone_windows_per_s": None}
            for name, way in [*ways.items()]:
                if way.runtime != "torch":
                    ways[f"{name} window by window"] = way.model_copy(update=apart)
        return ways, notes

    def _rough_ways(self, exact: Execution, able: Mapping[str, str]) -> dict[str, Execution]:
        """In numbers that are coarser than the model's."""
        from hpc_heatmap.model.program_network import has_bfloat16
        from hpc_heatmap.model.quantization import find_levels

        ways, rough = {}, exact
        if has_bfloat16():
            rough = exact.model_copy(update={"precision": "bfloat16", "winograd": False})
            ways["torch in bfloat16"] = rough
            if "openvino" in able:
                ways["OpenVINO in bfloat16"] = rough.model_copy(update={"runtime": "openvino"})
        windows = self._calibration()
        for said, between in (("int8", False), ("int8 between convolutions", True)):
            levels = find_levels(self._program, windows, between=between) if able else {}
            if levels:
                for key, name in able.items():
                    update = {"runtime": key, "levels": levels}
                    ways[f"{name} in {said}"] = rough.model_copy(update=update)
        return ways

    def _calibration(self) -> Floats:
        """Windows of the run's slides, normalised: others than those that are compared."""
        fed, side = self._classifier.descriptor, self._classifier.window_px
        rng, windows = np.random.default_rng(1), []
        for patch in self._trial.patches:
            corners = rng.integers(0, np.array(patch.shape[:2]) - side + 1, (_CALIBRATED, 2))
            for top, left in corners.tolist():
                windows.append(fed.resize(patch[top : top + side, left : left + side]))
        return np.stack([fed.prepare(window) for window in windows])

    def _compared(self, execution: Execution) -> Execution:
        """A way with how far it is from the model."""
        network = self._made_of(execution)
        scores = self._alone(network) if execution.cut is None else self._shared(network)
        difference = float(np.abs(scores - self._exact).max())
        return execution.model_copy(
            update={"compared_windows": scores.size, "difference": difference}
        )

    def _made_of(self, execution: Execution) -> NetworkClassifier:
        given = self._classifier
        names = given.descriptor.class_names
        network = network_of(self._program, given.descriptor, execution)
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
        keep(stored, lambda partial: partial.write_text(json.dumps(speeds), "utf-8"))
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
    asked += [trial.batch_size, *ways]
    asked += [way.model_dump_json(include=_WAY) for way in ways.values()]
    return cached_file("trials", json.dumps(asked), ".json")
