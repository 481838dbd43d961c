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

from pairs_lit.seeds import get_rng_state, preserve_rng_state
from pairs_lit.stacking.recording.module_state import ChangeDetector
from pairs_lit.stacking.recording.symbolic_sizes import SymbolicSize, compute_stacked_size
from pairs_lit.stacking.recording.traced_graph import (
    DROPOUTS_MODULE,
    LEAF_LAYERS,
    DropoutSite,
    TracedGraph,
    UntraceableError,
    VmapOnlyError,
    get_call_name,
    is_standard_layer,
)
from pairs_lit.system.tracebacks import format_reason, locate_error, locate_user_error

_INPUT_COUNTS = (13, 22), (19, 34)
"""Numbers of inputs to trace modules with: an odd and an even one for each of two attempts.

Few layer sizes are multiples of these numbers, so a size that is a multiple most likely depends on N.
"""

_QUERY_LINES = {
    "__len__ shape size dim ndim ndimension numel nelement dtype device layout is_contiguous",
    "is_floating_point is_complex is_signed is_cuda is_mps is_meta is_sparse is_quantized is_nested is_inference",
    "element_size itemsize nbytes stride storage_offset get_device is_same_size names _version is_xpu is_cpu",
    "requires_grad",
}
"""Functions and attributes that query a tensor's metadata, not its values; separated by spaces."""

METADATA_QUERIES = frozenset(name for line in _QUERY_LINES for name in line.split())
"""The names of the functions and attributes that query a tensor's metadata."""

_DROPOUT_FUNCTIONS = {F.dropout: False, F.dropout1d: True, F.dropout2d: True, F.dropout3d: True}
"""The dropout functions, and whether each drops whole maps."""

_DROPOUT_LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_GRADIENTS_OFF_REASON = "switches gradients off, or uses a custom autograd function"

_CONSTANT_TYPES = (
    bool,
    int,
    float,
    complex,
    str,
    type(None),
    type(...),
    torch.layout,
    torch.memory_format,
    torch.dtype,
)


def trace(module: nn.Module, shape: Sequence[int], *, training: bool) -> TracedGraph:
    """Trace a module in training or in evaluation.

    The module is traced several times, with different inputs, and the traces must agree.

    Args:
        module: The plain module of one round; a copy of it is traced.
        shape: The shape of one input, without N.
        training: Whether to trace the module in training.

    Raises:
        UntraceableError: A trace cannot represent the module.
    """
    first, second = _INPUT_COUNTS
    try:
        return _trace_consistently(module, shape, training, first)
    except (VmapOnlyError, _InconsistentTraceError):  # a layer size may happen to be a multiple of a number of inputs
        return _trace_consistently(module, shape, training, second)


class _InconsistentTraceError(UntraceableError):
    """Two traces of a module differ."""


def _trace_consistently(
    module: nn.Module, shape: Sequence[int], training: bool, counts: tuple[int, int]
) -> TracedGraph:
    """Trace a module with each of two numbers of inputs, and raise _DisagreementError if the traces differ.

    Only in the second trace do the inputs require gradients. A module that uses a dtype is traced in float64 as well.
    """
    first = trace_once(module, shape, training=training, count=counts[0])
    trials = [_ProbeInput(counts[1], needs_gradients=True)]
    if first.is_dtype_dependent:
        trials.append(_ProbeInput(counts[1], dtype=torch.float64))
    for trial in trials:
        second = _trace_probe(module, shape, training, trial)
        if (second.get_signature(), second.dropouts) != (first.get_signature(), first.dropouts):
            raise _InconsistentTraceError("does not do the same with other inputs, or when it runs again")
    return first


def trace_once(
    module: nn.Module, shape: Sequence[int], *, training: bool, count: int = _INPUT_COUNTS[0][0]
) -> TracedGraph:
    """Trace a module once, without the comparison that :func:`trace` makes.

    This is for modules that are known to make the same calls each time, whatever their inputs.
    """
    return _trace_probe(module, shape, training, _ProbeInput(count))


@dataclass(frozen=True)
class _ProbeInput:
    """The inputs that a module is traced with.

    Attributes:
        count: The number of inputs.
        dtype: The dtype of the inputs and of the module's parameters, or None for their present one.
        needs_gradients: Whether the inputs require gradients.
    """

    count: int
    dtype: torch.dtype | None = None
    needs_gradients: bool = False

    def build_images(self, shape: Sequence[int]) -> Tensor:
        """Build the inputs, each of this shape."""
        images = torch.rand(self.count, *shape, generator=torch.Generator().manual_seed(0)).to(self.dtype)
        return images.requires_grad_().clone() if self.needs_gradients else images


def _trace_probe(module: nn.Module, shape: Sequence[int], training: bool, trial: _ProbeInput) -> TracedGraph:
    """Trace a copy of a module on the inputs of one trial.

    Raises:
        UntraceableError: A trace cannot represent the module.
    """
    try:
        module_copy = copy.deepcopy(module).to(trial.dtype).train(training)
        watch = ChangeDetector(module_copy)
        recorder = _Tracer(module_copy, trial.count)
        with preserve_rng_state(), torch.enable_grad():
            state_before = get_rng_state()
            recorder.trace(module_copy, trial.build_images(shape))
            if get_rng_state() != state_before:
                raise UntraceableError("draws random numbers")
    except UntraceableError as reason:
        place = locate_user_error(reason)
        raise type(reason)(f"{reason}" + (f" at {place}" if place else "")) from reason
    except Exception as error:  # a user's module may raise anything
        raise UntraceableError(f"raises {format_reason(error)} ({locate_error(error)}) when it is tried") from error
    changed_attribute = watch.find_change()
    if changed_attribute is not None:
        raise UntraceableError(f"changes its {changed_attribute}")
    return TracedGraph(recorder.graph, recorder.dropouts, recorder.is_dtype_dependent)


@dataclass
class _KnownTensor:
    """A tensor with its node in the graph.

    ``version`` is torch's version counter of the tensor at that node. If the tensor's present counter differs, the
    tensor has been changed in place since, directly or through a view.
    """

    tensor: Tensor
    node: Node
    version: int


class _Tracer(TorchFunctionMode):
    """Torch function mode that records every call of torch while a module runs.

    Args:
        module: The module. The ``forward`` of some of its layers is replaced, so it must be a copy.
        count: The number of inputs that the module will run on.
    """

    def __init__(self, module: nn.Module, count: int) -> None:
        super().__init__()
        self.graph = Graph()
        self._count = count
        self._known_tensors: dict[int, _KnownTensor] = {}
        self._attribute_names = _collect_attribute_names(module)
        self._size_nodes: dict[tuple[int, int], Node] = {}
        self.dropouts: dict[str, DropoutSite] = {}
        self.is_dtype_dependent = False
        self._is_training = module.training
        self._dropout_name = "functional"
        self._is_paused = False
        self._failure: UntraceableError | None = None

    def trace(self, module: nn.Module, images: Tensor) -> None:
        """Run the module on images, and record what it does."""
        self._input = self.graph.placeholder("x")
        self._dtype = images.dtype
        self._register_tensor(images, self._input, stacked=True)
        for name, part in module.named_modules():
            if name and type(part) in LEAF_LAYERS and is_standard_layer(part):
                part.forward = self._wrap_leaf(name, part)
            elif name and type(part) in _DROPOUT_LAYERS:
                part.forward = self._wrap_dropout(name, part.forward)
        with self:
            output = module(images)
        if self._failure is not None:  # the user's module may have caught the exception
            raise self._failure
        self.graph.output(self._to_graph_argument(output))

    def _wrap_leaf(self, name: str, part: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return a ``forward`` for a leaf layer that is recorded as one call of a module."""
        original_forward = part.forward

        def forward(input: Tensor) -> Tensor:  # noqa: A002 - torch's name
            if input.dim() not in _LEAF_DIMENSIONS.get(type(part), range(2, 9)):
                return cast(Tensor, original_forward(input))
            self._check_modes()
            node = self.graph.call_module(name, (self._to_graph_argument(input),))
            with self._pause():
                # Batch norm is not run, because it would update its running statistics; its output has the same shape.
                should_run = isinstance(part, nn.Linear | nn.Conv2d)
                return self._register_tensor(
                    original_forward(input) if should_run else input.clone(), node, stacked=True
                )

        return forward

    def _wrap_dropout(self, name: str, original_forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return a ``forward`` for a dropout layer whose dropout is recorded under the name of the layer."""

        def forward(input: Tensor) -> Tensor:  # noqa: A002 - torch's name
            self._dropout_name, before = name, self._dropout_name
            try:
                return original_forward(input)
            finally:
                self._dropout_name = before

        return forward

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """Record nothing inside the context."""
        self._is_paused, before = True, self._is_paused
        try:
            yield
        finally:
            self._is_paused = before

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401 - torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - torch's signature
        """Run a call of torch, and record it."""
        if self._is_paused:
            return func(*args, **(kwargs or {}))
        try:
            return self._record_call(func, args, kwargs or {})
        except UntraceableError as reason:
            self._failure = self._failure or reason
            raise

    def _record_call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        name = get_call_name(func)
        if name in METADATA_QUERIES or name == "_assert":
            return self._answer_query(name, func(*args, **kwargs), args)
        if name == "_set_grad_enabled":
            raise UntraceableError(_GRADIENTS_OFF_REASON)
        if name == "data":
            raise UntraceableError("bypasses the gradients (.data)")
        self._check_modes()
        if func in _DROPOUT_FUNCTIONS:
            return self._record_dropout(func, *args, **kwargs)
        node = self.graph.call_function(func, self._to_graph_argument(args), self._to_graph_argument(kwargs))
        tensors = {id(tensor): tensor for tensor in _iterate_tensors((args, kwargs))}.values()
        versions = [(tensor, tensor._version) for tensor in tensors]
        state_before = torch.get_rng_state()
        result = func(*args, **kwargs)
        if not torch.equal(torch.get_rng_state(), state_before):
            raise UntraceableError(f"draws random numbers ({name})")
        changed = [tensor for tensor, version in versions if tensor._version != version]
        if changed:
            return self._record_inplace_change(node, args, changed, result)
        stacked = any(input_node.meta["stacked"] for input_node in node.all_input_nodes)
        if isinstance(result, tuple | list) and all(isinstance(item, Tensor | None) for item in result):
            node.meta.update(stacked=stacked, shape=None, writes=False)
            for index, item in enumerate(item for item in result if item is not None):
                item_node = self.graph.call_function(_get_item, (node, index))
                self._register_tensor(item, item_node, stacked=stacked)
            return result
        if not isinstance(result, Tensor):
            is_branch = name == "__bool__"
            raise UntraceableError(
                "branches on a tensor's value" if is_branch else f"reads a tensor's values ({name.strip('_')})"
            )
        return self._register_tensor(result, node, stacked=stacked)

    def _check_modes(self) -> None:
        """Raise UntraceableError if the module has switched gradients off or autocast on."""
        if not torch.is_grad_enabled():
            raise UntraceableError(_GRADIENTS_OFF_REASON)
        if torch.is_autocast_enabled("cpu"):
            raise UntraceableError("switches autocast on")

    def _answer_query(self, name: str, answer: Any, args: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any answer
        """Return the answer to a query of a tensor's metadata, with symbolic sizes where they depend on N."""
        if name == "__len__" and isinstance(self._to_symbolic_size(answer), SymbolicSize):
            raise VmapOnlyError("takes len() of its inputs (use x.shape[0] instead)")
        self.is_dtype_dependent |= name == "dtype"
        if name in ("shape", "size", "numel", "nelement"):
            return (
                torch.Size(map(self._to_symbolic_size, answer))
                if isinstance(answer, tuple)
                else self._to_symbolic_size(answer)
            )
        return answer

    def _to_symbolic_size(self, size: int) -> int:
        """Return a size, as a symbolic one if it is a multiple of the number of inputs."""
        factor, rest = divmod(size, self._count)
        return SymbolicSize.build(size, factor) if factor and not rest else size

    def _record_dropout(
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
        if not self._is_training:
            raise UntraceableError("drops activations in evaluation, too")
        site, site_count = self._dropout_name.replace(".", "/"), len(self.dropouts)
        name = (
            f"{DROPOUTS_MODULE}.{site}"
            if f"{DROPOUTS_MODULE}.{site}" not in self.dropouts
            else f"{DROPOUTS_MODULE}.{site}/{site_count}"
        )
        self.dropouts[name] = DropoutSite(p, _DROPOUT_FUNCTIONS[func])
        input_node = self._get_node(input)
        if not input_node.meta["stacked"]:
            raise UntraceableError("applies dropout to a tensor that is the same in all rounds")
        node = self.graph.call_module(name, (input_node,))
        if not inplace:
            return self._register_tensor(input.clone(), node, stacked=True)
        input.add_(0)  # advances the version counter, so that other views of the tensor count as changed
        return self._register_tensor(input, node, stacked=True)

    def _record_inplace_change(
        self, node: Node, args: tuple[Any, ...], changed: list[Tensor], result: object
    ) -> object:
        """Record an in-place change: from now on, the node of the call stands for the changed tensor."""
        target = args[0] if args else None
        known = self._known_tensors.get(id(target))
        if len(changed) > 1 or target is not changed[0] or (result is not None and result is not target):
            raise UntraceableError(
                f"writes into a tensor in a way that cannot be recorded ({get_call_name(node.target)})"
            )
        if known is None or known.node.op == "get_attr":
            raise UntraceableError(f"changes one of its parameters or buffers in place ({get_call_name(node.target)})")
        stacked = any(input_node.meta["stacked"] for input_node in node.all_input_nodes)
        self._register_tensor(target, node, stacked=stacked, writes=True)
        return result

    def _register_tensor(self, tensor: Tensor, node: Node, *, stacked: bool, writes: bool = False) -> Tensor:
        """Register a tensor as the value of a node, and return the tensor."""
        shape = tuple(_format_size(size, self._count) for size in tensor.shape)
        node.meta.update(shape=shape, sizes=tensor.shape, stacked=stacked, writes=writes)
        self._known_tensors[id(tensor)] = _KnownTensor(tensor, node, tensor._version)
        return tensor

    def _to_graph_argument(self, value: Any) -> Any:  # noqa: ANN401 - any argument
        """Convert an argument of a call for the graph: tensors and symbolic sizes are replaced by their nodes."""
        if isinstance(value, Tensor):
            return self._get_node(value)
        if isinstance(value, SymbolicSize):
            return self._get_size_node(value)
        if isinstance(value, tuple | list):
            return (
                list(map(self._to_graph_argument, value))
                if isinstance(value, list)
                else tuple(map(self._to_graph_argument, value))
            )
        if isinstance(value, dict):
            return {key: self._to_graph_argument(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._to_graph_argument, (value.start, value.stop, value.step)))
        self.is_dtype_dependent |= isinstance(value, torch.dtype)
        if value is self._dtype or isinstance(value, torch.device):
            return self._add_input_attribute("dtype" if value is self._dtype else "device")
        if isinstance(value, _CONSTANT_TYPES):
            return value
        raise UntraceableError(f"passes a {type(value).__name__} to torch")

    def _get_node(self, tensor: Tensor) -> Node:
        """Return the node of a tensor; a tensor that the module holds as an attribute gets one at its first use.

        Raises:
            UntraceableError: The tensor is unknown, or has been changed in place since its node was recorded.
        """
        known = self._known_tensors.get(id(tensor))
        if known is None and id(tensor) in self._attribute_names:
            node = self.graph.get_attr(self._attribute_names[id(tensor)])
            self._register_tensor(tensor, node, stacked=True)
            return node
        if known is None:
            raise UntraceableError("uses a tensor that is neither its attribute nor computed from its inputs by torch")
        if known.version != tensor._version:
            raise UntraceableError("uses a tensor that it changed in place through another view")
        return known.node

    def _get_size_node(self, value: SymbolicSize) -> Node:
        """Return the node that computes a symbolic size from the inputs; equal sizes share one node."""
        key = value.factor, value.offset
        if key not in self._size_nodes:
            with self.graph.inserting_after(self._input):
                node = self.graph.call_function(compute_stacked_size, (self._input, *key))
            node.meta.update(stacked=False, shape=None, writes=False)
            self._size_nodes[key] = node
        return self._size_nodes[key]

    def _add_input_attribute(self, name: str) -> Node:
        """Add a node that reads the dtype or device of the inputs."""
        node = self.graph.call_function(getattr, (self._input, name))
        node.meta.update(stacked=False, shape=None, writes=False)
        return node


_LEAF_DIMENSIONS = {nn.Conv2d: (4,), nn.BatchNorm2d: (4,), nn.BatchNorm1d: (2, 3)}
"""The numbers of input dimensions for which these layers are recorded as leaves."""


def _format_size(size: int, count: int) -> int | str:
    """Format a size that is a multiple of the number of inputs in terms of N, such as ``2N``."""
    factor, rest = divmod(size, count)
    return size if rest or not factor else f"{factor if factor > 1 else ''}N"


def _get_item(values: Sequence[Any], index: int) -> Any:  # noqa: ANN401 - any item
    return values[index]


def _iterate_tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _iterate_tensors(item)
    elif isinstance(value, dict):
        yield from _iterate_tensors(list(value.values()))


def _collect_attribute_names(module: nn.Module) -> dict[int, str]:
    """Return the dotted names of a module's parameters, buffers and other tensor attributes, by ``id``."""
    names: dict[int, str] = {}
    for path, part in module.named_modules():
        attributes = [*part._parameters.items(), *part._buffers.items(), *vars(part).items()]
        for name, value in attributes:
            if isinstance(value, Tensor):
                names.setdefault(id(value), f"{path}.{name}".lstrip("."))
    return names
