"""Whether a model works, and how its batches lie in memory: found out before a run relies on it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import ModelError, ModelOutputError, brief
from hpc_heatmap.model.classifier import EXACT, Classifier, NetworkClassifier
from hpc_heatmap.model.user_cache import cached_file, keep, this_processor

__all__ = ["check_classifier", "check_model", "choose_memory_format", "known_check"]


def known_check(batch_size: int, sha256s: Sequence[str]) -> bool | None:
    """What :func:`check_model` found of a model on this machine before; None where it did not."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        text = _file_of(batch_size, sha256s).read_text("utf-8")
        return bool(json.loads(text)["channels_last"])
    return None


def check_model(classifier: Classifier, batch_size: int, sha256s: Sequence[str] = ()) -> bool:
    """Check a model and choose how its batches lie in memory; says whether channels last.

    What is found of a file is kept in the user's cache: noise is scored once.

    Parameters
    ----------
    classifier
        The model.
    batch_size
        Windows at once.
    sha256s
        Of the files that it was made of, where it was.

    Raises
    ------
    ModelError
        See :func:`check_classifier`.
    """
    threads: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if hasattr(getattr(classifier, "network", None), "channels_last"):
        from hpc_heatmap.model.torch import several_threads

        threads = several_threads()
    with threads:
        channels_last = isinstance(classifier, NetworkClassifier) and choose_memory_format(
            classifier
        )
        check_classifier(classifier, batch_size)
    if sha256s:
        found = json.dumps({"channels_last": channels_last})
        keep(_file_of(batch_size, sha256s), lambda partial: partial.write_text(found, "utf-8"))
    return channels_last


def _file_of(batch_size: int, sha256s: Sequence[str]) -> Path:
    asked = [version("torch"), version("onnxruntime"), *this_processor(), batch_size, *sha256s]
    return cached_file("checks", json.dumps(asked), ".json")


def choose_memory_format(classifier: NetworkClassifier) -> bool:
    """Let a network take batches channels last where it can; says whether it does.

    Convolutions of torch are up to twice as fast so. The choice is made once, when a run is
    planned, by the scores of windows of noise alone, never by the clock: all tasks of a run must
    give the same bits.
    """
    network = classifier.network
    if not hasattr(network, "channels_last"):
        return False
    side = classifier.window_px
    rng = np.random.default_rng(0)
    patches = [rng.integers(0, most, (2 * side, 2 * side, 3), np.uint8) for most in (256, 128, 32)]

    def scores(channels_last: bool) -> npt.NDArray[np.float32]:
        network.channels_last = channels_last
        windows = [classifier.cut(classifier.prepare(p), side // 2, side // 2) for p in patches]
        return np.asarray(classifier.scores(windows))

    try:
        agree = bool(np.abs(scores(False) - scores(True)).max() <= EXACT)
    except Exception:
        # Whether the model works at all is the question of check_classifier.
        agree = False
    network.channels_last = agree
    return agree


def check_classifier(classifier: Classifier, batch_size: int) -> None:
    """Score windows of noise, so that a model that cannot work is refused before a run starts.

    Raises
    ------
    ModelError
        It does not take windows of the size that the descriptor says, cannot take different
        numbers of windows, gives NaN or the wrong shape.
    """
    side = classifier.window_px
    noise = np.random.default_rng(0).integers(0, 256, (2 * side, 2 * side, 3), np.uint8)
    failed: dict[int, Exception] = {}
    sizes = sorted({1, batch_size}) if batch_size > 1 else [1]
    for n_windows in sizes:
        try:
            window = classifier.cut(classifier.prepare(noise), side // 2, side // 2)
            classifier.scores([window] * n_windows)
        except ModelOutputError as error:
            raise ModelError(f"The model cannot be used. {error}") from error
        except Exception as error:
            failed[n_windows] = error
    if not failed:
        return
    n_windows, reason = failed.popitem()
    if len(sizes) == 2 and not failed:
        works = sum(sizes) - n_windows
        raise ModelError(
            f"The model scores {works} windows at once and fails on {n_windows} "
            f"({brief(reason)}): export it with a dynamic batch size."
        ) from reason
    raise ModelError(
        f"The model fails on windows of {side} x {side} px, the size that its descriptor says "
        f"({brief(reason)}): check patch_size_pixels and transform, and that it was exported with "
        "a dynamic batch size."
    ) from reason
