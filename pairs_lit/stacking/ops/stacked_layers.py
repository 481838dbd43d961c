"""Stacked layers: modules that compute R copies of one layer at once, each copy with its own parameters.

Activations have one of two layouts:

- ``rows``: (R, N, ...), with the images before their features.
- ``maps``: (R, C, H, W, N), with the images last, so that convolutions are batched matrix products, and pooling and
  normalisation run over long rows of memory.

Parameters and buffers have the plain layer's names, and its shapes with a leading dimension R. Hence
``{name: value[r] for name, value in stacked.state_dict().items()}`` is the state of round r's plain layer.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.stacking.ops.compilation import can_use_kernels
from pairs_lit.stacking.ops.convolution import Geometry, convolve
from pairs_lit.stacking.ops.dropout import StackedDropout
from pairs_lit.stacking.ops.fused_ops import (
    FusedDropout,
    convolve_pool_relu,
    normalise_by_statistics_pool_relu,
    normalise_pool_relu,
    should_fuse_convolution,
)
from pairs_lit.stacking.ops.linear import apply_linear


class Rowwise(nn.Module):
    """Base class of modules that one instance can compute for a whole stack.

    Such a module has no parameters and no state, its ``forward`` acts on the last dimension alone, and it changes
    nothing in place. Only classes that list ``Rowwise`` directly among their bases are treated like this. A class
    derived from one of them may compute something else, so it gets one copy per round.
    """


def pool_maps(pool: Callable[..., Tensor], x: Tensor, *options: int) -> Tensor:
    """Pool maps (R, C, H, W, N).

    The R·C maps are passed to torch as a batch, and the images as its channels, which are last in memory. Torch then
    pools long contiguous rows.
    """
    pooled_maps = pool(x.flatten(0, 1).permute(0, 3, 1, 2), *options).permute(0, 2, 3, 1)
    return pooled_maps.reshape(*x.shape[:2], *pooled_maps.shape[1:])


def to_maps(x: Tensor) -> Tensor:
    """Convert the layout rows (R, N, C, H, W) to contiguous maps (R, C, H, W, N)."""
    return x.permute(0, 2, 3, 4, 1).contiguous()


def to_rows(x: Tensor) -> Tensor:
    """View the layout maps (R, C, H, W, N) as rows (R, N, C, H, W)."""
    return x.permute(0, 4, 1, 2, 3)


class _StackedLayer(nn.Module):
    """Base class of stacked layers, which are printed with the settings of the plain layer.

    Args:
        copies: The R plain layers.
    """

    def __init__(self, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.plain_settings = copies[0].extra_repr()

    def extra_repr(self) -> str:
        """Return the plain layer's settings, as ``repr`` shows them."""
        return self.plain_settings


def stack_parameters(values: Sequence[Tensor | None]) -> nn.Parameter | None:
    """Return R parameters as one parameter with a leading dimension R, or None if the layers do not have it."""
    present = [value.detach() for value in values if value is not None]
    requires_grad = any(value is not None and value.requires_grad for value in values)
    return nn.Parameter(torch.stack(present), requires_grad=requires_grad) if present else None


class StackedLinear(_StackedLayer):
    """R linear layers as one batched matrix product: (R, N, ..., in) → (R, N, ..., out).

    Args:
        copies: The R plain layers.
    """

    def __init__(self, copies: Sequence[nn.Linear]) -> None:
        super().__init__(copies)
        self.weight = cast(nn.Parameter, stack_parameters([copy.weight for copy in copies]))
        self.bias = stack_parameters([copy.bias for copy in copies])

    def forward(self, x: Tensor) -> Tensor:
        """Apply each round's layer to that round's rows."""
        return apply_linear(x, self.weight, self.bias)


class StackedConv2d(_StackedLayer):
    """R 2-D convolutions in the layout maps.

    Args:
        copies: The R plain layers, whose padding mode must be zeros.
    """

    def __init__(self, copies: Sequence[nn.Conv2d]) -> None:
        super().__init__(copies)
        self.weight = cast(nn.Parameter, stack_parameters([copy.weight for copy in copies]))
        self.bias = stack_parameters([copy.bias for copy in copies])
        self._geometry = Geometry.from_layer(copies[0])
        self._groups = copies[0].groups

    def forward(self, x: Tensor, halve: bool = False, dropout: StackedDropout | None = None) -> Tensor:
        """Apply each round's kernels to that round's maps.

        Args:
            x: The maps (R, C, H, W, N).
            halve: Whether to apply the dropout, a 2×2 max-pool and ReLU as well, in one pass if that is faster. This
                is allowed only for 3×3 kernels with bias, stride 1 and no padding.
            dropout: The dropout between convolution and pool, or None for no dropout.
        """
        if not halve:
            return self._convolve(x)
        if self.bias is not None and should_fuse_convolution(x, self.weight):
            dropped = None if dropout is None else FusedDropout(dropout.rates, dropout.get_step_words(x.device))
            return convolve_pool_relu(x, self.weight, self.bias, dropped)
        maps = self._convolve(x)
        return pool_maps(F.max_pool2d, maps if dropout is None else dropout(maps), 2).relu()

    def _convolve(self, x: Tensor) -> Tensor:
        size = (len(x) * self._groups, -1)
        maps, weight = x.reshape(*size, *x.shape[2:]), self.weight.view(*size, *self.weight.shape[2:])
        bias = None if self.bias is None else self.bias.view(size)
        output = convolve(maps, weight, bias, self._geometry)
        return output.view(len(x), -1, *output.shape[2:])


class StackedBatchNorm2d(_StackedLayer):
    """R batch norms in the layout maps, with separate statistics for each round and channel.

    Args:
        copies: The R plain layers, with a fixed momentum.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, copies: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> None:
        super().__init__(copies)
        self.weight = stack_parameters([copy.weight for copy in copies])
        self.bias = stack_parameters([copy.bias for copy in copies])
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            values = [value for copy in copies if (value := copy.get_buffer(name)) is not None]
            self.register_buffer(name, torch.stack(values) if values else None)
        self._momentum, self._eps = copies[0].momentum, copies[0].eps

    def forward(self, x: Tensor, halve: bool = False) -> Tensor:
        """Normalise each round's channels by that round's statistics.

        Args:
            x: The maps (R, C, H, W, N).
            halve: Whether to apply a 2×2 max-pool and ReLU as well, in one pass if possible. This is allowed only
                with weight, bias and running statistics.
        """
        if not halve:
            return self._normalise_layout(x)
        weight, bias = cast(Tensor, self.weight).flatten(), cast(Tensor, self.bias).flatten()
        mean, variance = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        maps = x.flatten(0, 1)
        if not can_use_kernels(x, weight) or (torch.is_grad_enabled() and not self.training):
            return pool_maps(F.max_pool2d, self._normalise_layout(x), 2).relu()
        if self.training:
            pooled_maps, batch_mean, batch_variance = normalise_pool_relu(maps, weight, bias, self._eps)
            self._update_running_statistics(mean, variance, batch_mean, batch_variance, maps[0].numel())
        else:
            pooled_maps = normalise_by_statistics_pool_relu(
                maps, mean.flatten(), variance.flatten(), weight, bias, self._eps
            )
        return pooled_maps.view(*x.shape[:2], *pooled_maps.shape[1:])

    def _normalise_layout(self, x: Tensor) -> Tensor:
        return self._normalise(x.reshape(1, x.shape[:2].numel(), -1)).view(x.shape)

    def _normalise(self, x: Tensor) -> Tensor:
        """Normalise (N, R·C, ...) over N and the dimensions after the channels."""
        has_running_statistics = self.num_batches_tracked is not None
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        mean, var, weight, bias = (
            None if value is None else value.flatten()
            for value in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        momentum = 0.0 if self._momentum is None else self._momentum
        use_batch_statistics = self.training or not has_running_statistics
        return F.batch_norm(x, mean, var, weight, bias, use_batch_statistics, momentum, self._eps)

    def _update_running_statistics(
        self, mean: Tensor, variance: Tensor, batch_mean: Tensor, batch_variance: Tensor, count: int
    ) -> None:
        """Move the running statistics towards those of the batch; the running variance is divided by count − 1."""
        cast(Tensor, self.num_batches_tracked).add_(1)
        momentum = cast(float, self._momentum)
        mean.mul_(1 - momentum).add_(batch_mean.view_as(mean), alpha=momentum)
        variance.mul_(1 - momentum).add_(batch_variance.view_as(mean), alpha=momentum * count / (count - 1))


class StackedBatchNorm1d(StackedBatchNorm2d):
    """R batch norms of vectors or sequences, in the layout rows: (R, N, F) or (R, N, F, L)."""

    def _normalise_layout(self, x: Tensor) -> Tensor:
        rows = x.transpose(0, 1)
        return self._normalise(rows.flatten(1, 2)).view(rows.shape).transpose(0, 1)


class SwitchedOff(nn.Module):
    """A layer whose parameters are kept but which is not applied; the output is the input.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the input unchanged."""
        return x
