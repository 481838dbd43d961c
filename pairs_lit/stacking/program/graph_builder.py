"""A stack's program in the making: what was recorded of one round, on values of R rounds in the layout that is faster.

The layouts are those of :mod:`pairs_lit.stacking.ops.stacked_layers`. A value is put into another layout where a call
needs that, at most once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from pairs_lit.stacking.ops.stacked_layers import to_maps, to_rows

Layout = Literal["rows", "maps"]
ON_MAPS = 4
"""Values of so many dimensions in one round, (N, C, H, W), can be maps."""


def dimensions(node: Node) -> int:
    """Return how many dimensions a recorded tensor has in one round."""
    return len(node.meta["shape"] or ())


def called_of(node: Node) -> Callable[..., Any]:
    """Return the function that a node calls."""
    return cast(Callable[..., Any], node.target)


@dataclass
class Program:
    """A graph for R rounds that grows along a recorded one.

    Attributes:
        graph: The new graph.
        layouts: For each recorded node, the new node in each layout in which it exists; the first is the original.
    """

    graph: Graph = field(default_factory=Graph)
    layouts: dict[Node, dict[Layout, Node]] = field(default_factory=dict)

    def layout(self, recorded: Node) -> Layout:
        """Return the layout in which a recorded value arose."""
        return next(iter(self.layouts[recorded]))

    def value(self, recorded: Node, layout: Layout) -> Node:
        """Return a recorded value in this layout."""
        found = self.layouts[recorded]
        if layout not in found:
            (source,) = found.values()
            found[layout] = self.graph.call_function(to_maps if layout == "maps" else to_rows, (source,))
        return found[layout]

    def argument(self, value: Any) -> Any:  # noqa: ANN401 - any argument
        """Return a recorded argument with all values in it as rows."""
        return map_arg(value, lambda node: self.value(node, "rows"))

    def add(self, recorded: Node, new: Node, layout: Layout) -> None:
        """Say which new node stands for a recorded one."""
        self.layouts[recorded] = {layout: new}
        new.meta.update(shape=recorded.meta["shape"], layout=layout)

    def call(self, recorded: Node, function: Callable[..., Any], args: Sequence[Any], layout: Layout) -> None:
        """Let a call of a function on new values stand for a recorded one."""
        self.add(recorded, self.graph.call_function(function, tuple(args)), layout)


def compiled(network: nn.Module, graph: Graph) -> Callable[..., Any]:
    """Return a graph as a function whose first argument is the network that holds its parameters."""
    return type(GraphModule(network, graph)).forward


def vectorised(recorded: Node) -> Callable[..., Any]:
    """Return a function of R rounds' rows that does in each round what was recorded, by ``torch.vmap``."""
    function, writes = called_of(recorded), recorded.meta["writes"]
    rounds = tuple(_mapped(argument) for argument in recorded.args)
    named = {name: _mapped(argument) for name, argument in recorded.kwargs.items()}

    def once(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - as the function's
        if not writes:
            result = function(*args, **kwargs)
            return result if isinstance(result, Tensor) else tuple(each for each in result if each is not None)
        changed = args[0].clone()
        function(changed, *args[1:], **kwargs)
        return changed

    def every(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - likewise
        return torch.vmap(once, in_dims=(rounds, named))(args, kwargs)

    return every


def _mapped(argument: Any) -> Any:  # noqa: ANN401 - any argument
    """Return over which dimension each value of an argument is mapped: the rounds', or none."""
    if isinstance(argument, Node):
        return 0 if argument.meta["stacked"] else None
    if isinstance(argument, tuple | list):
        return list(map(_mapped, argument)) if isinstance(argument, list) else tuple(map(_mapped, argument))
    if isinstance(argument, dict):
        return {name: _mapped(value) for name, value in argument.items()}
    return None
