"""Backbones: plain torch modules that turn one image into an embedding, (N, C, H, W) → (N, F).

Backbones do not deal with pairs or rounds. Any module can be a custom backbone: set its class, or a function that
builds it, by its import path.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError, check_choice, check_dropout, check_sizes
from pairs_lit.nn.blocks import Activation, build_activation, build_linear_layers
from pairs_lit.stacking.ops.stacked_layers import SwitchedOff

Shape = tuple[int, int, int]
"""Channels, height and width of an image; with ``sharing: joint``, a pair is one image of two channels."""

BatchNormPlace = Literal["maps", "hidden", "code"]
"""Positions of batch norm in a convolutional network."""

IdleBatchNormPlace = Literal["maps", "code"]
"""Positions at which batch norm may exist but be switched off."""

GlobalPool = Literal["none", "average", "max"]
"""Global pooling of the last maps to one value each; with ``none``, they keep all their pixels."""

Number = TypeVar("Number", int, float)

BackboneFactory = Callable[[Shape], nn.Module]


class FC(nn.Sequential):
    """Fully connected layers, without an activation after the last.

    Args:
        shape: Channels, height and width of the image.
        widths: Output width of each layer; the last one is the width of the embedding. belhadj's FC has 10, 10.
        batch_norm: Whether batch norm follows every layer except the last.
        dropout: Dropout probability after every activation.
        activation: The activation after every layer except the last.

    Raises:
        PairsLitError: There is no layer, a width is below 1, or the dropout lies outside [0, 1).
    """

    def __init__(
        self,
        shape: Shape,
        *,
        widths: Sequence[int] = (10, 10),
        batch_norm: bool = False,
        dropout: float = 0.0,
        activation: Activation = "relu",
    ) -> None:
        if not widths:
            raise PairsLitError("FC.widths must contain at least the width of the embedding, got an empty list.")
        check_sizes("FC: widths", widths)
        check_dropout("FC: dropout", [dropout])
        layers = build_linear_layers(
            [prod(shape), *widths], batch_norm=batch_norm, dropout=dropout, activation=activation
        )
        super().__init__(nn.Flatten(), *layers)


class CNN(nn.Sequential):
    """Convolutions, then fully connected layers, without an activation after the last fully connected layer.

    Each convolution block is a convolution, batch norm, dropout, activation and max-pool, in this order.

    Args:
        shape: Channels, height and width of the image.
        channels: Output channels of each convolution. belhadj's CNN has 16, 8.
        kernels: Kernel size, one for all convolutions or one for each.
        paddings: Number of zeros on each side of the maps before a convolution, one for all convolutions or one for
            each. With kernels of 3, a padding of 1 keeps the size of the maps.
        conv_bias: Whether convolutions have a bias. Batch norm right after a convolution makes its bias useless.
        pools: Max-pool size, one for all convolutions or one for each; 1 means no pooling.
        global_pool: ``average`` or ``max`` reduces each of the last maps to one value. A linear layer after
            ``average`` computes the same as a convolution 1×1 before it.
        widths: Output width of each fully connected layer. If empty, the embedding is the flattened maps.
        batch_norm: Positions of batch norm. ``maps`` is after every convolution, ``hidden`` after every fully
            connected layer except the last, and ``code`` at the very end (gardoni).
        idle_batch_norm: Positions, ``maps`` or ``code``, at which batch norm exists and counts among the parameters
            but is switched off (gardoni).
        conv_dropout: Dropout probability after a convolution, one for all convolutions or one for each.
        flat_dropout: Dropout probability of the flattened maps, before the first fully connected layer.
        dropout: Dropout probability after the activation of every fully connected layer except the last.
        activation: The activation.

    Raises:
        PairsLitError: A list does not have one entry for each convolution, a size is below 1, a padding is below 0 or
            as large as its kernel, a dropout lies outside [0, 1), a position is unknown, or the image is too small.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Sequence[int] = (16, 8),
        kernels: int | Sequence[int] = 3,
        pools: int | Sequence[int] = 2,
        global_pool: GlobalPool = "none",
        widths: Sequence[int] = (10, 10),
        batch_norm: Sequence[BatchNormPlace] = (),
        idle_batch_norm: Sequence[IdleBatchNormPlace] = (),
        conv_dropout: float | Sequence[float] = 0.0,
        dropout: float = 0.0,
        activation: Activation = "relu",
        paddings: int | Sequence[int] = 0,
        conv_bias: bool = True,
        flat_dropout: float = 0.0,
    ) -> None:
        check_choice("CNN: global_pool", GlobalPool, global_pool)
        check_choice("CNN: batch_norm", BatchNormPlace, *batch_norm)
        check_choice("CNN: idle_batch_norm", IdleBatchNormPlace, *idle_batch_norm)
        repeated = [place for place in idle_batch_norm if place in batch_norm]
        if repeated:
            raise PairsLitError(
                f"CNN.batch_norm and CNN.idle_batch_norm both contain {repeated[0]!r}. Remove it from one of them."
            )
        count = len(channels)
        kernels, pools = (
            _expand_per_convolution("kernels", kernels, count),
            _expand_per_convolution("pools", pools, count),
        )
        paddings = _expand_per_convolution("paddings", paddings, count)
        conv_dropout = _expand_per_convolution("conv_dropout", conv_dropout, count)
        for name, sizes in {"channels": channels, "kernels": kernels, "pools": pools, "widths": widths}.items():
            check_sizes(f"CNN: {name}", sizes)
        _check_paddings(paddings, kernels)
        check_dropout("CNN: conv_dropout", conv_dropout)
        check_dropout("CNN: flat_dropout", [flat_dropout])
        check_dropout("CNN: dropout", [dropout])
        pixels = _count_pixels(shape, kernels, paddings, pools, global_pool)
        depths = [shape[0], *channels]
        layers: list[nn.Module] = []
        blocks = zip(pairwise(depths), kernels, paddings, pools, conv_dropout, strict=True)
        for (in_channels, out_channels), kernel, padding, pool, drop in blocks:
            norm = _build_norm(nn.BatchNorm2d(out_channels), "maps", batch_norm, idle_batch_norm)
            convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=conv_bias)
            layers += _build_block(convolution, norm, drop, activation, pool)
        if global_pool != "none":
            layers.append(nn.AdaptiveAvgPool2d(1) if global_pool == "average" else nn.AdaptiveMaxPool2d(1))
        layers.append(nn.Flatten())
        layers += [nn.Dropout(flat_dropout)] if flat_dropout > 0 else []
        all_widths = [depths[-1] * pixels, *widths]
        if widths:
            hidden = "hidden" in batch_norm
            layers += build_linear_layers(all_widths, batch_norm=hidden, dropout=dropout, activation=activation)
        layers += _build_norm(nn.BatchNorm1d(all_widths[-1]), "code", batch_norm, idle_batch_norm)
        super().__init__(*layers)


def _build_block(
    convolution: nn.Conv2d, norm: Sequence[nn.Module], drop: float, activation: Activation, pool: int
) -> list[nn.Module]:
    layers: list[nn.Module] = [convolution, *norm]
    layers += [nn.Dropout(drop)] if drop > 0 else []
    layers.append(build_activation(activation))
    layers += [nn.MaxPool2d(pool)] if pool > 1 else []
    return layers


def _check_paddings(paddings: Sequence[int], kernels: Sequence[int]) -> None:
    """Raise PairsLitError if a padding is negative or so large that its kernel could see only zeros."""
    if any(not 0 <= padding < kernel for padding, kernel in zip(paddings, kernels, strict=True)):
        raise PairsLitError(
            f"CNN.paddings must be 0 or more and below the kernel sizes {list(kernels)}, got {list(paddings)}."
        )


def _count_pixels(
    shape: Shape, kernels: Sequence[int], paddings: Sequence[int], pools: Sequence[int], global_pool: GlobalPool
) -> int:
    """Return the number of pixels of each of the last maps.

    Raises:
        PairsLitError: The image is too small.
    """
    _, height, width = shape
    for kernel, padding, pool in zip(kernels, paddings, pools, strict=True):
        shrinkage = kernel - 1 - 2 * padding
        height, width = (height - shrinkage) // pool, (width - shrinkage) // pool
    if height < 1 or width < 1:
        padding_text = f", paddings {paddings}" if any(paddings) else ""
        raise PairsLitError(
            f"CNN: kernels {kernels}{padding_text} and pools {pools} are too large for an image of shape {shape}."
        )
    return height * width if global_pool == "none" else 1


def _expand_per_convolution(name: str, value: Number | Sequence[Number], count: int) -> Sequence[Number]:
    """Return an option of the convolutions as one value for each of them."""
    values = value if isinstance(value, Sequence) else [value] * count
    if len(values) != count:
        raise PairsLitError(
            f"CNN.{name} must be one value or a list of {count}, one for each convolution, got a list of {len(values)}."
        )
    return values


def _build_norm(
    layer: nn.Module, place: IdleBatchNormPlace, active: Sequence[BatchNormPlace], idle: Sequence[IdleBatchNormPlace]
) -> list[nn.Module]:
    """Return the batch norm of a position as a list: active, switched off, or empty."""
    if place in idle:
        return [SwitchedOff(layer)]
    return [layer] if place in active else []


class TorchModule(nn.Module):
    """Adapter that makes any torch module, such as a torchvision model, a backbone.

    Args:
        shape: Channels, height and width of the image.
        module: Builds the module. It maps (N, C, H, W) to (N, ...), which is flattened to (N, F).
        channels: Number of channels to which a one-channel image is repeated, for modules that expect colour.
        size: Height and width to which the image is resized bilinearly, for modules that need a larger image.
    """

    def __init__(
        self, shape: Shape, *, module: Callable[[], nn.Module], channels: int | None = None, size: int | None = None
    ) -> None:
        super().__init__()
        self.module = module()
        self._channels = channels or shape[0]
        self._size = (size, size) if size else shape[1:]

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding: (N, C, H, W) → (N, F)."""
        if images.shape[-2:] != self._size:
            images = F.interpolate(images, self._size, mode="bilinear")
        repeated = images.expand(-1, self._channels, -1, -1).contiguous()  # own memory: the module may write into it
        output: Tensor = self.module(repeated)
        return torch.flatten(output, 1)
