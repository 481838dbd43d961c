"""Tests of sequential rounds: when they are used, and that they compute the same as rounds side by side."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.stacking.program.sequential import ConvolutionCost, find_sequential_threshold, should_run_sequentially
from pairs_lit.stacking.program.summary import describe_part
from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork

SHAPE = (1, 14, 14)


class Wide(nn.Module):
    """Has two wide convolutions, the second one by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.kernels = nn.Parameter(torch.randn(32, 32, 3, 3) / 17)
        self.out = nn.Linear(32 * 49, 10)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.conv2d(F.relu(self.norm(self.first(x))), self.kernels, padding=1)
        return self.out(F.dropout(F.avg_pool2d(maps, 2), 0.3, self.training).view(-1, 32 * 49))  # type: ignore[no-any-return]


class Shifted(Wide):
    """Has a tensor that is neither parameter nor buffer, and uses one parameter twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(1)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.norm(self.first(x)) + self.shift)
        return self.out(F.avg_pool2d(F.conv2d(maps, self.kernels, padding=1) + maps, 2).flatten(1)) @ self.out.weight  # type: ignore[no-any-return]


class NeedsOrder(Wide):
    """Has a view that requires contiguous maps, so it fails with channels last."""

    def forward(self, x: Tensor) -> Tensor:
        maps = F.conv2d(F.relu(self.norm(self.first(x))), self.kernels, padding=1)
        return self.out(maps.view_as(maps.flatten(1))[:, : 32 * 49])  # type: ignore[no-any-return]


def build_pooled() -> nn.Module:
    """Return a network whose wide convolution is fused with batch norm, max-pool and ReLU."""
    layers = [nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64 * 36, 10))


def build_stacked(factory: Callable[[], nn.Module], rounds: int = 3) -> StackedNetwork:
    network = stack(factory, range(rounds), SHAPE)
    assert isinstance(network, StackedNetwork)
    return network


def test_costs_of_convolutions_are_counted() -> None:
    first, second = build_stacked(Wide).convolutions
    assert first == ConvolutionCost(columns=9 * 196, weights=9 * 32, products=9 * 196 * 32, pooled=False)
    assert second == ConvolutionCost(
        columns=9 * 32 * 196, weights=9 * 32 * 32, products=9 * 32 * 196 * 32, pooled=False
    )
    assert [cost.pooled for cost in build_stacked(build_pooled).convolutions] == [True]


@pytest.mark.parametrize(
    ("factory", "inputs"), [(Wide, 10), (build_pooled, None)]
)  # 2 MiB of cache hold 9.3 inputs of 9 · 32 · 196 float32
def test_rounds_run_sequentially_if_columns_exceed_the_cache(
    factory: Callable[[], nn.Module], inputs: int | None
) -> None:
    network = build_stacked(factory)
    costs = network.convolutions
    assert find_sequential_threshold(costs, 4) == inputs
    sentence = f"With {inputs} or more inputs on a CPU, the rounds run sequentially"
    assert (sentence in describe_part(network)) == (inputs is not None)
    assert should_run_sequentially(costs, 10, 4) == (inputs is not None)
    assert not should_run_sequentially(costs, 9, 4)
    assert should_run_sequentially(costs, 5, 8) == (inputs is not None)  # half as many inputs in float64


def test_convolutions_with_many_weights_always_run_sequentially() -> None:
    light, heavy = ConvolutionCost(100, 2**19, 10, False), ConvolutionCost(1, 2**19 + 1, 11, False)
    assert find_sequential_threshold([light, heavy], 4) == 1
    assert not should_run_sequentially([light, heavy._replace(products=10)], 1, 4)
    assert not should_run_sequentially([], 10**9, 4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("factory", [Wide, Shifted])
def test_running_sequentially_and_side_by_side_agree_up_to_rounding(
    factory: Callable[[], nn.Module], training: bool
) -> None:
    network = build_stacked(factory).double().train(training)
    x = torch.rand(3, 5, *SHAPE, dtype=torch.float64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    results = []
    for compute in (network.run_side_by_side, network.run_sequentially):
        network.load_state_dict(before)
        output = compute(x)
        assert isinstance(output, Tensor)
        grads = torch.autograd.grad((output**3).sum(), list(network.parameters()))
        results.append([output, *grads, *(value.clone() for value in network.state_dict().values())])
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


def test_a_sequential_round_is_bit_identical_with_any_other_rounds() -> None:
    together, alone = build_stacked(Wide), stack(Wide, [1], SHAPE)
    x = torch.rand(3, 20, *SHAPE)
    output, expected = together(x)[1], alone(x[1:2])[0]
    assert torch.equal(output, expected)
    output.sum().backward()
    expected.sum().backward()
    for name, value in alone.named_parameters():
        assert torch.equal(together.get_parameter(name).grad[1], value.grad[0])  # type: ignore[index]


def test_modules_that_depend_on_strides_run_side_by_side() -> None:
    network = build_stacked(NeedsOrder)
    assert network.convolutions == []
    assert find_sequential_threshold(network.convolutions, 4) is None
