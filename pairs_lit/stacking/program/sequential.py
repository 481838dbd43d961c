"""Running rounds sequentially, with images in channels-last memory format.

A large convolution, whose matrix of columns does not fit into a core's cache, keeps the core busy by itself. Computing
it for several rounds at once does not save time, but converting the layout of its maps costs time. If such convolutions
do most of a network's work, and they are not fused with a max-pool, the networks of the rounds run one after the other,
in the memory format in which torch's convolutions are fastest. On a GPU, rounds never run sequentially.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Graph, Node

from pairs_lit.stacking.looped import Output, join_outputs
from pairs_lit.stacking.ops.convolution import MAX_CACHED_BYTES, can_fill_core
from pairs_lit.stacking.ops.dropout import RandomStreams, StackedDropout
from pairs_lit.stacking.program.graph_builder import compile_graph, get_function
from pairs_lit.stacking.recording.symbolic_sizes import compute_round_size, compute_stacked_size
from pairs_lit.stacking.recording.traced_graph import (
    DROPOUTS_MODULE,
    TracedGraph,
    get_call_name,
    get_site_name,
    get_stream_name,
)

_MAX_CONVERTED_WEIGHTS = 2**18
"""Maximum number of weights to convert to channels last; with more, the conversion costs more than it saves."""


class ConvolutionCost(NamedTuple):
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

    def is_faster_alone(self, inputs: int, element_size: int) -> bool:
        """Return whether the convolution keeps a core busy by itself with this number of inputs."""
        return not self.pooled and can_fill_core(self.columns * inputs * element_size, self.weights)


def find_convolutions(traced: TracedGraph, plain: nn.Module) -> list[ConvolutionCost]:
    """Return the costs of the convolutions in the traced graph of a plain module, after its calls were fused."""
    costs = []
    for node in traced.graph.nodes:
        sizes = _find_kernel_sizes(traced, node, plain)
        if sizes is not None:
            columns = sizes[1:].numel() * torch.Size(node.meta["sizes"][2:]).numel()
            pooled = any(call.op == "call_module" and len(call.args) > 1 for call in (node, *node.users))
            costs.append(ConvolutionCost(columns, sizes.numel(), sizes[0] * columns, pooled))
    return costs


def _find_kernel_sizes(traced: TracedGraph, node: Node, plain: nn.Module) -> torch.Size | None:
    """Return the sizes (O, C, kh, kw) of a convolution's kernels, or None if the call is no convolution."""
    if node.op == "call_module" and traced.get_dropout(node) is None:
        layer = plain.get_submodule(str(node.target))
        return layer.weight.shape if isinstance(layer, nn.Conv2d) else None
    if node.op == "call_function" and get_call_name(node.target) == "conv2d" and len(node.all_input_nodes) > 1:
        return torch.Size(node.all_input_nodes[1].meta["sizes"])
    return None


def should_run_sequentially(costs: Sequence[ConvolutionCost], inputs: int, element_size: int) -> bool:
    """Return whether rounds should run sequentially, because large convolutions do more than half of the work.

    Args:
        costs: Costs of a round's convolutions.
        inputs: Number of inputs of a round.
        element_size: Bytes per number.
    """
    large = sum(cost.products for cost in costs if cost.is_faster_alone(inputs, element_size))
    return 2 * large > sum(cost.products for cost in costs)


def find_sequential_threshold(costs: Sequence[ConvolutionCost], element_size: int) -> int | None:
    """Return the smallest number of inputs with which rounds run sequentially, or None if they never do."""
    candidates = [1, *(MAX_CACHED_BYTES // (cost.columns * element_size) + 1 for cost in costs)]
    return next((inputs for inputs in sorted(candidates) if should_run_sequentially(costs, inputs, element_size)), None)


class SequentialRounds:
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
        traced: TracedGraph,
        plain: nn.Module,
        rates: Mapping[str, Sequence[float]],
        streams: RandomStreams,
        *,
        training: bool,
    ) -> None:
        self._dropouts = nn.ModuleDict(
            {
                get_site_name(name): _SequentialDropout(
                    rates[name], streams.get_child(get_stream_name(name)), whole=drop.should_drop_maps
                )
                for name, drop in traced.dropouts.items()
            }
        )
        self._plain = _register_tensors(deepcopy(plain)).to("meta").train(training)  # only its structure is used
        self._plain.add_module(DROPOUTS_MODULE, self._dropouts)
        self._plain.forward = partial(compile_graph(self._plain, _build_round_graph(traced.graph)), self._plain)
        list_tensors = (self._plain.named_parameters, self._plain.named_buffers)
        self._tensor_names = {name for list_named in list_tensors for name, _ in list_named(remove_duplicate=False)}

    def __call__(self, network: nn.Module, x: Tensor) -> Output:
        """Apply each round's network to its inputs; ``network`` has the stacked parameters."""
        outputs: list[Output] = []
        for number, (state, inputs) in enumerate(zip(self._get_states(network, len(x)), x, strict=True)):
            for dropout in self._dropouts.values():
                cast(_SequentialDropout, dropout).round_index = number
            outputs.append(functional_call(self._plain, state, (_to_channels_last(inputs.clone()),)))
        return join_outputs(outputs, torch.stack)

    def _get_states(self, network: nn.Module, rounds: int) -> list[dict[str, Tensor]]:
        """Return each round's parameters and buffers by their plain names; a tied tensor is there under each name."""
        states: list[dict[str, Tensor]] = [{} for _ in range(rounds)]
        converted: dict[int, Sequence[Tensor]] = {}
        for name, value in network.named_parameters(remove_duplicate=False):
            if name in self._tensor_names:
                if id(value) not in converted:
                    converted[id(value)] = [*map(_convert_weight, value.unbind())]
                for state, part in zip(states, converted[id(value)], strict=True):
                    state[name] = part
        for name, buffer in network.named_buffers(remove_duplicate=False):
            if name in self._tensor_names:
                for state, part in zip(states, buffer.unbind(), strict=True):
                    state[name] = part
        return states


class _SequentialDropout(nn.Module):
    """The dropout of R rounds that run one after the other, for activations (N, ...) of one round.

    Attributes:
        round_index: Index of the round that runs now.
    """

    def __init__(self, rates: Sequence[float], streams: RandomStreams, *, whole: bool) -> None:
        super().__init__()
        pairs = zip(rates, streams.split_copies(), strict=True)
        self.parts = nn.ModuleList(StackedDropout([rate], stream, maps=False, whole=whole) for rate, stream in pairs)
        self.round_index = 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations of the round that runs now."""
        dropped: Tensor = self.parts[self.round_index](x[None])[0]
        return dropped


def _to_channels_last(x: Tensor) -> Tensor:
    """Return images or kernels with their channels last in memory; other tensors do not change."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == len("NCHW") else x


def _convert_weight(weight: Tensor) -> Tensor:
    """Return a weight in the memory format in which its convolution is fastest."""
    return _to_channels_last(weight) if weight.numel() <= _MAX_CONVERTED_WEIGHTS else weight


def _register_tensors(module: nn.Module) -> nn.Module:
    """Turn tensors that are plain attributes into buffers, so that each round can have its own values."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                delattr(part, name)
                part.register_buffer(name, value, persistent=False)
    return module


def _build_round_graph(traced: Graph) -> Graph:
    """Return a copy of a traced graph that runs on one round's inputs, in any memory format."""
    graph = deepcopy(traced)
    for node in graph.nodes:
        if node.target is compute_stacked_size:
            node.target = compute_round_size
        elif node.op == "call_function":
            function = Tensor.reshape if get_call_name(node.target) == "view" else get_function(node)
            node.target = _return_written(function, writes=bool(node.meta.get("writes")))
    return graph


def _return_written(function: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
    """Wrap a function so that it returns its first argument if it changes it in place, as traced graphs expect."""

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function
        result = function(*args, **kwargs)
        return args[0] if writes else result

    return called
