"""``stack()``: turn R seeded copies of a plain torch module into one module that trains them side by side.

The module is traced (:mod:`pairs_lit.stacking.recording.tracing`), and the traced calls are computed for R rounds at
once (:mod:`pairs_lit.stacking.stacked_network`). A module that cannot be traced is computed by ``torch.vmap``, or R
copies of it run in a loop (:mod:`pairs_lit.stacking.looped`). In each case, initial weights, outputs and gradients are
those of the plain modules.
"""

import copy
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.seeds import get_rng_state, preserve_rng_state, use_seed
from pairs_lit.stacking.composite import Composite
from pairs_lit.stacking.looped import LoopedCopies, LoopedRounds, Output
from pairs_lit.stacking.ops.dropout import RandomStreams, StepPosition
from pairs_lit.stacking.ops.stacked_layers import Rowwise, SwitchedOff
from pairs_lit.stacking.recording.module_state import ChangeDetector, get_comparable_state
from pairs_lit.stacking.recording.traced_graph import (
    LEAF_LAYERS,
    TracedGraph,
    UntraceableError,
    VmapOnlyError,
    is_standard_layer,
)
from pairs_lit.stacking.recording.tracing import trace, trace_once
from pairs_lit.stacking.stacked_network import StackedNetwork, VmapNetwork
from pairs_lit.system.tracebacks import format_reason

_ELEMENTWISE_LAYERS = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Identity,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)
_PER_CHANNEL_LAYERS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_TRAINING_MODES = (True, False)
_PROTECTED_METHODS = (
    "train",
    "eval",
    "__call__",
    "get_extra_state",
    "set_extra_state",
    "state_dict",
    "load_state_dict",
)
"""Methods that a stacked module must not override, because a stack does not call them."""

_TOLERANCE = 1e-3
"""Tolerance, relative and absolute, when the outputs of a stack are compared with those of a plain module."""

_PROBE_SIZE = 3
"""Number of inputs on which a module is tried."""

_PROBABILITY_PATTERN = re.compile(r"(Dropout(?:[123]d)?\(p=)(?:0\.\d*[1-9]\d*|[\d.]+e-\d+)")
"""A dropout layer as torch prints it, with a probability between 0 and 1."""


def stack(factory: Callable[[], nn.Module], seeds: Sequence[int], shape: Sequence[int] | None = None) -> nn.Module:
    """Build one plain module per seed and stack them.

    Args:
        factory: Builds the plain module of one round, (N, ...) → (N, ...).
        seeds: One seed for each round. The plain module is built after ``torch.manual_seed(seed)``.
        shape: Shape of one input, without N. The module is traced on such inputs. Without a shape, the stack is a loop
            over the modules.

    Returns:
        A module (R, N, ...) → (R, N, ...). Its dropout masks are those of epoch 0, step 0. In a
        :class:`~pairs_lit.nn.pair_stack.PairStack`, they change with each step.

    Raises:
        PairsLitError: Two rounds would share a parameter.

    Example:
        >>> network = stack(lambda: nn.Linear(3, 2), seeds=[0, 1, 2], shape=[3])
        >>> network(torch.zeros(3, 5, 3)).shape
        torch.Size([3, 5, 2])
    """
    check_positive("the number of seeds", len(seeds))
    copies = []
    for seed in seeds:
        with use_seed(seed):
            copies.append(factory())
    return stack_copies(copies, RandomStreams(tuple(seeds), (0,) * len(copies), StepPosition()), shape)


def stack_copies(copies: Sequence[nn.Module], streams: RandomStreams, shape: Sequence[int] | None) -> nn.Module:
    """Stack plain modules.

    Args:
        copies: The R plain modules; they must not be used afterwards.
        streams: Source of the random numbers of the stack.
        shape: Shape of one input, without N, or None if it is not known.

    Raises:
        PairsLitError: Two of the modules share a parameter.
    """
    if isinstance(copies[0], Composite):
        return _stack_parts(copies, streams, shape)
    check_no_shared_parameters(copies)
    if not _are_equal(map(get_structure, copies)):
        return _loop_over_rounds(copies, streams, shape)
    if _can_serve_all_rounds(copies[0]):
        return copies[0]
    try:
        return _stack_traced(copies, streams, shape)
    except VmapOnlyError as reason:
        return _stack_with_vmap(copies, shape, str(reason)) or LoopedCopies(copies, streams, str(reason))
    except UntraceableError as reason:
        return LoopedCopies(copies, streams, str(reason))


def _are_equal(values: Iterable[object]) -> bool:
    iterator = iter(values)
    first = next(iterator)
    return all(value == first for value in iterator)


def _stack_parts(copies: Sequence[nn.Module], streams: RandomStreams, shape: Sequence[int] | None) -> nn.Module:
    """Return the first of R composites after replacing each of its parts by a stack of R parts."""
    composite = cast(Composite, copies[0])
    for name, part in composite.parts(shape or ()).items():
        parts = [copy.get_submodule(name) for copy in copies]
        part_streams = replace(streams, name=part.stream, copies=(part.copy,) * len(copies))
        composite.add_module(name, stack_copies(parts, part_streams, part.shape if shape else None))
    return composite


def _stack_with_vmap(copies: Sequence[nn.Module], shape: Sequence[int] | None, reason: str) -> VmapNetwork | None:
    """Return the copies as a module that calls ``torch.vmap``, or None if that is not correct or not faster."""
    has_convolution = any(isinstance(part, nn.modules.conv._ConvNd) for part in copies[0].modules())
    if shape is None or has_convolution or not _are_equal(map(get_comparable_state, copies)):
        return None
    try:
        if not all(_is_pure(copies[0], shape, training=mode) for mode in _TRAINING_MODES):
            return None
        mapped = VmapNetwork(copy.deepcopy(list(copies)), reason)
        _check_outputs(mapped, copies[0], shape, len(copies), mapped)
    except Exception:  # an operation that torch.vmap does not support may raise anything
        return None
    return VmapNetwork(copies, reason)


def _is_pure(module: nn.Module, shape: Sequence[int], *, training: bool) -> bool:
    """Return whether a module draws no random numbers and keeps no state, except in buffers changed in place."""
    tried = copy.deepcopy(module).train(training)
    watch = ChangeDetector(tried)
    with preserve_rng_state():
        state_before = get_rng_state()
        tried(torch.rand(_PROBE_SIZE, *shape, generator=torch.Generator().manual_seed(0)))
        return get_rng_state() == state_before and watch.find_change() is None


def _loop_over_rounds(copies: Sequence[nn.Module], streams: RandomStreams, shape: Sequence[int] | None) -> LoopedRounds:
    """Return a loop over stacks of one copy each."""
    parts = zip(copies, streams.split_copies(), strict=True)
    return LoopedRounds([stack_copies([copy], part, shape) for copy, part in parts])


def _stack_traced(copies: Sequence[nn.Module], streams: RandomStreams, shape: Sequence[int] | None) -> nn.Module:
    """Trace the copies and return a module that computes the traced calls for all of them.

    Raises:
        UntraceableError: The module cannot be traced, or a stack would not compute the same.
    """
    if shape is None:
        raise UntraceableError("cannot be traced without the shape of its inputs")
    altered = next((part for part in copies[0].modules() if _is_altered(part)), None)
    if altered is not None:
        name = type(altered).__name__
        raise UntraceableError(f"has hooks or overrides methods such as train or state_dict, in {name}")
    frozen = next((part for part in copies[0].modules() if not part.training), None)
    if frozen is not None:
        raise UntraceableError(f"has a {type(frozen).__name__} in evaluation mode")
    known = is_known(copies[0])
    wrapped = [copy if isinstance(copy, nn.Sequential) or not known else nn.Sequential(copy) for copy in copies]
    trace_first = trace_once if known else trace
    first = [trace_first(wrapped[0], shape, training=mode) for mode in _TRAINING_MODES]
    first_state = get_comparable_state(wrapped[0])
    traces = [
        first
        if get_comparable_state(other) == first_state
        else [trace_once(other, shape, training=mode) for mode in _TRAINING_MODES]
        for other in wrapped
    ]
    retraced = [traced for traced in traces if traced is not first]
    if not _are_equal(map(_get_signatures, [first, *retraced])):
        return _loop_over_rounds(copies, streams, shape)
    rates = {
        name: [traced[mode].dropouts[name].p for traced in traces]
        for mode, graph in enumerate(first)
        for name in graph.dropouts
    }
    network = StackedNetwork(wrapped, first[0], first[1], rates, streams)
    if not known:
        _check_outputs(network, wrapped[0], shape, len(copies), network.run_side_by_side)
        _check_sequential(network, wrapped[0], shape, len(copies))
    return network


def _check_sequential(network: StackedNetwork, plain: nn.Module, shape: Sequence[int], rounds: int) -> None:
    """Prevent rounds from running sequentially if the outputs then differ from those of the plain module.

    They may differ if the module depends on the strides of its tensors.
    """
    if network.convolutions:
        try:
            _check_outputs(network, plain, shape, rounds, network.run_sequentially)
        except UntraceableError:
            network.convolutions = []


def _get_signatures(traced: Iterable[TracedGraph]) -> list[list[object]]:
    """Return the signature of each traced graph; copies can be stacked if their signatures are equal."""
    return [graph.get_signature() for graph in traced]


def _check_outputs(
    network: nn.Module, plain: nn.Module, shape: Sequence[int], rounds: int, compute: Callable[[Tensor], Output]
) -> None:
    """Raise UntraceableError if a stack cannot take its inputs or its outputs differ from the plain module's.

    Outputs are compared only in evaluation, because the dropout masks of a stack and a plain module differ.

    Args:
        network: The stack, whose first round has the weights of ``plain``.
        plain: The plain module.
        shape: Shape of one input, without N.
        rounds: Number of rounds of the stack.
        compute: Method of the stack that computes its outputs.
    """
    inputs = torch.rand(_PROBE_SIZE, *shape, generator=torch.Generator().manual_seed(0))
    stacked_inputs = inputs.expand(rounds, *inputs.shape)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    try:
        with preserve_rng_state(), warnings.catch_warnings():
            warnings.filterwarnings("error", ".*performance drop")  # torch.vmap warns if it would loop over the rounds
            network.train()
            compute(stacked_inputs.clone())
            for name, value in network.named_buffers():
                value.copy_(buffers[name])
            with torch.no_grad():
                expected = copy.deepcopy(plain).eval()(inputs.clone())
                network.eval()
                outputs = compute(stacked_inputs.clone())
    except Exception as error:  # an operation that torch.vmap does not support may raise anything
        reason = format_reason(error).split(". ")[0]
        raise UntraceableError(f"cannot be computed for several rounds at once ({reason})") from error
    finally:
        network.train()
    pairs = zip(_to_list(outputs), _to_list(expected), strict=True)
    if not all(torch.allclose(stacked[0], alone, _TOLERANCE, _TOLERANCE, equal_nan=True) for stacked, alone in pairs):
        raise UntraceableError("gives other values when several rounds are computed at once")


def _to_list(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def _can_serve_all_rounds(module: nn.Module) -> bool:
    """Return whether one module can serve all rounds, because it has no parameters and acts on each row alone."""
    return Rowwise in type(module).__bases__ and not _is_altered(module)


def check_no_shared_parameters(copies: Sequence[nn.Module]) -> None:
    """Raise PairsLitError if plain modules of different rounds share a parameter."""
    seen: set[int] = set()
    for module in copies:
        ids = {name: id(value) for name, value in module.named_parameters()}
        shared = next((name for name, number in ids.items() if number in seen), None)
        if shared is not None:
            raise PairsLitError(
                f"{type(module).__name__} has the same parameter {shared!r} in two rounds, but rounds must share "
                "nothing. Create all parameters in its constructor."
            )
        seen |= set(ids.values())


def get_structure(module: nn.Module) -> tuple[object, ...]:
    """Return a module's structure; only copies with equal structures can be stacked.

    Structures may differ because a constructor chooses layers at random. Dropout probabilities are no part of the
    structure, except 0 and 1.
    """
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    state = [(name, first.setdefault(id(value), name), value.shape, value.requires_grad) for name, value in tensors]
    return _PROBABILITY_PATTERN.sub(r"\1…", repr(module)), state, is_known(module), _can_serve_all_rounds(module)


def is_known(module: nn.Module) -> bool:
    """Return whether a module is a known layer or an ``nn.Sequential`` of known layers.

    The ``repr`` of such a module describes its computation completely.
    """
    if _is_altered(module):
        return False
    if isinstance(module, nn.Sequential):
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        return type(module).forward is nn.Sequential.forward and not tensors and all(map(is_known, module.children()))
    if isinstance(module, SwitchedOff):
        return is_known(module.layer)
    if type(module) in LEAF_LAYERS:
        return is_standard_layer(module)
    return type(module) in (*_ELEMENTWISE_LAYERS, *_PER_CHANNEL_LAYERS, nn.Dropout, nn.Flatten)


def _is_altered(module: nn.Module) -> bool:
    """Return whether a module does more than its ``forward``, by hooks or by overridden methods."""
    hooks: list[object] = [
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ]
    hooks += [module._state_dict_hooks, module._load_state_dict_pre_hooks]
    for value in module.parameters(recurse=False):
        hooks += [value._backward_hooks, getattr(value, "_post_accumulate_grad_hooks", None)]
    is_from_torch = type(module).__module__.startswith("torch.nn.")
    keeps_methods = all(getattr(type(module), name) is getattr(nn.Module, name) for name in _PROTECTED_METHODS)
    replaces_methods = not {"forward", "train", "eval"}.isdisjoint(vars(module))
    return any(hooks) or not (is_from_torch or keeps_methods) or replaces_methods
