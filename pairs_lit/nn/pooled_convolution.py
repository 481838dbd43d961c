"""A convolution 3×3 with dropout, max-pool 2×2 and ReLU in one pass of compiled kernels, for few channels.

The kernels are imported only where they run: loading them takes a second, compiling them, once, some more.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

_FEW_CHANNELS = 16
_AT_ONCE = 4  # maps that the kernels treat at once


class Dropped(NamedTuple):
    """What dropout between convolution and pool drops.

    Attributes:
        p: The probability of dropping an activation, below 1.
        words: (B, 2) int32, which decide with an activation's number in (N, O, H, W) whether it is kept.
    """

    p: float
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
        from pairs_lit.nn import kernels

        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        b, _, h, w, n = x.shape
        pooled = x.new_empty(b, weight.shape[1], (h - 2) // 2, (w - 2) // 2, n)
        place = torch.empty_like(pooled, dtype=torch.int32)
        p, words = (0.0, torch.zeros(len(x), 2, dtype=torch.int32)) if dropped is None else dropped
        kernels.run(kernels.convolve_pool, x, weight, bias, words, torch.tensor(p, dtype=torch.float64), pooled, place)
        ctx.save_for_backward(x, weight, place)
        ctx.kept = 1 - p
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # noqa: ANN401 - torch's context
        from pairs_lit.nn import kernels

        x, weight, place = ctx.saved_tensors
        grad = grads[0].contiguous()
        if ctx.kept < 1:
            grad = grad / ctx.kept  # who won the pool above 0 was kept, so the mask is not needed
        weights, biases = torch.empty_like(weight), weight.new_empty(weight.shape[:2])
        if not ctx.needs_input_grad[0]:
            kernels.run(kernels.weight_gradient, x, grad, place, weights, biases)
            return None, weights, biases, None
        maps = torch.empty_like(x)
        kernels.run(kernels.all_gradients, x, weight, grad, place, maps, weights, biases)
        return maps, weights, biases, None
