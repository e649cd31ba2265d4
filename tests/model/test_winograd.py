"""Convolutions of 3 x 3 with fewer multiplications against plain sums."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_heatmap.model import winograd
from hpc_heatmap.model.winograd import Winograd, pays


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(3, 19), st.integers(3, 19)),
    st.integers(1, 7),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 6, 128]),
)
def test_results_are_those_of_a_plain_sum(shape, results, padding, has_bias, relu, at_once):
    x = drawn(*shape).contiguous(memory_format=torch.channels_last)
    weight, bias = drawn(results, shape[1], 3, 3, seed=1), drawn(results, seed=2)
    with patch.object(winograd, "_TILES_AT_ONCE", at_once):
        found = Winograd(weight, bias if has_bias else None, relu)(x, padding)
    offset = bias.double() if has_bias else None
    expected = torch.conv2d(x.double(), weight.double(), offset, 1, padding)
    expected = torch.relu(expected) if relu else expected
    assert found.is_contiguous(memory_format=torch.channels_last)
    # Numbers to multiply are drawn with a deviation of 1: so is the error's unit.
    error = (found - expected).abs().max()
    assert error <= 2e-6 * np.sqrt(9 * shape[1]) * 5


def test_rounding_is_no_more_than_thrice_that_of_a_plain_sum():
    """What its points were chosen for; those that are usual give it four times."""
    x, weight = torch.relu(drawn(4, 160, 14, 14)), drawn(320, 160, 3, 3, seed=1) / 40
    x = x.contiguous(memory_format=torch.channels_last)
    exact = torch.conv2d(x.double(), weight.double(), padding=1)
    plain = torch.conv2d(x, weight, padding=1)
    found = Winograd(weight, None, False)(x, (1, 1))
    assert (found - exact).abs().mean() <= 3 * (plain - exact).abs().mean()


def test_without_onednn_results_are_the_same():
    x, weight = drawn(3, 16, 14, 14), drawn(24, 16, 3, 3, seed=1)
    x = x.contiguous(memory_format=torch.channels_last)
    convolution = Winograd(weight, drawn(24, seed=2), True)
    with patch.object(torch.backends.mkldnn, "is_available", return_value=False):
        plain = convolution(x, (1, 1))
    torch.testing.assert_close(convolution(x, (1, 1)), plain, rtol=0, atol=2e-5)


def test_a_window_has_the_same_bits_in_every_batch():
    x, weight = drawn(30, 64, 14, 14), drawn(96, 64, 3, 3, seed=1)
    x = x.contiguous(memory_format=torch.channels_last)
    convolution = Winograd(weight, drawn(96, seed=2), True)
    whole = convolution(x, (1, 1))
    for n in (1, 3, 8, 13):
        parts = torch.cat([convolution(part, (1, 1)) for part in x.split(n)])
        assert torch.equal(parts, whole)


@pytest.mark.parametrize(
    ("x", "weight", "padding", "expected"),
    [
        ((8, 160, 14, 14), (320, 160, 3, 3), (1, 1), True),
        ((1, 64, 110, 110), (192, 64, 3, 3), (0, 0), True),
        ((8, 160, 14, 14), (320, 160, 1, 1), (0, 0), False),
        ((8, 160, 14, 14), (320, 160, 5, 5), (2, 2), False),
        # Few channels, and a ring of which tiles would stick out.
        ((8, 16, 14, 14), (48, 16, 3, 3), (1, 1), False),
        ((196, 112, 7, 7), (224, 112, 3, 3), (0, 0), False),
    ],
)
def test_it_is_used_where_it_pays(x, weight, padding, expected):
    assert pays(torch.Size(x), torch.Size(weight), padding) is expected
