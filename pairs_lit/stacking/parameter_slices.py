"""Slices: which part of a stack's tensors belongs to which of its rounds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor, nn

from pairs_lit.stacking.looped import Apart, Loop
from pairs_lit.stacking.stacked_network import Held


def owner(stack: nn.Module, name: str, rounds: int) -> int | None:
    """Return the round to which a tensor of a stack belongs; None: to all of them, along its leading dimension.

    Args:
        stack: A stack of networks.
        name: That of a parameter or buffer.
        rounds: How many rounds the stack has.
    """
    part, places = stack, name.split(".")
    for place, each in enumerate(places[:-1]):
        if isinstance(part, Loop | Apart):
            copies = part.copies if isinstance(part, Loop) else part.rounds
            return int(places[place + 1]) * rounds // len(copies)
        part = part.get_submodule(each)
    return None


def renamed(stack: nn.Module, name: str, rounds: int, before: int, now: int) -> str:
    """Return the name that a tensor of one round alone has where that round has another number."""
    part, places = stack, name.split(".")
    for place, each in enumerate(places[:-1]):
        if isinstance(part, Loop | Apart):
            each_round = len(part.copies if isinstance(part, Loop) else part.rounds) // rounds
            places[place + 1] = str(int(places[place + 1]) + (now - before) * each_round)
            break
        part = part.get_submodule(each)
    return ".".join(places)


def rows_of(value: Tensor, rounds: int, chosen: slice) -> slice:
    """Return the rows of a tensor of so many rounds that belong to the chosen ones."""
    each = len(value) // rounds
    return slice(chosen.start * each, chosen.stop * each)


def plain_parameter(stack: nn.Module, name: str) -> tuple[int, type[nn.Module]]:
    """Return how many dimensions a parameter of a stack has in the plain network, and the class of its plain layer."""
    *places, last = name.split(".")
    parts = [stack]
    for place in places:
        parts.append(parts[-1].get_submodule(place))
    leading = 0 if any(isinstance(part, Loop) for part in parts) else 1
    layer = parts[-1]
    return layer.get_parameter(last).dim() - leading, layer.plain if isinstance(layer, Held) else type(layer)


def plain_state(stack: nn.Module, plain: nn.Module, copy: int) -> dict[str, Tensor]:
    """Return the state of one copy of a stack, under the names that its plain module has.

    Args:
        stack: What the copies were stacked into.
        plain: Such a plain module.
        copy: The copy's number.
    """
    if isinstance(stack, Loop):
        return dict(stack.copies[copy].state_dict())
    if isinstance(stack, Apart):
        return plain_state(stack.rounds[copy], plain, 0)
    state = {name: value[copy].clone() for name, value in stack.state_dict().items()}
    if state.keys() == plain.state_dict().keys():
        return state
    return {name.removeprefix("0."): value for name, value in state.items()}  # a layer alone was stacked as a sequence


@dataclass(frozen=True)
class View:
    """A parameter of a stack, or the rows of some of its rounds as a parameter that shares its memory.

    Attributes:
        name: The parameter's.
        whole: The parameter.
        value: The parameter, or what shares its memory.
        rounds: Whose rows these are, of the stack's rounds.
        rows: Which rows.
    """

    name: str
    whole: nn.Parameter
    value: nn.Parameter
    rounds: slice
    rows: slice

    def take_gradient(self) -> None:
        """Let the gradient of the rows be the view's."""
        self.value.grad = None if self.whole.grad is None else self.whole.grad[self.rows]


def views_of(stack: nn.Module, name: str, value: nn.Parameter, groups: Sequence[int]) -> list[tuple[int, View]]:
    """Return the views of a parameter for neighbouring rounds of the same group, with the group.

    Args:
        stack: The stack.
        name: The parameter's name.
        value: The parameter.
        groups: The group of each of the stack's rounds.
    """
    rounds, alone = len(groups), owner(stack, name, len(groups))
    if alone is not None:
        return [(groups[alone], View(name, value, value, slice(alone, alone + 1), slice(None)))]
    found = []
    for group, chosen in runs(groups):
        rows = rows_of(value, rounds, chosen)
        is_whole = chosen == slice(0, rounds)
        part = value if is_whole else nn.Parameter(value.detach()[rows], requires_grad=value.requires_grad)
        found.append((group, View(name, value, part, chosen, rows)))
    return found


def runs(values: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Yield each value with the slice of the neighbours that have it: 3, 3, 5 → (3, 0:2), (5, 2:3)."""
    start = 0
    for value, each in groupby(values):
        stop = start + len(list(each))
        yield value, slice(start, stop)
        start = stop
