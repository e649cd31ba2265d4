"""The built-in networks: size, shape, and what the model seam makes of them."""

from __future__ import annotations

import pytest
import torch

from hpc_heatmap.training.networks import build_network, count_weights
from hpc_heatmap.training.settings import NetworkName


def multiplications(network, side_px):
    """Multiplications of convolutions and matrices for one window."""
    total = []

    def convolved(module, inputs, output):
        side = module.weight[0].numel()
        total.append(side * output[0].numel())

    hooks = [
        module.register_forward_hook(convolved)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side_px, side_px))
    for hook in hooks:
        hook.remove()
    return sum(total)


def test_googlenet_has_the_size_of_its_paper():
    network = build_network(NetworkName.GOOGLENET)
    # Szegedy et al., Table 1: about 1,500 million multiplications; their 6.8 million weights with
    # 1,000 classes are 6.0 million with two.
    assert 1.5e9 < multiplications(network, 224) < 1.62e9
    assert 5.9e6 < count_weights(network) < 6.1e6


def test_the_small_network_is_that_of_the_demo_model():
    assert count_weights(build_network(NetworkName.PATCH_RESNET)) == 245_074


@pytest.mark.parametrize("name", list(NetworkName))
@pytest.mark.parametrize("side_px", [32, 50, 96])
def test_logits_for_windows_of_any_size(name, side_px):
    network = build_network(name).eval()
    with torch.no_grad():
        batch = torch.rand(3, 3, side_px, side_px)
        logits = network(batch)
        assert logits.shape == (3, 2)
        torch.testing.assert_close(network(batch[1:2]), logits[1:2], atol=1e-5, rtol=1e-4)
