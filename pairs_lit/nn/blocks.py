"""Layers from which backbones and heads are built."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "none"]
CodeActivation = Activation | Literal["softmax"]

_ACTIVATIONS: dict[CodeActivation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
    "softmax": lambda: nn.Softmax(-1),
}


def activation_layer(name: CodeActivation) -> nn.Module:
    """Return a new activation layer; softmax runs over the F values of a code (..., F)."""
    return _ACTIVATIONS[name]()


def linear_layers(
    widths: Sequence[int], *, batch_norm: bool, dropout: float, activation: Activation
) -> list[nn.Module]:
    """Return linear layers between the given widths, the input's first.

    Batch norm (if asked for), the activation and dropout (if above 0) follow every layer but the last.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers.append(nn.Linear(before, after))
        layers += [nn.BatchNorm1d(after)] if batch_norm else []
        layers.append(activation_layer(activation))
        layers += [nn.Dropout(dropout)] if dropout > 0 else []
    return [*layers, nn.Linear(widths[-2], widths[-1])]
