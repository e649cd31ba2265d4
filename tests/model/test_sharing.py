"""Windows that share their early layers against the plain loop over windows, on real pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from models import descriptor
from networks import network, spread

import hpc_heatmap
from hpc_heatmap.execution import Execution
from hpc_heatmap.model import Descriptor, NetworkClassifier, load_classifier, read_descriptor
from hpc_heatmap.model.capture import capture
from hpc_heatmap.model.program import Program
from hpc_heatmap.model.program_network import ProgramNetwork
from hpc_heatmap.model.sharing import Sharing, reaches, share

SIDE = 64
EXACT = 1e-5
FAMILIES = ("googlenet", "resnet", "vgg", "densenet", "mobile")


def plain_scores(made: torch.nn.Module, patch: np.ndarray, tops, lefts, side: int) -> np.ndarray:
    """The plain loop: each window by itself, as the module that was built gives it."""
    fed = Descriptor(**descriptor(patch_size_pixels=side))
    scores = np.empty((len(tops), len(lefts)))
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            window = patch[top : top + side, left : left + side]
            with torch.inference_mode():
                logits = made(torch.from_numpy(fed.prepare(window))[None])[0].double().numpy()
            powers = np.exp(logits - logits.max())
            scores[i, j] = powers[1] / powers.sum()
    return scores


@pytest.fixture(scope="module")
def built(pixels) -> Callable[[str], tuple[torch.nn.Module, Program]]:
    """A network of a family and its program."""
    fed = Descriptor(**descriptor(patch_size_pixels=SIDE))
    windows = [pixels[k : k + SIDE, -k - 1 - SIDE : -k - 1] for k in range(0, 448, 56)]
    batch = torch.from_numpy(np.stack([fed.prepare(w) for w in windows]))

    @cache
    def build(family: str) -> tuple[torch.nn.Module, Program]:
        made = spread(network(family, SIDE), batch)
        return made, capture(made, SIDE)

    return build


def classifier_of(
    program: Program, cut: Sharing | None, stride: int = 16, *, winograd: bool = False
) -> NetworkClassifier:
    execution = Execution(backend="program", stride_px=stride, winograd=winograd)
    if cut is not None:
        execution = execution.model_copy(update={"cut": cut.cut, "jump_px": cut.jump_px})
    return NetworkClassifier(
        ProgramNetwork(program, execution), Descriptor(**descriptor(patch_size_pixels=SIDE))
    )


def cuts_of(program: Program, stride: int) -> list[str]:
    """Every step after which windows may part at a stride."""
    steps = program.steps
    last = {name: k for k, step in enumerate(steps) for name in step.inputs}
    known, found, needed = reaches(program), [], 0
    for number, step in enumerate(steps):
        axes = known.get(step.name)
        if axes is None or stride % axes.y.jump:
            break
        if number and needed <= number:
            found.append(step.name)
        needed = max(needed, last.get(step.name, 0))
    return found


@pytest.fixture(params=[False, True], ids=["plain", "winograd"])
def winograd(request, monkeypatch) -> bool:
    """Whether all convolutions of 3 x 3 are done with fewer multiplications, small ones too."""
    monkeypatch.setattr("hpc_heatmap.model.winograd._LEAST_CHANNELS", 1)
    monkeypatch.setattr("hpc_heatmap.model.winograd._LEAST_GAIN", 0)
    return request.param


@pytest.mark.parametrize("stride", [16, 32, 48, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_windows_are_the_plain_loops(family, stride, winograd, built, pixels):
    made, program = built(family)
    patch = pixels[:256, :320]
    tops = list(range(stride // 2, 256 - SIDE + 1, stride))
    lefts = list(range(0, 320 - SIDE + 1, stride))
    expected = plain_scores(made, patch, tops, lefts, SIDE)
    assert np.ptp(expected) > 0.1
    found = share(program, stride, len(lefts))
    assert found is not None
    classifier = classifier_of(program, found, stride, winograd=winograd)
    assert classifier.shares(stride)
    batches = list(classifier.patch_scores(classifier.prepare(patch), tops, lefts, stride, 32))
    np.testing.assert_allclose(np.concatenate(batches), expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_cut_gives_the_same(family, winograd, built, pixels):
    """Not only the one that is chosen, with fewer windows too: one row, one column, one alone."""
    _, program = built(family)
    alone = classifier_of(program, None)
    for rows, columns in ((3, 4), (1, 3), (3, 1), (1, 1)):
        tops, lefts = [16 * k for k in range(rows)], [32 + 16 * k for k in range(columns)]
        prepared = alone.prepare(pixels[:160, :160])
        windows = [alone.cut(prepared, top, left) for top in tops for left in lefts]
        expected = alone.scores(windows).reshape(rows, columns)
        cuts = cuts_of(program, 16)
        assert len(cuts) >= 4
        for name in cuts:
            jump = max(a.jump for a in reaches(program)[name])
            shared = classifier_of(program, Sharing(name, jump, 1.0), winograd=winograd)
            scores = np.concatenate(list(shared.shared_scores(prepared, tops, lefts, 16, 5)))
            np.testing.assert_allclose(scores, expected, atol=EXACT, rtol=0, err_msg=name)


def test_a_stride_that_layers_do_not_divide_is_cut_earlier_or_not_at_all(built, pixels):
    _, program = built("googlenet")
    jumps = {stride: share(program, stride, 8) for stride in (16, 24, 20, 18)}
    for stride, found in jumps.items():
        assert found is None or stride % found.jump_px == 0
    assert {found.jump_px for found in jumps.values() if found} <= {2, 4, 8}
    assert jumps[16] is not None and jumps[24] is not None
    assert share(program, 15, 4) is None
    shared = classifier_of(program, jumps[24], 24)
    assert shared.shares(24) and not shared.shares(20)


def test_what_depends_on_a_whole_window_is_not_shared(built, pixels):
    """Squeeze and excitation: shared up to its first mean over the window, and exact."""
    made, program = built("gated")
    found = share(program, 16, 8)
    assert found is not None
    names = [step.name for step in program.steps]
    first_mean = next(s for s in program.steps if s.op.startswith("aten.mean"))
    assert names.index(found.cut) < names.index(first_mean.name)
    tops = lefts = list(range(0, 128, 16))
    classifier = classifier_of(program, found)
    prepared = classifier.prepare(pixels[:256, :256])
    scores = np.concatenate(list(classifier.patch_scores(prepared, tops, lefts, 16, 32)))
    expected = plain_scores(made, pixels[:256, :256], tops, lefts, SIDE)
    np.testing.assert_allclose(scores, expected, atol=EXACT, rtol=0)


def test_a_transformer_shares_its_embedding_at_most(built, pixels):
    made, program = built("attention")
    found = share(program, 16, 4)
    assert found is not None
    cut = next(step for step in program.steps if step.name == found.cut)
    assert cut.inputs == ["input"]
    assert share(program, 8, 4) is None
    tops = lefts = [0, 16, 32, 48]
    classifier = classifier_of(program, found)
    prepared = classifier.prepare(pixels[:128, :128])
    scores = np.concatenate(list(classifier.patch_scores(prepared, tops, lefts, 16, 32)))
    expected = plain_scores(made, pixels[:128, :128], tops, lefts, SIDE)
    np.testing.assert_allclose(scores, expected, atol=EXACT, rtol=0)


def test_the_demo_model_shares_exactly(pixels):
    path = Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"
    fed = read_descriptor(path.with_suffix(".json"))
    plain = load_classifier(path, fed)
    program = capture(plain.network.module, 96)
    prepared = plain.prepare(pixels[:256, :256])
    for stride in (8, 16, 24, 48):
        tops = lefts = list(range(0, 161, stride))[:6]
        found = share(program, stride, len(tops))
        assert found is not None
        execution = Execution(
            backend="program", stride_px=stride, cut=found.cut, jump_px=found.jump_px
        )
        shared = NetworkClassifier(ProgramNetwork(program, execution), fed)
        scores = np.concatenate(list(shared.patch_scores(prepared, tops, lefts, stride, 32)))
        expected = [
            plain.scores([plain.cut(prepared, top, left) for left in lefts]) for top in tops
        ]
        np.testing.assert_allclose(scores, expected, atol=EXACT, rtol=0)
        assert np.ptp(expected) > 0.01


def test_a_wrong_ring_is_noticed_on_the_first_patch(built, pixels, caplog, monkeypatch):
    """Sharing proves itself in each process; where it does not give the same, it is left."""
    _, program = built("resnet")
    found = share(program, 16, 4)
    shared = classifier_of(program, found)
    alone = classifier_of(program, None)
    # As if a window's border spoilt nothing.
    reach = shared.network.shared(16)._reach
    for name, axes in reach.items():
        reach[name] = axes._replace(
            y=axes.y._replace(low=0, high=0), x=axes.x._replace(low=0, high=0)
        )
    tops = lefts = [0, 16, 32, 48]
    prepared = shared.prepare(pixels[:128, :128])
    with caplog.at_level(logging.WARNING):
        scores = np.concatenate(list(shared.patch_scores(prepared, tops, lefts, 16, 32)))
    assert "each is scored alone" in caplog.text
    assert not shared.shares(16)
    expected = alone.scores([alone.cut(prepared, top, left) for top in tops for left in lefts])
    np.testing.assert_allclose(scores.ravel(), expected, atol=1e-6)


def test_scores_do_not_depend_on_how_many_windows_a_patch_has(built, pixels):
    """To the bit, so that a run is the same however it is cut."""
    _, program = built("googlenet")
    shared = classifier_of(program, share(program, 16, 8))
    prepared = shared.prepare(pixels[:192, :192])
    tops = list(range(0, 128, 16))
    many = np.concatenate(list(shared.shared_scores(prepared, tops, tops, 16, 32)))
    for batch in (8, 16, 64):
        again = np.concatenate(list(shared.shared_scores(prepared, tops, tops, 16, batch)))
        np.testing.assert_allclose(again, many, atol=1e-6, rtol=0)
    few = np.concatenate(list(shared.shared_scores(prepared, tops[:3], tops[2:], 16, 32)))
    np.testing.assert_allclose(few, many[:3, 2:], atol=1e-6, rtol=0)
