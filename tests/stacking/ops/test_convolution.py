"""Tests of stacked convolutions: matrix products and compiled kernels against plain torch."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.stacking.ops import convolution
from pairs_lit.stacking.ops.convolution import Geometry, convolve
from pairs_lit.stacking.ops.dropout import StackedDropout
from pairs_lit.stacking.ops.fused_ops import (
    convolve_pool_relu,
    should_fuse_convolution,
)
from pairs_lit.stacking.stack import stack
from tests.support import reference_impl

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
# channels, outputs, height, width, images
SHAPES = [(1, 4, 14, 14, 6), (1, 16, 6, 6, 9), (4, 5, 6, 7, 3), (5, 4, 7, 6, 1), (16, 8, 5, 5, 17), (6, 11, 4, 4, 2)]


def build_inputs(shape: tuple[int, ...], rounds: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    channels, outputs, height, width, images = shape
    x = torch.randn(rounds, channels, height, width, images, dtype=dtype)
    weight = torch.randn(rounds, outputs, channels, 3, 3, dtype=dtype)
    bias = torch.randn(rounds, outputs, dtype=dtype)
    return x, weight, bias


def compute_plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute convolution, pool and ReLU by torch, one round after the other."""
    rounds = zip(x, weight, bias, strict=True)
    outputs = [F.max_pool2d(F.conv2d(maps.permute(3, 0, 1, 2), w, b), 2).relu() for maps, w, b in rounds]
    return torch.stack([output.permute(1, 2, 3, 0) for output in outputs])


def compute_with_gradients(function: Callable[..., Tensor], *arguments: Tensor) -> Gradients:
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    output = function(*leaves)
    torch.manual_seed(7)
    x, weight, bias = torch.autograd.grad(output, leaves, torch.randn(output.shape, dtype=output.dtype))
    return output.detach(), x, weight, bias


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] > 1], ids=str)
def test_kernels_give_the_values_and_gradients_of_plain_torch(shape: tuple[int, ...]) -> None:
    arguments = build_inputs(shape)
    for ours, theirs in zip(
        compute_with_gradients(convolve_pool_relu, *arguments),
        compute_with_gradients(compute_plain, *arguments),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("function", [convolve_pool_relu, compute_plain])
def test_kernels_skip_the_gradient_of_maps_that_need_none(
    shape: tuple[int, ...], function: Callable[..., Tensor]
) -> None:
    x, *parameters = build_inputs(shape)
    expected = compute_with_gradients(compute_plain, x, *parameters)
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    output = function(x, *leaves)
    torch.manual_seed(7)
    gradients = torch.autograd.grad(output, leaves, torch.randn(output.shape, dtype=output.dtype))
    for ours, theirs in zip(gradients, expected[2:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_kernels_are_accurate_in_single_precision() -> None:
    single = build_inputs((4, 8, 8, 8, 16), dtype=torch.float32)
    output = convolve_pool_relu(*single)
    assert output.dtype == torch.float32
    torch.testing.assert_close(
        output.double(), compute_plain(*(value.double() for value in single)), rtol=1e-5, atol=1e-5
    )


def test_round_is_bit_identical_with_and_without_other_rounds() -> None:
    five_rounds = build_inputs((4, 6, 6, 6, 5), rounds=5)
    one_round = tuple(value[3:4] for value in five_rounds)
    for alone, together in zip(
        compute_with_gradients(convolve_pool_relu, *one_round)[:1],
        compute_with_gradients(convolve_pool_relu, *five_rounds)[:1],
        strict=True,
    ):
        assert torch.equal(alone[0], together[3])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_infinity_appear_only_in_their_round(value: float) -> None:
    x, weight, bias = build_inputs((4, 6, 6, 6, 5))
    weight[1, 2, 0, 1, 1] = value
    ours, theirs = convolve_pool_relu(x, weight, bias), compute_plain(x, weight, bias)
    assert torch.equal(ours.isfinite(), theirs.isfinite())
    assert ours[[0, 2]].isfinite().all()
    assert not ours[1].isfinite().all()


def test_non_contiguous_maps_kernels_and_gradients() -> None:
    x, weight, bias = build_inputs((4, 4, 6, 6, 5))
    transposed = x.transpose(2, 3), weight.transpose(3, 4), bias
    torch.testing.assert_close(convolve_pool_relu(*transposed), compute_plain(*transposed), rtol=1e-9, atol=1e-9)
    leaf = weight.clone().requires_grad_()
    convolve_pool_relu(x, leaf, bias).transpose(0, 1).square().sum().backward()
    other = weight.clone().requires_grad_()
    compute_plain(x, other, bias).square().sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("channels", "outputs", "dtype", "needs_gradient", "expected"),
    [
        (1, 4, torch.float32, False, True),
        (1, 4, torch.float32, True, False),  # the kernels for the maps' gradient process four maps at a time
        (4, 4, torch.float64, True, True),
        (16, 99, torch.float32, True, True),
        (17, 99, torch.float32, True, False),
        (4, 3, torch.float32, False, False),
        (4, 4, torch.bfloat16, False, False),
    ],
)
def test_supported_shapes_and_dtypes_of_the_kernels(
    channels: int, outputs: int, dtype: torch.dtype, needs_gradient: bool, expected: bool
) -> None:
    x = torch.zeros(1, channels, 6, 6, 2, dtype=dtype, requires_grad=needs_gradient)
    assert should_fuse_convolution(x, torch.zeros(1, outputs, channels, 3, 3, dtype=dtype)) is expected


def test_other_devices_use_the_matrix_product() -> None:
    assert not should_fuse_convolution(
        torch.zeros(1, 4, 6, 6, 2, device="meta"), torch.zeros(1, 4, 4, 3, 3, device="meta")
    )


FUSED_BLOCKS: dict[str, Callable[[], list[nn.Module]]] = {
    "pool, relu": lambda: [nn.Conv2d(4, 5, 3), nn.MaxPool2d(2), nn.ReLU()],
    "relu, pool": lambda: [nn.Conv2d(4, 5, 3), nn.ReLU(), nn.MaxPool2d(2)],
    "dropout between": lambda: [nn.Conv2d(4, 5, 3), nn.Dropout(0.4), nn.MaxPool2d(2), nn.ReLU()],
    "no dropout between": lambda: [nn.Conv2d(4, 5, 3), nn.Dropout(0.0), nn.ReLU(), nn.MaxPool2d(2)],
}
UNFUSED_BLOCKS: dict[str, Callable[[], list[nn.Module]]] = {
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
    "all dropped": lambda: [nn.Conv2d(4, 5, 3), nn.Dropout(1.0), nn.MaxPool2d(2), nn.ReLU()],
}


@pytest.mark.parametrize("name", [*FUSED_BLOCKS, *UNFUSED_BLOCKS])
def test_only_supported_blocks_are_fused_and_all_blocks_are_correct(name: str) -> None:
    build = (FUSED_BLOCKS | UNFUSED_BLOCKS)[name]
    stacked = stack(lambda: nn.Sequential(*build()), [3, 5], [4, 8, 9]).double().eval()
    assert ("0" in reference_impl.list_fused_layers(stacked)) is (name in FUSED_BLOCKS)
    assert ("0" in reference_impl.list_fused_layers(stacked, training=False)) is (
        name in FUSED_BLOCKS or name == "all dropped"
    )
    x = torch.randn(2, 6, 4, 8, 9, dtype=torch.float64)
    for place, seed in enumerate((3, 5)):
        torch.manual_seed(seed)
        torch.testing.assert_close(
            stacked(x)[place], nn.Sequential(*build()).double().eval()(x[place]), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 6)])
@pytest.mark.parametrize("outputs", [5, 3])  # with and without the compiled kernels
def test_fused_dropout_uses_the_mask_of_its_layer(height: int, width: int, outputs: int) -> None:
    plain = [nn.Conv2d(4, outputs, 3), nn.Dropout(0.4), nn.ReLU(), nn.MaxPool2d(2)]
    stacked = stack(lambda: copy.deepcopy(nn.Sequential(*plain)), [3, 5, 8], [4, height, width]).double()
    (dropout,) = (layer for layer in stacked.modules() if isinstance(layer, StackedDropout))
    x = torch.randn(3, 6, 4, height, width, dtype=torch.float64, requires_grad=True)
    keep = dropout.compute_mask((6, outputs, height - 2, width - 2), x.device)
    assert 0.5 < keep.double().mean() < 0.7
    convolution = plain[0].double()
    rounds = [F.max_pool2d(convolution(x[r]) * keep[r] / 0.6, 2).relu() for r in range(3)]
    torch.testing.assert_close(stacked(x), torch.stack(rounds), rtol=1e-9, atol=1e-9)
    weight = torch.randn(stacked(x).shape, dtype=torch.float64)
    (ours,) = torch.autograd.grad(stacked(x), x, weight)
    (theirs,) = torch.autograd.grad(torch.stack(rounds), x, weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_fused_block_keeps_the_parameter_names_and_works_without_kernels() -> None:
    def factory() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2))  # too few outputs for the compiled kernels

    few = stack(factory, [1, 2], [2, 7, 7])
    assert reference_impl.list_fused_layers(few) == ["0"]
    assert set(few.state_dict()) == {"0.weight", "0.bias"}
    x = torch.randn(2, 4, 2, 7, 7)
    torch.testing.assert_close(few(x)[1], reference_impl.build_plain(factory, 2)(x[1]))


@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 0)])
@pytest.mark.parametrize("kernel", [(3, 5), (1, 3)])
def test_matrix_products_equal_plain_torch_with_any_padding(
    padding: str | int | tuple[int, int], kernel: tuple[int, int]
) -> None:
    layer = nn.Conv2d(2, 3, kernel, padding=padding).double()
    x = torch.randn(5, 2, 6, 7, dtype=torch.float64)
    maps = x.permute(1, 2, 3, 0)[None]
    output = convolve(maps, layer.weight[None], layer.bias[None], Geometry.from_layer(layer))
    torch.testing.assert_close(output[0].permute(3, 0, 1, 2), layer(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("options", [{}, {"padding": (2, 1)}, {"stride": (2, 1), "dilation": 2}], ids=str)
def test_convolution_round_by_round_equals_plain_torch(
    options: dict[str, Any], biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "MAX_CACHED_BYTES", 0)
    layers = [nn.Conv2d(3, 4, 3, bias=biased, **options).double() for _ in range(2)]
    maps = torch.randn(2, 3, 7, 8, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.stack([layer.weight for layer in layers])
    bias = torch.stack([layer.bias for layer in layers]) if biased else None
    output = convolution.convolve(maps, weight, bias, Geometry.from_layer(layers[0]))
    assert convolution._SequentialConvolution.__name__ in str(output.grad_fn)
    plain = torch.stack([layer(x.permute(3, 0, 1, 2)) for layer, x in zip(layers, maps, strict=True)])
    rows = output.permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(rows, plain, rtol=1e-9, atol=1e-9)
    leaves = [maps, *(parameter for layer in layers for parameter in layer.parameters())]
    grad = torch.randn_like(plain)
    gradients = [torch.autograd.grad(output, leaves, grad) for output in (rows, plain)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [4, 200])  # computed as one matrix product, and round by round
def test_convolutions_use_the_precision_of_autocast(channels: int) -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, 6, 6, 16, generator=draws)
    weight, bias = torch.randn(2, 5, channels, 3, 3, generator=draws), torch.randn(2, 5, generator=draws)
    layer = nn.Conv2d(channels, 5, 3, padding=1)
    ours = [part.clone().requires_grad_() for part in (x, weight, bias)]
    plain = [part.clone().requires_grad_() for part in (x, weight, bias)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = convolve(ours[0], ours[1], ours[2], Geometry.from_layer(layer))
        maps = plain[0].permute(0, 4, 1, 2, 3)
        rounds = [F.conv2d(*parts, padding=1) for parts in zip(maps, plain[1], plain[2], strict=True)]
    expected = torch.stack(rounds).permute(0, 2, 3, 4, 1)
    assert actual.dtype == torch.bfloat16
    actual.float().sin().sum().backward()
    expected.float().sin().sum().backward()
    torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-1)
    for our_part, plain_part in zip(ours, plain, strict=True):
        assert our_part.grad is not None
        assert plain_part.grad is not None
        assert (our_part.grad - plain_part.grad).norm() < 0.05 * plain_part.grad.norm()
