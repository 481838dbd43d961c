"""The stacked network: the parameters of R plain modules under the plain names, and programs that compute with them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Graph, Node

from pairs_lit.stacking.looped import Output
from pairs_lit.stacking.ops.dropout import StackedDropout, Streams
from pairs_lit.stacking.ops.stacked_layers import (
    StackedBatchNorm1d,
    StackedBatchNorm2d,
    StackedConv2d,
    StackedLinear,
    stacked,
)
from pairs_lit.stacking.program.fusion_pass import fuse
from pairs_lit.stacking.program.graph_builder import Layout, Program, compiled
from pairs_lit.stacking.program.rules import apply_rule
from pairs_lit.stacking.program.sequential import Turns, convolutions, in_turn
from pairs_lit.stacking.recording.traced_graph import Recording, is_usual, key_of, place_of

_STACKED: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Conv2d: StackedConv2d,
    nn.BatchNorm1d: StackedBatchNorm1d,
    nn.BatchNorm2d: StackedBatchNorm2d,
}
_ON_MAPS = (StackedConv2d, StackedBatchNorm2d)


class Held(nn.Module):
    """Holds the stacked parameters, buffers and parts of a plain module whose work the program does.

    Args:
        plain: The plain module's class.
    """

    def __init__(self, plain: type[nn.Module]) -> None:
        super().__init__()
        self.plain = plain


class StackedNetwork(nn.Module):
    """R rounds of a module side by side: (R, N, ...) → (R, N, ...), or several such tensors.

    Parameters and buffers have the plain module's names and shapes with a leading dimension R.

    Args:
        copies: The R plain modules, of which only the first was recorded.
        training: What they do in training.
        evaluation: What they do in evaluation.
        rates: By the name of each place where activations are dropped, the probability, of each copy.
        streams: Where the random numbers come from.

    Attributes:
        convolutions: Those of a round, which say whether the rounds run in turn; none: they never do.
    """

    def __init__(
        self,
        copies: Sequence[nn.Module],
        training: Recording,
        evaluation: Recording,
        rates: Mapping[str, Sequence[float]],
        streams: Streams,
    ) -> None:
        super().__init__()
        self._dropouts = nn.ModuleDict()
        self._rates = rates
        self._streams = streams
        _fill(self, copies, {})
        _tie(self, copies[0])
        ways = {True: training, False: evaluation}
        self._turns = {mode: Turns(way, copies[0], rates, streams, training=mode) for mode, way in ways.items()}
        self._programs = {mode: self._program(way, copies[0]) for mode, way in ways.items()}
        self.convolutions = convolutions(training, copies[0])
        self._forward = {mode: compiled(self, program) for mode, program in self._programs.items()}

    def forward(self, x: Tensor) -> Output:
        """Apply each round's network to its own inputs, in the way that is faster for so many."""
        if in_turn(self.convolutions, x.shape[1], x.element_size()):
            return self.in_turn(x)
        return self.side_by_side(x)

    def side_by_side(self, x: Tensor) -> Output:
        """Do each call for all rounds at once."""
        output: Output = self._forward[self.training](self, x)
        return output

    def in_turn(self, x: Tensor) -> Output:
        """Do all calls of one round, then those of the next."""
        return self._turns[self.training](self, x)

    def _program(self, recording: Recording, plain: nn.Module) -> Graph:
        fuse(recording, plain)
        program = Program()
        for node in recording.graph.nodes:
            if node.op == "placeholder":
                program.add(node, program.graph.placeholder(node.name), "rows")
            elif node.op == "get_attr":
                program.add(node, program.graph.get_attr(str(node.target)), "rows")
            elif node.op == "call_module":
                self._add_layer(program, node, recording)
            elif node.op == "output":
                program.graph.output(program.argument(node.args[0]))
            else:
                apply_rule(program, node)
        return program.graph

    def _add_layer(self, program: Program, node: Node, recording: Recording) -> None:
        """Add a call of a layer or a dropout."""
        first, *others = cast(Sequence[Any], node.args)
        dropout = recording.dropout(node)
        layout: Layout = "rows"
        if dropout is not None:
            layout = program.layout(first)
            self._add_dropout(str(node.target), recording, layout)
        elif type(self.get_submodule(str(node.target))) in _ON_MAPS:
            layout = "maps"
        for name in others[1:]:
            self._add_dropout(name, recording, "maps")
            others[1] = program.graph.get_attr(name)
        new = program.graph.call_module(str(node.target), (program.value(first, layout), *others))
        program.add(node, new, layout)

    def _add_dropout(self, name: str, recording: Recording, layout: Layout) -> None:
        whole, streams = recording.drops[name].maps, self._streams.child(key_of(name))
        dropout = StackedDropout(self._rates[name], streams, maps=layout == "maps", whole=whole)
        self._dropouts[place_of(name)] = dropout


class MappedNetwork(nn.Module):
    """R rounds of a module that no recording can stand for, by ``torch.vmap``: it runs once for all of them.

    Args:
        copies: The R plain modules, without convolutions, for which this is slower than a loop.
        reason: Why none can.

    Attributes:
        reason: The same.
    """

    def __init__(self, copies: Sequence[nn.Module], reason: str) -> None:
        super().__init__()
        self.reason = reason
        _fill(self, copies, {})
        _tie(self, copies[0])
        self._one = (copies[0],)  # in a tuple: its parameters are not this module's

    def forward(self, x: Tensor) -> Output:
        """Apply each round's network to its own inputs; they are copied, since it may change them in place."""
        (plain,) = self._one
        if plain.training != self.training:
            plain.train(self.training)
        state = dict([*self.named_parameters(remove_duplicate=False), *self.named_buffers(remove_duplicate=False)])
        return torch.vmap(partial(_called, plain))(state, x.clone())


def _called(plain: nn.Module, state: dict[str, Tensor], x: Tensor) -> Output:
    return functional_call(plain, state, (x,))  # type: ignore[no-any-return]


def _fill(network: nn.Module, copies: Sequence[nn.Module], seen: dict[int, nn.Module]) -> None:
    """Give a module the parameters, buffers and parts of R plain ones, stacked."""
    plain = copies[0]
    for name in plain._parameters:
        network.register_parameter(name, stacked([copy._parameters[name] for copy in copies]))
    kept = plain.state_dict()
    for name in plain._buffers:
        values = [value for copy in copies if (value := copy._buffers[name]) is not None]
        network.register_buffer(name, torch.stack(values) if values else None, persistent=name in kept)
    for name, value in vars(plain).items():
        if isinstance(value, Tensor):
            network.register_buffer(name, torch.stack([vars(copy)[name] for copy in copies]), persistent=False)
    for name, child in plain._modules.items():
        network.add_module(name, _part([copy._modules[name] for copy in copies], seen) if child is not None else None)


def _part(copies: Sequence[Any], seen: dict[int, nn.Module]) -> nn.Module:
    """Stack a part; one that stands at several places is one there, too."""
    plain = copies[0]
    if id(plain) not in seen:
        build = _STACKED.get(type(plain)) if is_usual(plain) else None
        seen[id(plain)] = Held(type(plain)) if build is None else build(copies)
        if build is None:
            _fill(seen[id(plain)], copies, seen)
    return seen[id(plain)]


def _tie(network: nn.Module, plain: nn.Module) -> None:
    """Make one of what is one parameter or buffer at several places of the plain module."""
    first: dict[int, Tensor] = {}
    for name, value in [*plain.named_parameters(remove_duplicate=False), *plain.named_buffers(remove_duplicate=False)]:
        place, _, last = name.rpartition(".")
        part = network.get_submodule(place)
        held = part._parameters if last in part._parameters else part._buffers
        held[last] = first.setdefault(id(value), cast(Tensor, held[last]))  # type: ignore[assignment]
