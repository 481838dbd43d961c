"""Convolution of R rounds, with the images last in memory: as one batched matrix product, or round by round.

Maps are (B, C, H, W, N): with N images innermost, each row of a kernel position's window is one contiguous run, so the
matrix of columns is filled by long copies, and the product's long side is positions × images. Where that matrix does
not fit a core's cache, torch's own convolution of one round after the other is faster, in spite of two transpositions.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Geometry(NamedTuple):
    """How a kernel moves over maps, each as (vertical, horizontal).

    Attributes:
        kernel: Kernel size.
        stride: Stride.
        dilation: Dilation.
        before: Zero padding above and left.
        after: Zero padding below and right.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]

    @classmethod
    def of(cls, layer: nn.Conv2d) -> "Geometry":
        """Read the geometry off a plain layer."""
        kernel, stride, dilation = (
            cast(tuple[int, int], values) for values in (layer.kernel_size, layer.stride, layer.dilation)
        )
        if layer.padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            before = total[0] // 2, total[1] // 2
            return cls(kernel, stride, dilation, before, (total[0] - before[0], total[1] - before[1]))
        sides = (0, 0) if isinstance(layer.padding, str) else cast(tuple[int, int], layer.padding)
        return cls(kernel, stride, dilation, sides, sides)

    @property
    def options(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """The arguments of torch's own convolution: stride, padding, dilation."""
        return self.stride, self.before, self.dilation

    def padded(self, x: Tensor) -> Tensor:
        """Pad maps (B, C, H, W, N) with zeros; contiguous."""
        if (*self.before, *self.after) == (0, 0, 0, 0):
            return x.contiguous()
        (top, left), (bottom, right) = self.before, self.after
        return F.pad(x, (0, 0, left, right, top, bottom)).contiguous()

    def positions(self, sides: tuple[int, ...]) -> tuple[int, int]:
        """Return how many positions the kernel has on padded maps of (H, W)."""
        counts = [
            (side - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, dilation in zip(sides, self.kernel, self.stride, self.dilation, strict=True)
        ]
        return counts[0], counts[1]

    def windows(self, x: Tensor) -> Tensor:
        """View padded maps (B, C, H, W, N) as (B, C, kh, kw, OH, OW, N)."""
        b, c, h, w, n = x.shape
        step_b, step_c, step_h, step_w, step_n = x.stride()
        (dy, dx), (sy, sx) = self.dilation, self.stride
        size = (b, c, *self.kernel, *self.positions((h, w)), n)
        return x.as_strided(size, (step_b, step_c, dy * step_h, dx * step_w, sy * step_h, sx * step_w, step_n))

    def overlapped(self, windows: Tensor, sides: tuple[int, int]) -> Tensor:
        """Sum windows (B, C, kh, kw, OH, OW, N) where they overlap, to maps (B, C, H, W, N) without padding."""
        (top, left), (bottom, right), (h, w) = self.before, self.after, sides
        size = (*windows.shape[:2], top + h + bottom, left + w + right, windows.shape[-1])
        maps = windows.new_zeros(size)
        places = self.windows(maps)
        for y, x in product(*map(range, self.kernel)):
            places[:, :, y, x] += windows[:, :, y, x]
        return maps[:, :, top : top + h, left : left + w]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve each of B stacks of maps with its own kernels.

    Args:
        x: Maps (B, C, H, W, N).
        weight: Kernels (B, O, C, kh, kw).
        bias: (B, O), or None.
        geometry: How the kernels move.

    Returns:
        (B, O, OH, OW, N).
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):  # by itself, it would reach the products forward, not those backward
        kind = torch.get_autocast_dtype(device)
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    if geometry.before == geometry.after and _is_large(x, weight, geometry):
        each: Tensor = _EachConvolution.apply(x, weight, bias, geometry)
        return each
    matrix = weight.flatten(2)
    if bias is not None:
        matrix = torch.cat([matrix, bias[..., None]], 2)
    output: Tensor = _Convolution.apply(x, matrix, geometry)
    return output


CACHED = 2**21
"""Bytes of columns that a core's cache of one to two MiB can work on."""

_HEAVY = 2**19  # weights; with so many, filling columns of zeros (of padding) counts


def fills_a_core(column_bytes: int, weights: int) -> bool:
    """Return whether a convolution with columns of this size and this many weights keeps a core busy by itself."""
    return column_bytes > CACHED or weights > _HEAVY


def _is_large(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Return whether one round's columns or weights are too large for the batched product to be the faster way."""
    sides = [
        side + first + last for side, first, last in zip(x.shape[2:4], geometry.before, geometry.after, strict=True)
    ]
    columns = weight[0, 0].numel() * torch.Size(geometry.positions(tuple(sides))).numel() * x.shape[-1]
    return fills_a_core(columns * x.element_size(), weight[0].numel())


class _EachConvolution(torch.autograd.Function):
    """Torch's own convolution of each stack of maps after the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:  # noqa: ANN401 - torch's context
        images = [_images_first(maps) for maps in x]
        outputs = [
            F.conv2d(each, weight[place], None if bias is None else bias[place], *geometry.options)
            for place, each in enumerate(images)
        ]
        ctx.save_for_backward(weight, *images)
        ctx.geometry, ctx.biased = geometry, bias is not None
        return _all_images_last(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # noqa: ANN401 - torch's context
        weight, *images = ctx.saved_tensors
        options = (weight.shape[1:2], *ctx.geometry.options, False, [0, 0], 1, [*ctx.needs_input_grad[:2], ctx.biased])
        found = [
            torch.ops.aten.convolution_backward(_images_first(grad), each, kernels, *options)
            for grad, each, kernels in zip(grads[0], images, weight, strict=True)
        ]
        maps, kernels, biases = zip(*found, strict=True)
        return (
            _all_images_last(maps) if ctx.needs_input_grad[0] else None,
            torch.stack(kernels) if ctx.needs_input_grad[1] else None,
            torch.stack(biases) if ctx.biased else None,
            None,
        )


def _images_first(maps: Tensor) -> Tensor:
    """(C, H, W, N) → (N, C, H, W), contiguous."""
    return maps.reshape(-1, maps.shape[-1]).t().contiguous().view(-1, *maps.shape[:-1])


def _all_images_last(images: Sequence[Tensor]) -> Tensor:
    """B times (N, C, H, W) → (B, C, H, W, N)."""
    n, *rest = images[0].shape
    maps = images[0].new_empty(len(images), *rest, n)
    for place, each in zip(maps, images, strict=True):
        place.view(-1, n).copy_(each.reshape(n, -1).t())
    return maps


class _Convolution(torch.autograd.Function):
    """Columns of windows times kernels; a bias is the last kernel element, which meets a row of ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, geometry: Geometry) -> Tensor:  # noqa: ANN401 - torch's context
        windows = geometry.windows(geometry.padded(x))
        size = windows.shape
        filled = size[1:4].numel()
        columns = windows.new_empty(size[0], matrix.shape[2], size[4:].numel())
        columns[:, :filled].view(size).copy_(windows)
        columns[:, filled:] = 1
        ctx.save_for_backward(columns, matrix)
        ctx.geometry, ctx.sides, ctx.windows = geometry, x.shape[2:4], size
        return torch.bmm(matrix, columns).view(len(x), -1, *size[4:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401 - torch's context
        columns, matrix = ctx.saved_tensors
        grad = grads[0].flatten(2)
        maps = kernels = None
        if ctx.needs_input_grad[0]:
            rows = ctx.windows[1:4].numel()
            windows = torch.bmm(matrix[:, :, :rows].transpose(1, 2), grad).view(ctx.windows)
            maps = ctx.geometry.overlapped(windows, ctx.sides)
        if ctx.needs_input_grad[1]:
            kernels = torch.bmm(grad, columns.transpose(1, 2))
        return maps, kernels, None
