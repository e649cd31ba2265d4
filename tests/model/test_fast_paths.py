"""Ways to score and load faster, and that they change nothing: copies by tracing, channels last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from models import Tiny, descriptor, save_exported, save_script, tiny_model
from slides import write_slide

import hpc_heatmap
from hpc_heatmap.model import Descriptor, choose_memory_format, load_classifier, traced_copy
from hpc_heatmap.model.classifier import NetworkClassifier

DESCRIPTOR = Descriptor(**descriptor())


class ReadsBatchSize(torch.nn.Module):
    """A network that uses the number of windows, which tracing likes to take for a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.tiny = Tiny()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.tiny(batch.reshape(batch.shape[0], 3, 32, 32))


class Contiguous(torch.nn.Module):
    """A network that cannot take batches channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.linear(batch.view(-1, 3 * 32 * 32))


def windows_of(classifier: NetworkClassifier, n: int) -> list[np.ndarray]:
    patches = np.random.default_rng(5).integers(0, 256, (n, 64, 64, 3), np.uint8)
    return [classifier.cut(classifier.prepare(patch), 7, 3) for patch in patches]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("network", [Tiny(), ReadsBatchSize()], ids=["tiny", "reshape"])
def test_a_traced_copy_gives_the_same_bits(
    tmp_path: Path, network: torch.nn.Module, channels_last: bool
) -> None:
    path = save_exported(tmp_path / "model.pt2", network)
    copy = traced_copy(path, DESCRIPTOR, channels_last=channels_last)
    assert copy is not None
    (tmp_path / "traced.pt").write_bytes(copy)
    slow = load_classifier(path, DESCRIPTOR, channels_last=channels_last)
    fast = load_classifier(
        path, DESCRIPTOR, channels_last=channels_last, traced=tmp_path / "traced.pt"
    )
    for n in (1, 2, 3, 32, 7):
        np.testing.assert_array_equal(
            fast.scores(windows_of(fast, n)), slow.scores(windows_of(slow, n))
        )


def test_a_damaged_or_missing_copy_is_done_without(tmp_path: Path) -> None:
    path = save_exported(tmp_path / "model.pt2", Tiny())
    (tmp_path / "traced.pt").write_bytes(b"damaged")
    plain = load_classifier(path, DESCRIPTOR)
    expected = plain.scores(windows_of(plain, 4))
    for name in ("traced.pt", "none.pt"):
        found = load_classifier(path, DESCRIPTOR, traced=tmp_path / name)
        np.testing.assert_array_equal(found.scores(windows_of(found, 4)), expected)


def test_only_exported_models_are_traced(tmp_path: Path) -> None:
    path = save_script(tmp_path / "model.pt", Tiny())
    assert traced_copy(path, DESCRIPTOR, channels_last=False) is None


def test_the_copy_is_loaded_without_torchs_compiler(tmp_path: Path) -> None:
    path = save_exported(tmp_path / "model.pt2", Tiny())
    copy = traced_copy(path, DESCRIPTOR, channels_last=True)
    assert copy is not None
    (tmp_path / "traced.pt").write_bytes(copy)
    code = (
        "import sys; from pathlib import Path; from hpc_heatmap.model.torch import TorchNetwork; "
        "TorchNetwork(Path(sys.argv[1]), 1, traced=Path(sys.argv[2])); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "traced.pt"], check=True)


@pytest.mark.parametrize("save", [save_script, save_exported])
def test_channels_last_is_chosen_where_scores_stay(tmp_path: Path, save: object) -> None:
    path = tmp_path / ("model.pt" if save is save_script else "model.pt2")
    classifier = load_classifier(save(path, Tiny()), DESCRIPTOR)  # type: ignore[operator]
    before = classifier.scores(windows_of(classifier, 6))
    assert choose_memory_format(classifier)
    np.testing.assert_allclose(classifier.scores(windows_of(classifier, 6)), before, atol=1e-5)


def test_a_network_that_cannot_stays_contiguous(tmp_path: Path) -> None:
    classifier = load_classifier(save_script(tmp_path / "model.pt", Contiguous()), DESCRIPTOR)
    before = classifier.scores(windows_of(classifier, 6))
    assert not choose_memory_format(classifier)
    np.testing.assert_array_equal(classifier.scores(windows_of(classifier, 6)), before)


def test_pixels_are_normalised_the_same_in_both_orders() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    planes = DESCRIPTOR.prepare(pixels)
    pixelwise = DESCRIPTOR.prepare(pixels, channels_last=True)
    np.testing.assert_array_equal(planes, pixelwise)
    assert pixelwise.transpose(1, 2, 0).flags.c_contiguous and planes.flags.c_contiguous


def test_batches_of_any_size_follow_each_other(tmp_path: Path) -> None:
    classifier = load_classifier(save_script(tmp_path / "model.pt", Tiny()), DESCRIPTOR)
    windows = windows_of(classifier, 9)
    whole = classifier.scores(windows)
    for n in (1, 9, 2, 5):
        np.testing.assert_allclose(classifier.scores(windows[:n]), whole[:n], atol=1e-6)


def test_another_models_copy_is_swept_away(tmp_path: Path) -> None:
    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        return np.full((h, w, 3), (200, 90, 160), np.uint8)

    slide = write_slide(tmp_path / "slide.tiff", pixels_at, 200, 200, downsamples=(1,))
    left = tmp_path / "run" / "model" / "traced.pt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"what a plan that was killed left")
    settings = hpc_heatmap.RunSettings(tissue_method="all")
    model = tiny_model(tmp_path / "tiny")
    run = hpc_heatmap.start_run([slide], model, tmp_path / "run", settings=settings)
    assert not run.paths.traced_model.exists()
    assert run.file.model.memory_format == "channels_last"
