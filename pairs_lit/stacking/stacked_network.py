"""Stacked network: the stacked parameters of R plain modules, and the graphs that compute with them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Graph, Node

from pairs_lit.stacking.looped import Output
from pairs_lit.stacking.ops.dropout import RandomStreams, StackedDropout
from pairs_lit.stacking.ops.stacked_layers import (
    StackedBatchNorm1d,
    StackedBatchNorm2d,
    StackedConv2d,
    StackedLinear,
    stack_parameters,
)
from pairs_lit.stacking.program.fusion_pass import fuse_calls
from pairs_lit.stacking.program.graph_builder import GraphBuilder, Layout, compile_graph
from pairs_lit.stacking.program.rules import apply_rule
from pairs_lit.stacking.program.sequential import SequentialRounds, find_convolutions, should_run_sequentially
from pairs_lit.stacking.recording.traced_graph import TracedGraph, get_site_name, get_stream_name, is_standard_layer

_STACKED_LAYERS: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Conv2d: StackedConv2d,
    nn.BatchNorm1d: StackedBatchNorm1d,
    nn.BatchNorm2d: StackedBatchNorm2d,
}
_MAP_LAYERS = (StackedConv2d, StackedBatchNorm2d)


class StackedState(nn.Module):
    """Container for the stacked parameters, buffers and child modules of a plain module.

    It has no ``forward``: the graph of the StackedNetwork computes what the plain module computes.

    Args:
        plain: Class of the plain module.
    """

    def __init__(self, plain: type[nn.Module]) -> None:
        super().__init__()
        self.plain = plain


class StackedNetwork(nn.Module):
    """R rounds of a traced module: (R, N, ...) → (R, N, ...), or a tuple of such tensors.

    Parameters and buffers have the names and shapes of the plain module, with a leading dimension R.

    Args:
        copies: The R plain modules; all have the same traced graph.
        training: Traced graph in training.
        evaluation: Traced graph in evaluation.
        rates: Dropout probability of each copy, by the name of the dropout site.
        streams: Source of the random numbers.

    Attributes:
        convolutions: Costs of a round's convolutions. They determine whether rounds run sequentially; if the list is
            empty, they never do.
    """

    def __init__(
        self,
        copies: Sequence[nn.Module],
        training: TracedGraph,
        evaluation: TracedGraph,
        rates: Mapping[str, Sequence[float]],
        streams: RandomStreams,
    ) -> None:
        super().__init__()
        self._dropouts = nn.ModuleDict()
        self._rates = rates
        self._streams = streams
        _stack_state(self, copies, {})
        _tie_parameters(self, copies[0])
        graphs = {True: training, False: evaluation}
        self._sequential = {
            mode: SequentialRounds(graph, copies[0], rates, streams, training=mode) for mode, graph in graphs.items()
        }
        self._programs = {mode: self._build_program(graph, copies[0]) for mode, graph in graphs.items()}
        self.convolutions = find_convolutions(training, copies[0])
        self._forward = {mode: compile_graph(self, program) for mode, program in self._programs.items()}

    def forward(self, x: Tensor) -> Output:
        """Apply each round's network to its inputs, side by side or (only on a CPU) sequentially if that is faster."""
        may_run_sequentially = self.convolutions and x.device.type == "cpu"
        if may_run_sequentially and should_run_sequentially(self.convolutions, x.shape[1], x.element_size()):
            return self.run_sequentially(x)
        return self.run_side_by_side(x)

    def run_side_by_side(self, x: Tensor) -> Output:
        """Compute each call for all rounds at once."""
        output: Output = self._forward[self.training](self, x)
        return output

    def run_sequentially(self, x: Tensor) -> Output:
        """Compute all calls of one round, then those of the next."""
        return self._sequential[self.training](self, x)

    def _build_program(self, traced: TracedGraph, plain: nn.Module) -> Graph:
        """Return the graph that computes all rounds; calls in ``traced`` are fused in place."""
        fuse_calls(traced, plain)
        program = GraphBuilder()
        for node in traced.graph.nodes:
            if node.op == "placeholder":
                program.set_node(node, program.graph.placeholder(node.name), "rows")
            elif node.op == "get_attr":
                program.set_node(node, program.graph.get_attr(str(node.target)), "rows")
            elif node.op == "call_module":
                self._add_layer(program, node, traced)
            elif node.op == "output":
                program.graph.output(program.convert_argument(node.args[0]))
            else:
                apply_rule(program, node)
        return program.graph

    def _add_layer(self, program: GraphBuilder, node: Node, traced: TracedGraph) -> None:
        """Add a call of a layer or a dropout, with anything that was fused into it."""
        first, *fused = cast(Sequence[Any], node.args)  # fused: True, then the name of a dropout site if there is one
        dropout = traced.get_dropout(node)
        layout: Layout = "rows"
        if dropout is not None:
            layout = program.get_layout(first)
            self._add_dropout(str(node.target), traced, layout)
        elif type(self.get_submodule(str(node.target))) in _MAP_LAYERS:
            layout = "maps"
        for name in fused[1:]:
            self._add_dropout(name, traced, "maps")
            fused[1] = program.graph.get_attr(name)
        new = program.graph.call_module(str(node.target), (program.get_value(first, layout), *fused))
        program.set_node(node, new, layout)

    def _add_dropout(self, name: str, traced: TracedGraph, layout: Layout) -> None:
        """Add the stacked dropout of a dropout site."""
        whole, streams = traced.dropouts[name].should_drop_maps, self._streams.get_child(get_stream_name(name))
        dropout = StackedDropout(self._rates[name], streams, maps=layout == "maps", whole=whole)
        self._dropouts[get_site_name(name)] = dropout


class VmapNetwork(nn.Module):
    """R rounds of a module that cannot be traced, computed by one call of ``torch.vmap``.

    Args:
        copies: The R plain modules. They have no convolutions, because with those a loop is faster.
        reason: Why the module cannot be traced, as a clause without its subject.

    Attributes:
        reason: As in the arguments.
    """

    def __init__(self, copies: Sequence[nn.Module], reason: str) -> None:
        super().__init__()
        self.reason = reason
        _stack_state(self, copies, {})
        _tie_parameters(self, copies[0])
        self._plain = (copies[0],)  # a tuple, so that torch does not register it as a child module

    def forward(self, x: Tensor) -> Output:
        """Apply each round's network to a copy of its inputs, because it may change them in place."""
        (plain,) = self._plain
        if plain.training != self.training:
            plain.train(self.training)
        state = dict([*self.named_parameters(remove_duplicate=False), *self.named_buffers(remove_duplicate=False)])
        return torch.vmap(partial(_call_plain, plain))(state, x.clone())


def _call_plain(plain: nn.Module, state: dict[str, Tensor], x: Tensor) -> Output:
    return functional_call(plain, state, (x,))  # type: ignore[no-any-return]


def _stack_state(network: nn.Module, copies: Sequence[nn.Module], seen: dict[int, nn.Module]) -> None:
    """Add the stacked parameters, buffers and child modules of R plain modules to a module.

    Args:
        network: The module.
        copies: The plain modules.
        seen: The stack of each child module of the first copy, by its ``id``; a module used twice has one stack.
    """
    plain = copies[0]
    for name in plain._parameters:
        network.register_parameter(name, stack_parameters([copy._parameters[name] for copy in copies]))
    state = plain.state_dict()
    for name in plain._buffers:
        values = [value for copy in copies if (value := copy._buffers[name]) is not None]
        network.register_buffer(name, torch.stack(values) if values else None, persistent=name in state)
    for name, value in vars(plain).items():
        if isinstance(value, Tensor):
            network.register_buffer(name, torch.stack([vars(copy)[name] for copy in copies]), persistent=False)
    for name, child in plain._modules.items():
        network.add_module(
            name, _stack_part([copy._modules[name] for copy in copies], seen) if child is not None else None
        )


def _stack_part(copies: Sequence[Any], seen: dict[int, nn.Module]) -> nn.Module:
    """Return the stack of a child module; ``seen`` holds those that already exist."""
    plain = copies[0]
    if id(plain) not in seen:
        build = _STACKED_LAYERS.get(type(plain)) if is_standard_layer(plain) else None
        seen[id(plain)] = StackedState(type(plain)) if build is None else build(copies)
        if build is None:
            _stack_state(seen[id(plain)], copies, seen)
    return seen[id(plain)]


def _tie_parameters(network: nn.Module, plain: nn.Module) -> None:
    """Tie the stacked tensors that have several names but are one parameter or buffer in the plain module."""
    first: dict[int, Tensor] = {}
    for name, value in [*plain.named_parameters(remove_duplicate=False), *plain.named_buffers(remove_duplicate=False)]:
        parent, _, tensor_name = name.rpartition(".")
        part = network.get_submodule(parent)
        tensors = part._parameters if tensor_name in part._parameters else part._buffers
        tensors[tensor_name] = first.setdefault(id(value), cast(Tensor, tensors[tensor_name]))  # type: ignore[assignment]
