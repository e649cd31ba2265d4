"""ONNX Runtime and OpenVINO against the plain loop over windows, on real pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from chain import group
from models import descriptor
from networks import network, spread
from slides import big_slide

import hpc_heatmap
from hpc_heatmap.errors import ModelError
from hpc_heatmap.execution import Execution
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.model import (
    Descriptor,
    NetworkClassifier,
    Trial,
    choose_execution,
    load_classifier,
    program_copy,
    read_descriptor,
)
from hpc_heatmap.model import runtimes as seam
from hpc_heatmap.model.capture import capture
from hpc_heatmap.model.onnx_graph import GraphError, window_graph
from hpc_heatmap.model.runtime_network import RuntimeNetwork
from hpc_heatmap.model.runtimes import Batches, runtime
from hpc_heatmap.model.sharing import share
from hpc_heatmap.stages.adaptive import Refinement, score_adaptively
from hpc_heatmap.stages.scoring import score_group

SIDE = 64
EXACT = 1e-5
FAMILIES = ("googlenet", "resnet", "vgg", "densenet", "mobile", "gated")
FED = Descriptor(**descriptor(patch_size_pixels=SIDE))
DEMO = Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"


@pytest.fixture(scope="module")
def built(pixels):
    """A network of a family and its program."""
    windows = [pixels[k : k + SIDE, -k - 1 - SIDE : -k - 1] for k in range(0, 448, 56)]
    batch = torch.from_numpy(np.stack([FED.prepare(w) for w in windows]))

    @cache
    def build(family: str):
        made = spread(network(family, SIDE), batch)
        return made, capture(made, SIDE)

    return build


@pytest.fixture(scope="module")
def groups_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    path = big_slide(folder / "s.tiff", 420, 400, downsamples=(1,))
    return group(path, folder / "g", SIDE, 16, None, tissue_method="all", patches_per_group=99)


def plain_scores(made: torch.nn.Module, windows: list[np.ndarray]) -> np.ndarray:
    """Each window by itself, as the module that was built gives it."""
    with torch.inference_mode():
        logits = [made(torch.from_numpy(FED.prepare(w))[None])[0].double() for w in windows]
    return np.array([torch.softmax(given, 0)[1] for given in logits])


class RuntimeContract:
    """What every runtime behind the seam keeps."""

    name: str

    @pytest.fixture(autouse=True)
    def is_there(self):
        if self.name not in seam.installed():
            pytest.skip(f"{self.name} is not installed")

    def classifier(self, program, **execution) -> NetworkClassifier:
        chosen = Execution(backend="program", runtime=self.name, **execution)
        return NetworkClassifier(RuntimeNetwork(program, chosen, FED.normalization()), FED)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_each_window_is_scored_as_by_the_plain_loop(self, family, built, pixels):
        made, program = built(family)
        classifier = self.classifier(program)
        prepared = classifier.prepare(pixels[:256, :256])
        assert prepared.dtype == np.uint8
        # More than a batch, and not a multiple of one.
        windows = [classifier.cut(prepared, k, 3 * k) for k in range(0, 64, 5)]
        expected = plain_scores(made, windows)
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(classifier.scores(windows), expected, atol=EXACT, rtol=0)

    @pytest.mark.parametrize("family", [f for f in FAMILIES if f != "gated"])
    @pytest.mark.parametrize("stride", [16, 32])
    def test_windows_that_share_are_the_plain_loops(self, family, stride, built, pixels):
        made, program = built(family)
        tops, lefts = list(range(stride // 2, 193, stride)), list(range(0, 129, stride))
        found = share(program, stride, len(lefts))
        assert found is not None
        classifier = self.classifier(
            program, stride_px=stride, cut=found.cut, jump_px=found.jump_px
        )
        prepared = classifier.prepare(pixels[:256, :256])
        windows = [classifier.cut(prepared, top, left) for top in tops for left in lefts]
        expected = plain_scores(made, windows).reshape(len(tops), len(lefts))
        batches = classifier.shared_scores(prepared, tops, lefts, stride, 16)
        np.testing.assert_allclose(np.concatenate(list(batches)), expected, atol=EXACT, rtol=0)

    def test_the_demos_trained_model(self, pixels):
        fed = read_descriptor(DEMO.with_suffix(".json"))
        plain = load_classifier(DEMO, fed)
        chosen = Execution(backend="program", runtime=self.name)
        classifier = load_classifier(DEMO, fed, execution=chosen)
        corners = [(k, 13 * k % 300) for k in range(0, 300, 23)]
        floats, raw = plain.prepare(pixels), classifier.prepare(pixels)
        expected = plain.scores([plain.cut(floats, *corner) for corner in corners])
        scores = classifier.scores([classifier.cut(raw, *corner) for corner in corners])
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(scores, expected, atol=EXACT, rtol=0)

    def test_a_score_does_not_depend_on_the_windows_beside_it(self, built, pixels):
        """To the bit: a run may be cut anyhow."""
        _, program = built("googlenet")
        classifier = self.classifier(program)
        windows = [pixels[k : k + SIDE, k : k + SIDE] for k in range(0, 400, 21)]
        scores = classifier.scores(windows)
        for first, last in ((0, 1), (3, 5), (0, 8), (5, 19)):
            np.testing.assert_array_equal(
                classifier.scores(windows[first:last]), scores[first:last]
            )

    def test_refined_points_have_the_bits_of_the_full_run(self, built, groups_file):
        _, program = built("googlenet")
        found = share(program, 16, 4)
        classifier = self.classifier(program, stride_px=16, cut=found.cut, jump_px=found.jump_px)
        with open_groups(groups_file.groups) as groups:
            members, geometry = groups.read(0), groups.header.geometry(16)
        full, _ = score_group(members, geometry, classifier, 16)
        high, warm = np.nanquantile(full.scores.max(axis=(1, 2)), [0.9, 0.5])
        wanted = Refinement(64, float(high), float(warm))
        some, work = score_adaptively(members, geometry, wanted, classifier, 16)
        assert 0 < some.refined.sum() < len(some.refined) and work.skipped
        np.testing.assert_array_equal(some.scores[some.refined], full.scores[some.refined])


def test_torch_is_not_loaded_where_windows_do_not_share(tmp_path):
    """A task of a wide stride starts in half the time."""
    fed = read_descriptor(DEMO.with_suffix(".json"))
    (tmp_path / "program.npz").write_bytes(program_copy(DEMO, "sha of the demo's", fed))
    code = (
        "import sys; import numpy as np; from pathlib import Path\n"
        "from hpc_heatmap.execution import Execution\n"
        "from hpc_heatmap.model import load_classifier, read_descriptor\n"
        "model = Path(sys.argv[1]); fed = read_descriptor(model.with_suffix('.json'))\n"
        "chosen = Execution(backend='program', runtime='onnxruntime', stride_px=96, share=True)\n"
        "made = load_classifier(model, fed, execution=chosen, program=Path(sys.argv[2]))\n"
        "assert not made.shares(96)\n"
        "made.scores([np.zeros((96, 96, 3), np.uint8)])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, DEMO, tmp_path / "program.npz"], check=True)


def test_openvino_does_not_touch_the_network():
    """Its own way to be imported starts a process that reports so."""
    if "openvino" not in seam.installed():
        pytest.skip("openvino is not installed")
    code = (
        "import multiprocessing, socket, sys\n"
        "def refused(*args, **options): sys.exit('network or process')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "multiprocessing.Process.start = refused\n"
        "import hpc_heatmap.model.openvino\n"
        "sys.exit(any(sys.modules[m] for m in sys.modules if m.startswith('openvino_telemetry')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "CI": ""})


class TestOnnxRuntime(RuntimeContract):
    name = "onnxruntime"


class TestOpenVino(RuntimeContract):
    name = "openvino"


def test_what_onnx_does_not_hold_is_run_by_torch(built):
    _, program = built("attention")
    with pytest.raises(GraphError, match=r"aten\.\S+ is not written in ONNX"):
        window_graph(program, 2, None, FED.normalization())


def test_a_node_without_the_runtime_says_so(built, monkeypatch):
    monkeypatch.setattr(seam, "find_spec", lambda name: None)
    _, program = built("vgg")
    chosen = Execution(backend="program", runtime="openvino")
    with pytest.raises(ModelError, match="OpenVINO, which is not installed on this node"):
        RuntimeNetwork(program, chosen, FED.normalization())


def test_a_runtime_must_win_by_a_margin(monkeypatch, tmp_path, pixels):
    """Noise does not choose; and one that gives other scores is not used, however fast."""
    from hpc_heatmap.model import choosing

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fed = read_descriptor(DEMO.with_suffix(".json"))
    plain = load_classifier(DEMO, fed, channels_last=True)
    trial = Trial(DEMO, "sha", 96, 16, [np.ascontiguousarray(pixels[:192, :192])])

    def chosen_at(speeds: dict[str, float]) -> Execution:
        monkeypatch.setattr(
            choosing._Choice, "_speeds", lambda self, ways: {way: speeds[way] for way in ways}
        )
        return choose_execution(plain, trial)

    fast = {"alone": 10.0, "shared": 10.0, "torch": 10.0, "ONNX Runtime": 10.9, "OpenVINO": 10.5}
    assert chosen_at(fast).runtime == "torch"
    found = chosen_at(fast | {"ONNX Runtime": 11.5})
    assert found.runtime == "onnxruntime" and found.windows_per_s == 11.5
    assert found.difference <= EXACT and found.compared_windows > 8
    assert "ONNX Runtime runs the model" in found.reason

    class Wrong:
        def __init__(self, run, size):
            self._run = Batches(run, size)

        def __call__(self, windows):
            return self._run(windows) * 1.01

    monkeypatch.setattr("hpc_heatmap.model.runtime_network.Batches", Wrong)
    found = chosen_at(fast | {"ONNX Runtime": 99.0})
    assert found.runtime == "torch" and "ONNX Runtime differs by" in found.reason


def test_an_unfinished_batch_is_filled_up(built):
    _, program = built("vgg")
    graph = window_graph(program, 4, None, FED.normalization())
    run = Batches(runtime("onnxruntime", graph, 1), 4)
    windows = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
    assert run(windows).shape == (6, 2)
    np.testing.assert_array_equal(run(windows)[4:], run(windows[4:]))
