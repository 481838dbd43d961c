"""Tracing: the torch calls of a plain module, recorded as a graph while the module runs on a few inputs.

A torch function mode (``torch.overrides``) intercepts every call of a torch function or method, on inputs, parameters
and buffers alike. So nothing that ``forward`` does with tensors is missed: branches on a value, in-place changes and
random numbers are all seen. If a trace cannot represent a module, :class:`UntraceableError` states the reason. This
concerns branches on a value or on the number of inputs, random numbers, and state that changes.

The tracer of ``torch.fx`` is not used, because it misses some of these (Python's random numbers, counters), rejects
harmless calls (``len(x.shape)``), and patches ``nn.Module`` for all threads.
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
"""Numbers of inputs to trace modules with: an odd and an even one for each of two attempts.

Few layer sizes are multiples of these numbers, so a size that is a multiple most likely depends on N.
"""

_QUESTIONS = {
    "__len__ shape size dim ndim ndimension numel nelement dtype device layout is_contiguous",
    "is_floating_point is_complex is_signed is_cuda is_mps is_meta is_sparse is_quantized is_nested is_inference",
    "element_size itemsize nbytes stride storage_offset get_device is_same_size names _version is_xpu is_cpu",
    "requires_grad",
}
"""Functions and attributes that query a tensor's metadata, not its values; separated by spaces."""

ASKED = frozenset(name for line in _QUESTIONS for name in line.split())
"""The names of the functions and attributes that query a tensor's metadata."""

_DROPOUTS = {F.dropout: False, F.dropout1d: True, F.dropout2d: True, F.dropout3d: True}
"""The dropout functions, and whether each drops whole maps."""

_DROPPING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_NO_GRADIENTS = "switches gradients off, or uses a custom autograd function"

_CONSTANTS = (bool, int, float, complex, str, type(None), type(...), torch.layout, torch.memory_format, torch.dtype)


def trace(module: nn.Module, shape: Sequence[int], *, training: bool) -> Recording:
    """Trace a module in training or in evaluation.

    The module is traced several times, with different inputs, and the traces must agree.

    Args:
        module: The plain module of one round; a copy of it is traced.
        shape: The shape of one input, without N.
        training: Whether to trace the module in training.

    Raises:
        UntraceableError: A trace cannot represent the module.
    """
    first, second = _COUNTS
    try:
        return _agreed(module, shape, training, first)
    except (OnlyMappableError, _DisagreementError):  # a layer size may happen to be a multiple of a number of inputs
        return _agreed(module, shape, training, second)


class _DisagreementError(UntraceableError):
    """Two traces of a module differ."""


def _agreed(module: nn.Module, shape: Sequence[int], training: bool, counts: tuple[int, int]) -> Recording:
    """Trace a module with each of two numbers of inputs, and raise _DisagreementError if the traces differ.

    Only in the second trace do the inputs require gradients. A module that uses a dtype is traced in float64 as well.
    """
    first = trace_once(module, shape, training=training, count=counts[0])
    trials = [_Trial(counts[1], gradients=True)]
    if first.asks_dtype:
        trials.append(_Trial(counts[1], dtype=torch.float64))
    for trial in trials:
        second = _recorded(module, shape, training, trial)
        if (second.written(), second.drops) != (first.written(), first.drops):
            raise _DisagreementError("does not do the same with other inputs, or when it runs again")
    return first


def trace_once(module: nn.Module, shape: Sequence[int], *, training: bool, count: int = _COUNTS[0][0]) -> Recording:
    """Trace a module once, without the comparison that :func:`trace` makes.

    This is for modules that are known to make the same calls each time, whatever their inputs.
    """
    return _recorded(module, shape, training, _Trial(count))


@dataclass(frozen=True)
class _Trial:
    """The inputs that a module is traced with.

    Attributes:
        count: The number of inputs.
        dtype: The dtype of the inputs and of the module's parameters, or None for their present one.
        gradients: Whether the inputs require gradients.
    """

    count: int
    dtype: torch.dtype | None = None
    gradients: bool = False

    def images(self, shape: Sequence[int]) -> Tensor:
        """Build the inputs, each of this shape."""
        images = torch.rand(self.count, *shape, generator=torch.Generator().manual_seed(0)).to(self.dtype)
        return images.requires_grad_().clone() if self.gradients else images


def _recorded(module: nn.Module, shape: Sequence[int], training: bool, trial: _Trial) -> Recording:
    """Trace a copy of a module on the inputs of one trial.

    Raises:
        UntraceableError: A trace cannot represent the module.
    """
    try:
        module_copy = copy.deepcopy(module).to(trial.dtype).train(training)
        watch = Watch(module_copy)
        recorder = _Recorder(module_copy, trial.count)
        with generators_kept(), torch.enable_grad():
            state_before = generators_state()
            recorder.run(module_copy, trial.images(shape))
            if generators_state() != state_before:
                raise UntraceableError("draws random numbers")
    except UntraceableError as reason:
        place = own_place_of(reason)
        raise type(reason)(f"{reason}" + (f" at {place}" if place else "")) from reason
    except Exception as error:  # a user's module may raise anything
        raise UntraceableError(f"raises {reason_of(error)} ({place_of(error)}) when it is tried") from error
    changed_attribute = watch.changed()
    if changed_attribute is not None:
        raise UntraceableError(f"changes its {changed_attribute}")
    return Recording(recorder.graph, recorder.drops, recorder.asks_dtype)


@dataclass
class _Known:
    """A tensor with its node in the graph.

    ``version`` is torch's version counter of the tensor at that node. If the tensor's present counter differs, the
    tensor has been changed in place since, directly or through a view.
    """

    tensor: Tensor
    node: Node
    version: int


class _Recorder(TorchFunctionMode):
    """Torch function mode that records every call of torch while a module runs.

    Args:
        module: The module. The ``forward`` of some of its layers is replaced, so it must be a copy.
        count: The number of inputs that the module will run on.
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
        """Run the module on images, and record what it does."""
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
        if self._failed is not None:  # the user's module may have caught the exception
            raise self._failed
        self.graph.output(self._meant(output))

    def _leaf(self, name: str, part: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return a ``forward`` for a leaf layer that is recorded as one call of a module."""
        original_forward = part.forward

        def forward(input: Tensor) -> Tensor:  # noqa: A002 - torch's name
            if input.dim() not in _DIMENSIONS.get(type(part), range(2, 9)):
                return cast(Tensor, original_forward(input))
            self._check_modes()
            node = self.graph.call_module(name, (self._meant(input),))
            with self._paused():
                # Batch norm is not run, because it would update its running statistics; its output has the same shape.
                should_run = isinstance(part, nn.Linear | nn.Conv2d)
                return self._keep(original_forward(input) if should_run else input.clone(), node, stacked=True)

        return forward

    def _dropping(self, name: str, original_forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return a ``forward`` for a dropout layer whose dropout is recorded under the name of the layer."""

        def forward(input: Tensor) -> Tensor:  # noqa: A002 - torch's name
            self._dropout, before = name, self._dropout
            try:
                return original_forward(input)
            finally:
                self._dropout = before

        return forward

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Record nothing inside the context."""
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
    ) -> Any:  # noqa: ANN401 - torch's signature
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
            raise UntraceableError("bypasses the gradients (.data)")
        self._check_modes()
        if func in _DROPOUTS:
            return self._dropped(func, *args, **kwargs)
        node = self.graph.call_function(func, self._meant(args), self._meant(kwargs))
        tensors = {id(tensor): tensor for tensor in _tensors((args, kwargs))}.values()
        versions = [(tensor, tensor._version) for tensor in tensors]
        state_before = torch.get_rng_state()
        result = func(*args, **kwargs)
        if not torch.equal(torch.get_rng_state(), state_before):
            raise UntraceableError(f"draws random numbers ({name})")
        changed = [tensor for tensor, version in versions if tensor._version != version]
        if changed:
            return self._written(node, args, changed, result)
        stacked = any(input_node.meta["stacked"] for input_node in node.all_input_nodes)
        if isinstance(result, tuple | list) and all(isinstance(item, Tensor | None) for item in result):
            node.meta.update(stacked=stacked, shape=None, writes=False)
            for index, item in enumerate(item for item in result if item is not None):
                item_node = self.graph.call_function(_item, (node, index))
                self._keep(item, item_node, stacked=stacked)
            return result
        if not isinstance(result, Tensor):
            is_branch = name == "__bool__"
            raise UntraceableError(
                "branches on a tensor's value" if is_branch else f"reads a tensor's values ({name.strip('_')})"
            )
        return self._keep(result, node, stacked=stacked)

    def _check_modes(self) -> None:
        """Raise UntraceableError if the module has switched gradients off or autocast on."""
        if not torch.is_grad_enabled():
            raise UntraceableError(_NO_GRADIENTS)
        if torch.is_autocast_enabled("cpu"):
            raise UntraceableError("switches autocast on")

    def _answered(self, name: str, answer: Any, args: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any answer
        """Return the answer to a query of a tensor's metadata, with symbolic sizes where they depend on N."""
        if name == "__len__" and isinstance(self._sized(answer), Count):
            raise OnlyMappableError("takes len() of its inputs (use x.shape[0] instead)")
        self.asks_dtype |= name == "dtype"
        if name in ("shape", "size", "numel", "nelement"):
            return torch.Size(map(self._sized, answer)) if isinstance(answer, tuple) else self._sized(answer)
        return answer

    def _sized(self, size: int) -> int:
        """Return a size, as a symbolic one if it is a multiple of the number of inputs."""
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
        """Record a call of a dropout function as a call of a dropout layer; nothing is dropped during the trace."""
        if not training or p == 0:
            return input
        if not self._training:
            raise UntraceableError("drops activations in evaluation, too")
        site, site_count = self._dropout.replace(".", "/"), len(self.drops)
        name = f"{DROPOUTS}.{site}" if f"{DROPOUTS}.{site}" not in self.drops else f"{DROPOUTS}.{site}/{site_count}"
        self.drops[name] = Drop(p, _DROPOUTS[func])
        input_node = self._node(input)
        if not input_node.meta["stacked"]:
            raise UntraceableError("applies dropout to a tensor that is the same in all rounds")
        node = self.graph.call_module(name, (input_node,))
        if not inplace:
            return self._keep(input.clone(), node, stacked=True)
        input.add_(0)  # advances the version counter, so that other views of the tensor count as changed
        return self._keep(input, node, stacked=True)

    def _written(self, node: Node, args: tuple[Any, ...], changed: list[Tensor], result: object) -> object:
        """Record an in-place change: from now on, the node of the call stands for the changed tensor."""
        target = args[0] if args else None
        known = self._known.get(id(target))
        if len(changed) > 1 or target is not changed[0] or (result is not None and result is not target):
            raise UntraceableError(f"writes into a tensor in a way that cannot be recorded ({name_of(node.target)})")
        if known is None or known.node.op == "get_attr":
            raise UntraceableError(f"changes one of its parameters or buffers in place ({name_of(node.target)})")
        stacked = any(input_node.meta["stacked"] for input_node in node.all_input_nodes)
        self._keep(target, node, stacked=stacked, writes=True)
        return result

    def _keep(self, tensor: Tensor, node: Node, *, stacked: bool, writes: bool = False) -> Tensor:
        """Register a tensor as the value of a node, and return the tensor."""
        shape = tuple(_shown(size, self._count) for size in tensor.shape)
        node.meta.update(shape=shape, sizes=tensor.shape, stacked=stacked, writes=writes)
        self._known[id(tensor)] = _Known(tensor, node, tensor._version)
        return tensor

    def _meant(self, value: Any) -> Any:  # noqa: ANN401 - any argument
        """Convert an argument of a call for the graph: tensors and symbolic sizes are replaced by their nodes."""
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, Count):
            return self._counted(value)
        if isinstance(value, tuple | list):
            return list(map(self._meant, value)) if isinstance(value, list) else tuple(map(self._meant, value))
        if isinstance(value, dict):
            return {key: self._meant(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._meant, (value.start, value.stop, value.step)))
        self.asks_dtype |= isinstance(value, torch.dtype)
        if value is self._dtype or isinstance(value, torch.device):
            return self._of_input("dtype" if value is self._dtype else "device")
        if isinstance(value, _CONSTANTS):
            return value
        raise UntraceableError(f"passes a {type(value).__name__} to torch")

    def _node(self, tensor: Tensor) -> Node:
        """Return the node of a tensor; a tensor that the module holds as an attribute gets one at its first use.

        Raises:
            UntraceableError: The tensor is unknown, or has been changed in place since its node was recorded.
        """
        known = self._known.get(id(tensor))
        if known is None and id(tensor) in self._attributes:
            node = self.graph.get_attr(self._attributes[id(tensor)])
            self._keep(tensor, node, stacked=True)
            return node
        if known is None:
            raise UntraceableError("uses a tensor that is neither its attribute nor computed from its inputs by torch")
        if known.version != tensor._version:
            raise UntraceableError("uses a tensor that it changed in place through another view")
        return known.node

    def _counted(self, value: Count) -> Node:
        """Return the node that computes a symbolic size from the inputs; equal sizes share one node."""
        key = value.factor, value.offset
        if key not in self._counts:
            with self.graph.inserting_after(self._input):
                node = self.graph.call_function(count_of, (self._input, *key))
            node.meta.update(stacked=False, shape=None, writes=False)
            self._counts[key] = node
        return self._counts[key]

    def _of_input(self, name: str) -> Node:
        """Add a node that reads the dtype or device of the inputs."""
        node = self.graph.call_function(getattr, (self._input, name))
        node.meta.update(stacked=False, shape=None, writes=False)
        return node


_DIMENSIONS = {nn.Conv2d: (4,), nn.BatchNorm2d: (4,), nn.BatchNorm1d: (2, 3)}
"""The numbers of input dimensions for which these layers are recorded as leaves."""


def _shown(size: int, count: int) -> int | str:
    """Format a size that is a multiple of the number of inputs in terms of N, such as ``2N``."""
    factor, rest = divmod(size, count)
    return size if rest or not factor else f"{factor if factor > 1 else ''}N"


def _item(values: Sequence[Any], index: int) -> Any:  # noqa: ANN401 - any item
    return values[index]


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _attributes(module: nn.Module) -> dict[int, str]:
    """Return the dotted names of a module's parameters, buffers and other tensor attributes, by ``id``."""
    names: dict[int, str] = {}
    for path, part in module.named_modules():
        attributes = [*part._parameters.items(), *part._buffers.items(), *vars(part).items()]
        for name, value in attributes:
            if isinstance(value, Tensor):
                names.setdefault(id(value), f"{path}.{name}".lstrip("."))
    return names
