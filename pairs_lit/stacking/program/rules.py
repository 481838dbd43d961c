"""What torch functions become in a stack: on maps where they act on each map or value by itself, else on rows.

A rule looks at a recorded call and, if it can take it, adds what stands for it to the program. A call without a rule,
or that its rule does not take, is mapped over the rounds by ``torch.vmap``.
"""

import inspect
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pairs_lit.stacking.ops.stacked_layers import pooled
from pairs_lit.stacking.program.graph_builder import ON_MAPS, Layout, Program, called_of, dimensions, vectorised
from pairs_lit.stacking.recording.traced_graph import name_of

Rule = Callable[[Program, Node], bool]
"""Adds what stands for a recorded call; False: it does not take it."""

_ON_VALUES = """
    abs celu clamp clamp_max clamp_min clone contiguous cos detach elu erf exp expm1 gelu hardshrink hardsigmoid
    hardswish hardtanh leaky_relu log log1p logsigmoid mish neg positive reciprocal relu relu6 rsqrt selu sigmoid sign
    silu sin softplus softshrink softsign sqrt square tanh tanhshrink threshold
"""
_OVER_PIXELS = "amax amin mean sum"


def apply_rule(program: Program, recorded: Node) -> None:
    """Add what stands for a recorded call of a torch function."""
    if not recorded.meta["stacked"]:
        new = program.graph.node_copy(recorded, lambda node: program.value(node, "rows"))
        if recorded.meta["writes"]:
            new.target = _named(partial(_on_copy, called_of(recorded)), recorded)
        program.add(recorded, new, "rows")
        return
    name = _plain_name(recorded)
    rule = _RULES.get(name)
    if rule is None or not rule(program, recorded):
        function = vectorised(recorded)
        function.__name__ = name or "call"
        new = program.graph.call_function(function, program.argument(recorded.args), program.argument(recorded.kwargs))
        program.add(recorded, new, "rows")


def _plain_name(recorded: Node) -> str:
    """Return the name without marks: ``__iadd__``, ``add_`` and ``add`` do the same."""
    name = name_of(recorded.target)
    if name.startswith("__i") and name != "__invert__":
        return name.strip("_")[1:]
    return name.strip("_")


def _named(function: Callable[..., Any], recorded: Node) -> Callable[..., Any]:
    """Give a function the name of what it stands for: it is shown in the printed program."""

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function
        return function(*args, **kwargs)

    called.__name__ = _plain_name(recorded)
    return called


def _on_values(program: Program, recorded: Node) -> bool:
    """A function of each value by itself, in the layout in which the values come."""
    first = recorded.args[0] if recorded.args else None
    if not isinstance(first, Node) or any(node is not first for node in recorded.all_input_nodes):
        return False
    function = called_of(recorded)
    args, kwargs = list(recorded.args[1:]), dict(recorded.kwargs)
    if recorded.meta["writes"]:
        function, args, kwargs = _without_writing(recorded, args, kwargs)
    layout = program.layout(first)
    called = _named(partial(_filled, function, tuple(args), kwargs), recorded)
    program.call(recorded, called, [program.value(first, layout)], layout)
    return True


def _filled(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> Any:  # noqa: ANN401
    return function(x, *args, **kwargs)


def _without_writing(
    recorded: Node, args: list[Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """Return the twin of a call that gives a new tensor instead of changing its first argument."""
    name = _plain_name(recorded)
    twin: Callable[..., Any] | None = getattr(torch.Tensor, name, None) or getattr(torch, name, None)
    function = called_of(recorded)
    if inspect.isfunction(function) and "inplace" in inspect.signature(function).parameters:
        bound = inspect.signature(function).bind(None, *args, **kwargs).arguments
        return function, [], {**dict(list(bound.items())[1:]), "inplace": False}
    if twin is None:
        return partial(_on_copy, function), args, kwargs
    return twin, args, kwargs


def _on_copy(function: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - any function's
    changed = x.clone()
    function(changed, *args, **kwargs)
    return changed


_DIRECT: dict[str, Callable[[Any, Any], Any]] = {
    **{
        name: getattr(operator, name)
        for name in ("add", "sub", "mul", "truediv", "pow", "eq", "ne", "ge", "gt", "le", "lt")
    },
    "div": operator.truediv,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


def _swapped(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, y: function(y, x)


_OPERATORS = _DIRECT | {f"r{name}": _swapped(_DIRECT[name]) for name in ("sub", "div", "truediv", "pow")}


def _on_two(program: Program, recorded: Node) -> bool:
    """A function of two values at the same place, broadcast as in one round."""
    operands, kwargs = recorded.args, recorded.kwargs
    if len(operands) != len(("x", "y")) or kwargs:
        return False
    nodes = [each for each in operands if isinstance(each, Node)]
    tensors = [node for node in nodes if node.meta["shape"] is not None]
    if len(tensors) < len(nodes) or any(not node.meta["stacked"] for node in tensors):
        return False
    if recorded.meta["writes"] and recorded.meta["shape"] != tensors[0].meta["shape"]:
        return False
    most = max(map(dimensions, tensors))
    maps = most == ON_MAPS and any(program.layout(node) == "maps" for node in tensors)
    layout: Layout = "maps" if maps else "rows"
    args = [_aligned(program, each, most, layout) if isinstance(each, Node) else each for each in operands]
    program.call(recorded, _named(_OPERATORS[_plain_name(recorded)], recorded), args, layout)
    return True


def _aligned(program: Program, value: Node, most: int, layout: Layout) -> Node:
    """Return a value with as many dimensions as the other one has, in this layout."""
    missing = most - dimensions(value)
    if not missing:
        return program.value(value, layout)
    rows = program.graph.call_function(_with_ones, (program.value(value, "rows"), missing))
    return rows if layout == "rows" else program.graph.call_function(_ones_to_maps, (rows,))


def _with_ones(x: Tensor, missing: int) -> Tensor:
    return x.view(len(x), *[1] * missing, *x.shape[1:])


def _ones_to_maps(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 4, 1)


def options(recorded: Node, signature: Callable[..., None]) -> dict[str, Any] | None:
    """Return the arguments of a recorded call by the names that a signature gives them; None: it has others."""
    try:
        bound = inspect.signature(signature).bind(*recorded.args, **recorded.kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return bound.arguments


def _reduction(x: Node, dim: Any = None, keepdim: bool = False) -> None: ...  # noqa: ANN401


def _over_pixels(program: Program, recorded: Node) -> bool:
    """A reduction over both sides of maps."""
    given = options(recorded, _reduction)
    if given is None or dimensions(given["x"]) != ON_MAPS or program.layout(given["x"]) != "maps":
        return False
    sides = {each % ON_MAPS for each in given["dim"]} if isinstance(given["dim"], tuple | list) else set()
    if sides != {2, 3}:
        return False
    keepdim = bool(given["keepdim"])
    reduce = partial(_reduced, called_of(recorded), keepdim)
    program.call(recorded, _named(reduce, recorded), [program.value(given["x"], "maps")], "maps" if keepdim else "rows")
    return True


def _reduced(function: Callable[..., Any], keepdim: bool, x: Tensor) -> Tensor:
    """(R, C, H, W, N) → (R, N, C), or maps of one pixel."""
    small: Tensor = function(x, (2, 3), keepdim=keepdim)
    return small if keepdim else small.transpose(1, 2)


def _pool(program: Program, recorded: Node) -> bool:
    """A pooling of each map by itself."""
    first = recorded.args[0]
    if not isinstance(first, Node) or dimensions(first) != ON_MAPS or recorded.meta["shape"] is None:
        return False
    function = partial(_filled, called_of(recorded), tuple(recorded.args[1:]), dict(recorded.kwargs))
    program.call(recorded, _named(partial(pooled, function), recorded), [program.value(first, "maps")], "maps")
    return True


def _reshape(program: Program, recorded: Node) -> bool:
    """A view of each round's rows as other sizes; ``-1`` may stand for one of them."""
    first, *sizes = recorded.args
    if recorded.kwargs or not isinstance(first, Node) or (len(sizes) == 1 and isinstance(sizes[0], torch.dtype)):
        return False
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = list(sizes[0])
    rows = [program.value(first, "rows"), *(program.argument(size) for size in sizes)]
    program.call(recorded, _named(_reshaped, recorded), rows, "rows")
    return True


def _reshaped(x: Tensor, *sizes: int) -> Tensor:
    return x.reshape(len(x), *sizes)


def _flattening(x: Node, start_dim: int = 0, end_dim: int = -1) -> None: ...


def _flatten(program: Program, recorded: Node) -> bool:
    """Neighbouring dimensions of each round's rows as one."""
    given = options(recorded, _flattening)
    if given is None or not dimensions(given["x"]):
        return False
    ends = [given[name] % dimensions(given["x"]) + 1 for name in ("start_dim", "end_dim")]
    program.call(recorded, torch.flatten, [program.value(given["x"], "rows"), *ends], "rows")
    return True


def _item(program: Program, recorded: Node) -> bool:
    """A part of a round's rows by integers and slices."""
    first, index = recorded.args
    if not isinstance(first, Node) or recorded.kwargs or first.meta["shape"] is None:
        return False
    places = index if isinstance(index, tuple) else (index,)
    if not all(type(place) in (int, slice, type(None), type(...)) for place in places):
        return False
    new = [program.value(first, "rows"), tuple(program.argument(place) for place in places)]
    program.call(recorded, _named(_part, recorded), new, "rows")
    return True


def _part(x: Tensor, places: tuple[Any, ...]) -> Tensor:
    return x[(slice(None), *places)]


def _joining(tensors: Sequence[Node], dim: int = 0) -> None: ...


def _cat(program: Program, recorded: Node) -> bool:
    """Values side by side."""
    given = options(recorded, _joining)
    if given is None or not all(isinstance(part, Node) and part.meta["stacked"] for part in given["tensors"]):
        return False
    parts, dim = given["tensors"], given["dim"]
    most = dimensions(parts[0])
    if any(dimensions(part) != most for part in parts):
        return False
    maps = most == ON_MAPS and any(program.layout(part) == "maps" for part in parts)
    layout: Layout = "maps" if maps else "rows"
    place = dim % most
    values = [program.value(part, layout) for part in parts]
    program.call(recorded, torch.cat, [values, (place or ON_MAPS) if maps else place + 1], layout)
    return True


def _weighing(input: Node, weight: Node, bias: Node | None = None) -> None: ...  # noqa: A002 - torch's name


def _linear(program: Program, recorded: Node) -> bool:
    """A linear layer whose weight was given to the function."""
    given = options(recorded, _weighing)
    values = [] if given is None else [given["input"], given["weight"], given["bias"]]
    stacked = all(isinstance(each, Node) and each.meta["stacked"] for each in values)
    if not values or not stacked or [dimensions(each) for each in values[1:]] != [2, 1] or dimensions(values[0]) < 2:
        return False
    program.call(recorded, _named(_products, recorded), [program.value(each, "rows") for each in values], "rows")
    return True


def _products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias[:, None], x.flatten(1, -2), weight.transpose(1, 2)).view(*x.shape[:-1], -1)


_POOLS = "avg_pool2d max_pool2d adaptive_avg_pool2d adaptive_max_pool2d lp_pool2d"

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ON_VALUES.split(), _on_values),
    **dict.fromkeys(_OPERATORS, _on_two),
    **dict.fromkeys(_OVER_PIXELS.split(), _over_pixels),
    **dict.fromkeys(_POOLS.split(), _pool),
    **dict.fromkeys(("view", "reshape"), _reshape),
    "flatten": _flatten,
    "getitem": _item,
    "cat": _cat,
    "concat": _cat,
    "concatenate": _cat,
    "linear": _linear,
}
