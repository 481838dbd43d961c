"""A stack in words: what it computes, call by call, and in which layout."""

import torch
from tabulate import tabulate
from torch import nn
from torch.fx import Graph, Node

from pairs_lit.stacking.composite import Composite
from pairs_lit.stacking.looped import Apart, Loop
from pairs_lit.stacking.program.sequential import fewest_in_turn
from pairs_lit.stacking.stacked_network import MappedNetwork, StackedNetwork

_HIDDEN = ("placeholder", "output", "get_attr")


def describe_parts(stack: Composite) -> str:
    """Return how each part of a stack works, in words."""
    return "\n\n".join(f"{name}\n{described(stack.get_submodule(name))}" for name in stack.parts(()))


def describe_slow_parts(stack: nn.Module) -> list[str]:
    """Return a sentence for each part that does not train as one stack, with the reason."""
    found = [
        f"{type(part.copies[0]).__name__} trains as copies in a loop, which is slower: it {part.reason}"
        for part in stack.modules()
        if isinstance(part, Loop)
    ]
    mapped = [part for part in stack.modules() if isinstance(part, MappedNetwork)]
    return found + [f"a part is computed by torch.vmap, which is slower: it {part.reason}" for part in mapped]


def described(part: nn.Module) -> str:
    """Return how a stacked part works: a table of its calls, or why it is a loop."""
    if isinstance(part, Loop):
        return f"{len(part.copies)} copies in a loop: {type(part.copies[0]).__name__} {part.reason}."
    if isinstance(part, MappedNetwork):
        return f"One call by torch.vmap: the network {part.reason}."
    if isinstance(part, Apart):
        return f"The rounds' networks differ, so each is a stack of its own. The first:\n{described(part.rounds[0])}"
    if isinstance(part, StackedNetwork):
        return f"{_table(part, part._programs[True])}{_turns(part)}"
    return f"One {part} serves all rounds."


def _turns(network: StackedNetwork) -> str:
    """Say when rounds run in turn; in float32, which networks are trained in but where a trainer says otherwise."""
    fewest = fewest_in_turn(network.convolutions, torch.float32.itemsize)
    said = f"\nWith {fewest} inputs or more, the rounds run in turn: the convolutions fill a core by themselves."
    return "" if fewest is None else said


def _table(network: StackedNetwork, program: Graph) -> str:
    rows = []
    for node in program.nodes:
        if node.op not in _HIDDEN:
            shape = node.meta.get("shape")
            output = "" if shape is None else f"({', '.join(map(str, shape))})"
            rows.append((_call(network, node), node.meta.get("layout", ""), output))
    return tabulate(rows, ["call in training", "layout", "output of a round"]) if rows else "It gives what it gets."


def _call(network: StackedNetwork, node: Node) -> str:
    """Name a call; what a layer does besides stands behind it."""
    if node.op == "call_function":
        return str(getattr(node.target, "__name__", node.target)).strip("_").replace("_", " ")
    layer = f"{node.target}: {network.get_submodule(str(node.target))}".replace(": Stacked", ": ").lstrip("_")
    dropped = " dropout," if len(node.args) > 2 else ""
    return f"{layer},{dropped} max-pool 2×2, ReLU" if len(node.args) > 1 else layer
