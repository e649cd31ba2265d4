"""Max pools against torch's own, to the bit."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.capture import capture
from hpc_heatmap.model.max_pool import max_pool
from hpc_heatmap.model.program_network import ProgramNetwork
from hpc_heatmap.model.sharing import Kernel

axes = st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(9, 17)
).filter(lambda axis: axis[2] <= axis[0] // 2)


@given(axes, axes, st.booleans(), st.integers(0, 2**32), st.sampled_from(["float32", "bfloat16"]))
def test_maxima_are_those_of_torch(y, x, ceil: bool, seed: int, dtype: str) -> None:
    size, stride, padding, dilation, sides = zip(y, x, strict=True)
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(3, *sides, 5, generator=generator).to(getattr(torch, dtype))
    batch = batch.permute(0, 3, 1, 2)
    kernels = [Kernel.dilated(*axis) for axis in zip(size, stride, padding, dilation, strict=True)]
    expected = torch.max_pool2d(batch, size, stride, padding, dilation, ceil)
    found = max_pool(batch, kernels, ceil)
    assert found.shape == expected.shape
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_number_may_stand_for_both_axes() -> None:
    class Pooled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.max_pool2d(x, (3,), (2,), (1,), (2,)).mean((2, 3))

    batch = torch.randn(2, 3, 32, 32)
    found = ProgramNetwork(capture(Pooled(), 32), Execution(backend="program"))(batch.numpy())
    assert torch.allclose(torch.from_numpy(found), Pooled()(batch), atol=1e-6)
