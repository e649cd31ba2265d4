"""Classifiers: from pixels to lesion probabilities, compared with the same written plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from models import NORMALIZE, descriptor
from PIL import Image

from hpc_heatmap.errors import ModelOutputError
from hpc_heatmap.model import Descriptor, FunctionClassifier, NetworkClassifier

LOGITS = np.array([[0.3, -1.2, 2.0], [-700.0, 5.0, 800.0], [0.0, 0.0, 0.0]])


def fixed(logits: npt.ArrayLike, **changes: Any) -> npt.NDArray[np.float32]:
    """Scores that a network with these outputs gives, whatever it sees."""
    values = np.asarray(logits, np.float32)
    classifier = NetworkClassifier(lambda batch: values, Descriptor(**descriptor(**changes)))
    window = classifier.cut(classifier.prepare(np.zeros((64, 64, 3), np.uint8)), 0, 0)
    return classifier.scores([window] * len(values))


THREE = {"num_classes": 3, "class_names": ["a", "b", "c"], "lesion_class": "b"}


def test_more_than_one_output_is_a_softmax() -> None:
    powers = np.exp(LOGITS - LOGITS.max(axis=1, keepdims=True))
    expected = powers[:, 1] / powers.sum(axis=1)
    np.testing.assert_allclose(fixed(LOGITS, **THREE), expected, atol=1e-7)
    two = LOGITS[:, :2]
    expected = 1 / (1 + np.exp(two[:, 0] - two[:, 1]))
    np.testing.assert_allclose(fixed(two), expected, atol=1e-7)
    np.testing.assert_allclose(fixed(two, lesion_class="normal"), 1 - expected, atol=1e-7)


def test_one_output_is_a_sigmoid() -> None:
    logits = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])
    expected = [0.0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-2)), 1.0]
    one = {"num_classes": 1, "class_names": ["tumor"], "lesion_class": None}
    with np.errstate(over="raise"):
        np.testing.assert_allclose(fixed(logits[:, None], **one), expected, atol=1e-7)
        np.testing.assert_allclose(fixed(logits, **one), expected, atol=1e-7)


def test_one_output_of_two_classes_is_the_last_ones_probability() -> None:
    logits = np.array([[-1.0], [2.0]])
    expected = 1 / (1 + np.exp([1.0, -2.0]))
    np.testing.assert_allclose(fixed(logits), expected, atol=1e-7)
    np.testing.assert_allclose(fixed(logits, lesion_class="normal"), 1 - expected, atol=1e-7)


def test_a_named_activation_wins() -> None:
    expected = 1 / (1 + np.exp(-LOGITS[:, 1]))
    np.testing.assert_allclose(fixed(LOGITS, **THREE, activation="sigmoid"), expected, atol=1e-7)
    shares = [[0.25, 0.75], [1, 0]]
    np.testing.assert_array_equal(fixed(shares, activation="none"), [0.75, 0])


@pytest.mark.parametrize("shape", [(3, 3), (2, 2), (3, 2, 1), (6,), ()])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    values = np.zeros(shape, np.float32)
    classifier = NetworkClassifier(lambda batch: values, Descriptor(**descriptor()))
    window = np.zeros((3, 32, 32), np.float32)
    with pytest.raises(ModelOutputError) as error:
        classifier.scores([window] * 3)
    assert f"an array of shape {shape} for 3 windows" in str(error.value)
    assert "promises (3, 2)" in str(error.value)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(wrong: float) -> None:
    with pytest.raises(ModelOutputError, match="NaN or infinity for 2 of 3 windows"):
        fixed([[0, wrong], [0, 0], [wrong, wrong]])


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ModelOutputError, match="0 to 1"):
        fixed([[0.5, wrong]], activation="none")
    with pytest.raises(ModelOutputError, match="0 to 1"):
        FunctionClassifier(lambda w: np.full(len(w), wrong), 8).scores([np.zeros((8, 8, 3))])


@pytest.mark.parametrize("window", [64, 35])
def test_windows_are_resized_one_by_one(window: int) -> None:
    """Resize, ToTensor and Normalize of each window, as a zoo's model was trained."""
    steps = [
        {"name": "Resize", "arguments": {"size": 32}},
        {"name": "ToTensor"},
        {"name": "Normalize", "arguments": NORMALIZE},
    ]
    seen: list[np.ndarray] = []

    def network(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return batch.mean(axis=(2, 3))[:, :2]

    classifier = NetworkClassifier(
        network, Descriptor(**descriptor(patch_size_pixels=window, transform=steps))
    )
    patch = np.random.default_rng(3).integers(0, 256, (2 * window, 2 * window, 3), np.uint8)
    places = [(0, 0), (0, window), (window // 2, window // 3), (window, window)]
    prepared = classifier.prepare(patch)
    scores = classifier.scores([classifier.cut(prepared, *place) for place in places])

    plain = []
    for top, left in places:
        image = Image.fromarray(patch[top : top + window, left : left + window])
        small = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
        plain.append(((small / 255 - NORMALIZE["mean"]) / NORMALIZE["std"]).transpose(2, 0, 1))
    assert seen[0].dtype == np.float32 and seen[0].shape == (4, 3, 32, 32)
    np.testing.assert_allclose(seen[0], plain, atol=5e-6)
    means = np.asarray(plain).mean(axis=(2, 3))
    expected = 1 / (1 + np.exp(means[:, 0] - means[:, 1]))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_windows_without_a_resize_are_views_of_a_patch_normalised_once() -> None:
    classifier = NetworkClassifier(lambda b: b.mean((2, 3))[:, :2], Descriptor(**descriptor()))
    patch = np.random.default_rng(4).integers(0, 256, (64, 64, 3), np.uint8)
    prepared = classifier.prepare(patch)
    window = classifier.cut(prepared, 5, 9)
    assert window.shape == (3, 32, 32) and np.shares_memory(window, prepared)
    expected = (patch[5:37, 9:41] / 255 - NORMALIZE["mean"]) / NORMALIZE["std"]
    np.testing.assert_allclose(window, expected.transpose(2, 0, 1), atol=2e-6)


def test_a_function_sees_pixels() -> None:
    classifier = FunctionClassifier(lambda w: w[:, 0, 0, 0] / 255, 35, 0.5)
    patch = np.random.default_rng(6).integers(0, 256, (69, 69, 3), np.uint8)
    window = classifier.cut(classifier.prepare(patch), 10, 20)
    np.testing.assert_array_equal(window, patch[10:45, 20:55])
    np.testing.assert_allclose(classifier.scores([window]), patch[10, 20, 0] / 255, atol=1e-7)
    assert (classifier.window_px, classifier.requested_spacing_um) == (35, 0.5)
