"""Fusion of traced calls that one kernel can compute.

A convolution or a batch norm is fused with the max-pool 2×2 and the ReLU that follow it, and a convolution also with
dropout before the max-pool. A max-pool that follows a ReLU is moved before it, so that ReLU has fewer elements to
process. As ReLU is monotone, values and gradients do not change.
"""

from typing import Any

from torch import nn
from torch.fx import Node

from pairs_lit.stacking.program.rules import bind_arguments
from pairs_lit.stacking.recording.traced_graph import TracedGraph, get_call_name

_POOL_NAMES = {"max_pool2d"}
_RELU_NAMES = {"relu", "relu_"}


def fuse_calls(traced: TracedGraph, plain: nn.Module) -> None:
    """Fuse calls in the traced graph of a plain module, in place."""
    graph = traced.graph
    for node in list(graph.nodes):
        if _is_call(node, _RELU_NAMES):
            _move_pool_before_relu(node)
    for node in list(graph.nodes):
        if node.op == "call_module" and traced.get_dropout(node) is None:
            _fuse_layer(traced, node, plain.get_submodule(str(node.target)))


def _is_call(node: Node | None, names: set[str]) -> bool:
    return (
        node is not None
        and node.op == "call_function"
        and callable(node.target)
        and get_call_name(node.target) in names
    )


def _get_only_user(node: Node) -> Node | None:
    """Return the only call that uses a value, or None if there are several or none."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _move_pool_before_relu(relu: Node) -> None:
    """Move a max-pool that follows a ReLU before it."""
    pool = _get_only_user(relu)
    if pool is None or not _is_call(pool, _POOL_NAMES) or pool.meta["shape"] is None:
        return
    before = relu.args[0]
    pool.replace_all_uses_with(relu)
    relu.replace_input_with(before, pool)  # type: ignore[arg-type]
    pool.replace_input_with(relu, before)  # type: ignore[arg-type]
    pool.append(relu)
    relu.meta["shape"] = pool.meta["shape"]


def _fuse_layer(traced: TracedGraph, first: Node, layer: nn.Module) -> None:
    """Fuse the call of a layer with the dropout, max-pool and ReLU that follow it, if a kernel supports them.

    The call then has further arguments: True, and the name of the dropout site if there is one.
    """
    if not _has_supported_settings(layer):
        return
    after = _get_only_user(first) if isinstance(layer, nn.Conv2d) else None
    site = None if after is None else traced.get_dropout(after)
    dropout = after if site is not None and site.p < 1 and not site.should_drop_maps else None
    pool = _get_only_user(dropout or first)
    relu = _get_only_user(pool) if pool is not None and _is_pool_2x2(pool) else None
    if pool is None or relu is None or not _is_call(relu, _RELU_NAMES):
        return
    first.args = (*first.args, True, *([] if dropout is None else [str(dropout.target)]))
    first.meta["shape"] = relu.meta["shape"]
    relu.replace_all_uses_with(first)
    for node in (relu, pool, dropout):
        if node is not None:
            traced.graph.erase_node(node)


def _has_supported_settings(layer: nn.Module) -> bool:
    """Return whether the fused kernels support the settings of a layer."""
    if isinstance(layer, nn.Conv2d):
        return repr(layer) == repr(nn.Conv2d(layer.in_channels, layer.out_channels, 3, device="meta"))
    return isinstance(layer, nn.BatchNorm2d) and layer.affine and layer.track_running_stats


def _max_pool_signature(
    input: Node,  # noqa: A002 - torch's name
    kernel_size: Any,  # noqa: ANN401
    stride: Any = None,  # noqa: ANN401
    padding: Any = 0,  # noqa: ANN401
    dilation: Any = 1,  # noqa: ANN401
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> None:
    """Define the signature of torch's max-pool; never called."""


def _is_pool_2x2(node: Node) -> bool:
    """Return whether a call is a max-pool 2×2 with default settings."""
    arguments = bind_arguments(node, _max_pool_signature) if _is_call(node, _POOL_NAMES) else None
    if arguments is None:
        return False
    kernel_size = arguments["kernel_size"]
    sizes = [kernel_size, arguments["stride"] or kernel_size, arguments["padding"], arguments["dilation"]]
    pairs = [tuple(size) if isinstance(size, tuple | list) else (size, size) for size in sizes]
    return pairs == [(2, 2), (2, 2), (0, 0), (1, 1)] and not arguments["ceil_mode"] and not arguments["return_indices"]
