"""Rounds one after the other, by the recorded calls of torch on images with their channels last.

A convolution whose matrix of columns does not fit a core's cache keeps the core busy by itself: doing it for several
rounds at once wins nothing, and putting maps into another order before and after it costs. So where most of the work
lies in such convolutions, and not in those that are one pass with the pool after them, each round's network runs by
itself, in the order of memory in which torch's convolutions are at their best.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Graph, Node

from pairs_lit.stacking.looped import Output, joined
from pairs_lit.stacking.ops.convolution import CACHED, fills_a_core
from pairs_lit.stacking.ops.dropout import StackedDropout, Streams
from pairs_lit.stacking.program.graph_builder import called_of, compiled
from pairs_lit.stacking.recording.symbolic_sizes import count_of, count_of_one
from pairs_lit.stacking.recording.traced_graph import DROPOUTS, Recording, key_of, name_of, place_of

_MOVED = 2**18  # weights; with more, putting them into another order costs more than it saves


class Convolution(NamedTuple):
    """What a recorded convolution costs.

    Attributes:
        columns: Numbers in the matrix of columns of one input.
        weights: How many weights it has.
        products: Multiplications for one input.
        pooled: Whether it, or the batch norm after it, is one pass with a pool.
    """

    columns: int
    weights: int
    products: int
    pooled: bool

    def is_better_alone(self, inputs: int, element_size: int) -> bool:
        """Say whether it keeps a core busy by itself on so many inputs."""
        return not self.pooled and fills_a_core(self.columns * inputs * element_size, self.weights)


def convolutions(recording: Recording, plain: nn.Module) -> list[Convolution]:
    """Return the convolutions in the recording of a plain module, after calls were joined."""
    found = []
    for node in recording.graph.nodes:
        sizes = _kernel_sizes(recording, node, plain)
        if sizes is not None:
            columns = sizes[1:].numel() * torch.Size(node.meta["sizes"][2:]).numel()
            pooled = any(each.op == "call_module" and len(each.args) > 1 for each in (node, *node.users))
            found.append(Convolution(columns, sizes.numel(), sizes[0] * columns, pooled))
    return found


def _kernel_sizes(recording: Recording, node: Node, plain: nn.Module) -> torch.Size | None:
    """Return the sizes (O, C, kh, kw) of the kernels of a call; None: it is no convolution."""
    if node.op == "call_module" and recording.dropout(node) is None:
        layer = plain.get_submodule(str(node.target))
        return layer.weight.shape if isinstance(layer, nn.Conv2d) else None
    if node.op == "call_function" and name_of(node.target) == "conv2d" and len(node.all_input_nodes) > 1:
        return torch.Size(node.all_input_nodes[1].meta["sizes"])
    return None


def in_turn(found: Sequence[Convolution], inputs: int, element_size: int) -> bool:
    """Say whether most of the work of some convolutions lies in those that are better alone."""
    alone = sum(each.products for each in found if each.is_better_alone(inputs, element_size))
    return 2 * alone > sum(each.products for each in found)


def fewest_in_turn(found: Sequence[Convolution], element_size: int) -> int | None:
    """Return from how many inputs on the rounds run in turn; None: they never do."""
    counts = [1, *(CACHED // (each.columns * element_size) + 1 for each in found)]
    return next((count for count in sorted(counts) if in_turn(found, count, element_size)), None)


class Turns:
    """The networks of R rounds, one after the other: (R, N, ...) → (R, N, ...).

    Args:
        recording: What the plain module does, in training or in evaluation.
        plain: The plain module of one round.
        rates: By the name of each place where activations are dropped, the probability, of each copy.
        streams: Where the random numbers come from.
        training: Whether the recording is of training.
    """

    def __init__(
        self,
        recording: Recording,
        plain: nn.Module,
        rates: Mapping[str, Sequence[float]],
        streams: Streams,
        *,
        training: bool,
    ) -> None:
        self._drops = nn.ModuleDict(
            {
                place_of(name): _DropoutInTurn(rates[name], streams.child(key_of(name)), whole=drop.maps)
                for name, drop in recording.drops.items()
            }
        )
        self._plain = _with_buffers(deepcopy(plain)).to("meta").train(training)  # its own numbers are never used
        self._plain.add_module(DROPOUTS, self._drops)
        self._plain.forward = partial(compiled(self._plain, _of_one_round(recording.graph)), self._plain)
        named = (self._plain.named_parameters, self._plain.named_buffers)
        self._named = {name for each in named for name, _ in each(remove_duplicate=False)}

    def __call__(self, network: nn.Module, x: Tensor) -> Output:
        """Apply each round's network, of which ``network`` holds the stacked parameters, to its own inputs."""
        outputs: list[Output] = []
        for place, (state, images) in enumerate(zip(self._states(network, len(x)), x, strict=True)):
            for drop in self._drops.values():
                cast(_DropoutInTurn, drop).place = place
            outputs.append(functional_call(self._plain, state, (_channels_last(images.clone()),)))
        return joined(outputs, torch.stack)

    def _states(self, network: nn.Module, rounds: int) -> list[dict[str, Tensor]]:
        """Return each round's parameters and buffers by the plain names; what is tied is one tensor under each."""
        found: list[dict[str, Tensor]] = [{} for _ in range(rounds)]
        parts: dict[int, Sequence[Tensor]] = {}
        for name, value in network.named_parameters(remove_duplicate=False):
            if name in self._named:
                if id(value) not in parts:
                    parts[id(value)] = [*map(_moved, value.unbind())]
                for state, part in zip(found, parts[id(value)], strict=True):
                    state[name] = part
        for name, buffer in network.named_buffers(remove_duplicate=False):
            if name in self._named:
                for state, part in zip(found, buffer.unbind(), strict=True):
                    state[name] = part
        return found


class _DropoutInTurn(nn.Module):
    """The dropout of R rounds, of which each drops its own activations (N, ...) when it is its turn.

    Attributes:
        place: Whose turn it is.
    """

    def __init__(self, rates: Sequence[float], streams: Streams, *, whole: bool) -> None:
        super().__init__()
        pairs = zip(rates, streams.apart(), strict=True)
        self.parts = nn.ModuleList(StackedDropout([rate], own, maps=False, whole=whole) for rate, own in pairs)
        self.place = 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations of the round whose turn it is."""
        dropped: Tensor = self.parts[self.place](x[None])[0]
        return dropped


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == len("NCHW") else x


def _moved(weight: Tensor) -> Tensor:
    return _channels_last(weight) if weight.numel() <= _MOVED else weight


def _with_buffers(module: nn.Module) -> nn.Module:
    """Make buffers of tensors that parts hold as plain attributes: each round has its own."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                delattr(part, name)
                part.register_buffer(name, value, persistent=False)
    return module


def _of_one_round(recorded: Graph) -> Graph:
    """Return recorded calls such that they run on one round's inputs, whatever the order of these in memory."""
    graph = deepcopy(recorded)
    for node in graph.nodes:
        if node.target is count_of:
            node.target = count_of_one
        elif node.op == "call_function":
            function = Tensor.reshape if name_of(node.target) == "view" else called_of(node)
            node.target = _given(function, writes=bool(node.meta.get("writes")))
    return graph


def _given(function: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
    """Return a function that gives what it wrote into, if it writes, as a recording takes it."""

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function's
        result = function(*args, **kwargs)
        return args[0] if writes else result

    return called
