"""R linear layers as one product, in both orientations, against torch's linear layer."""

import pytest
import torch
from torch.nn import functional as F

from pairs_lit.stacking.ops.linear import apply_linear

ROUNDS, INPUTS, OUTPUTS = 3, 5, 4


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("leading", [(1,), (4,), (5,), (2, 3), (64,), (0,)])
def test_outputs_and_gradients_are_those_of_plain_layers(leading: tuple[int, ...], biased: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = (ROUNDS, *leading, INPUTS), (ROUNDS, OUTPUTS, INPUTS), (ROUNDS, OUTPUTS)
    x, weight, bias = (torch.randn(size, generator=draw, dtype=torch.float64).requires_grad_() for size in sizes)
    values = (x, weight, bias) if biased else (x, weight)
    stacked = apply_linear(x, weight, bias if biased else None)
    plain = torch.stack([F.linear(x[r], weight[r], bias[r] if biased else None) for r in range(ROUNDS)])
    torch.testing.assert_close(stacked, plain, atol=1e-12, rtol=1e-12)
    direction = torch.randn(plain.shape, generator=draw, dtype=torch.float64)
    gradients = [torch.autograd.grad(output, values, direction) for output in (stacked, plain)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("images", "longest"), [(OUTPUTS, "outputs"), (OUTPUTS + 1, "images")])
def test_the_longer_side_of_the_outputs_is_contiguous(images: int, longest: str) -> None:
    output = apply_linear(torch.zeros(ROUNDS, images, INPUTS), torch.zeros(ROUNDS, OUTPUTS, INPUTS), None)
    assert output.stride(2 if longest == "outputs" else 1) == 1
