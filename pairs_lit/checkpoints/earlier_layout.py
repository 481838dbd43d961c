"""Conversion of checkpoints of earlier releases, which stored two separate backbones as one stack of 2·R networks."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_SECOND_BRANCH = ".second_branch."
_COPY_PATTERN = r"stacks\.\d+\.branch\.(?:copies|rounds)\.(\d+)\."
_BRANCH_PATTERN = re.compile(r"(stacks\.(\d+)\.)(second_)?branch\.(.+)")


@dataclass(frozen=True)
class _Source:
    """The place of a tensor in an earlier checkpoint: its name there, and its rows, or None for all rows."""

    name: str
    rows: slice | None = None

    def extract(self, value: object) -> object:
        """Return the rows of a tensor; values without dimensions, such as counters, are returned whole."""
        if not isinstance(value, Tensor):
            return value
        return value[self.rows].clone() if self.rows is not None and value.dim() else value.clone()


def convert_separate_backbones(
    checkpoint: dict[str, Any], names: Collection[str], groups: Sequence[Sequence[str]], looped: Collection[int]
) -> bool:
    """Convert an earlier checkpoint of separate backbones to the present layout, in place; leave others unchanged.

    Args:
        checkpoint: The checkpoint.
        names: The names in the state of the module that will load it.
        groups: The names of the parameters in each group of the module's optimizer.
        looped: The numbers of the stacks that run their backbones in a loop.

    Returns:
        Whether the checkpoint had the earlier layout.
    """
    state = checkpoint["state_dict"]
    if not any(_SECOND_BRANCH in name for name in names) or any(_SECOND_BRANCH in name for name in state):
        return False
    sources = {name: _find_source(name, looped) for name in names}
    checkpoint["state_dict"] = {
        name: source.extract(state[source.name]) for name, source in sources.items() if source.name in state
    }
    match checkpoint.get("optimizer_states"):
        case [{"state": dict(state_by_number)} as optimizer]:
            state_by_number = dict(_convert_optimizer_state(state_by_number, groups, looped))
            checkpoint["optimizer_states"] = [{**optimizer, "state": state_by_number}]
    return True


def _find_source(name: str, looped: Collection[int]) -> _Source:
    """Return the place that an entry of the present state had in the earlier layout."""
    match = _BRANCH_PATTERN.fullmatch(name)
    if match is None:
        return _Source(name)
    stack, number, second, rest = match.groups()
    position = 0 if second is None else 1
    if int(number) not in looped:
        return _Source(f"{stack}branch.{rest}", slice(position, None, 2))
    kind, copy, rest = rest.split(".", 2)
    return _Source(f"{stack}branch.{kind}.{2 * int(copy) + position}.{rest}")


def _convert_optimizer_state(
    earlier_state: Mapping[int, Mapping[str, object]], groups: Sequence[Sequence[str]], looped: Collection[int]
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number of each parameter in the present layout with its optimizer state, if it has any."""
    first = number = 0  # the first number of a group in the earlier layout, the number in the present layout
    for names in groups:
        keys = [(_find_source(name, looped).name, occurrence) for name, occurrence in _number_names(names)]
        numbers = {key: first + index for index, key in enumerate(sorted(dict.fromkeys(keys), key=_get_rank))}
        for name, key in zip(names, keys, strict=True):
            if numbers[key] in earlier_state:
                source = _find_source(name, looped)
                yield number, {entry: source.extract(value) for entry, value in earlier_state[numbers[key]].items()}
            number += 1
        first += len(numbers)


def _number_names(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield each name with the number of times that it occurred before; slices of variants share a name."""
    occurrences = Counter[str]()
    for name in names:
        yield name, occurrences[name]
        occurrences[name] += 1


def _get_rank(key: tuple[str, int]) -> tuple[int, int, int]:
    """Return the sort key of a parameter in the earlier order: by stack, then copies in a loop, then other parts."""
    stack, copy = (re.match(pattern, key[0]) for pattern in (r"stacks\.(\d+)\.", _COPY_PATTERN))
    return int(stack[1]) if stack else 0, 0 if copy else 1, int(copy[1]) if copy else 0
