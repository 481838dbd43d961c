"""Rules that translate traced calls of torch functions to calls for R rounds.

Functions that act on each map or each value alone are computed in the layout of maps, and all others in that of rows.
A rule either adds the translated call to the program or rejects the traced call. A call that is rejected, or for which
there is no rule, is mapped over the rounds by ``torch.vmap``.
"""

import inspect
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pairs_lit.stacking.ops.linear import apply_linear
from pairs_lit.stacking.ops.stacked_layers import pool_maps
from pairs_lit.stacking.program.graph_builder import (
    MAPS_DIMENSIONS,
    GraphBuilder,
    Layout,
    build_vmap_function,
    count_dimensions,
    get_function,
)
from pairs_lit.stacking.recording.traced_graph import get_call_name

Rule = Callable[[GraphBuilder, Node], bool]
"""Adds the translation of a traced call to the program and returns True, or returns False to reject the call."""

_ELEMENTWISE_NAMES = """
    abs celu clamp clamp_max clamp_min clone contiguous cos detach elu erf exp expm1 gelu hardshrink hardsigmoid
    hardswish hardtanh leaky_relu log log1p logsigmoid mish neg positive reciprocal relu relu6 rsqrt selu sigmoid sign
    silu sin softplus softshrink softsign sqrt square tanh tanhshrink threshold
"""
"""Names of the functions that act on each value alone."""

_REDUCTION_NAMES = "amax amin mean sum"
"""Names of the functions that can reduce the height and width of maps."""


def apply_rule(program: GraphBuilder, traced: Node) -> None:
    """Add the translation of a traced call of a torch function to the program."""
    if not traced.meta["stacked"]:
        new = program.graph.node_copy(traced, lambda node: program.get_value(node, "rows"))
        if traced.meta["writes"]:
            new.target = _wrap_with_name(partial(_call_on_copy, get_function(traced)), traced)
        program.set_node(traced, new, "rows")
        return
    name = _get_plain_name(traced)
    rule = _RULES.get(name)
    if rule is None or not rule(program, traced):
        function = build_vmap_function(traced)
        function.__name__ = name or "call"
        new = program.graph.call_function(
            function, program.convert_argument(traced.args), program.convert_argument(traced.kwargs)
        )
        program.set_node(traced, new, "rows")


def _get_plain_name(traced: Node) -> str:
    """Return a function's name without underscores and in-place marks: ``add`` for ``__iadd__`` and ``add_``."""
    name = get_call_name(traced.target)
    if name.startswith("__i") and name != "__invert__":
        return name.strip("_")[1:]
    return name.strip("_")


def _wrap_with_name(function: Callable[..., Any], traced: Node) -> Callable[..., Any]:
    """Wrap a function so that its name is that of the traced one, which the printed program shows."""

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function
        return function(*args, **kwargs)

    called.__name__ = _get_plain_name(traced)
    return called


def _apply_elementwise(program: GraphBuilder, traced: Node) -> bool:
    """Translate a function of each value alone, in the layout of its argument."""
    first = traced.args[0] if traced.args else None
    if not isinstance(first, Node) or any(node is not first for node in traced.all_input_nodes):
        return False
    function = get_function(traced)
    args, kwargs = list(traced.args[1:]), dict(traced.kwargs)
    if traced.meta["writes"]:
        function, args, kwargs = _get_out_of_place(traced, args, kwargs)
    layout = program.get_layout(first)
    called = _wrap_with_name(partial(_call_with_arguments, function, tuple(args), kwargs), traced)
    program.add_call(traced, called, [program.get_value(first, layout)], layout)
    return True


def _call_with_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> Any:  # noqa: ANN401
    """Call a function with a tensor and the traced arguments."""
    return function(x, *args, **kwargs)


def _get_out_of_place(
    traced: Node, args: list[Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """Return the function and arguments that give a new tensor instead of changing the first argument in place."""
    name = _get_plain_name(traced)
    out_of_place: Callable[..., Any] | None = getattr(torch.Tensor, name, None) or getattr(torch, name, None)
    function = get_function(traced)
    if inspect.isfunction(function) and "inplace" in inspect.signature(function).parameters:
        bound = inspect.signature(function).bind(None, *args, **kwargs).arguments
        return function, [], {**dict(list(bound.items())[1:]), "inplace": False}
    if out_of_place is None:
        return partial(_call_on_copy, function), args, kwargs
    return out_of_place, args, kwargs


def _call_on_copy(function: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - any arguments
    """Call a function that changes its first argument, on a copy of it."""
    changed = x.clone()
    function(changed, *args, **kwargs)
    return changed


_BINARY_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    **{
        name: getattr(operator, name)
        for name in ("add", "sub", "mul", "truediv", "pow", "eq", "ne", "ge", "gt", "le", "lt")
    },
    "div": operator.truediv,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
"""Binary operators by their plain names."""


def _swap_operands(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a function with its two arguments swapped."""
    return lambda x, y: function(y, x)


_ALL_OPERATORS = _BINARY_OPERATORS | {
    f"r{name}": _swap_operands(_BINARY_OPERATORS[name]) for name in ("sub", "div", "truediv", "pow")
}
"""Binary operators and their reflected forms, such as ``rsub``."""


def _apply_binary(program: GraphBuilder, traced: Node) -> bool:
    """Translate a binary operator, which broadcasts its operands as in one round."""
    operands, kwargs = traced.args, traced.kwargs
    if len(operands) != len(("x", "y")) or kwargs:
        return False
    nodes = [operand for operand in operands if isinstance(operand, Node)]
    tensors = [node for node in nodes if node.meta["shape"] is not None]
    if len(tensors) < len(nodes) or any(not node.meta["stacked"] for node in tensors):
        return False
    if traced.meta["writes"] and traced.meta["shape"] != tensors[0].meta["shape"]:
        return False
    most = max(map(count_dimensions, tensors))
    maps = most == MAPS_DIMENSIONS and any(program.get_layout(node) == "maps" for node in tensors)
    layout: Layout = "maps" if maps else "rows"
    args = [_align_dimensions(program, value, most, layout) if isinstance(value, Node) else value for value in operands]
    program.add_call(traced, _wrap_with_name(_ALL_OPERATORS[_get_plain_name(traced)], traced), args, layout)
    return True


def _align_dimensions(program: GraphBuilder, value: Node, most: int, layout: Layout) -> Node:
    """Return a value in this layout, with dimensions of size 1 inserted until it has ``most`` dimensions per round."""
    missing = most - count_dimensions(value)
    if not missing:
        return program.get_value(value, layout)
    rows = program.graph.call_function(_with_ones, (program.get_value(value, "rows"), missing))
    return rows if layout == "rows" else program.graph.call_function(_ones_to_maps, (rows,))


def _with_ones(x: Tensor, missing: int) -> Tensor:
    """Insert dimensions of size 1 after that of the rounds."""
    return x.view(len(x), *[1] * missing, *x.shape[1:])


def _ones_to_maps(x: Tensor) -> Tensor:
    """Return rows (R, N, C, H, W) as a view in the layout of maps, (R, C, H, W, N)."""
    return x.permute(0, 2, 3, 4, 1)


def bind_arguments(traced: Node, signature: Callable[..., None]) -> dict[str, Any] | None:
    """Return the arguments of a traced call by the parameter names of a signature, or None if they do not fit it."""
    try:
        bound = inspect.signature(signature).bind(*traced.args, **traced.kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return bound.arguments


def _reduction_signature(x: Node, dim: Any = None, keepdim: bool = False) -> None: ...  # noqa: ANN401


def _apply_reduction(program: GraphBuilder, traced: Node) -> bool:
    """Translate a reduction over height and width, in the layout of maps."""
    arguments = bind_arguments(traced, _reduction_signature)
    if arguments is None:
        return False
    x, dim, keepdim = arguments["x"], arguments["dim"], bool(arguments["keepdim"])
    if count_dimensions(x) != MAPS_DIMENSIONS or program.get_layout(x) != "maps":
        return False
    if not isinstance(dim, tuple | list) or {number % MAPS_DIMENSIONS for number in dim} != {2, 3}:
        return False
    reduce = partial(_reduce_maps, get_function(traced), keepdim)
    program.add_call(
        traced, _wrap_with_name(reduce, traced), [program.get_value(x, "maps")], "maps" if keepdim else "rows"
    )
    return True


def _reduce_maps(function: Callable[..., Any], keepdim: bool, x: Tensor) -> Tensor:
    """Reduce maps (R, C, H, W, N) to rows (R, N, C), or to maps (R, C, 1, 1, N) if ``keepdim``."""
    reduced: Tensor = function(x, (2, 3), keepdim=keepdim)
    return reduced if keepdim else reduced.transpose(1, 2)


def _apply_pool(program: GraphBuilder, traced: Node) -> bool:
    """Translate a pooling, in the layout of maps."""
    first = traced.args[0]
    if not isinstance(first, Node) or count_dimensions(first) != MAPS_DIMENSIONS or traced.meta["shape"] is None:
        return False
    function = partial(_call_with_arguments, get_function(traced), tuple(traced.args[1:]), dict(traced.kwargs))
    program.add_call(
        traced, _wrap_with_name(partial(pool_maps, function), traced), [program.get_value(first, "maps")], "maps"
    )
    return True


def _apply_reshape(program: GraphBuilder, traced: Node) -> bool:
    """Translate a view or reshape to other sizes, one of which may be -1."""
    first, *sizes = traced.args
    if traced.kwargs or not isinstance(first, Node) or (len(sizes) == 1 and isinstance(sizes[0], torch.dtype)):
        return False
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = list(sizes[0])
    rows = [program.get_value(first, "rows"), *(program.convert_argument(size) for size in sizes)]
    program.add_call(traced, _wrap_with_name(_reshape_rows, traced), rows, "rows")
    return True


def _reshape_rows(x: Tensor, *sizes: int) -> Tensor:
    return x.reshape(len(x), *sizes)


def _flatten_signature(x: Node, start_dim: int = 0, end_dim: int = -1) -> None: ...


def _apply_flatten(program: GraphBuilder, traced: Node) -> bool:
    """Translate ``flatten``."""
    arguments = bind_arguments(traced, _flatten_signature)
    if arguments is None or not count_dimensions(arguments["x"]):
        return False
    x = arguments["x"]
    ends = [arguments[name] % count_dimensions(x) + 1 for name in ("start_dim", "end_dim")]
    program.add_call(traced, torch.flatten, [program.get_value(x, "rows"), *ends], "rows")
    return True


def _apply_getitem(program: GraphBuilder, traced: Node) -> bool:
    """Translate indexing by integers, slices, None and ``...``."""
    first, index = traced.args
    if not isinstance(first, Node) or traced.kwargs or first.meta["shape"] is None:
        return False
    indices = index if isinstance(index, tuple) else (index,)
    if not all(type(entry) in (int, slice, type(None), type(...)) for entry in indices):
        return False
    args = [program.get_value(first, "rows"), tuple(program.convert_argument(entry) for entry in indices)]
    program.add_call(traced, _wrap_with_name(_get_part, traced), args, "rows")
    return True


def _get_part(x: Tensor, indices: tuple[Any, ...]) -> Tensor:
    return x[(slice(None), *indices)]


def _cat_signature(tensors: Sequence[Node], dim: int = 0) -> None: ...


def _apply_cat(program: GraphBuilder, traced: Node) -> bool:
    """Translate ``cat``."""
    arguments = bind_arguments(traced, _cat_signature)
    if arguments is None or not all(isinstance(part, Node) and part.meta["stacked"] for part in arguments["tensors"]):
        return False
    parts = arguments["tensors"]
    count = count_dimensions(parts[0])
    if any(count_dimensions(part) != count for part in parts):
        return False
    maps = count == MAPS_DIMENSIONS and any(program.get_layout(part) == "maps" for part in parts)
    layout: Layout = "maps" if maps else "rows"
    dim = arguments["dim"] % count
    stacked_dim = (
        (dim or MAPS_DIMENSIONS) if maps else dim + 1
    )  # N is the first dimension of a round, but the last of maps
    values = [program.get_value(part, layout) for part in parts]
    program.add_call(traced, torch.cat, [values, stacked_dim], layout)
    return True


def _linear_signature(input: Node, weight: Node, bias: Node | None = None) -> None: ...  # noqa: A002 - torch's name


def _apply_linear(program: GraphBuilder, traced: Node) -> bool:
    """Translate ``F.linear`` with a bias."""
    arguments = bind_arguments(traced, _linear_signature)
    values = [] if arguments is None else [arguments["input"], arguments["weight"], arguments["bias"]]
    if not values or not all(isinstance(value, Node) and value.meta["stacked"] for value in values):
        return False
    if [count_dimensions(value) for value in values[1:]] != [2, 1] or count_dimensions(values[0]) < 2:
        return False
    program.add_call(
        traced, _wrap_with_name(apply_linear, traced), [program.get_value(value, "rows") for value in values], "rows"
    )
    return True


_POOL_NAMES = "avg_pool2d max_pool2d adaptive_avg_pool2d adaptive_max_pool2d lp_pool2d"

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE_NAMES.split(), _apply_elementwise),
    **dict.fromkeys(_ALL_OPERATORS, _apply_binary),
    **dict.fromkeys(_REDUCTION_NAMES.split(), _apply_reduction),
    **dict.fromkeys(_POOL_NAMES.split(), _apply_pool),
    **dict.fromkeys(("view", "reshape"), _apply_reshape),
    "flatten": _apply_flatten,
    "getitem": _apply_getitem,
    "cat": _apply_cat,
    "concat": _apply_cat,
    "concatenate": _apply_cat,
    "linear": _apply_linear,
}
