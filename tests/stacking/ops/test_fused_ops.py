"""Tests of the fused batch norm, max-pool and ReLU against plain torch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.stacking.ops.compilation import KERNELS_VARIABLE, can_use_kernels
from pairs_lit.stacking.ops.fused_ops import (
    normalise_by_statistics_pool_relu,
    normalise_pool_relu,
)
from pairs_lit.stacking.stack import stack
from tests.support.reference_impl import list_fused_layers

SHAPES = [(3, 6, 6, 5), (1, 2, 2, 1), (4, 7, 5, 9), (2, 12, 12, 33)]  # maps, height, width, images
EPS = 1e-5


def build_inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    x = 3 * torch.randn(shape, dtype=dtype) + 5
    return x, torch.randn(shape[0], dtype=dtype), torch.randn(shape[0], dtype=dtype)


def compute_plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute batch norm, pool and ReLU by torch, one map after the other, each as one channel of N images."""
    outputs = []
    for maps, w, b in zip(x, weight, bias, strict=True):
        images = maps.permute(2, 0, 1)[:, None]
        normalised = F.batch_norm(images, None, None, w[None], b[None], training=True, eps=EPS)
        outputs.append(F.max_pool2d(normalised, 2).relu()[:, 0].permute(1, 2, 0))
    return torch.stack(outputs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_equal_plain_torch(shape: tuple[int, ...]) -> None:
    leaves = [value.requires_grad_() for value in build_inputs(shape)]
    ours, mean, variance = normalise_pool_relu(*leaves, EPS)
    theirs = compute_plain(*leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mean, leaves[0].flatten(1).mean(1))
    torch.testing.assert_close(variance, leaves[0].flatten(1).var(1, correction=0))
    grad = torch.randn(ours.shape, dtype=ours.dtype)
    our_grads, their_grads = (torch.autograd.grad(output, leaves, grad) for output in (ours, theirs))
    for our_grad, their_grad in zip(our_grads, their_grads, strict=True):
        torch.testing.assert_close(our_grad, their_grad, rtol=1e-9, atol=1e-9)


def test_large_mean_is_as_accurate_as_in_torch() -> None:
    x, weight, bias = build_inputs((3, 12, 12, 200), torch.float32)
    far = x + 1000
    ours, _, variance = normalise_pool_relu(far, weight, bias, EPS)
    exact = compute_plain(far.double(), weight.double(), bias.double())
    torch.testing.assert_close(ours.double(), exact, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(variance.double(), far.double().flatten(1).var(1, correction=0), rtol=1e-5, atol=0)


def test_normalisation_by_given_moments() -> None:
    x, weight, bias = build_inputs((3, 6, 7, 5))
    mean, variance = torch.randn(3, dtype=x.dtype), torch.rand(3, dtype=x.dtype) + 0.1
    images = x.permute(3, 0, 1, 2)
    expected = F.max_pool2d(F.batch_norm(images, mean, variance, weight, bias, eps=EPS), 2).relu().permute(1, 2, 3, 0)
    actual = normalise_by_statistics_pool_relu(x, mean, variance, weight, bias, EPS)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_infinity_appear_only_in_their_map(value: float) -> None:
    x, weight, bias = build_inputs((3, 4, 4, 6))
    x[1, 2, 2, 3] = value
    pooled, mean, variance = normalise_pool_relu(x, weight, bias, EPS)
    for result in (pooled, mean, variance):
        assert result[[0, 2]].isfinite().all()
        assert not result[1].isfinite().all()
    assert pooled[1].isnan().all()


def test_map_is_bit_identical_with_and_without_other_maps() -> None:
    x, weight, bias = build_inputs((5, 6, 6, 7), torch.float32)
    five_maps, *_ = normalise_pool_relu(x, weight, bias, EPS)
    one_map, *_ = normalise_pool_relu(x[[3]], weight[[3]], bias[[3]], EPS)
    assert torch.equal(five_maps[3], one_map[0])


def test_non_contiguous_maps_and_gradients() -> None:
    x, weight, bias = build_inputs((3, 6, 6, 5))
    transposed = x.transpose(1, 2).requires_grad_()
    outputs = normalise_pool_relu(transposed, weight, bias, EPS)[0], compute_plain(transposed, weight, bias)
    (ours,), (theirs,) = (torch.autograd.grad(y.transpose(1, 2).square().sum(), transposed) for y in outputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("dtype", "weights", "device", "expected"),
    [
        (torch.float32, torch.float32, "cpu", True),
        (torch.float64, torch.float64, "cpu", True),
        (torch.bfloat16, torch.float32, "cpu", False),
        (torch.float32, torch.float64, "cpu", False),
        (torch.float32, torch.float32, "meta", False),
    ],
)
def test_supported_dtypes_and_devices_of_the_kernels(
    dtype: torch.dtype, weights: torch.dtype, device: str, expected: bool
) -> None:
    x = torch.zeros(1, 2, 2, 1, dtype=dtype, device=device)
    assert can_use_kernels(x, torch.zeros(1, dtype=weights)) is expected


def test_an_environment_variable_turns_the_kernels_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "0")
    assert not can_use_kernels(torch.zeros(1))


FUSED_BLOCKS: dict[str, Callable[[], list[nn.Module]]] = {
    "pool, relu": lambda: [nn.BatchNorm2d(4, momentum=0.3), nn.MaxPool2d(2), nn.ReLU()],
    "relu, pool": lambda: [nn.BatchNorm2d(4, eps=0.1), nn.ReLU(), nn.MaxPool2d(2)],
    "no dropout between": lambda: [nn.BatchNorm2d(4), nn.Dropout(0.0), nn.MaxPool2d(2), nn.ReLU()],
}
UNFUSED_BLOCKS: dict[str, Callable[[], list[nn.Module]]] = {
    "no weights": lambda: [nn.BatchNorm2d(4, affine=False), nn.MaxPool2d(2), nn.ReLU()],
    "no running statistics": lambda: [nn.BatchNorm2d(4, track_running_stats=False), nn.MaxPool2d(2), nn.ReLU()],
    "larger pool": lambda: [nn.BatchNorm2d(4), nn.MaxPool2d(3), nn.ReLU()],
    "other activation": lambda: [nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Tanh()],
    "identity instead": lambda: [nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Identity()],
}


@pytest.mark.parametrize("name", [*FUSED_BLOCKS, *UNFUSED_BLOCKS])
@pytest.mark.parametrize("sides", [(6, 8), (7, 5)])
def test_stack_trains_and_evaluates_like_the_plain_layers(name: str, sides: tuple[int, int]) -> None:
    build = (FUSED_BLOCKS | UNFUSED_BLOCKS)[name]
    stacked = stack(lambda: nn.Sequential(*build()), [3, 5], [4, *sides]).double()
    oracles = [nn.Sequential(*build()).double() for _ in range(2)]
    assert [list_fused_layers(stacked, training=mode) for mode in (True, False)] == [["0"] * (name in FUSED_BLOCKS)] * 2
    torch.manual_seed(1)
    for module in (*stacked.modules(), *(layer for oracle in oracles for layer in oracle)):
        if (weight := getattr(module, "weight", None)) is not None:
            nn.init.constant_(weight, -0.7)
    for _ in range(3):
        x = torch.randn(2, 9, 4, *sides, dtype=torch.float64)
        torch.testing.assert_close(stacked(x), torch.stack([oracle(y) for oracle, y in zip(oracles, x, strict=True)]))
    _check_same_state(stacked, oracles)
    stacked.eval()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            for oracle in oracles:
                oracle.eval()
            expected = torch.stack([oracle(y) for oracle, y in zip(oracles, x, strict=True)])
            torch.testing.assert_close(stacked(x), expected, rtol=1e-9, atol=1e-9)
    _check_same_state(stacked, oracles)


def _check_same_state(stacked: nn.Module, oracles: list[Any]) -> None:
    for key, value in stacked.state_dict().items():
        expected = torch.stack([oracle.state_dict()[key] for oracle in oracles])
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
