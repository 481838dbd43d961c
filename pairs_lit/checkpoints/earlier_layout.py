"""Checkpoints of earlier releases: two separate backbones were one stack of 2·R networks, round after round."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_SECOND = ".second_branch."
_COPY = r"stacks\.\d+\.branch\.(?:copies|rounds)\.(\d+)\."
_NAME = re.compile(r"(stacks\.(\d+)\.)(second_)?branch\.(.+)")


@dataclass(frozen=True)
class _Source:
    """Where an earlier checkpoint holds a tensor: its name, and which rows are ours (None: all)."""

    name: str
    rows: slice | None = None

    def of(self, value: object) -> object:
        """Return our part of a value; counters have no rows."""
        if not isinstance(value, Tensor):
            return value
        return value[self.rows].clone() if self.rows is not None and value.dim() else value.clone()


def separate_backbones(
    checkpoint: dict[str, Any], names: Collection[str], groups: Sequence[Sequence[str]], looped: Collection[int]
) -> bool:
    """Give an earlier checkpoint of separate backbones today's layout, in place; leave all others as they are.

    Args:
        checkpoint: The checkpoint.
        names: The names in the state of the module that will load it.
        groups: The names of the parameters in each group of its optimizer.
        looped: The numbers of the stacks whose backbones are modules in a loop.

    Returns:
        Whether it was an earlier one.
    """
    state = checkpoint["state_dict"]
    if not any(_SECOND in name for name in names) or any(_SECOND in name for name in state):
        return False
    sources = {name: _source(name, looped) for name in names}
    checkpoint["state_dict"] = {
        name: source.of(state[source.name]) for name, source in sources.items() if source.name in state
    }
    match checkpoint.get("optimizer_states"):
        case [{"state": dict(kept)} as whole]:
            checkpoint["optimizer_states"] = [{**whole, "state": dict(_optimizer_state(kept, groups, looped))}]
    return True


def _source(name: str, looped: Collection[int]) -> _Source:
    match = _NAME.fullmatch(name)
    if match is None:
        return _Source(name)
    stack, number, second, rest = match.groups()
    place = 0 if second is None else 1
    if int(number) not in looped:
        return _Source(f"{stack}branch.{rest}", slice(place, None, 2))
    kind, copy, rest = rest.split(".", 2)
    return _Source(f"{stack}branch.{kind}.{2 * int(copy) + place}.{rest}")


def _optimizer_state(
    kept: Mapping[int, Mapping[str, object]], groups: Sequence[Sequence[str]], looped: Collection[int]
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the state of each parameter that has any, by its number today."""
    before = now = 0
    for names in groups:
        keys = [(_source(name, looped).name, place) for name, place in _numbered(names)]
        order = {key: before + place for place, key in enumerate(sorted(dict.fromkeys(keys), key=_rank))}
        for name, key in zip(names, keys, strict=True):
            if order[key] in kept:
                source = _source(name, looped)
                yield now, {kind: source.of(value) for kind, value in kept[order[key]].items()}
            now += 1
        before += len(order)


def _numbered(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield names with how often each stood before, as those of the slices of variants do."""
    seen = Counter[str]()
    for name in names:
        yield name, seen[name]
        seen[name] += 1


def _rank(key: tuple[str, int]) -> tuple[int, int, int]:
    """Return where a parameter stood: stack after stack, in a loop copy after copy, then what is no backbone's."""
    stack, copy = (re.match(pattern, key[0]) for pattern in (r"stacks\.(\d+)\.", _COPY))
    return int(stack[1]) if stack else 0, 0 if copy else 1, int(copy[1]) if copy else 0
