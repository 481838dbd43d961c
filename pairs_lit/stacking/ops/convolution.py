"""Stacked 2-D convolution: one batched matrix product for R rounds, or torch's convolution round by round.

Maps are (B, C, H, W, N). Because the N images are innermost, each row of a window is one contiguous block of memory.
The column matrix (im2col) is therefore filled by long copies, and the long side of the product is positions × images.
If the column matrix does not fit in a core's cache, torch's own convolution is faster, even though it is called once
per round and its inputs and outputs must be transposed. On a GPU, all rounds are always one product.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Geometry(NamedTuple):
    """Geometry of a convolution; every field is (vertical, horizontal).

    Attributes:
        kernel: Kernel size.
        stride: Stride.
        dilation: Dilation.
        padding_before: Zero padding above and left.
        padding_after: Zero padding below and right.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding_before: tuple[int, int]
    padding_after: tuple[int, int]

    @classmethod
    def from_layer(cls, layer: nn.Conv2d) -> "Geometry":
        """Return the geometry of a plain layer."""
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
    def conv_arguments(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Stride, padding and dilation, in the order of the arguments of torch's convolution."""
        return self.stride, self.padding_before, self.dilation

    def pad(self, x: Tensor) -> Tensor:
        """Pad maps (B, C, H, W, N) with zeros, and return them contiguous."""
        if (*self.padding_before, *self.padding_after) == (0, 0, 0, 0):
            return x.contiguous()
        (top, left), (bottom, right) = self.padding_before, self.padding_after
        return F.pad(x, (0, 0, left, right, top, bottom)).contiguous()

    def count_positions(self, sides: tuple[int, ...]) -> tuple[int, int]:
        """Return the number of kernel positions (vertical, horizontal) on padded maps of size (H, W)."""
        counts = [
            (side - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, dilation in zip(sides, self.kernel, self.stride, self.dilation, strict=True)
        ]
        return counts[0], counts[1]

    def view_windows(self, x: Tensor) -> Tensor:
        """Return padded maps (B, C, H, W, N) viewed as windows (B, C, kh, kw, OH, OW, N)."""
        b, c, h, w, n = x.shape
        step_b, step_c, step_h, step_w, step_n = x.stride()
        (dy, dx), (sy, sx) = self.dilation, self.stride
        size = (b, c, *self.kernel, *self.count_positions((h, w)), n)
        return x.as_strided(size, (step_b, step_c, dy * step_h, dx * step_w, sy * step_h, sx * step_w, step_n))

    def sum_windows(self, windows: Tensor, sides: tuple[int, int]) -> Tensor:
        """Sum overlapping windows (B, C, kh, kw, OH, OW, N) into maps (B, C, H, W, N), and cut off the padding."""
        (top, left), (bottom, right), (h, w) = self.padding_before, self.padding_after, sides
        size = (*windows.shape[:2], top + h + bottom, left + w + right, windows.shape[-1])
        maps = windows.new_zeros(size)
        target_windows = self.view_windows(maps)
        for y, x in product(*map(range, self.kernel)):
            target_windows[:, :, y, x] += windows[:, :, y, x]
        return maps[:, :, top : top + h, left : left + w]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve each of B stacks of maps with its own kernels.

    Args:
        x: Maps (B, C, H, W, N).
        weight: Kernels (B, O, C, kh, kw).
        bias: Biases (B, O), or None.
        geometry: Kernel size, stride, dilation and padding.

    Returns:
        Maps (B, O, OH, OW, N).
    """
    device = x.device.type
    # Autocast alone would lower the precision of the forward products only, not of those in the backward pass.
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if geometry.padding_before == geometry.padding_after and _is_large(x, weight, geometry):
        sequential_output: Tensor = _SequentialConvolution.apply(x, weight, bias, geometry)
        return sequential_output
    matrix = weight.flatten(2)
    if bias is not None:
        matrix = torch.cat([matrix, bias[..., None]], 2)
    output: Tensor = _BatchedConvolution.apply(x, matrix, geometry)
    return output


MAX_CACHED_BYTES = 2**21
"""Largest column matrix, in bytes, that a core's cache of one to two MiB can hold during the product."""

# With more weights than this, the time spent multiplying columns of padding zeros is noticeable.
_MAX_LIGHT_WEIGHTS = 2**19


def can_fill_core(column_bytes: int, weights: int) -> bool:
    """Return whether a convolution with this column size and number of weights keeps a core busy by itself."""
    return column_bytes > MAX_CACHED_BYTES or weights > _MAX_LIGHT_WEIGHTS


def _is_large(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Return whether the columns or weights of one round are so large that torch's convolution is the faster way.

    It never is on a GPU, where a call for each round would cost more than it saves.
    """
    if x.device.type != "cpu":
        return False
    sides = [
        side + before + after
        for side, before, after in zip(x.shape[2:4], geometry.padding_before, geometry.padding_after, strict=True)
    ]
    columns = weight[0, 0].numel() * torch.Size(geometry.count_positions(tuple(sides))).numel() * x.shape[-1]
    return can_fill_core(columns * x.element_size(), weight[0].numel())


class _SequentialConvolution(torch.autograd.Function):
    """Torch's convolution, applied to one stack of maps after the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:  # noqa: ANN401 - torch's context
        images = [_move_images_first(maps) for maps in x]
        outputs = [
            F.conv2d(round_images, weight[index], None if bias is None else bias[index], *geometry.conv_arguments)
            for index, round_images in enumerate(images)
        ]
        ctx.save_for_backward(weight, *images)
        ctx.geometry, ctx.biased = geometry, bias is not None
        return _stack_images_last(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # noqa: ANN401 - torch's context
        weight, *images = ctx.saved_tensors
        options = (
            weight.shape[1:2],
            *ctx.geometry.conv_arguments,
            False,
            [0, 0],
            1,
            [*ctx.needs_input_grad[:2], ctx.biased],
        )
        gradients = [
            torch.ops.aten.convolution_backward(_move_images_first(grad), round_images, kernels, *options)
            for grad, round_images, kernels in zip(grads[0], images, weight, strict=True)
        ]
        map_grads, kernel_grads, bias_grads = zip(*gradients, strict=True)
        return (
            _stack_images_last(map_grads) if ctx.needs_input_grad[0] else None,
            torch.stack(kernel_grads) if ctx.needs_input_grad[1] else None,
            torch.stack(bias_grads) if ctx.biased else None,
            None,
        )


def _move_images_first(maps: Tensor) -> Tensor:
    """Return maps (C, H, W, N) as contiguous images (N, C, H, W)."""
    return maps.reshape(-1, maps.shape[-1]).t().contiguous().view(-1, *maps.shape[:-1])


def _stack_images_last(images: Sequence[Tensor]) -> Tensor:
    """Return B tensors of images (N, C, H, W) as one tensor of maps (B, C, H, W, N)."""
    n, *rest = images[0].shape
    maps = images[0].new_empty(len(images), *rest, n)
    for round_maps, round_images in zip(maps, images, strict=True):
        round_maps.view(-1, n).copy_(round_images.reshape(n, -1).t())
    return maps


class _BatchedConvolution(torch.autograd.Function):
    """Batched product of kernels and columns; a bias is the last kernel element, multiplied by a row of ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, geometry: Geometry) -> Tensor:  # noqa: ANN401 - torch's context
        windows = geometry.view_windows(geometry.pad(x))
        size = windows.shape
        window_size = size[1:4].numel()
        columns = windows.new_empty(size[0], matrix.shape[2], size[4:].numel())
        columns[:, :window_size].view(size).copy_(windows)
        columns[:, window_size:] = 1
        ctx.save_for_backward(columns, matrix)
        ctx.geometry, ctx.sides, ctx.windows = geometry, x.shape[2:4], size
        return torch.bmm(matrix, columns).view(len(x), -1, *size[4:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401 - torch's context
        columns, matrix = ctx.saved_tensors
        grad = grads[0].flatten(2)
        map_grad = matrix_grad = None
        if ctx.needs_input_grad[0]:
            window_size = ctx.windows[1:4].numel()
            windows = torch.bmm(matrix[:, :, :window_size].transpose(1, 2), grad).view(ctx.windows)
            map_grad = ctx.geometry.sum_windows(windows, ctx.sides)
        if ctx.needs_input_grad[1]:
            matrix_grad = torch.bmm(grad, columns.transpose(1, 2))
        return map_grad, matrix_grad, None
