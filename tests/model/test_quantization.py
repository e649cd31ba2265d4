"""Results as bytes: levels from real windows, and what a runtime makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models import descriptor
from networks import network, spread

import hpc_heatmap
from hpc_heatmap.execution import Execution
from hpc_heatmap.model import Descriptor, Trial, choose_execution, load_classifier, read_descriptor
from hpc_heatmap.model.capture import capture
from hpc_heatmap.model.onnx_graph import Levels, window_graph
from hpc_heatmap.model.program import CONVOLUTION, INPUT, Program
from hpc_heatmap.model.quantization import find_levels, find_ranges
from hpc_heatmap.model.runtimes import Batches, installed, runtime
from hpc_heatmap.model.steps import Steps

SIDE = 64
FED = Descriptor(**descriptor(patch_size_pixels=SIDE))
DEMO = Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"


def windows_of(pixels: np.ndarray, side: int, n: int, seed: int = 0) -> np.ndarray:
    corners = np.random.default_rng(seed).integers(0, 512 - side, (n, 2)).tolist()
    return np.stack([pixels[top : top + side, left : left + side] for top, left in corners])


def program_of(family: str, pixels: np.ndarray) -> tuple[Program, dict[str, Levels]]:
    batch = np.stack([FED.prepare(w) for w in windows_of(pixels, SIDE, 20)])
    program = capture(spread(network(family, SIDE), torch.from_numpy(batch)), SIDE)
    return program, find_levels(program, find_ranges(program, batch))


def rounded(x: torch.Tensor, levels: Levels) -> torch.Tensor:
    byte = torch.clamp(torch.round(x / levels.scale) + levels.zero, 0, 255)
    return (byte - levels.zero) * levels.scale


def slow_logits(program: Program, levels: dict[str, Levels], batch: np.ndarray) -> np.ndarray:
    """Step by step in float32, rounding what is kept as bytes, and weights to 8 bits."""
    steps = Steps(program)
    values = {INPUT: torch.from_numpy(batch)}
    for step in program.steps[1:]:
        if step.op == CONVOLUTION and step.inputs[0] in levels:
            x, weight, bias, stride, padding, dilation, groups = step.args
            kernel = torch.from_numpy(program.weights[weight["weight"]])
            scale = kernel.abs().amax((1, 2, 3), keepdim=True) / 127
            kernel = torch.round(kernel / scale) * scale
            offset = None if bias is None else torch.from_numpy(program.weights[bias["weight"]])
            given = values[x["step"]]
            found = torch.conv2d(given, kernel, offset, stride, padding, dilation, groups)
            found = torch.relu(found) if step.relu else found
        else:
            found = steps.call(step, values.__getitem__, len(batch))
        values[step.name] = rounded(found, levels[step.name]) if step.name in levels else found
    return values[program.steps[-1].name].numpy()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("family", ["googlenet", "resnet", "vgg", "mobile"])
def test_bytes_are_what_rounding_step_by_step_gives(name, family, pixels):
    if name not in installed():
        pytest.skip(f"{name} is not installed")
    program, levels = program_of(family, pixels)
    assert len(levels) >= 2
    windows = windows_of(pixels, SIDE, 12, seed=1)
    batch = np.stack([FED.prepare(w) for w in windows])
    with torch.inference_mode():
        expected = slow_logits(program, levels, batch)
        exact = Steps(program).run({INPUT: torch.from_numpy(batch)}).numpy()
    run = Batches(runtime(name, window_graph(program, 4, None, FED.normalization(), levels), 1), 4)
    found = run(windows)
    error = np.abs(expected - exact).max()
    assert error > 1e-3
    # A number in the middle of two levels may go either way, now and then.
    assert np.abs(found - expected).mean() < 0.5 * np.abs(expected - exact).mean()
    assert np.abs(found - exact).max() < 2 * error


def test_levels_hold_all_that_was_seen(pixels):
    program, levels = program_of("mobile", pixels)
    assert {found.zero for found in levels.values()} == {0, 128}
    batch = np.stack([FED.prepare(w) for w in windows_of(pixels, SIDE, 20)])
    values = {INPUT: torch.from_numpy(batch)}
    with torch.inference_mode():
        Steps(program).run(values, release=False)
        for name, found in levels.items():
            error = (rounded(values[name], found) - values[name]).abs().max()
            assert error <= 0.5001 * found.scale


def test_pools_and_concatenations_pass_bytes_on(pixels):
    program, levels = program_of("googlenet", pixels)
    tied = [s for s in program.steps if s.op in {"aten.cat.default", "aten.max_pool2d.default"}]
    passed = [step for step in tied if step.name in levels]
    assert len(passed) >= 5
    for step in passed:
        assert {levels[name] for name in step.inputs} == {levels[step.name]}


def test_sums_stay_numbers_between_convolutions(pixels):
    program, _ = program_of("resnet", pixels)
    batch = np.stack([FED.prepare(w) for w in windows_of(pixels, SIDE, 8)])
    ops = {step.name: step.op for step in program.steps}
    ranges = find_ranges(program, batch)
    every, between = (find_levels(program, ranges, between=given) for given in (False, True))
    assert {ops[name] for name in between} == {CONVOLUTION}
    assert between.keys() < every.keys()
    assert "aten.relu.default" in {ops[name] for name in every}


@pytest.fixture
def trial(pixels, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    patches = [np.ascontiguousarray(pixels[k : k + 192, k : k + 192]) for k in (0, 100, 200, 300)]

    def made(tolerance: float) -> Trial:
        return Trial(DEMO, "sha", 16, 16, patches, tolerance)

    return made


def test_a_tolerance_is_kept_on_windows_of_the_run(trial, pixels, monkeypatch):
    from hpc_heatmap.model import choosing

    # The slowest machine for what is exact.
    def speeds(self, ways):
        return {name: 99.0 if "int8" in name else 10.0 for name in ways}

    monkeypatch.setattr(choosing._Choice, "_speeds", speeds)
    fed = read_descriptor(DEMO.with_suffix(".json"))
    plain = load_classifier(DEMO, fed, channels_last=True)
    found = choose_execution(plain, trial(0.1))
    assert found.levels and found.compared_windows >= 30
    assert 0 < found.difference <= 0.1 and "int8" in found.reason
    assert Execution.model_validate_json(found.model_dump_json()) == found

    loaded = load_classifier(DEMO, fed, execution=found, tolerance=0.1)
    corners = [(k, 400 - k) for k in range(0, 400, 13)]
    given, raw = plain.prepare(pixels), loaded.prepare(pixels)
    exact = plain.scores([plain.cut(given, *corner) for corner in corners])
    rough = loaded.scores([loaded.cut(raw, *corner) for corner in corners])
    assert 0 < np.abs(rough - exact).max() < 0.2

    strict = choose_execution(plain, trial(2e-5))
    assert strict.precision == "float32" and not strict.levels
    assert strict.difference <= 1e-5 and "int8 differs by" in strict.reason
