"""Fused operations on the CPU: convolution, dropout, max-pool and ReLU; batch norm, max-pool and ReLU."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairs_lit.stacking.ops.compilation import can_use_kernels, run_kernel
from pairs_lit.system.device_constants import DeviceConstants

_MAX_CHANNELS = 16
_MAPS_PER_BLOCK = 4  # the kernels process maps in blocks of four


class FusedDropout(NamedTuple):
    """Dropout between convolution and pool, as the compiled kernels need it.

    Attributes:
        rates: The probability of dropping an activation in each of the B rounds, below 1.
        words: (B, 2) int32. With an activation's index in (N, O, H, W), they determine whether it is kept.
    """

    rates: tuple[float, ...]
    words: Tensor


def convolve_pool_relu(x: Tensor, weight: Tensor, bias: Tensor, dropped: FusedDropout | None = None) -> Tensor:
    """Apply a 3×3 convolution, dropout, a 2×2 max-pool and ReLU in one pass of compiled kernels.

    Args:
        x: Maps (B, C, H, W, N) on the CPU.
        weight: Kernels (B, O, C, 3, 3).
        bias: Biases (B, O).
        dropped: The dropout between convolution and pool, or None for no dropout.

    Returns:
        Maps (B, O, (H − 2) // 2, (W − 2) // 2, N).
    """
    output: Tensor = _ConvolutionPoolReLU.apply(x, weight, bias, dropped)
    return output


def should_fuse_convolution(x: Tensor, weight: Tensor) -> bool:
    """Return whether :func:`convolve_pool_relu` supports these maps and kernels and is faster than a matrix product.

    With many channels, the matrix product is faster.
    """
    outputs, channels = weight.shape[1:3]
    has_full_block = outputs >= _MAPS_PER_BLOCK and (channels >= _MAPS_PER_BLOCK or not x.requires_grad)
    return has_full_block and channels <= _MAX_CHANNELS and can_use_kernels(x, weight)


class _ConvolutionPoolReLU(torch.autograd.Function):
    """Autograd function of the compiled kernels for convolution, dropout, max-pool and ReLU."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        dropped: FusedDropout | None,
    ) -> Tensor:
        from pairs_lit.stacking.ops import kernels

        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        b, _, h, w, n = x.shape
        pooled = x.new_empty(b, weight.shape[1], (h - 2) // 2, (w - 2) // 2, n)
        winners = torch.empty_like(pooled, dtype=torch.int32)
        rates, words = ((0.0,) * b, torch.zeros(b, 2, dtype=torch.int32)) if dropped is None else dropped
        rate_tensor = torch.tensor(rates, dtype=torch.float64)
        run_kernel(kernels.convolve_pool, x, weight, bias, words, rate_tensor, pooled, winners)
        ctx.save_for_backward(x, weight, winners)
        ctx.rates = rates
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # noqa: ANN401 - torch's context
        from pairs_lit.stacking.ops import kernels

        x, weight, winners = ctx.saved_tensors
        grad = grads[0].contiguous()
        if max(ctx.rates) > 0:
            # The mask is not needed: a positive maximum of a pool is an activation that dropout has kept.
            grad = grad / DeviceConstants([1 - p for p in ctx.rates]).shape_like(grad)
        weights, biases = torch.empty_like(weight), weight.new_empty(weight.shape[:2])
        if not ctx.needs_input_grad[0]:
            run_kernel(kernels.compute_weight_gradients, x, grad, winners, weights, biases)
            return None, weights, biases, None
        maps = torch.empty_like(x)
        run_kernel(kernels.compute_all_gradients, x, weight, grad, winners, maps, weights, biases)
        return maps, weights, biases, None


def normalise_pool_relu(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each map by its own mean and variance, then apply a 2×2 max-pool and ReLU.

    Args:
        x: Maps (B, H, W, N) on the CPU.
        weight: Scale (B,).
        bias: Shift (B,).
        eps: Constant added to the variance.

    Returns:
        The pooled maps (B, H // 2, W // 2, N), and the mean and the biased variance (divided by the count) of each
        map, (B,) each, without gradients.
    """
    pooled, moments = _NormPoolReLU.apply(x, weight, bias, eps)
    mean, variance = moments.to(x.dtype).unbind(1)
    return pooled, mean, variance


def normalise_by_statistics_pool_relu(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Normalise each map by a given mean and variance, (B,) each, then apply a 2×2 max-pool and ReLU.

    This operation has no gradients; it is for evaluation.
    """
    from pairs_lit.stacking.ops import kernels

    pooled, winners = _allocate_pooled(x)
    moments, affine = _stack_columns(mean, variance), _stack_columns(weight, bias)
    run_kernel(kernels.normalise_pool, x.contiguous(), moments, affine, _to_scalar(eps), pooled, winners)
    return pooled


class _NormPoolReLU(torch.autograd.Function):
    """Autograd function of the compiled kernels for batch norm, max-pool and ReLU."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        from pairs_lit.stacking.ops import kernels

        x, affine = x.contiguous(), _stack_columns(weight, bias)
        moments = torch.empty_like(affine)
        pooled, winners = _allocate_pooled(x)
        run_kernel(kernels.measure_normalise_pool, x, moments, affine, _to_scalar(eps), pooled, winners)
        ctx.save_for_backward(x, moments, affine, winners)
        ctx.eps = eps
        ctx.mark_non_differentiable(moments)
        return pooled, moments

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401 - torch's context
        from pairs_lit.stacking.ops import kernels

        x, moments, affine, winners = ctx.saved_tensors
        map_grads, affine_grads, grad = torch.empty_like(x), torch.empty_like(affine), grads[0].contiguous()
        weight, eps = affine[:, 0].contiguous(), _to_scalar(ctx.eps)
        run_kernel(
            kernels.compute_normalisation_gradients, x, moments, weight, eps, grad, winners, map_grads, affine_grads
        )
        weight_grads, bias_grads = affine_grads.to(x.dtype).unbind(1)
        return map_grads, weight_grads, bias_grads, None


def _allocate_pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Allocate the pooled maps and the positions of their maxima for maps (B, H, W, N)."""
    b, h, w, n = x.shape
    pooled = x.new_empty(b, h // 2, w // 2, n)
    return pooled, torch.empty_like(pooled, dtype=torch.int32)


def _stack_columns(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], 1).double()


def _to_scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
