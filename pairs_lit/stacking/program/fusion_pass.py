"""Calls of a recording that one pass can compute, joined into one.

A convolution or a batch norm with the max-pool 2×2 and the ReLU that follow it, with dropout after the convolution or
without. A max-pool that follows a ReLU is moved before it: value and gradient are the same, since ReLU is monotone, and
ReLU sees fewer elements.
"""

from typing import Any

from torch import nn
from torch.fx import Node

from pairs_lit.stacking.program.rules import options
from pairs_lit.stacking.recording.traced_graph import Recording, name_of

_POOL, _RELU = {"max_pool2d"}, {"relu", "relu_"}


def fuse(recording: Recording, plain: nn.Module) -> None:
    """Join calls in the recording of a plain module, in place."""
    graph = recording.graph
    for node in list(graph.nodes):
        if _is_call(node, _RELU):
            _pool_first(node)
    for node in list(graph.nodes):
        if node.op == "call_module" and recording.dropout(node) is None:
            _join(recording, node, plain.get_submodule(str(node.target)))


def _is_call(node: Node | None, names: set[str]) -> bool:
    return node is not None and node.op == "call_function" and callable(node.target) and name_of(node.target) in names


def _next(node: Node) -> Node | None:
    """Return the only call that uses a value."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _pool_first(relu: Node) -> None:
    pool = _next(relu)
    if pool is None or not _is_call(pool, _POOL) or pool.meta["shape"] is None:
        return
    before = relu.args[0]
    pool.replace_all_uses_with(relu)
    relu.replace_input_with(before, pool)  # type: ignore[arg-type]
    pool.replace_input_with(relu, before)  # type: ignore[arg-type]
    pool.append(relu)
    relu.meta["shape"] = pool.meta["shape"]


def _join(recording: Recording, first: Node, layer: nn.Module) -> None:
    if not _is_usual(layer):
        return
    after = _next(first) if isinstance(layer, nn.Conv2d) else None
    drop = None if after is None else recording.dropout(after)
    dropout = after if drop is not None and drop.p < 1 and not drop.maps else None
    pool = _next(dropout or first)
    relu = _next(pool) if pool is not None and _is_half(pool) else None
    if pool is None or relu is None or not _is_call(relu, _RELU):
        return
    first.args = (*first.args, True, *([] if dropout is None else [str(dropout.target)]))
    first.meta["shape"] = relu.meta["shape"]
    relu.replace_all_uses_with(first)
    for node in (relu, pool, dropout):
        if node is not None:
            recording.graph.erase_node(node)


def _is_usual(layer: nn.Module) -> bool:
    """Say whether the kernels know a layer's settings."""
    if isinstance(layer, nn.Conv2d):
        return repr(layer) == repr(nn.Conv2d(layer.in_channels, layer.out_channels, 3, device="meta"))
    return isinstance(layer, nn.BatchNorm2d) and layer.affine and layer.track_running_stats


def _pooling(
    input: Node,  # noqa: A002 - torch's name
    kernel_size: Any,  # noqa: ANN401
    stride: Any = None,  # noqa: ANN401
    padding: Any = 0,  # noqa: ANN401
    dilation: Any = 1,  # noqa: ANN401
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> None: ...


def _is_half(node: Node) -> bool:
    """Say whether a call is a max-pool 2×2."""
    given = options(node, _pooling) if _is_call(node, _POOL) else None
    if given is None:
        return False
    sizes = [given["kernel_size"], given["stride"] or given["kernel_size"], given["padding"], given["dilation"]]
    pairs = [tuple(size) if isinstance(size, tuple | list) else (size, size) for size in sizes]
    return pairs == [(2, 2), (2, 2), (0, 0), (1, 1)] and not given["ceil_mode"] and not given["return_indices"]
