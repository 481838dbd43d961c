"""Traced graph of a plain module, its dropout sites, and the errors of modules that cannot be traced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from torch.fx import Graph, Node

LEAF_LAYERS = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
"""The layers that a trace may record as one call of a module."""

DROPOUTS_MODULE = "_dropouts"
"""The name of the submodule that holds the dropout layers of a stacked network, each by the name of its site."""


class UntraceableError(Exception):
    """A trace cannot represent what a module does; the message is the reason, a clause without its subject."""


class VmapOnlyError(UntraceableError):
    """A trace cannot represent the module, but ``torch.vmap`` can, as it runs the module's own code each time."""


@dataclass(frozen=True)
class DropoutSite:
    """A place in a module where activations are dropped in training.

    Attributes:
        p: The probability of dropping an activation.
        should_drop_maps: Whether whole maps are dropped.
    """

    p: float
    should_drop_maps: bool

    @property
    def shared_settings(self) -> tuple[float | None, bool]:
        """The settings that all copies must share.

        A probability between 0 and 1 may differ between copies, so it is None here; 0 and 1 may not.
        """
        return (None if 0 < self.p < 1 else self.p), self.should_drop_maps


@dataclass
class TracedGraph:
    """Trace of a plain module in training or in evaluation.

    Attributes:
        graph: The calls of the module: leaf layers and dropouts by name, torch functions, and methods of tensors. The
            ``meta`` of a node holds the symbolic ``shape`` of its tensor, or None for other values; the ``sizes`` that
            the tensor had during the trace; whether it is ``stacked``, that is, differs between rounds; and whether
            the call ``writes`` into its first argument.
        dropouts: The dropout sites, by the names that the graph uses.
        is_dtype_dependent: Whether the module queries the dtype of a tensor or passes a dtype to torch.
    """

    graph: Graph
    dropouts: dict[str, DropoutSite]
    is_dtype_dependent: bool

    def get_dropout(self, node: Node) -> DropoutSite | None:
        """Return the dropout site of a node, or None if the node is not a dropout."""
        return self.dropouts.get(str(node.target)) if node.op == "call_module" else None

    def get_signature(self) -> list[object]:
        """Return a description that is equal for traces that differ in nothing but their dropout probabilities."""
        calls = [(node.op, node.name, node.target, repr(node.args), repr(node.kwargs)) for node in self.graph.nodes]
        return [*calls, {name: drop.shared_settings for name, drop in self.dropouts.items()}]


def get_site_name(name: str) -> str:
    """Return the name of a dropout site without the prefix of the submodule that holds all dropout layers."""
    return name.removeprefix(f"{DROPOUTS_MODULE}.")


def get_stream_name(name: str) -> str:
    """Return the name from which the random numbers of a dropout site are derived."""
    return get_site_name(name).replace("/", ".")


def get_call_name(function: Callable[..., Any] | str) -> str:
    """Return the name of a torch function; for the getter of a tensor attribute, the name of the attribute."""
    name = str(getattr(function, "__name__", function))
    is_getter = name == "__get__" and not isinstance(function, str)
    return str(getattr(cast(Any, function).__self__, "__name__", name)) if is_getter else name


def is_standard_layer(layer: nn.Module) -> bool:
    """Return whether a leaf layer is unmodified and its stacked counterpart supports its settings.

    A modified layer has hooks, additional parameters or a replaced ``forward``. The unsupported settings are padding
    with anything but zeros, and batch norm without a fixed momentum.
    """
    hooks = [layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks]
    has_supported_settings = (
        layer.padding_mode == "zeros"
        if isinstance(layer, nn.Conv2d)
        else not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) or layer.momentum is not None
    )
    has_usual_parameters = {name for name, _ in layer.named_parameters()} <= {"weight", "bias"}
    return not any(hooks) and has_supported_settings and has_usual_parameters and "forward" not in vars(layer)
