"""Text summary of a stack: its calls, their layouts and the shapes of their outputs."""

import torch
from tabulate import tabulate
from torch import nn
from torch.fx import Graph, Node

from pairs_lit.stacking.composite import Composite
from pairs_lit.stacking.looped import LoopedCopies, LoopedRounds
from pairs_lit.stacking.program.sequential import find_sequential_threshold
from pairs_lit.stacking.stacked_network import StackedNetwork, VmapNetwork

_HIDDEN_OPERATIONS = ("placeholder", "output", "get_attr")


def describe_parts(stack: Composite) -> str:
    """Return a description of each part of a stack."""
    return "\n\n".join(f"{name}\n{describe_part(stack.get_submodule(name))}" for name in stack.parts(()))


def describe_slow_parts(stack: nn.Module) -> list[str]:
    """Return a sentence, with the reason, for each part of a stack that trains in a loop or by ``torch.vmap``."""
    looped = [
        f"{type(part.copies[0]).__name__} trains as copies in a loop, which is slower: it {part.reason}"
        for part in stack.modules()
        if isinstance(part, LoopedCopies)
    ]
    mapped = [part for part in stack.modules() if isinstance(part, VmapNetwork)]
    return looped + [f"a part is computed by torch.vmap, which is slower: it {part.reason}" for part in mapped]


def describe_part(part: nn.Module) -> str:
    """Return a description of a stacked part: a table of its calls, or the reason why it is not stacked."""
    if isinstance(part, LoopedCopies):
        return f"{len(part.copies)} copies in a loop: {type(part.copies[0]).__name__} {part.reason}."
    if isinstance(part, VmapNetwork):
        return f"One call by torch.vmap: the network {part.reason}."
    if isinstance(part, LoopedRounds):
        return (
            f"The rounds' networks differ, so each round is a separate stack. First:\n{describe_part(part.rounds[0])}"
        )
    if isinstance(part, StackedNetwork):
        return f"{_format_table(part, part._programs[True])}{_describe_sequential(part)}"
    return f"One {part} serves all rounds."


def _describe_sequential(network: StackedNetwork) -> str:
    """Return a sentence that tells when rounds run sequentially in float32, or an empty string if they never do."""
    fewest = find_sequential_threshold(network.convolutions, torch.float32.itemsize)
    if fewest is None:
        return ""
    reason = "because one convolution keeps a core busy"
    return f"\nWith {fewest} or more inputs on a CPU, the rounds run sequentially, {reason}."


def _format_table(network: StackedNetwork, program: Graph) -> str:
    """Return a table of a program's calls."""
    rows = []
    for node in program.nodes:
        if node.op not in _HIDDEN_OPERATIONS:
            shape = node.meta.get("shape")
            output = "" if shape is None else f"({', '.join(map(str, shape))})"
            rows.append((_format_call(network, node), node.meta.get("layout", ""), output))
    if not rows:
        return "It returns its inputs unchanged."
    return tabulate(rows, ["call in training", "layout", "output shape per round"])


def _format_call(network: StackedNetwork, node: Node) -> str:
    """Return the text of a call, followed by anything that is fused into it."""
    if node.op == "call_function":
        return str(getattr(node.target, "__name__", node.target)).strip("_").replace("_", " ")
    layer = f"{node.target}: {network.get_submodule(str(node.target))}".replace(": Stacked", ": ").lstrip("_")
    dropout = " dropout," if len(node.args) > 2 else ""
    return f"{layer},{dropout} max-pool 2×2, ReLU" if len(node.args) > 1 else layer
