"""What a recording of a plain module consists of, and why there may be none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from torch.fx import Graph, Node

LEAVES = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
"""The layers that may be recorded as one call of a module."""

DROPOUTS = "_dropouts"
"""The part that holds what drops activations, by the name of each place."""


class UntraceableError(Exception):
    """One recording cannot stand for what a module does; the message is the reason, without its subject."""


class OnlyMappableError(UntraceableError):
    """No recording can stand for it, but ``torch.vmap``, which runs the module itself each time, computes the same."""


@dataclass(frozen=True)
class Drop:
    """A place where activations are dropped in training.

    Attributes:
        p: The probability of dropping one.
        maps: Whether whole maps are dropped.
    """

    p: float
    maps: bool

    @property
    def form(self) -> tuple[float | None, bool]:
        """What copies must have in common: the probability may differ, unless all or nothing is dropped."""
        return (None if 0 < self.p < 1 else self.p), self.maps


@dataclass
class Recording:
    """What a plain module does in training or in evaluation.

    Attributes:
        graph: Its calls: of leaves and dropouts (by name), of torch functions and methods. The ``meta`` of a node says
            the ``shape`` of its tensor (None: it is something else) and the ``sizes`` that it had when it was recorded,
            whether it is ``stacked`` (differs between rounds), and whether it ``writes`` into its first argument.
        drops: The places where activations are dropped, by the name that the graph calls them by.
        asks_dtype: Whether it asks for the dtype of a tensor, or names one.
    """

    graph: Graph
    drops: dict[str, Drop]
    asks_dtype: bool

    def dropout(self, node: Node) -> Drop | None:
        """Return what a node drops; None: nothing."""
        return self.drops.get(str(node.target)) if node.op == "call_module" else None

    def written(self) -> list[object]:
        """Return what tells one recording from another, but for how much it drops."""
        calls = [(node.op, node.name, node.target, repr(node.args), repr(node.kwargs)) for node in self.graph.nodes]
        return [*calls, {name: drop.form for name, drop in self.drops.items()}]


def place_of(name: str) -> str:
    """Return the name of a place where activations are dropped, without that of the part that holds them all."""
    return name.removeprefix(f"{DROPOUTS}.")


def key_of(name: str) -> str:
    """Return the name of a place where activations are dropped, as its random numbers know it."""
    return place_of(name).replace("/", ".")


def name_of(function: Callable[..., Any] | str) -> str:
    """Return the name of a torch function, or of the attribute that it reads."""
    name = str(getattr(function, "__name__", function))
    attribute = name == "__get__" and not isinstance(function, str)
    return str(getattr(cast(Any, function).__self__, "__name__", name)) if attribute else name


def is_usual(layer: nn.Module) -> bool:
    """Say whether a known layer does only what its kind does, with settings that its stacked form takes."""
    hooks = [layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks]
    settings = (
        layer.padding_mode == "zeros"
        if isinstance(layer, nn.Conv2d)
        else not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) or layer.momentum is not None
    )
    own = {name for name, _ in layer.named_parameters()} <= {"weight", "bias"}
    return not any(hooks) and settings and own and "forward" not in vars(layer)
