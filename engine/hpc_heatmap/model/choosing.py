"""The fastest way to do a model that gives the same scores, chosen when a run is planned.

Ways are ranked by a trial on this machine, which is kept in the user's cache. Windows share only
where the estimate of the work says so: a trial may only speak against it. Another than torch must
win by a margin, so that noise does not change what is chosen. The first way whose scores are those
of the model, on pixels of the run's own slides, is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.classifier import EXACT, NetworkClassifier
from hpc_heatmap.model.loading import network_of
from hpc_heatmap.model.user_cache import cached_file, keep, this_processor

if TYPE_CHECKING:
    from hpc_heatmap.model.program import Program

__all__ = ["Trial", "choose_execution", "known_execution"]

_log = logging.getLogger(__name__)

#: Operations of a window below which a network is too small for steps of ours to pay.
_SMALLEST = 2e7
Floats = npt.NDArray[np.float32]

#: Patches on which exact ways are compared: the first time on this machine, and again.
_EXACT_PATCHES, _KNOWN_PATCHES = 2, 1
#: Windows of a patch by which levels of bytes are found.
_CALIBRATED = 4
#: Ways of a trial whose speeds are told.
_SHOWN = 4
#: How much faster than torch another runtime must be.
_MARGIN = 1.1
#: What makes one way another.
_WAY = {"backend", "runtime", "precision", "winograd", "stride_px", "cut"}
#: Ends the names of ways in which windows do not share, where they might.
_ALONE = " window by window"


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
    fed
        What says how it is fed and which class is scored.
    """

    path: Path
    sha256: str
    stride_px: int
    batch_size: int
    patches: Sequence[npt.NDArray[np.uint8]]
    tolerance: float | None = None
    fed: str = ""


def known_execution(trial: Trial) -> Execution | None:
    """What was chosen before on this machine, for the same model and the very same pixels."""
    with contextlib.suppress(OSError, ValueError):
        return Execution.model_validate_json(_kept_choice(trial).read_text("utf-8"))
    return None


def choose_execution(classifier: NetworkClassifier, trial: Trial) -> Execution:
    """Choose how a model is done, and keep it; says in the log why not otherwise.

    Parameters
    ----------
    classifier
        The model as its library runs it.
    trial
        What for.
    """
    execution = _choose(classifier, trial)
    _log.info("%s", execution.reason)
    chosen = execution.model_dump_json()
    keep(_kept_choice(trial), lambda partial: partial.write_text(chosen, "utf-8"))
    return execution


def _kept_choice(trial: Trial) -> Path:
    from hpc_heatmap.model.runtimes import installed

    pixels = hashlib.sha256()
    for patch in trial.patches:
        pixels.update(f"{patch.shape}".encode())
        pixels.update(patch.tobytes())
    asked = [*this_processor(), trial.sha256, trial.fed, trial.stride_px]
    asked += [trial.batch_size, trial.tolerance, pixels.hexdigest()]
    asked += [f"{name} {version(name)}" for name in ("torch", *installed())]
    return cached_file("choices", json.dumps(asked), ".json")


def _choose(classifier: NetworkClassifier, trial: Trial) -> Execution:
    if trial.path.suffix == ".onnx":
        return Execution(reason="Each window is scored by itself: ONNX Runtime runs the model.")
    if not trial.patches:
        return Execution(reason="The model is run as it is: no slide gave pixels to try it on.")
    from hpc_heatmap.model.program import CaptureError
    from hpc_heatmap.model.program_cache import capture_model
    from hpc_heatmap.model.sharing import window_operations
    from hpc_heatmap.model.torch import TorchNetwork

    network, side = classifier.network, classifier.descriptor.resize_px or classifier.window_px
    module = network.module if isinstance(network, TorchNetwork) else None
    try:
        program = capture_model(trial.path, trial.sha256, side, module)
    except CaptureError as error:
        return Execution(reason=f"The model is run as it is: {error}.")
    if window_operations(program) < _SMALLEST:
        return Execution(reason="The model is run as it is: it is too small to gain.")
    return _Choice(classifier, trial, program).made()


class _Choice:
    """Ways to do a program, compared with the model on pixels of the run's slides."""

    def __init__(self, classifier: NetworkClassifier, trial: Trial, program: Program) -> None:
        from hpc_heatmap.model.comparing import Comparison

        self._classifier = classifier
        self._trial = trial
        self._program = program
        self._comparison = Comparison(classifier, trial.patches, trial.stride_px, trial.batch_size)

    def made(self) -> Execution:
        """The fastest way that is as exact as asked, and why."""
        able, notes = self._runtimes()
        shared, why_alone = self._sharing()
        ways = self._ways(shared, able)
        speeds = self._speeds(ways)
        left = set(speeds)
        while best := _best(left, speeds):
            way, difference = self._compared(ways[best])
            if difference <= self._limit(way):
                said = " ".join([self._said(best, way, speeds, why_alone), *notes])
                return way.model_copy(update={"reason": said, **_rates(best, way, speeds)})
            if way.winograd:
                notes.append(f"{best} with fewer multiplications differs by {difference:.1e}.")
                ways = {n: w.model_copy(update={"winograd": False}) for n, w in ways.items()}
                speeds = self._speeds(ways)
                left = set(speeds)
                continue
            left.remove(best)
            notes.append(f"{best} differs by {difference:.1e}.")
            if best == "torch" and way.cut is not None:
                why_alone = "shared layers differ from those of windows alone."
                ways = {n: w.model_copy(update={"share": False}) for n, w in ways.items()}
        return Execution(reason=" ".join(["The model is run as it is.", *notes]))

    def _said(self, name: str, way: Execution, speeds: Mapping[str, float], why_alone: str) -> str:
        stride = self._trial.stride_px
        if way.cut is None:
            windows = f"Each window is scored by itself at stride {stride}: {why_alone}"
        else:
            share = f"{way.cost:.0%}"
            windows = f"Windows share their early layers at stride {stride}: {share} of the work."
        fastest = sorted(speeds, key=lambda other: -speeds[other])
        shown = [other for other in fastest if other in {"torch", name, *fastest[:_SHOWN]}]
        tried = ", ".join(f"{other} {speeds[other]:.1f}" for other in shown)
        return f"{windows} {name} runs the model (windows a second when tried: {tried})."

    def _limit(self, way: Execution) -> float:
        tolerance = self._trial.tolerance
        return EXACT if _is_exact(way) or tolerance is None else tolerance

    def _runtimes(self) -> tuple[dict[str, str], list[str]]:
        """Runtimes that can run the program, and why not more."""
        from hpc_heatmap.model.onnx_graph import GraphError, window_graph
        from hpc_heatmap.model.runtimes import RUNTIMES, installed

        try:
            window_graph(self._program, 1, None, self._classifier.descriptor.normalization())
        except GraphError as error:
            return {}, [f"Other runtimes cannot run the model: {error}."]
        return {name: RUNTIMES[name] for name in installed()}, []

    def _sharing(self) -> tuple[Execution, str]:
        """The program, its early layers shared where that pays; why windows may be alone."""
        from hpc_heatmap.model.sharing import WORTH_SHARING, share

        stride, alone = self._trial.stride_px, Execution(backend="program", winograd=True)
        if self._classifier.descriptor.resize_px is not None:
            return alone, "windows are resized one by one."
        found = share(self._program, stride, -(-self._classifier.window_px // stride))
        if found is None:
            return alone, "no layer can be shared."
        # Other strides are another question.
        alone = alone.model_copy(update={"share": True, "stride_px": stride})
        if found.cost > WORTH_SHARING:
            return alone, "sharing would save too little."
        where = {"cut": found.cut, "jump_px": found.jump_px, "cost": found.cost}
        return alone.model_copy(update=where), "sharing was slower when it was tried."

    def _ways(self, exact: Execution, able: Mapping[str, str]) -> dict[str, Execution]:
        """What may be chosen, by name."""
        ways = {"torch": exact}
        ways |= {name: exact.model_copy(update={"runtime": key}) for key, name in able.items()}
        if self._trial.tolerance is not None:
            ways |= self._rough_ways(exact, able)
        if exact.cut is not None:
            # Windows that share lie in torch's memory first, which may cost more than it saves.
            apart = {"cut": None, "jump_px": 1, "cost": 1.0}
            ways |= {
                name + _ALONE: way.model_copy(update=apart)
                for name, way in ways.items()
                if name == "torch" or way.runtime != "torch"
            }
        return {
            name: way
            if way.runtime == "torch" or way.cut is not None
            else way.model_copy(update={"winograd": False})
            for name, way in ways.items()
        }

    def _rough_ways(self, exact: Execution, able: Mapping[str, str]) -> dict[str, Execution]:
        """In numbers that are coarser than the model's."""
        from hpc_heatmap.model.program_network import has_bfloat16
        from hpc_heatmap.model.quantization import find_levels, find_ranges

        ways, rough = {}, exact
        if has_bfloat16():
            rough = exact.model_copy(update={"precision": "bfloat16", "winograd": False})
            ways["torch in bfloat16"] = rough
            if "openvino" in able:
                ways["OpenVINO in bfloat16"] = rough.model_copy(update={"runtime": "openvino"})
        if not able:
            return ways
        ranges = find_ranges(self._program, self._calibration())
        for said, between in (("int8", False), ("int8 between convolutions", True)):
            levels = find_levels(self._program, ranges, between=between)
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

    def _compared(self, way: Execution) -> tuple[Execution, float]:
        """A way with how far it is from the model: less of what was seen to be exact before."""
        made = self._made_of(way)
        if not _is_exact(way):
            return self._comparison.measured(way, made)
        known = self._file_of("exact", [way])
        n_patches = _KNOWN_PATCHES if known.exists() else _EXACT_PATCHES
        found, difference = self._comparison.measured(way, made, n_patches)
        if difference <= EXACT:
            keep(known, lambda partial: partial.write_text(str(difference), "utf-8"))
        return found, difference

    def _made_of(self, execution: Execution) -> NetworkClassifier:
        given = self._classifier
        names = given.descriptor.class_names
        network = network_of(self._program, given.descriptor, execution)
        return NetworkClassifier(network, given.descriptor, names[given.lesion_index])

    def _speeds(self, ways: dict[str, Execution]) -> dict[str, float]:
        """Windows a second of processor time in each way; as it was the last time, if known."""
        from hpc_heatmap.model.trials import Speeds

        stored = self._file_of("trials", [*ways.values()], *ways)
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = json.loads(stored.read_text("utf-8"))
            return {name: float(known[name]) for name in ways if name in known}
        trial = self._trial
        speeds = Speeds(self._made_of, trial.patches[0], trial.stride_px, trial.batch_size)
        found = speeds.windows_per_s(ways)
        keep(stored, lambda partial: partial.write_text(json.dumps(found), "utf-8"))
        return found

    def _file_of(self, folder: str, ways: Sequence[Execution], *names: str) -> Path:
        """Where what was found is kept: by machine, versions, model and request."""
        trial = self._trial
        asked = [*this_processor(), trial.sha256, trial.stride_px]
        asked += [version(way.runtime) for way in ways]
        asked += [trial.batch_size, *names]
        asked += [way.model_dump_json(include=_WAY) for way in ways]
        return cached_file(folder, json.dumps(asked), ".json")


def _is_exact(way: Execution) -> bool:
    return way.precision == "float32" and not way.levels


def _best(names: Collection[str], speeds: Mapping[str, float]) -> str | None:
    """The fastest way; torch's exact one where none is faster by a margin. None without torch."""
    torch = max(({"torch", "torch" + _ALONE} & {*names}), key=speeds.__getitem__, default=None)
    if torch is None:
        return None
    fastest = max(names, key=speeds.__getitem__)
    return fastest if speeds[fastest] >= _MARGIN * speeds[torch] else torch


def _rates(name: str, way: Execution, speeds: Mapping[str, float]) -> dict[str, float]:
    """Windows a second of a way, and of windows alone where they share."""
    if way.cut is None:
        return {"windows_per_s": speeds[name]}
    alone = speeds["torch" + _ALONE] * speeds[name] / speeds["torch"]
    return {
        "windows_per_s": speeds[name],
        "alone_windows_per_s": speeds.get(name + _ALONE, alone),
    }
