"""Running rounds sequentially, with images in channels-last memory format.

A large convolution, whose matrix of columns does not fit into a core's cache, keeps the core busy by itself. Computing
it for several rounds at once does not save time, but converting the layout of its maps costs time. If such convolutions
do most of a network's work, and they are not fused with a max-pool, the networks of the rounds run one after the other,
in the memory format in which torch's convolutions are fastest.
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

_MOVED = 2**18
"""Maximum number of weights to convert to channels last; with more, the conversion costs more than it saves."""


class Convolution(NamedTuple):
    """Costs of a traced convolution.

    Attributes:
        columns: Number of entries of the matrix of columns of one input.
        weights: Number of weights.
        products: Number of multiplications for one input.
        pooled: Whether it, or the batch norm after it, is fused with a max-pool.
    """

    columns: int
    weights: int
    products: int
    pooled: bool

    def is_better_alone(self, inputs: int, element_size: int) -> bool:
        """Return whether the convolution keeps a core busy by itself with this number of inputs."""
        return not self.pooled and fills_a_core(self.columns * inputs * element_size, self.weights)


def convolutions(traced: Recording, plain: nn.Module) -> list[Convolution]:
    """Return the costs of the convolutions in the traced graph of a plain module, after its calls were fused."""
    costs = []
    for node in traced.graph.nodes:
        sizes = _kernel_sizes(traced, node, plain)
        if sizes is not None:
            columns = sizes[1:].numel() * torch.Size(node.meta["sizes"][2:]).numel()
            pooled = any(call.op == "call_module" and len(call.args) > 1 for call in (node, *node.users))
            costs.append(Convolution(columns, sizes.numel(), sizes[0] * columns, pooled))
    return costs


def _kernel_sizes(traced: Recording, node: Node, plain: nn.Module) -> torch.Size | None:
    """Return the sizes (O, C, kh, kw) of a convolution's kernels, or None if the call is no convolution."""
    if node.op == "call_module" and traced.dropout(node) is None:
        layer = plain.get_submodule(str(node.target))
        return layer.weight.shape if isinstance(layer, nn.Conv2d) else None
    if node.op == "call_function" and name_of(node.target) == "conv2d" and len(node.all_input_nodes) > 1:
        return torch.Size(node.all_input_nodes[1].meta["sizes"])
    return None


def in_turn(costs: Sequence[Convolution], inputs: int, element_size: int) -> bool:
    """Return whether rounds should run sequentially, because large convolutions do more than half of the work.

    Args:
        costs: Costs of a round's convolutions.
        inputs: Number of inputs of a round.
        element_size: Bytes per number.
    """
    large = sum(cost.products for cost in costs if cost.is_better_alone(inputs, element_size))
    return 2 * large > sum(cost.products for cost in costs)


def fewest_in_turn(costs: Sequence[Convolution], element_size: int) -> int | None:
    """Return the smallest number of inputs with which rounds run sequentially, or None if they never do."""
    candidates = [1, *(CACHED // (cost.columns * element_size) + 1 for cost in costs)]
    return next((inputs for inputs in sorted(candidates) if in_turn(costs, inputs, element_size)), None)


class Turns:
    """The networks of R rounds, run one after the other: (R, N, ...) → (R, N, ...).

    Args:
        traced: Traced graph of the plain module, in training or in evaluation.
        plain: The plain module of one round.
        rates: Dropout probability of each copy, by the name of the dropout site.
        streams: Source of the random numbers.
        training: Whether the module was traced in training.
    """

    def __init__(
        self,
        traced: Recording,
        plain: nn.Module,
        rates: Mapping[str, Sequence[float]],
        streams: Streams,
        *,
        training: bool,
    ) -> None:
        self._drops = nn.ModuleDict(
            {
                place_of(name): _DropoutInTurn(rates[name], streams.child(key_of(name)), whole=drop.maps)
                for name, drop in traced.drops.items()
            }
        )
        self._plain = _with_buffers(deepcopy(plain)).to("meta").train(training)  # only its structure is used
        self._plain.add_module(DROPOUTS, self._drops)
        self._plain.forward = partial(compiled(self._plain, _of_one_round(traced.graph)), self._plain)
        list_tensors = (self._plain.named_parameters, self._plain.named_buffers)
        self._named = {name for list_named in list_tensors for name, _ in list_named(remove_duplicate=False)}

    def __call__(self, network: nn.Module, x: Tensor) -> Output:
        """Apply each round's network to its inputs; ``network`` has the stacked parameters."""
        outputs: list[Output] = []
        for number, (state, inputs) in enumerate(zip(self._states(network, len(x)), x, strict=True)):
            for dropout in self._drops.values():
                cast(_DropoutInTurn, dropout).place = number
            outputs.append(functional_call(self._plain, state, (_channels_last(inputs.clone()),)))
        return joined(outputs, torch.stack)

    def _states(self, network: nn.Module, rounds: int) -> list[dict[str, Tensor]]:
        """Return each round's parameters and buffers by their plain names; a tied tensor is there under each name."""
        states: list[dict[str, Tensor]] = [{} for _ in range(rounds)]
        converted: dict[int, Sequence[Tensor]] = {}
        for name, value in network.named_parameters(remove_duplicate=False):
            if name in self._named:
                if id(value) not in converted:
                    converted[id(value)] = [*map(_moved, value.unbind())]
                for state, part in zip(states, converted[id(value)], strict=True):
                    state[name] = part
        for name, buffer in network.named_buffers(remove_duplicate=False):
            if name in self._named:
                for state, part in zip(states, buffer.unbind(), strict=True):
                    state[name] = part
        return states


class _DropoutInTurn(nn.Module):
    """The dropout of R rounds that run one after the other, for activations (N, ...) of one round.

    Attributes:
        place: Index of the round that runs now.
    """

    def __init__(self, rates: Sequence[float], streams: Streams, *, whole: bool) -> None:
        super().__init__()
        pairs = zip(rates, streams.apart(), strict=True)
        self.parts = nn.ModuleList(StackedDropout([rate], stream, maps=False, whole=whole) for rate, stream in pairs)
        self.place = 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations of the round that runs now."""
        dropped: Tensor = self.parts[self.place](x[None])[0]
        return dropped


def _channels_last(x: Tensor) -> Tensor:
    """Return images or kernels with their channels last in memory; other tensors do not change."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == len("NCHW") else x


def _moved(weight: Tensor) -> Tensor:
    """Return a weight in the memory format in which its convolution is fastest."""
    return _channels_last(weight) if weight.numel() <= _MOVED else weight


def _with_buffers(module: nn.Module) -> nn.Module:
    """Turn tensors that are plain attributes into buffers, so that each round can have its own values."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                delattr(part, name)
                part.register_buffer(name, value, persistent=False)
    return module


def _of_one_round(traced: Graph) -> Graph:
    """Return a copy of a traced graph that runs on one round's inputs, in any memory format."""
    graph = deepcopy(traced)
    for node in graph.nodes:
        if node.target is count_of:
            node.target = count_of_one
        elif node.op == "call_function":
            function = Tensor.reshape if name_of(node.target) == "view" else called_of(node)
            node.target = _given(function, writes=bool(node.meta.get("writes")))
    return graph


def _given(function: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
    """Wrap a function so that it returns its first argument if it changes it in place, as traced graphs expect."""

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function
        result = function(*args, **kwargs)
        return args[0] if writes else result

    return called
