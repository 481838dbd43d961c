"""Building blocks of backbones and heads: activations and fully connected layers."""

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


def build_activation(name: CodeActivation) -> nn.Module:
    """Return a new activation layer; softmax runs over the F values of an embedding (..., F)."""
    return _ACTIVATIONS[name]()


def build_linear_layers(
    widths: Sequence[int], *, batch_norm: bool, dropout: float, activation: Activation
) -> list[nn.Module]:
    """Return fully connected layers.

    Every layer except the last is followed by batch norm if ``batch_norm``, the activation, and dropout if above 0.

    Args:
        widths: Width of the input, then the output width of each layer.
        batch_norm: Whether to add batch norm.
        dropout: Dropout probability.
        activation: The activation.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers.append(nn.Linear(before, after))
        layers += [nn.BatchNorm1d(after)] if batch_norm else []
        layers.append(build_activation(activation))
        layers += [nn.Dropout(dropout)] if dropout > 0 else []
    return [*layers, nn.Linear(widths[-2], widths[-1])]
