"""The checkpoint of one variant, out of that of variants side by side."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pairs_lit.checkpoints.files import RECORD, RUN
from pairs_lit.stacking.parameter_slices import View, owner, renamed, rows_of
from pairs_lit.training.code_check import CODE, part_of_record
from pairs_lit.training.module import PairModule
from pairs_lit.training.optimizers import hyperparameters
from pairs_lit.training.round_runner import RoundRunner


@dataclass(frozen=True)
class _Own:
    """A variant's own stack: neighbouring rounds of one stack of the variants.

    Attributes:
        stack: The number of that stack.
        rounds: How many rounds it has.
        chosen: Which of them.
    """

    stack: int
    rounds: int
    chosen: slice

    def has(self, number: int) -> bool:
        """Say whether a round of the stack belongs to the variant."""
        return number in range(self.chosen.start, self.chosen.stop)


class Splitter:
    """Takes the checkpoint of variants apart.

    Args:
        module: The variants' module.
        checkpoint: Its checkpoint.
    """

    def __init__(self, module: PairModule, checkpoint: Mapping[str, Any]) -> None:
        self._module = module
        self._checkpoint = checkpoint
        self._state: list[dict[str, Any]] = [{} for _ in module.stacks]
        for name, value in checkpoint["state_dict"].items():
            _, stack, rest = name.split(".", 2)
            self._state[int(stack)][rest] = value
        self._kept = [dict[str, list[tuple[View, dict[str, Any]]]]() for _ in module.optimization.groups]
        (optimizer,) = checkpoint["optimizer_states"]
        views = ((group, view) for group, each in enumerate(module.optimization.groups) for view in each)
        for place, (group, view) in enumerate(views):
            self._kept[group].setdefault(view.name, []).append((view, optimizer["state"].get(place, {})))

    def checkpoint(self, variant: int, recipe: int, network: Sequence[str], run: str | None) -> dict[str, Any]:
        """Return what a fit of one variant alone would have saved.

        Args:
            variant: Its number.
            recipe: That of its recipe.
            network: The description of its network.
            run: The identity of its run folder.
        """
        whole, every = self._checkpoint, self._module.rounds
        rounds = every.of_variant(variant)
        own = self._own_stacks(rounds)
        groups = self._module.optimization.groups_of(recipe)
        kept = [[state for stack in own for state in self._optimizer_state(stack, group)] for group in groups]
        settings = [hyperparameters(whole["optimizer_states"][0]["param_groups"][group]) for group in groups]
        numbers = itertools.count()
        return {
            **whole,
            **({CODE: part_of_record(whole[CODE], variant, every.variants)} if CODE in whole else {}),
            "state_dict": {
                f"stacks.{number}.{name}": value
                for number, stack in enumerate(own)
                for name, value in self._stack_state(stack).items()
            },
            "optimizer_states": [
                {
                    "state": {place: state for place, state in enumerate(itertools.chain.from_iterable(kept)) if state},
                    "param_groups": [
                        {**setting, "params": list(itertools.islice(numbers, len(states)))}
                        for setting, states in zip(settings, kept, strict=True)
                    ],
                }
            ],
            "callbacks": {**whole["callbacks"], RoundRunner.__qualname__: self._progress(rounds)},
            RECORD: {
                **whole[RECORD],
                "seeds": whole[RECORD]["seeds"][rounds],
                "stack_size": every.of_one_variant.stack_size,
                "network": list(network),
                RUN: run,
            },
        }

    def _own_stacks(self, rounds: slice) -> list[_Own]:
        """Return the stacks that a variant's rounds are, or in which they are."""
        found = []
        for number, stack in enumerate(self._module.rounds.stacks):
            start, stop = max(stack.start, rounds.start), min(stack.stop, rounds.stop)
            if start < stop:
                found.append(_Own(number, stack.stop - stack.start, slice(start - stack.start, stop - stack.start)))
        return found

    def _stack_state(self, own: _Own) -> dict[str, Any]:
        stack, found = self._module.stacks[own.stack], dict[str, Any]()
        for name, value in self._state[own.stack].items():
            whose = owner(stack, name, own.rounds)
            if whose is None:
                found[name] = value[rows_of(value, own.rounds, own.chosen)].clone()
            elif own.has(whose):
                found[renamed(stack, name, own.rounds, whose, whose - own.chosen.start)] = value
        return found

    def _optimizer_state(self, own: _Own, group: int) -> Iterator[dict[str, Any]]:
        """Yield what the optimizer keeps of each parameter of one group in the variant's own stack, in order."""
        stack = self._module.stacks[own.stack]
        for name, _ in stack.named_parameters():
            whose = owner(stack, name, own.rounds)
            for view, state in self._kept[group].get(f"stacks.{own.stack}.{name}", []):
                if whose is None and view.rounds.start <= own.chosen.start < view.rounds.stop:
                    start = view.rounds.start
                    local = slice(own.chosen.start - start, own.chosen.stop - start)
                    rows = rows_of(view.value, view.rounds.stop - start, local)
                    yield {key: _part(part, view.value, rows) for key, part in state.items()}
                elif whose is not None and own.has(whose):
                    yield dict(state)

    def _progress(self, rounds: slice) -> dict[str, Any]:
        progress = self._checkpoint["callbacks"][RoundRunner.__qualname__]
        curves = {name: values[:, rounds].clone() for name, values in progress["curves"].items()}
        return {**progress, "curves": curves, "seconds": progress["seconds"] / self._module.rounds.variants}


def _part(part: Any, value: Tensor, rows: slice) -> Any:  # noqa: ANN401 - whatever an optimizer keeps
    """Return the rows of what is kept of each element; what is kept of a parameter as a whole, as it is."""
    is_like = isinstance(part, Tensor) and part.dim() > 0 and part.shape == value.shape
    return part[rows].clone() if is_like else part
