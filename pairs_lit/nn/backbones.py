"""Backbones: plain torch modules that turn one image into a code, (N, C, H, W) → (N, F).

They know nothing of pairs or rounds. A backbone of your own is any module; name its class, or a function that builds
it, by its path.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError, check_choice, check_dropout, check_sizes
from pairs_lit.nn.blocks import Activation, activation_layer, linear_layers
from pairs_lit.stacking.ops.stacked_layers import SwitchedOff

Shape = tuple[int, int, int]
"""Channels, height, width of an image; two channels where a pair is one image (``sharing: joint``)."""

Place = Literal["maps", "hidden", "code"]
"""Where batch norm may stand in a convolutional network."""

IdlePlace = Literal["maps", "code"]
"""Where batch norm may exist without doing anything."""

GlobalPool = Literal["none", "average", "max"]
"""How the last maps enter the code: with all their pixels, or as one value each."""

Number = TypeVar("Number", int, float)

BackboneFactory = Callable[[Shape], nn.Module]


class FC(nn.Sequential):
    """Fully connected layers; no activation after the last.

    Args:
        shape: Channels, height, width of the image.
        widths: Output width of each layer; the last is the code's. belhadj's FC: 10, 10.
        batch_norm: Batch norm after every layer but the last.
        dropout: Dropout probability after every activation.
        activation: The activation after every layer but the last.

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
            raise PairsLitError("FC: widths is empty: give at least the code's width.")
        check_sizes("FC: widths", widths)
        check_dropout("FC: dropout", [dropout])
        layers = linear_layers([prod(shape), *widths], batch_norm=batch_norm, dropout=dropout, activation=activation)
        super().__init__(nn.Flatten(), *layers)


class CNN(nn.Sequential):
    """Convolutions, then fully connected layers; no activation after the last fully connected one.

    A convolution block is: convolution, batch norm, dropout, activation, max-pool.

    Args:
        shape: Channels, height, width of the image.
        channels: Output channels of each convolution. belhadj's CNN: 16, 8.
        kernels: Kernel size, one for all or one for each.
        paddings: Zeros around the maps before a convolution, on each side, one for all or one for each; 1 keeps the
            size of the maps under a kernel of 3.
        conv_bias: Whether convolutions have a bias, which batch norm right after them makes useless.
        pools: Max-pool size, one for all or one for each; 1: no pooling.
        global_pool: ``average`` or ``max``: each of the last maps becomes one value. With ``average``, the layer that
            follows is the same as a convolution 1×1 before the pooling.
        widths: Output width of each fully connected layer; none: the code is the flattened maps.
        batch_norm: Where batch norm stands: ``maps``: after every convolution; ``hidden``: after every fully connected
            layer but the last; ``code``: at the very end (gardoni).
        idle_batch_norm: Where batch norm exists, and counts among the parameters, but is switched off (gardoni):
            ``maps``, ``code``.
        conv_dropout: Dropout probability after a convolution, one for all or one for each.
        flat_dropout: Dropout probability of the flattened maps, before the first fully connected layer.
        dropout: Dropout probability after the activation of every fully connected layer but the last.
        activation: The activation.

    Raises:
        PairsLitError: A list does not have one entry for each convolution, a size is below 1, a padding is below 0 or
            as large as its kernel, a dropout lies outside [0, 1), a place is unknown, or the image is too small.
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
        batch_norm: Sequence[Place] = (),
        idle_batch_norm: Sequence[IdlePlace] = (),
        conv_dropout: float | Sequence[float] = 0.0,
        dropout: float = 0.0,
        activation: Activation = "relu",
        paddings: int | Sequence[int] = 0,
        conv_bias: bool = True,
        flat_dropout: float = 0.0,
    ) -> None:
        check_choice("CNN: global_pool", GlobalPool, global_pool)
        check_choice("CNN: batch_norm", Place, *batch_norm)
        check_choice("CNN: idle_batch_norm", IdlePlace, *idle_batch_norm)
        both = [place for place in idle_batch_norm if place in batch_norm]
        if both:
            raise PairsLitError(f"CNN: batch_norm and idle_batch_norm both name {both[0]!r}: give one of them.")
        count = len(channels)
        kernels, pools = _each("kernels", kernels, count), _each("pools", pools, count)
        paddings = _each("paddings", paddings, count)
        conv_dropout = _each("conv_dropout", conv_dropout, count)
        for name, sizes in {"channels": channels, "kernels": kernels, "pools": pools, "widths": widths}.items():
            check_sizes(f"CNN: {name}", sizes)
        _check_paddings(paddings, kernels)
        check_dropout("CNN: conv_dropout", conv_dropout)
        check_dropout("CNN: flat_dropout", [flat_dropout])
        check_dropout("CNN: dropout", [dropout])
        pixels = _pixels(shape, kernels, paddings, pools, global_pool)
        depths = [shape[0], *channels]
        layers: list[nn.Module] = []
        blocks = zip(pairwise(depths), kernels, paddings, pools, conv_dropout, strict=True)
        for ends, kernel, padding, pool, drop in blocks:
            norm = _norm(nn.BatchNorm2d(ends[1]), "maps", batch_norm, idle_batch_norm)
            convolution = nn.Conv2d(*ends, kernel, padding=padding, bias=conv_bias)
            layers += _block(convolution, norm, drop, activation, pool)
        if global_pool != "none":
            layers.append(nn.AdaptiveAvgPool2d(1) if global_pool == "average" else nn.AdaptiveMaxPool2d(1))
        layers.append(nn.Flatten())
        layers += [nn.Dropout(flat_dropout)] if flat_dropout > 0 else []
        all_widths = [depths[-1] * pixels, *widths]
        if widths:
            hidden = "hidden" in batch_norm
            layers += linear_layers(all_widths, batch_norm=hidden, dropout=dropout, activation=activation)
        layers += _norm(nn.BatchNorm1d(all_widths[-1]), "code", batch_norm, idle_batch_norm)
        super().__init__(*layers)


def _block(
    convolution: nn.Conv2d, norm: Sequence[nn.Module], drop: float, activation: Activation, pool: int
) -> list[nn.Module]:
    layers: list[nn.Module] = [convolution, *norm]
    layers += [nn.Dropout(drop)] if drop > 0 else []
    layers.append(activation_layer(activation))
    layers += [nn.MaxPool2d(pool)] if pool > 1 else []
    return layers


def _check_paddings(paddings: Sequence[int], kernels: Sequence[int]) -> None:
    """Refuse paddings where a kernel would see nothing but zeros."""
    if any(not 0 <= padding < kernel for padding, kernel in zip(paddings, kernels, strict=True)):
        raise PairsLitError(
            f"CNN: paddings is {list(paddings)}: each must be 0 or more and below its kernel size, {list(kernels)}."
        )


def _pixels(
    shape: Shape, kernels: Sequence[int], paddings: Sequence[int], pools: Sequence[int], global_pool: GlobalPool
) -> int:
    """Return how many pixels each of the last maps has."""
    _, height, width = shape
    for kernel, padding, pool in zip(kernels, paddings, pools, strict=True):
        lost = kernel - 1 - 2 * padding
        height, width = (height - lost) // pool, (width - lost) // pool
    if height < 1 or width < 1:
        padded = f", paddings {paddings}" if any(paddings) else ""
        raise PairsLitError(
            f"CNN: kernels {kernels}{padded} and pools {pools} are too large for an image of shape {shape}."
        )
    return height * width if global_pool == "none" else 1


def _each(name: str, value: Number | Sequence[Number], count: int) -> Sequence[Number]:
    values = value if isinstance(value, Sequence) else [value] * count
    if len(values) != count:
        raise PairsLitError(
            f"CNN: {name} has {len(values)} entries for {count} convolutions: give one, or one for each."
        )
    return values


def _norm(layer: nn.Module, place: IdlePlace, active: Sequence[Place], idle: Sequence[IdlePlace]) -> list[nn.Module]:
    """Return the layer where batch norm is wanted, the layer switched off where it is idle, else nothing."""
    if place in idle:
        return [SwitchedOff(layer)]
    return [layer] if place in active else []


class TorchModule(nn.Module):
    """Any torch module by its class path, a torchvision model for instance, as a backbone.

    Args:
        shape: Channels, height, width of the image.
        module: Makes the module; it maps (N, C, H, W) to (N, ...), which is flattened to (N, F).
        channels: Repeat a one-channel image to so many channels, for modules that expect colour.
        size: Resize the image bilinearly to this height and width, for modules that need a larger one.
    """

    def __init__(
        self, shape: Shape, *, module: Callable[[], nn.Module], channels: int | None = None, size: int | None = None
    ) -> None:
        super().__init__()
        self.module = module()
        self._channels = channels or shape[0]
        self._size = (size, size) if size else shape[1:]

    def forward(self, images: Tensor) -> Tensor:
        """Return the code: (N, C, H, W) → (N, F)."""
        if images.shape[-2:] != self._size:
            images = F.interpolate(images, self._size, mode="bilinear")
        repeated = images.expand(-1, self._channels, -1, -1).contiguous()  # a module may write into its input
        output: Tensor = self.module(repeated)
        return torch.flatten(output, 1)
