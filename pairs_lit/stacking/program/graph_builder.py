"""Builder of the graph that computes R rounds, from the traced graph of one round.

Each value has the layout in which it is computed faster (the layouts are those of
:mod:`pairs_lit.stacking.ops.stacked_layers`). If a call needs the other layout, the value is converted, at most once.
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
MAPS_DIMENSIONS = 4
"""Number of dimensions, in one round, of values (N, C, H, W) that can have the layout of maps."""


def count_dimensions(node: Node) -> int:
    """Return the number of dimensions of a traced tensor in one round."""
    return len(node.meta["shape"] or ())


def get_function(node: Node) -> Callable[..., Any]:
    """Return the function that a node calls."""
    return cast(Callable[..., Any], node.target)


@dataclass
class GraphBuilder:
    """Builder of a graph for R rounds, which follows the nodes of a traced graph.

    Attributes:
        graph: The new graph.
        layouts: For each traced node, the new node in each layout in which it exists. The first layout is that in
            which the value was computed.
    """

    graph: Graph = field(default_factory=Graph)
    layouts: dict[Node, dict[Layout, Node]] = field(default_factory=dict)

    def get_layout(self, traced: Node) -> Layout:
        """Return the layout in which the value of a traced node is computed."""
        return next(iter(self.layouts[traced]))

    def get_value(self, traced: Node, layout: Layout) -> Node:
        """Return the new node of a traced node in this layout; convert it if necessary."""
        nodes = self.layouts[traced]
        if layout not in nodes:
            (source,) = nodes.values()
            nodes[layout] = self.graph.call_function(to_maps if layout == "maps" else to_rows, (source,))
        return nodes[layout]

    def convert_argument(self, value: Any) -> Any:  # noqa: ANN401 - any argument
        """Return a traced argument with each traced node in it replaced by its new node, as rows."""
        return map_arg(value, lambda node: self.get_value(node, "rows"))

    def set_node(self, traced: Node, new: Node, layout: Layout) -> None:
        """Set the new node of a traced node."""
        self.layouts[traced] = {layout: new}
        new.meta.update(shape=traced.meta["shape"], layout=layout)

    def add_call(self, traced: Node, function: Callable[..., Any], args: Sequence[Any], layout: Layout) -> None:
        """Add a call of a function as the new node of a traced node."""
        self.set_node(traced, self.graph.call_function(function, tuple(args)), layout)


def compile_graph(network: nn.Module, graph: Graph) -> Callable[..., Any]:
    """Return a graph as a function whose first argument is the network with its parameters."""
    return type(GraphModule(network, graph)).forward


def build_vmap_function(traced: Node) -> Callable[..., Any]:
    """Return a function that computes a traced call for the rows of R rounds, by ``torch.vmap``."""
    function, writes = get_function(traced), traced.meta["writes"]
    args_dims = tuple(_get_vmap_dims(argument) for argument in traced.args)
    kwargs_dims = {name: _get_vmap_dims(argument) for name, argument in traced.kwargs.items()}

    def compute_round(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - any result
        if not writes:
            result = function(*args, **kwargs)
            return result if isinstance(result, Tensor) else tuple(part for part in result if part is not None)
        changed = args[0].clone()
        function(changed, *args[1:], **kwargs)
        return changed

    def compute_rounds(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any arguments and result
        return torch.vmap(compute_round, in_dims=(args_dims, kwargs_dims))(args, kwargs)

    return compute_rounds


def _get_vmap_dims(argument: Any) -> Any:  # noqa: ANN401 - any argument
    """Return the dimension over which ``torch.vmap`` maps each value of an argument: 0 if stacked, or else None."""
    if isinstance(argument, Node):
        return 0 if argument.meta["stacked"] else None
    if isinstance(argument, tuple | list):
        return (
            list(map(_get_vmap_dims, argument)) if isinstance(argument, list) else tuple(map(_get_vmap_dims, argument))
        )
    if isinstance(argument, dict):
        return {name: _get_vmap_dims(value) for name, value in argument.items()}
    return None
