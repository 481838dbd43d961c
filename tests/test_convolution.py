"""Convolutions with the images last: matrix products and compiled kernels against plain torch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.nn.convolution import Geometry, convolve, convolve_pool_relu, is_small
from pairs_lit.nn.layers import StackedConvPoolReLU
from pairs_lit.nn.stack import stack

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
# channels, outputs, height, width, images
SHAPES = [(1, 4, 14, 14, 6), (1, 16, 6, 6, 9), (4, 5, 6, 7, 3), (5, 4, 7, 6, 1), (16, 8, 5, 5, 17), (6, 11, 4, 4, 2)]


def inputs(shape: tuple[int, ...], rounds: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    channels, outputs, height, width, images = shape
    x = torch.randn(rounds, channels, height, width, images, dtype=dtype)
    weight = torch.randn(rounds, outputs, channels, 3, 3, dtype=dtype)
    bias = torch.randn(rounds, outputs, dtype=dtype)
    return x, weight, bias


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One round after the other, as torch does it: images (N, C, H, W)."""
    rounds = zip(x, weight, bias, strict=True)
    outputs = [F.max_pool2d(F.conv2d(maps.permute(3, 0, 1, 2), w, b), 2).relu() for maps, w, b in rounds]
    return torch.stack([output.permute(1, 2, 3, 0) for output in outputs])


def with_gradients(function: Callable[..., Tensor], *arguments: Tensor) -> Gradients:
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    output = function(*leaves)
    torch.manual_seed(7)
    x, weight, bias = torch.autograd.grad(output, leaves, torch.randn(output.shape, dtype=output.dtype))
    return output.detach(), x, weight, bias


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] > 1], ids=str)
def test_kernels_equal_plain_torch_in_value_and_gradient(shape: tuple[int, ...]) -> None:
    arguments = inputs(shape)
    for ours, theirs in zip(
        with_gradients(convolve_pool_relu, *arguments), with_gradients(plain, *arguments), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("function", [convolve_pool_relu, plain])
def test_kernels_give_the_weights_gradient_alone_where_the_maps_need_none(
    shape: tuple[int, ...], function: Callable[..., Tensor]
) -> None:
    x, *parameters = inputs(shape)
    expected = with_gradients(plain, x, *parameters)
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    output = function(x, *leaves)
    torch.manual_seed(7)
    found = torch.autograd.grad(output, leaves, torch.randn(output.shape, dtype=output.dtype))
    for ours, theirs in zip(found, expected[2:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_kernels_in_single_precision_are_as_exact_as_that_allows() -> None:
    single = inputs((4, 8, 8, 8, 16), dtype=torch.float32)
    output = convolve_pool_relu(*single)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.double(), plain(*(value.double() for value in single)), rtol=1e-5, atol=1e-5)


def test_a_round_is_bit_identical_whatever_runs_beside_it() -> None:
    beside = inputs((4, 6, 6, 6, 5), rounds=5)
    alone = tuple(value[3:4] for value in beside)
    for one, many in zip(
        with_gradients(convolve_pool_relu, *alone)[:1], with_gradients(convolve_pool_relu, *beside)[:1], strict=True
    ):
        assert torch.equal(one[0], many[3])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_shows_in_its_own_round_alone(value: float) -> None:
    x, weight, bias = inputs((4, 6, 6, 6, 5))
    weight[1, 2, 0, 1, 1] = value
    ours, theirs = convolve_pool_relu(x, weight, bias), plain(x, weight, bias)
    assert torch.equal(ours.isfinite(), theirs.isfinite())
    assert ours[[0, 2]].isfinite().all()
    assert not ours[1].isfinite().all()


def test_non_contiguous_maps_kernels_and_gradients_are_understood() -> None:
    x, weight, bias = inputs((4, 4, 6, 6, 5))
    crooked = x.transpose(2, 3), weight.transpose(3, 4), bias
    torch.testing.assert_close(convolve_pool_relu(*crooked), plain(*crooked), rtol=1e-9, atol=1e-9)
    leaf = weight.clone().requires_grad_()
    convolve_pool_relu(x, leaf, bias).transpose(0, 1).square().sum().backward()
    other = weight.clone().requires_grad_()
    plain(x, other, bias).square().sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("channels", "outputs", "dtype", "needs_gradient", "expected"),
    [
        (1, 4, torch.float32, False, True),
        (1, 4, torch.float32, True, False),  # the kernels of the maps' gradient take four maps at once
        (4, 4, torch.float64, True, True),
        (16, 99, torch.float32, True, True),
        (17, 99, torch.float32, True, False),
        (4, 3, torch.float32, False, False),
        (4, 4, torch.bfloat16, False, False),
    ],
)
def test_what_the_kernels_take(
    channels: int, outputs: int, dtype: torch.dtype, needs_gradient: bool, expected: bool
) -> None:
    x = torch.zeros(1, channels, 6, 6, 2, dtype=dtype, requires_grad=needs_gradient)
    assert is_small(x, torch.zeros(1, outputs, channels, 3, 3, dtype=dtype)) is expected


def test_other_devices_take_the_matrix_product() -> None:
    assert not is_small(torch.zeros(1, 4, 6, 6, 2, device="meta"), torch.zeros(1, 4, 4, 3, 3, device="meta"))


BLOCKS: dict[str, Callable[[], list[nn.Module]]] = {
    "pool, relu": lambda: [nn.Conv2d(4, 5, 3), nn.MaxPool2d(2), nn.ReLU()],
    "relu, pool": lambda: [nn.Conv2d(4, 5, 3), nn.ReLU(), nn.MaxPool2d(2)],
}
OTHERS: dict[str, Callable[[], list[nn.Module]]] = {
    "kernel": lambda: [nn.Conv2d(4, 5, 2), nn.MaxPool2d(2), nn.ReLU()],
    "stride": lambda: [nn.Conv2d(4, 5, 3, stride=2), nn.MaxPool2d(2), nn.ReLU()],
    "padding": lambda: [nn.Conv2d(4, 5, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()],
    "dilation": lambda: [nn.Conv2d(4, 5, 3, dilation=2), nn.MaxPool2d(2), nn.ReLU()],
    "groups": lambda: [nn.Conv2d(4, 4, 3, groups=2), nn.MaxPool2d(2), nn.ReLU()],
    "no bias": lambda: [nn.Conv2d(4, 5, 3, bias=False), nn.MaxPool2d(2), nn.ReLU()],
    "larger pool": lambda: [nn.Conv2d(4, 5, 3), nn.MaxPool2d(3), nn.ReLU()],
    "overlapping pool": lambda: [nn.Conv2d(4, 5, 3), nn.MaxPool2d(2, stride=1), nn.ReLU()],
    "average": lambda: [nn.Conv2d(4, 5, 3), nn.AvgPool2d(2), nn.ReLU()],
    "tanh": lambda: [nn.Conv2d(4, 5, 3), nn.MaxPool2d(2), nn.Tanh()],
    "norm between": lambda: [nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.MaxPool2d(2), nn.ReLU()],
    "dropout between": lambda: [nn.Conv2d(4, 5, 3), nn.Dropout(0.0), nn.MaxPool2d(2), nn.ReLU()],
}


@pytest.mark.parametrize("name", [*BLOCKS, *OTHERS])
def test_only_what_the_kernels_compute_is_put_together_and_all_is_right(name: str) -> None:
    build = (BLOCKS | OTHERS)[name]
    stacked = stack(lambda: nn.Sequential(*build()), [3, 5]).double()
    assert any(isinstance(layer, StackedConvPoolReLU) for layer in stacked.modules()) is (name in BLOCKS)
    x = torch.randn(2, 6, 4, 8, 9, dtype=torch.float64)
    for place, seed in enumerate((3, 5)):
        torch.manual_seed(seed)
        torch.testing.assert_close(stacked(x)[place], nn.Sequential(*build()).double()(x[place]), rtol=1e-9, atol=1e-9)


def test_a_block_keeps_the_names_of_the_plain_layers_and_works_without_the_kernels() -> None:
    few = stack(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2)), [1, 2])  # too few outputs
    assert set(few.state_dict()) == {"0.0.weight", "0.0.bias"}
    torch.manual_seed(2)
    oracle = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = torch.randn(2, 4, 2, 7, 7)
    torch.testing.assert_close(few(x)[1], oracle(x[1]))


@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 0)])
@pytest.mark.parametrize("kernel", [(2, 3), (4, 1)])
def test_products_equal_plain_torch_with_any_padding(
    padding: str | int | tuple[int, int], kernel: tuple[int, int]
) -> None:
    layer = nn.Conv2d(2, 3, kernel, padding=padding).double()
    x = torch.randn(5, 2, 6, 7, dtype=torch.float64)
    maps = x.permute(1, 2, 3, 0)[None]
    output = convolve(maps, layer.weight[None], layer.bias[None], Geometry.of(layer))
    torch.testing.assert_close(output[0].permute(3, 0, 1, 2), layer(x), rtol=1e-9, atol=1e-9)
