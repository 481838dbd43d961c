"""Batch norm with max-pool 2×2 and ReLU in one pass of compiled kernels: each map is read once and leaves a quarter."""

from typing import Any

import torch
from torch import Tensor


def normalise_pool_relu(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each map by its own mean and variance, max-pool 2×2, cut off below 0.

    Args:
        x: Maps (B, H, W, N) on the CPU.
        weight: (B,).
        bias: (B,).
        eps: What is added to the variance.

    Returns:
        The pooled maps (B, H // 2, W // 2, N); mean and variance (divided by the count) of each map, (B,), without
        gradients.
    """
    pooled, moments = _NormPoolReLU.apply(x, weight, bias, eps)
    mean, variance = moments.to(x.dtype).unbind(1)
    return pooled, mean, variance


def normalised_pool_relu(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each map by a given mean and variance, (B,) each, max-pool 2×2, cut off below 0: without gradients."""
    from pairs_lit.nn import kernels

    pooled, place = _empty(x)
    moments, affine = _columns(mean, variance), _columns(weight, bias)
    kernels.run(kernels.normalise_pool, x.contiguous(), moments, affine, _scalar(eps), pooled, place)
    return pooled


def can_fuse(x: Tensor, weight: Tensor) -> bool:
    """Say whether the kernels can take these maps and weights."""
    return x.device.type == "cpu" and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)


class _NormPoolReLU(torch.autograd.Function):
    """The compiled kernels, as one operation."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        from pairs_lit.nn import kernels

        x, affine = x.contiguous(), _columns(weight, bias)
        moments = torch.empty_like(affine)
        pooled, place = _empty(x)
        kernels.run(kernels.measure_normalise_pool, x, moments, affine, _scalar(eps), pooled, place)
        ctx.save_for_backward(x, moments, affine, place)
        ctx.eps = eps
        ctx.mark_non_differentiable(moments)
        return pooled, moments

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401 - torch's context
        from pairs_lit.nn import kernels

        x, moments, affine, place = ctx.saved_tensors
        maps, found, grad = torch.empty_like(x), torch.empty_like(affine), grads[0].contiguous()
        weight, eps = affine[:, 0].contiguous(), _scalar(ctx.eps)
        kernels.run(kernels.normalise_gradients, x, moments, weight, eps, grad, place, maps, found)
        weights, biases = found.to(x.dtype).unbind(1)
        return maps, weights, biases, None


def _empty(x: Tensor) -> tuple[Tensor, Tensor]:
    b, h, w, n = x.shape
    pooled = x.new_empty(b, h // 2, w // 2, n)
    return pooled, torch.empty_like(pooled, dtype=torch.int32)


def _columns(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], 1).double()


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
