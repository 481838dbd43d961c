"""What a plain module computes, recorded as a graph of torch calls while it runs once on a few inputs.

A mode of torch (``torch.overrides``) sees every call of a torch function or method, on inputs, parameters and buffers
alike, so nothing that ``forward`` does with tensors goes unseen: neither a branch on a value, nor an in-place change,
nor a random number. What one recording cannot stand for is refused with its reason, never guessed: a branch on a value
or on the number of inputs, random numbers, state that changes. ``torch.fx``'s own tracer would let some of these pass
(Python's random numbers, counters), stop at harmless ones (``len(x.shape)``), and patch ``nn.Module`` for all threads.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pairs_lit.seeds import generators_kept, generators_state
from pairs_lit.stacking.recording.module_state import Watch
from pairs_lit.stacking.recording.symbolic_sizes import Count, count_of
from pairs_lit.stacking.recording.traced_graph import (
    DROPOUTS,
    LEAVES,
    Drop,
    OnlyMappableError,
    Recording,
    UntraceableError,
    is_usual,
    name_of,
)
from pairs_lit.system.tracebacks import own_place_of, place_of, reason_of

_COUNTS = (13, 22), (19, 34)
"""So many inputs are tried, odd and even; few sizes are multiples of these, so one that follows from N shows."""

_QUESTIONS = {
    "__len__ shape size dim ndim ndimension numel nelement dtype device layout is_contiguous",
    "is_floating_point is_complex is_signed is_cuda is_mps is_meta is_sparse is_quantized is_nested is_inference",
    "element_size itemsize nbytes stride storage_offset get_device is_same_size names _version is_xpu is_cpu",
    "requires_grad",
}
"""What may be asked of a tensor without reading its values."""
ASKED = frozenset(name for line in _QUESTIONS for name in line.split())
"""The names of these questions."""

_DROPOUTS = {F.dropout: False, F.dropout1d: True, F.dropout2d: True, F.dropout3d: True}
_DROPPING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_NO_GRADIENTS = "switches gradients off, or is an autograd function of its own"

_CONSTANTS = (bool, int, float, complex, str, type(None), type(...), torch.layout, torch.memory_format, torch.dtype)


def trace(module: nn.Module, shape: Sequence[int], *, training: bool) -> Recording:
    """Record what a module does in training or in evaluation.

    Args:
        module: The plain module of one round; it is copied, and stays as it is.
        shape: Of one input, without N.
        training: Whether to record training.

    Raises:
        UntraceableError: A recording cannot stand for the module.
    """
    first, second = _COUNTS
    try:
        return _agreed(module, shape, training, first)
    except (OnlyMappableError, _DisagreementError):  # a size may have been a multiple of a count by chance
        return _agreed(module, shape, training, second)


class _DisagreementError(UntraceableError):
    """Two recordings of a module are not the same."""


def _agreed(module: nn.Module, shape: Sequence[int], training: bool, counts: tuple[int, int]) -> Recording:
    """Record a module twice, on so many inputs, without and with their gradients; and in other numbers if it asks."""
    found = trace_once(module, shape, training=training, count=counts[0])
    others = [_Trial(counts[1], gradients=True)]
    if found.asks_dtype:
        others.append(_Trial(counts[1], dtype=torch.float64))
    for trial in others:
        again = _recorded(module, shape, training, trial)
        if (again.written(), again.drops) != (found.written(), found.drops):
            raise _DisagreementError("does not do the same with other inputs, or when it runs again")
    return found


def trace_once(module: nn.Module, shape: Sequence[int], *, training: bool, count: int = _COUNTS[0][0]) -> Recording:
    """Record like :func:`trace` what is known to do the same each time, whatever the inputs."""
    return _recorded(module, shape, training, _Trial(count))


@dataclass(frozen=True)
class _Trial:
    """On what a module is tried.

    Attributes:
        count: How many inputs.
        dtype: Theirs, and that of its parameters.
        gradients: Whether the inputs' gradients are wanted.
    """

    count: int
    dtype: torch.dtype | None = None
    gradients: bool = False

    def images(self, shape: Sequence[int]) -> Tensor:
        """Return the inputs."""
        images = torch.rand(self.count, *shape, generator=torch.Generator().manual_seed(0)).to(self.dtype)
        return images.requires_grad_().clone() if self.gradients else images


def _recorded(module: nn.Module, shape: Sequence[int], training: bool, trial: _Trial) -> Recording:
    try:
        own = copy.deepcopy(module).to(trial.dtype).train(training)
        watch = Watch(own)
        recorder = _Recorder(own, trial.count)
        with generators_kept(), torch.enable_grad():
            drawn = generators_state()
            recorder.run(own, trial.images(shape))
            if generators_state() != drawn:
                raise UntraceableError("draws random numbers")
    except UntraceableError as reason:
        place = own_place_of(reason)
        raise type(reason)(f"{reason}" + (f" at {place}" if place else "")) from reason
    except Exception as error:  # whatever a module of the user's raises
        raise UntraceableError(f"raises {reason_of(error)} ({place_of(error)}) when it is tried") from error
    changed = watch.changed()
    if changed is not None:
        raise UntraceableError(f"changes its {changed}")
    return Recording(recorder.graph, recorder.drops, recorder.asks_dtype)


@dataclass
class _Known:
    """A tensor that the recording knows; ``version`` tells whether it was changed since, through itself or a view."""

    tensor: Tensor
    node: Node
    version: int


class _Recorder(TorchFunctionMode):
    """Records every call of torch while a module runs.

    Args:
        module: The module, which is the recorder's own.
        count: How many inputs it runs on.
    """

    def __init__(self, module: nn.Module, count: int) -> None:
        super().__init__()
        self.graph = Graph()
        self._count = count
        self._known: dict[int, _Known] = {}
        self._attributes = _attributes(module)
        self._counts: dict[tuple[int, int], Node] = {}
        self.drops: dict[str, Drop] = {}
        self.asks_dtype = False
        self._training = module.training
        self._dropout = "functional"
        self._pausing = False
        self._failed: UntraceableError | None = None

    def run(self, module: nn.Module, images: Tensor) -> None:
        """Record the module on these images."""
        self._input = self.graph.placeholder("x")
        self._dtype = images.dtype
        self._keep(images, self._input, stacked=True)
        for name, part in module.named_modules():
            if name and type(part) in LEAVES and is_usual(part):
                part.forward = self._leaf(name, part)
            elif name and type(part) in _DROPPING:
                part.forward = self._dropping(name, part.forward)
        with self:
            output = module(images)
        if self._failed is not None:  # a module of the user's may have caught the exception
            raise self._failed
        self.graph.output(self._meant(output))

    def _leaf(self, name: str, part: nn.Module) -> Callable[[Tensor], Tensor]:
        own = part.forward

        def called(input: Tensor) -> Tensor:  # noqa: A002 - torch's name
            if input.dim() not in _DIMENSIONS.get(type(part), range(2, 9)):
                return cast(Tensor, own(input))
            self._check_modes()
            node = self.graph.call_module(name, (self._meant(input),))
            with self._paused():
                weighs = isinstance(part, nn.Linear | nn.Conv2d)  # batch norm would track what it sees
                return self._keep(own(input) if weighs else input.clone(), node, stacked=True)

        return called

    def _dropping(self, name: str, own: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def called(input: Tensor) -> Tensor:  # noqa: A002 - torch's name
            self._dropout, before = name, self._dropout
            try:
                return own(input)
            finally:
                self._dropout = before

        return called

    @contextmanager
    def _paused(self) -> Iterator[None]:
        self._pausing, before = True, self._pausing
        try:
            yield
        finally:
            self._pausing = before

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401 - torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - likewise
        """Run a call of torch, and record it."""
        if self._pausing:
            return func(*args, **(kwargs or {}))
        try:
            return self._called(func, args, kwargs or {})
        except UntraceableError as reason:
            self._failed = self._failed or reason
            raise

    def _called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        name = name_of(func)
        if name in ASKED or name == "_assert":
            return self._answered(name, func(*args, **kwargs), args)
        if name == "_set_grad_enabled":
            raise UntraceableError(_NO_GRADIENTS)
        if name == "data":
            raise UntraceableError("reaches past the gradients (.data)")
        self._check_modes()
        if func in _DROPOUTS:
            return self._dropped(func, *args, **kwargs)
        node = self.graph.call_function(func, self._meant(args), self._meant(kwargs))
        given = {id(tensor): tensor for tensor in _tensors((args, kwargs))}.values()
        versions = [(tensor, tensor._version) for tensor in given]
        drawn = torch.get_rng_state()
        result = func(*args, **kwargs)
        if not torch.equal(torch.get_rng_state(), drawn):
            raise UntraceableError(f"draws random numbers ({name})")
        changed = [tensor for tensor, version in versions if tensor._version != version]
        if changed:
            return self._written(node, args, changed, result)
        stacked = any(each.meta["stacked"] for each in node.all_input_nodes)
        if isinstance(result, tuple | list) and all(isinstance(each, Tensor | None) for each in result):
            node.meta.update(stacked=stacked, shape=None, writes=False)
            for index, each in enumerate(each for each in result if each is not None):
                part = self.graph.call_function(_item, (node, index))
                self._keep(each, part, stacked=stacked)
            return result
        if not isinstance(result, Tensor):
            branches = name == "__bool__"
            raise UntraceableError(
                "branches on a tensor's value" if branches else f"reads a tensor's values ({name.strip('_')})"
            )
        return self._keep(result, node, stacked=stacked)

    def _check_modes(self) -> None:
        if not torch.is_grad_enabled():
            raise UntraceableError(_NO_GRADIENTS)
        if torch.is_autocast_enabled("cpu"):
            raise UntraceableError("switches autocast on")

    def _answered(self, name: str, answer: Any, args: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any answer
        if name == "__len__" and isinstance(self._sized(answer), Count):
            raise OnlyMappableError("takes len() of its inputs (x.shape[0] could be recorded)")
        self.asks_dtype |= name == "dtype"
        if name in ("shape", "size", "numel", "nelement"):
            return torch.Size(map(self._sized, answer)) if isinstance(answer, tuple) else self._sized(answer)
        return answer

    def _sized(self, size: int) -> int:
        factor, rest = divmod(size, self._count)
        return Count.of(size, factor) if factor and not rest else size

    def _dropped(
        self,
        func: Callable[..., Any],
        input: Tensor,  # noqa: A002 - torch's name
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or p == 0:
            return input
        if not self._training:
            raise UntraceableError("drops activations in evaluation, too")
        place, many = self._dropout.replace(".", "/"), len(self.drops)
        name = f"{DROPOUTS}.{place}" if f"{DROPOUTS}.{place}" not in self.drops else f"{DROPOUTS}.{place}/{many}"
        self.drops[name] = Drop(p, _DROPOUTS[func])
        dropped = self._node(input)
        if not dropped.meta["stacked"]:
            raise UntraceableError("drops what is the same in all rounds")
        node = self.graph.call_module(name, (dropped,))
        if not inplace:
            return self._keep(input.clone(), node, stacked=True)
        input.add_(0)  # its other views hold something else from now on
        return self._keep(input, node, stacked=True)

    def _written(self, node: Node, args: tuple[Any, ...], changed: list[Tensor], result: object) -> object:
        """Record an in-place change: from now on, the changed tensor is what the call gave."""
        target = args[0] if args else None
        own = self._known.get(id(target))
        if len(changed) > 1 or target is not changed[0] or (result is not None and result is not target):
            raise UntraceableError(f"writes into a tensor in a way that cannot be recorded ({name_of(node.target)})")
        if own is None or own.node.op == "get_attr":
            raise UntraceableError(f"changes a parameter or buffer of its own ({name_of(node.target)})")
        self._keep(target, node, stacked=any(each.meta["stacked"] for each in node.all_input_nodes), writes=True)
        return result

    def _keep(self, tensor: Tensor, node: Node, *, stacked: bool, writes: bool = False) -> Tensor:
        shape = tuple(_shown(size, self._count) for size in tensor.shape)
        node.meta.update(shape=shape, sizes=tensor.shape, stacked=stacked, writes=writes)
        self._known[id(tensor)] = _Known(tensor, node, tensor._version)
        return tensor

    def _meant(self, value: Any) -> Any:  # noqa: ANN401 - any argument
        """Return an argument as the graph knows it."""
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, Count):
            return self._counted(value)
        if isinstance(value, tuple | list):
            return list(map(self._meant, value)) if isinstance(value, list) else tuple(map(self._meant, value))
        if isinstance(value, dict):
            return {key: self._meant(each) for key, each in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._meant, (value.start, value.stop, value.step)))
        self.asks_dtype |= isinstance(value, torch.dtype)
        if value is self._dtype or isinstance(value, torch.device):
            return self._of_input("dtype" if value is self._dtype else "device")
        if isinstance(value, _CONSTANTS):
            return value
        raise UntraceableError(f"passes a {type(value).__name__} to torch")

    def _node(self, tensor: Tensor) -> Node:
        known = self._known.get(id(tensor))
        if known is None and id(tensor) in self._attributes:
            node = self.graph.get_attr(self._attributes[id(tensor)])
            self._keep(tensor, node, stacked=True)
            return node
        if known is None:
            raise UntraceableError("uses a tensor that is neither its own nor made from its inputs by torch")
        if known.version != tensor._version:
            raise UntraceableError("uses a tensor after it changed it in place through another")
        return known.node

    def _counted(self, value: Count) -> Node:
        key = value.factor, value.offset
        if key not in self._counts:
            with self.graph.inserting_after(self._input):
                node = self.graph.call_function(count_of, (self._input, *key))
            node.meta.update(stacked=False, shape=None, writes=False)
            self._counts[key] = node
        return self._counts[key]

    def _of_input(self, name: str) -> Node:
        node = self.graph.call_function(getattr, (self._input, name))
        node.meta.update(stacked=False, shape=None, writes=False)
        return node


_DIMENSIONS = {nn.Conv2d: (4,), nn.BatchNorm2d: (4,), nn.BatchNorm1d: (2, 3)}


def _shown(size: int, count: int) -> int | str:
    """Write a size that follows from the number of inputs as such."""
    factor, rest = divmod(size, count)
    return size if rest or not factor else f"{factor if factor > 1 else ''}N"


def _item(values: Sequence[Any], index: int) -> Any:  # noqa: ANN401 - any item
    return values[index]


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _attributes(module: nn.Module) -> dict[int, str]:
    """Return where a module holds its parameters, buffers and other tensors, by their identity."""
    found: dict[int, str] = {}
    for place, part in module.named_modules():
        tensors = [*part._parameters.items(), *part._buffers.items(), *vars(part).items()]
        for name, value in tensors:
            if isinstance(value, Tensor):
                found.setdefault(id(value), f"{place}.{name}".lstrip("."))
    return found
