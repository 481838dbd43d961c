"""``stack()``: R seeded copies of a plain torch module become one module that trains them side by side.

What a module computes is recorded (:mod:`pairs_lit.stacking.recording.tracing`) and done for R rounds at once
(:mod:`pairs_lit.stacking.stacked_network`). A module that cannot be recorded is computed by ``torch.vmap`` or kept as R
copies in a loop (:mod:`pairs_lit.stacking.looped`). In each case, first weights, outputs and gradients are those of the
plain modules.
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
from pairs_lit.seeds import generators_kept, generators_state, seeded
from pairs_lit.stacking.composite import Composite
from pairs_lit.stacking.looped import Apart, Loop, Output
from pairs_lit.stacking.ops.dropout import Clock, Streams
from pairs_lit.stacking.ops.stacked_layers import Rowwise, SwitchedOff
from pairs_lit.stacking.recording.module_state import Watch, surely_alike
from pairs_lit.stacking.recording.traced_graph import LEAVES, OnlyMappableError, Recording, UntraceableError, is_usual
from pairs_lit.stacking.recording.tracing import trace, trace_once
from pairs_lit.stacking.stacked_network import MappedNetwork, StackedNetwork
from pairs_lit.system.tracebacks import reason_of

_ELEMENTWISE = (
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
_PER_CHANNEL = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_MODES = (True, False)
_OWN_METHODS = ("train", "eval", "__call__", "get_extra_state", "set_extra_state", "state_dict", "load_state_dict")
"""Methods that a module may not have overridden: what they do would be lost."""

_SAME, _TRIED = 1e-3, 3
_P = re.compile(r"(Dropout(?:[123]d)?\(p=)(?:0\.\d*[1-9]\d*|[\d.]+e-\d+)")
"""A probability of dropping between 0 and 1, as torch prints it."""


def stack(factory: Callable[[], nn.Module], seeds: Sequence[int], shape: Sequence[int] | None = None) -> nn.Module:
    """Build one plain module per seed and stack them.

    Args:
        factory: Makes the plain module of one round, (N, ...) → (N, ...).
        seeds: One seed for each round; the plain module is built after ``torch.manual_seed(seed)``.
        shape: The shape of one input, without N: the module is tried on such inputs to see what it computes. Without
            it, the stack is a loop over the modules.

    Returns:
        A module (R, N, ...) → (R, N, ...). Its dropout masks are those of epoch 0, step 0; in a
        :class:`~pairs_lit.nn.pair_stack.PairStack` they follow the training.

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
        with seeded(seed):
            copies.append(factory())
    return stack_copies(copies, Streams(tuple(seeds), (0,) * len(copies), Clock()), shape)


def stack_copies(copies: Sequence[nn.Module], streams: Streams, shape: Sequence[int] | None) -> nn.Module:
    """Stack plain modules of equal structure.

    Args:
        copies: The R plain modules; do not use them afterwards.
        streams: Where the random numbers of the stack come from.
        shape: The shape of one input, without N; None: it is not known.

    Raises:
        PairsLitError: Two of them share a parameter.
    """
    if isinstance(copies[0], Composite):
        return _part_by_part(copies, streams, shape)
    check_separate(copies)
    if any(form(copy) != form(copies[0]) for copy in copies[1:]):
        return _apart(copies, streams, shape)
    if _serves_all(copies[0]):
        return copies[0]
    try:
        return _side_by_side(copies, streams, shape)
    except OnlyMappableError as reason:
        return _mapped(copies, shape, str(reason)) or Loop(copies, streams, str(reason))
    except UntraceableError as reason:
        return Loop(copies, streams, str(reason))


def _part_by_part(copies: Sequence[nn.Module], streams: Streams, shape: Sequence[int] | None) -> nn.Module:
    """Return the first of some composites with a stack of all in place of each of its parts."""
    whole = cast(Composite, copies[0])
    for name, part in whole.parts(shape or ()).items():
        parts = [copy.get_submodule(name) for copy in copies]
        own = replace(streams, name=part.stream, copies=(part.copy,) * len(copies))
        whole.add_module(name, stack_copies(parts, own, part.shape if shape else None))
    return whole


def _mapped(copies: Sequence[nn.Module], shape: Sequence[int] | None, reason: str) -> MappedNetwork | None:
    """Return the rounds as one call of ``torch.vmap``, if that is right and faster than a loop."""
    convolved = any(isinstance(part, nn.modules.conv._ConvNd) for part in copies[0].modules())
    if shape is None or convolved or not all(surely_alike(copies[0], other) for other in copies[1:]):
        return None
    try:
        if not all(_is_pure(copies[0], shape, training=mode) for mode in _MODES):
            return None
        mapped = MappedNetwork(copy.deepcopy(list(copies)), reason)
        _check(mapped, copies[0], shape, len(copies), mapped)
    except Exception:  # whatever an operation that cannot be mapped over rounds raises
        return None
    return MappedNetwork(copies, reason)


def _is_pure(module: nn.Module, shape: Sequence[int], *, training: bool) -> bool:
    """Say whether a module neither draws random numbers nor keeps anything but by changing buffers in place."""
    own = copy.deepcopy(module).train(training)
    watch = Watch(own)
    with generators_kept():
        drawn = generators_state()
        own(torch.rand(_TRIED, *shape, generator=torch.Generator().manual_seed(0)))
        return generators_state() == drawn and watch.changed() is None


def _apart(copies: Sequence[nn.Module], streams: Streams, shape: Sequence[int] | None) -> Apart:
    parts = zip(copies, streams.apart(), strict=True)
    return Apart([stack_copies([copy], part, shape) for copy, part in parts])


def _side_by_side(copies: Sequence[nn.Module], streams: Streams, shape: Sequence[int] | None) -> nn.Module:
    """Record what the copies do, and do it for all of them at once."""
    if shape is None:
        raise UntraceableError("could be tried only if the shape of its inputs were given")
    altered = next((part for part in copies[0].modules() if _is_altered(part)), None)
    if altered is not None:
        name = type(altered).__name__
        raise UntraceableError(f"has hooks, or methods such as train or state_dict of its own, in {name}")
    resting = next((part for part in copies[0].modules() if not part.training), None)
    if resting is not None:
        raise UntraceableError(f"has a {type(resting).__name__} in evaluation mode")
    known = is_known(copies[0])
    wrapped = [copy if isinstance(copy, nn.Sequential) or not known else nn.Sequential(copy) for copy in copies]
    record = trace_once if known else trace
    ways = [record(wrapped[0], shape, training=mode) for mode in _MODES]
    every = [
        ways if surely_alike(wrapped[0], other) else [trace_once(other, shape, training=mode) for mode in _MODES]
        for other in wrapped
    ]
    if any(_written(each) != _written(ways) for each in every):
        return _apart(copies, streams, shape)
    rates = {
        name: [each[place].drops[name].p for each in every] for place, way in enumerate(ways) for name in way.drops
    }
    network = StackedNetwork(wrapped, ways[0], ways[1], rates, streams)
    if not known:
        _check(network, wrapped[0], shape, len(copies), network.side_by_side)
        _check_turns(network, wrapped[0], shape, len(copies))
    return network


def _check_turns(network: StackedNetwork, plain: nn.Module, shape: Sequence[int], rounds: int) -> None:
    """Let rounds not run in turn if that does not give what the plain module gives, as where it asks for strides."""
    if network.convolutions:
        try:
            _check(network, plain, shape, rounds, network.in_turn)
        except UntraceableError:
            network.convolutions = []


def _written(ways: Iterable[Recording]) -> list[list[object]]:
    return [way.written() for way in ways]


def _check(
    network: nn.Module, plain: nn.Module, shape: Sequence[int], rounds: int, called: Callable[[Tensor], Output]
) -> None:
    """Refuse a stack that does not give what the plain module gives for the same inputs.

    In training, only whether it can take them is tried: activations are dropped by other masks.

    Raises:
        UntraceableError: It does not, or cannot take them.
    """
    images = torch.rand(_TRIED, *shape, generator=torch.Generator().manual_seed(0))
    every = images.expand(rounds, *images.shape)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    try:
        with generators_kept(), warnings.catch_warnings():
            warnings.filterwarnings("error", ".*performance drop")  # where torch.vmap would loop over the rounds
            network.train()
            called(every.clone())
            for name, value in network.named_buffers():
                value.copy_(buffers[name])
            with torch.no_grad():
                expected = copy.deepcopy(plain).eval()(images.clone())
                network.eval()
                found = called(every.clone())
    except Exception as error:  # whatever an operation that cannot be mapped over rounds raises
        reason = reason_of(error).split(". ")[0]
        raise UntraceableError(f"cannot be computed for several rounds at once ({reason})") from error
    finally:
        network.train()
    pairs = zip(_listed(found), _listed(expected), strict=True)
    if not all(torch.allclose(one[0], other, _SAME, _SAME, equal_nan=True) for one, other in pairs):
        raise UntraceableError("gives other values when several rounds are computed at once")


def _listed(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def _serves_all(module: nn.Module) -> bool:
    return Rowwise in type(module).__bases__ and not _is_altered(module)


def check_separate(copies: Sequence[nn.Module]) -> None:
    """Refuse plain modules of different rounds that share parameters.

    Raises:
        PairsLitError: Two of them do.
    """
    taken: set[int] = set()
    for module in copies:
        own = {name: id(value) for name, value in module.named_parameters()}
        shared = next((name for name, value in own.items() if value in taken), None)
        if shared is not None:
            raise PairsLitError(
                f"{type(module).__name__} has the same parameter {shared!r} in two rounds, but rounds share nothing: "
                "create all parameters in its constructor."
            )
        taken |= set(own.values())


def form(module: nn.Module) -> tuple[object, ...]:
    """Return what copies must have in common to be stacked; a constructor may choose its layers at random.

    How much they drop may differ, unless it is all or nothing.
    """
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    state = [(name, first.setdefault(id(value), name), value.shape, value.requires_grad) for name, value in named]
    return _P.sub(r"\1…", repr(module)), state, is_known(module), _serves_all(module)


def is_known(module: nn.Module) -> bool:
    """Say whether a module is a known layer or an ``nn.Sequential`` of such: its printed form says all that it does."""
    if _is_altered(module):
        return False
    if isinstance(module, nn.Sequential):
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        return type(module).forward is nn.Sequential.forward and not own and all(map(is_known, module.children()))
    if isinstance(module, SwitchedOff):
        return is_known(module.layer)
    if type(module) in LEAVES:
        return is_usual(module)
    return type(module) in (*_ELEMENTWISE, *_PER_CHANNEL, nn.Dropout, nn.Flatten)


def _is_altered(module: nn.Module) -> bool:
    """Say whether a module does more than its ``forward``: by hooks, or by methods that it overrides."""
    hooks: list[object] = [
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ]
    hooks += [module._state_dict_hooks, module._load_state_dict_pre_hooks]
    for value in module.parameters(recurse=False):
        hooks += [value._backward_hooks, getattr(value, "_post_accumulate_grad_hooks", None)]
    of_torch = type(module).__module__.startswith("torch.nn.")
    usual = of_torch or all(getattr(type(module), name) is getattr(nn.Module, name) for name in _OWN_METHODS)
    return any(hooks) or not usual or not {"forward", "train", "eval"}.isdisjoint(vars(module))
