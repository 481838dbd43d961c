"""Layers in one pass: convolution, dropout, max-pool and ReLU; batch norm, max-pool and ReLU."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairs_lit.stacking.ops.dropout import kept_shares

_FEW_CHANNELS = 16
_AT_ONCE = 4  # maps that the kernels treat at once


class Dropped(NamedTuple):
    """What dropout between convolution and pool drops.

    Attributes:
        rates: The probability of dropping an activation, of each of the B rounds, below 1.
        words: (B, 2) int32, which decide with an activation's number in (N, O, H, W) whether it is kept.
    """

    rates: tuple[float, ...]
    words: Tensor


def convolve_pool_relu(x: Tensor, weight: Tensor, bias: Tensor, dropped: Dropped | None = None) -> Tensor:
    """Convolve 3×3, drop, max-pool 2×2 and cut off below 0 in one pass, by compiled kernels.

    Args:
        x: Maps (B, C, H, W, N) on the CPU.
        weight: Kernels (B, O, C, 3, 3).
        bias: (B, O).
        dropped: What dropout drops; None: nothing.

    Returns:
        (B, O, (H − 2) // 2, (W − 2) // 2, N).
    """
    output: Tensor = _ConvolutionPoolReLU.apply(x, weight, bias, dropped)
    return output


def is_small(x: Tensor, weight: Tensor) -> bool:
    """Say whether :func:`convolve_pool_relu` can take these maps and kernels, and is the faster way.

    With many channels a matrix product is faster.
    """
    outputs, channels = weight.shape[1:3]
    enough = outputs >= _AT_ONCE and (channels >= _AT_ONCE or not x.requires_grad)
    plain = x.device.type == "cpu" and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)
    return plain and enough and channels <= _FEW_CHANNELS


class _ConvolutionPoolReLU(torch.autograd.Function):
    """The compiled kernels, as one operation."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        dropped: Dropped | None,
    ) -> Tensor:
        from pairs_lit.stacking.ops import kernels

        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        b, _, h, w, n = x.shape
        pooled = x.new_empty(b, weight.shape[1], (h - 2) // 2, (w - 2) // 2, n)
        place = torch.empty_like(pooled, dtype=torch.int32)
        rates, words = ((0.0,) * b, torch.zeros(b, 2, dtype=torch.int32)) if dropped is None else dropped
        each = torch.tensor(rates, dtype=torch.float64)
        kernels.run(kernels.convolve_pool, x, weight, bias, words, each, pooled, place)
        ctx.save_for_backward(x, weight, place)
        ctx.rates = rates
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # noqa: ANN401 - torch's context
        from pairs_lit.stacking.ops import kernels

        x, weight, place = ctx.saved_tensors
        grad = grads[0].contiguous()
        if max(ctx.rates) > 0:
            grad = grad / kept_shares(ctx.rates, grad)  # who won the pool above 0 was kept: the mask is not needed
        weights, biases = torch.empty_like(weight), weight.new_empty(weight.shape[:2])
        if not ctx.needs_input_grad[0]:
            kernels.run(kernels.weight_gradient, x, grad, place, weights, biases)
            return None, weights, biases, None
        maps = torch.empty_like(x)
        kernels.run(kernels.all_gradients, x, weight, grad, place, maps, weights, biases)
        return maps, weights, biases, None


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
    from pairs_lit.stacking.ops import kernels

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
        from pairs_lit.stacking.ops import kernels

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
        from pairs_lit.stacking.ops import kernels

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
