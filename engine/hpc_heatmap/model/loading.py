"""From a model file to a classifier, and its check before a run relies on it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_heatmap.digest import sha256_of
from hpc_heatmap.errors import ModelError, UnsafeModelError, brief
from hpc_heatmap.execution import Execution
from hpc_heatmap.model.archive import CONVERT, refuse_code
from hpc_heatmap.model.classifier import EXACT, Network, NetworkClassifier
from hpc_heatmap.model.descriptor import Descriptor

if TYPE_CHECKING:
    from hpc_heatmap.model.program import Program

__all__ = [
    "check_file",
    "load_classifier",
    "network_of",
    "program_copy",
    "traced_copy",
]

SUFFIXES = (".pt", ".pt2", ".onnx")
_PICKLES = {".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".bin", ".th", ".tar"}


def check_file(path: Path) -> None:
    """Tell whether a file is a model that may be loaded, without loading it.

    Raises
    ------
    UnsafeModelError
        It is a pickle.
    ModelError
        It is missing or of no format that is known.
    """
    if not path.is_file():
        raise ModelError(f"There is no model file {path}: check --model.")
    names: list[str] = []
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"The model file {path} cannot be read ({brief(error)}).") from error
    pickled = any(name.endswith("data.pkl") for name in names)
    script = any("/code/" in name for name in names)
    if (
        path.suffix in _PICKLES
        or head[:1] == b"\x80"
        or (pickled and not script and not _exported(names))
    ):
        raise UnsafeModelError(f"{path} holds a pickled Python object. {CONVERT}")
    fits = {
        ".pt": script,
        ".pt2": _exported(names),
        ".onnx": bool(head) and not names and head[:1] == b"\x08",
    }
    if path.suffix not in fits:
        raise ModelError(
            f"{path} is of no model format that is read: give TorchScript (.pt), torch.export "
            "(.pt2) or ONNX (.onnx)."
        )
    if not fits[path.suffix]:
        raise ModelError(
            f"{path} is not a {path.suffix} model: the file is damaged or of another format. Give "
            "TorchScript (.pt), torch.export (.pt2) or ONNX (.onnx)."
        )
    if path.suffix == ".pt2":
        refuse_code(path)


def _exported(names: list[str]) -> bool:
    """Whether the members of an archive are those of torch.export.save."""
    return any(
        name.endswith("serialized_exported_program.json")
        or ("/models/" in name and name.endswith(".json"))
        for name in names
    )


def load_classifier(
    path: Path,
    descriptor: Descriptor,
    *,
    lesion_class: str | None = None,
    threads: int = 1,
    channels_last: bool = False,
    traced: Path | None = None,
    execution: Execution | None = None,
    program: Path | None = None,
    tolerance: float | None = None,
) -> NetworkClassifier:
    """Load a model file.

    Parameters
    ----------
    path
        ``.pt`` (TorchScript), ``.pt2`` (torch.export) or ``.onnx``.
    descriptor
        How it is fed.
    lesion_class
        The class whose probability is the score, where the descriptor does not say.
    threads
        Threads of one inference.
    channels_last
        What :func:`choose_memory_format` said of the model.
    traced
        A copy of a ``.pt2`` model that loads faster, where there is one.
    execution
        How the model is done. Default: as it is.
    program
        The model as a program; it need not exist.
    tolerance
        What the user allows, where it is not exactly the same.

    Raises
    ------
    UnsafeModelError
        The file is a pickle.
    ModelError
        The file is not a model, or no lesion class is named.
    """
    check_file(path)
    index = descriptor.lesion_index(lesion_class)
    network: Network
    if execution is not None and execution.backend == "program":
        network = _program_network(path, descriptor, execution, program, threads)
    else:
        network = _network(path, threads, channels_last, traced)
    # Windows alone and windows that share may each be as far from the exact scores.
    apart = 2 * tolerance if tolerance else EXACT
    return NetworkClassifier(network, descriptor, descriptor.class_names[index], apart)


def _program_network(
    path: Path, descriptor: Descriptor, execution: Execution, file: Path | None, threads: int
) -> Network:
    """The program of a model from its file; where that is gone, captured once more."""
    from hpc_heatmap.model.program import Program

    try:
        if file is None:
            raise ModelError("No file of the program was given.")
        program = Program.load(file)
    except ModelError:
        from hpc_heatmap.model.program import CaptureError
        from hpc_heatmap.model.program_cache import capture_model

        try:
            side = descriptor.resize_px or descriptor.patch_size_pixels
            program = capture_model(path, sha256_of(path), side)
        except CaptureError as error:
            raise ModelError(f"{path} cannot be written as a program: {error}.") from error
    return network_of(program, descriptor, execution, threads)


def network_of(
    program: Program, descriptor: Descriptor, execution: Execution, threads: int = 1
) -> Network:
    """A program made ready, by torch or by the runtime that was chosen."""
    if execution.runtime == "torch":
        from hpc_heatmap.model.program_network import ProgramNetwork

        return ProgramNetwork(program, execution, threads)
    from hpc_heatmap.model.runtime_network import RuntimeNetwork

    return RuntimeNetwork(program, execution, descriptor.normalization(), threads)


def _network(path: Path, threads: int, channels_last: bool, traced: Path | None) -> Network:
    if path.suffix == ".onnx":
        from hpc_heatmap.model.onnx import OnnxNetwork

        return OnnxNetwork(path, threads)
    from hpc_heatmap.model.torch import TorchNetwork

    return TorchNetwork(path, threads, channels_last=channels_last, traced=traced)


def traced_copy(path: Path, descriptor: Descriptor, *, channels_last: bool) -> bytes | None:
    """A copy of a ``.pt2`` model that tasks load faster; None for others, and where it cannot be.

    It gives the very bits of the model, or there is none.
    """
    if path.suffix != ".pt2":
        return None
    from hpc_heatmap.model.torch import traced_copy as trace

    side = descriptor.resize_px or descriptor.patch_size_pixels
    return trace(path, side, channels_last=channels_last)


def program_copy(path: Path, sha256: str, descriptor: Descriptor) -> bytes:
    """A model as the file of a program, for tasks."""
    from hpc_heatmap.model.program_cache import capture_model

    file = io.BytesIO()
    side = descriptor.resize_px or descriptor.patch_size_pixels
    capture_model(path, sha256, side).save(file)
    return file.getvalue()
