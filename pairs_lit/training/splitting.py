"""The checkpoint of one variant, out of that of variants side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pairs_lit.stacking.slices import View, owner, renamed, rows_of
from pairs_lit.training.checkpoints import RECORD, RUN
from pairs_lit.training.module import PairModule
from pairs_lit.training.optimizers import hyperparameters
from pairs_lit.training.rounds import RoundRunner


@dataclass(frozen=True)
class _Piece:
    """Neighbouring rounds of one stack that belong to one stack of a variant's own.

    Attributes:
        stack: The number of the stack.
        rounds: How many rounds it has.
        chosen: Which of them.
        start: The first one's number in the variant's own stack.
    """

    stack: int
    rounds: int
    chosen: slice
    start: int


class Splitter:
    """Takes the checkpoint of V variants apart.

    Args:
        module: The variants' module.
        checkpoint: Its checkpoint.
        count: The rounds of each variant.
    """

    def __init__(self, module: PairModule, checkpoint: Mapping[str, Any], count: int) -> None:
        self._module = module
        self._checkpoint = checkpoint
        self._count = count
        self.stack_size = min(module.stack_size, count)
        self._state: list[dict[str, Any]] = [{} for _ in module.stacks]
        for name, value in checkpoint["state_dict"].items():
            _, stack, rest = name.split(".", 2)
            self._state[int(stack)][rest] = value
        self._kept = dict[str, list[tuple[View, dict[str, Any]]]]()
        (optimizer,) = checkpoint["optimizer_states"]
        for place, view in enumerate(view for group in module.optimized for view in group):
            self._kept.setdefault(view.name, []).append((view, optimizer["state"].get(place, {})))

    def checkpoint(self, variant: int, network: Sequence[str], run: str | None) -> dict[str, Any]:
        """Return what a fit of one variant alone would have saved.

        Args:
            variant: Its number.
            network: The description of its network.
            run: The identity of its run folder.
        """
        whole, rounds = self._checkpoint, slice(variant * self._count, (variant + 1) * self._count)
        own_stacks = [self._pieces(start, rounds) for start in range(rounds.start, rounds.stop, self.stack_size)]
        states = [self._stack_state(pieces) for pieces in own_stacks]
        kept = [state for pieces in own_stacks for state in self._optimizer_state(pieces)]
        return {
            **whole,
            "state_dict": {
                f"stacks.{number}.{name}": value for number, state in enumerate(states) for name, value in state.items()
            },
            "optimizer_states": [self._optimizer(variant, kept)],
            "callbacks": {**whole["callbacks"], RoundRunner.__qualname__: self._progress(rounds)},
            RECORD: {
                **whole[RECORD],
                "seeds": whole[RECORD]["seeds"][rounds],
                "stack_size": self.stack_size,
                "network": list(network),
                RUN: run,
            },
        }

    def _pieces(self, start: int, rounds: slice) -> list[_Piece]:
        """Return where the rounds of the variant's own stack that starts here are."""
        stop, size, found = min(start + self.stack_size, rounds.stop), self._module.stack_size, []
        for stack in range(start // size, (stop - 1) // size + 1):
            first = stack * size
            count = min(size, len(self._module.seeds) - first)
            chosen = slice(max(start, first) - first, min(stop, first + count) - first)
            found.append(_Piece(stack, count, chosen, first + chosen.start - start))
        return found

    def _stack_state(self, pieces: Sequence[_Piece]) -> dict[str, Any]:
        rows, alone = dict[str, list[Tensor]](), dict[str, Any]()
        for piece in pieces:
            stack = self._module.stacks[piece.stack]
            for name, value in self._state[piece.stack].items():
                found = owner(stack, name, piece.rounds)
                if found is None:
                    rows.setdefault(name, []).append(value[rows_of(value, piece.rounds, piece.chosen)])
                elif piece.chosen.start <= found < piece.chosen.stop:
                    alone[_own_name(stack, name, piece, found)] = value
        return {name: torch.cat(parts) for name, parts in rows.items()} | alone

    def _optimizer_state(self, pieces: Sequence[_Piece]) -> list[dict[str, Any]]:
        """Return what the optimizer keeps of each parameter of the variant's own stack, in order."""
        found = dict[str, list[dict[str, Any]]]()
        for piece in pieces:
            stack = self._module.stacks[piece.stack]
            for name, _ in stack.named_parameters():
                whose = owner(stack, name, piece.rounds)
                if whose is not None and not piece.chosen.start <= whose < piece.chosen.stop:
                    continue
                own = name if whose is None else _own_name(stack, name, piece, whose)
                found.setdefault(own, []).extend(
                    self._kept_of(f"stacks.{piece.stack}.{name}", piece, whose is not None)
                )
        return [_joined(found[name]) for name in _in_order(self._module.stacks[pieces[0].stack], found)]

    def _kept_of(self, name: str, piece: _Piece, alone: bool) -> Iterator[dict[str, Any]]:
        for view, state in self._kept[name]:
            if alone:
                yield state
                continue
            common = slice(max(view.rounds.start, piece.chosen.start), min(view.rounds.stop, piece.chosen.stop))
            if common.start < common.stop:
                local = slice(common.start - view.rounds.start, common.stop - view.rounds.start)
                rows = rows_of(view.value, view.rounds.stop - view.rounds.start, local)
                yield {key: part[rows] if _is_like(part, view.value) else part for key, part in state.items()}

    def _optimizer(self, variant: int, kept: Sequence[dict[str, Any]]) -> dict[str, Any]:
        recipe = self._module.recipes.index(self._module.variants[variant * self._count].recipe)
        settings = hyperparameters(self._checkpoint["optimizer_states"][0]["param_groups"][recipe])
        state = {place: each for place, each in enumerate(kept) if each}
        return {"state": state, "param_groups": [{**settings, "params": list(range(len(kept)))}]}

    def _progress(self, rounds: slice) -> dict[str, Any]:
        progress = self._checkpoint["callbacks"][RoundRunner.__qualname__]
        share = self._count / len(self._module.seeds)
        curves = {name: values[:, rounds].clone() for name, values in progress["curves"].items()}
        return {**progress, "curves": curves, "seconds": progress["seconds"] * share}


def _own_name(stack: nn.Module, name: str, piece: _Piece, round_: int) -> str:
    return renamed(stack, name, piece.rounds, round_, piece.start + round_ - piece.chosen.start)


def _is_like(part: object, value: Tensor) -> bool:
    return isinstance(part, Tensor) and part.dim() > 0 and part.shape == value.shape


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join what an optimizer keeps of the rows of one parameter."""
    if len(parts) == 1:
        return {key: part.clone() if isinstance(part, Tensor) else part for key, part in parts[0].items()}
    first = parts[0]
    return {
        key: torch.cat([part[key] for part in parts]) if isinstance(value, Tensor) and value.dim() > 0 else value
        for key, value in first.items()
    }


def _in_order(stack: nn.Module, names: Mapping[str, object]) -> list[str]:
    """Sort parameters as a stack has them: part after part, within a loop copy after copy."""
    parts = [name for name, _ in stack.named_children()]

    def place(name: str) -> tuple[int, int]:
        part, *rest = name.split(".")
        number = int(rest[1]) if owner(stack, name, 1) is not None and rest[1].isdigit() else 0
        return parts.index(part), number

    return sorted(names, key=place)
