"""Parameter slices: which rows of a stack's tensors belong to which of its rounds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor, nn

from pairs_lit.stacking.looped import LoopedCopies, LoopedRounds
from pairs_lit.stacking.stacked_network import StackedState


def find_owner(stack: nn.Module, name: str, rounds: int) -> int | None:
    """Return the round that owns a tensor of a stack, or None if its leading dimension covers all rounds.

    Args:
        stack: A stack of networks.
        name: Name of a parameter or buffer.
        rounds: Number of rounds of the stack.
    """
    part, path = stack, name.split(".")
    for depth, child in enumerate(path[:-1]):
        if isinstance(part, LoopedCopies | LoopedRounds):
            copies = part.copies if isinstance(part, LoopedCopies) else part.rounds
            return int(path[depth + 1]) * rounds // len(copies)
        part = part.get_submodule(child)
    return None


def renumber_name(stack: nn.Module, name: str, rounds: int, before: int, now: int) -> str:
    """Return the name of a round's tensor after the index of the round in its stack changes.

    Only tensors in loops have the round in their names; all other names stay the same.

    Args:
        stack: A stack of networks.
        name: Current name of the tensor.
        rounds: Number of rounds of the stack.
        before: Current index of the round.
        now: New index of the round.
    """
    part, path = stack, name.split(".")
    for depth, child in enumerate(path[:-1]):
        if isinstance(part, LoopedCopies | LoopedRounds):
            copies_per_round = len(part.copies if isinstance(part, LoopedCopies) else part.rounds) // rounds
            path[depth + 1] = str(int(path[depth + 1]) + (now - before) * copies_per_round)
            break
        part = part.get_submodule(child)
    return ".".join(path)


def get_rows(value: Tensor, rounds: int, chosen: slice) -> slice:
    """Return the rows of a tensor of ``rounds`` rounds that belong to the chosen rounds."""
    rows_per_round = len(value) // rounds
    return slice(chosen.start * rows_per_round, chosen.stop * rows_per_round)


def get_plain_parameter(stack: nn.Module, name: str) -> tuple[int, type[nn.Module]]:
    """Return a parameter's number of dimensions in the plain network, and the class of the layer that has it."""
    *path, parameter_name = name.split(".")
    parts = [stack]
    for child in path:
        parts.append(parts[-1].get_submodule(child))
    stack_dimensions = 0 if any(isinstance(part, LoopedCopies) for part in parts) else 1
    layer = parts[-1]
    dimensions = layer.get_parameter(parameter_name).dim() - stack_dimensions
    return dimensions, layer.plain if isinstance(layer, StackedState) else type(layer)


def get_plain_state(stack: nn.Module, plain: nn.Module, copy: int) -> dict[str, Tensor]:
    """Return the state of one copy in a stack, with the names of the plain module.

    Args:
        stack: Stack of the copies.
        plain: A plain module of the same structure.
        copy: Index of the copy.
    """
    if isinstance(stack, LoopedCopies):
        return dict(stack.copies[copy].state_dict())
    if isinstance(stack, LoopedRounds):
        return get_plain_state(stack.rounds[copy], plain, 0)
    state = {name: value[copy].clone() for name, value in stack.state_dict().items()}
    if state.keys() == plain.state_dict().keys():
        return state
    return {name.removeprefix("0."): value for name, value in state.items()}  # single layers are stacked as Sequential


@dataclass(frozen=True)
class ParameterSlice:
    """The rows of some rounds of a stack's parameter, as a parameter that shares its memory.

    Attributes:
        name: Name of the parameter.
        whole: The whole parameter.
        value: The rows as a parameter, or the whole parameter if they are all its rows.
        rounds: The rounds that own the rows, as a slice of the stack's rounds.
        rows: The rows, as a slice of the whole parameter.
    """

    name: str
    whole: nn.Parameter
    value: nn.Parameter
    rounds: slice
    rows: slice

    def copy_gradient(self) -> None:
        """Set the gradient of ``value`` to the rows of the whole parameter's gradient."""
        self.value.grad = None if self.whole.grad is None else self.whole.grad[self.rows]


def build_slices(
    stack: nn.Module, name: str, value: nn.Parameter, groups: Sequence[int]
) -> list[tuple[int, ParameterSlice]]:
    """Return a parameter's slices, one for each run of neighbouring rounds of the same group, with the group.

    Args:
        stack: The stack.
        name: Name of the parameter.
        value: The parameter.
        groups: Group of each round of the stack.
    """
    rounds, owning_round = len(groups), find_owner(stack, name, len(groups))
    if owning_round is not None:
        only_round = slice(owning_round, owning_round + 1)
        return [(groups[owning_round], ParameterSlice(name, value, value, only_round, slice(None)))]
    slices = []
    for group, chosen in iterate_runs(groups):
        rows = get_rows(value, rounds, chosen)
        is_whole = chosen == slice(0, rounds)
        part = value if is_whole else nn.Parameter(value.detach()[rows], requires_grad=value.requires_grad)
        slices.append((group, ParameterSlice(name, value, part, chosen, rows)))
    return slices


def iterate_runs(values: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Yield each run of equal neighbours as its value and slice: 3, 3, 5 → (3, 0:2), (5, 2:3)."""
    start = 0
    for value, run in groupby(values):
        stop = start + len(list(run))
        yield value, slice(start, stop)
        start = stop
