"""Extraction of the checkpoint of one variant from the checkpoint of variants that trained side by side."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pairs_lit.checkpoints.files import METADATA_KEY, RUN_KEY
from pairs_lit.stacking.parameter_slices import ParameterSlice, find_owner, get_rows, renumber_name
from pairs_lit.training.code_check import CODE_KEY, extract_variant_record
from pairs_lit.training.module import PairModule
from pairs_lit.training.optimizers import get_group_settings
from pairs_lit.training.round_runner import RoundRunner


@dataclass(frozen=True)
class _VariantStack:
    """A stack of one variant: consecutive rounds of a stack that the variants share.

    Attributes:
        stack: The number of the shared stack.
        rounds: The number of rounds in the shared stack.
        variant_rounds: The rounds of the variant among them.
    """

    stack: int
    rounds: int
    variant_rounds: slice

    def has_round(self, number: int) -> bool:
        """Return whether a round of the shared stack belongs to the variant."""
        return number in range(self.variant_rounds.start, self.variant_rounds.stop)


class CheckpointSplitter:
    """Splits the checkpoint of several variants into one checkpoint for each.

    Args:
        module: The module of all variants.
        checkpoint: The checkpoint of the module.
    """

    def __init__(self, module: PairModule, checkpoint: Mapping[str, Any]) -> None:
        self._module = module
        self._checkpoint = checkpoint
        self._stack_states: list[dict[str, Any]] = [{} for _ in module.stacks]
        for name, value in checkpoint["state_dict"].items():
            _, stack, rest = name.split(".", 2)
            self._stack_states[int(stack)][rest] = value
        self._optimizer_states = [
            dict[str, list[tuple[ParameterSlice, dict[str, Any]]]]() for _ in module.optimization.groups
        ]
        (optimizer,) = checkpoint["optimizer_states"]
        views = ((group, view) for group, members in enumerate(module.optimization.groups) for view in members)
        for number, (group, view) in enumerate(views):
            self._optimizer_states[group].setdefault(view.name, []).append((view, optimizer["state"].get(number, {})))

    def build_checkpoint(self, variant: int, recipe: int, network: Sequence[str], run: str | None) -> dict[str, Any]:
        """Return the checkpoint that a fit of one variant alone would have saved.

        Args:
            variant: The number of the variant.
            recipe: The number of the variant's recipe.
            network: The description of the variant's network.
            run: The identity of the variant's run folder.
        """
        checkpoint, all_rounds = self._checkpoint, self._module.rounds
        rounds = all_rounds.get_variant_slice(variant)
        stacks = self._find_stacks(rounds)
        groups = self._module.optimization.get_group_numbers(recipe)
        states = [
            [state for stack in stacks for state in self._iterate_optimizer_state(stack, group)] for group in groups
        ]
        settings = [get_group_settings(checkpoint["optimizer_states"][0]["param_groups"][group]) for group in groups]
        numbers = itertools.count()
        return {
            **checkpoint,
            **(
                {CODE_KEY: extract_variant_record(checkpoint[CODE_KEY], variant, all_rounds.variants)}
                if CODE_KEY in checkpoint
                else {}
            ),
            "state_dict": {
                f"stacks.{number}.{name}": value
                for number, stack in enumerate(stacks)
                for name, value in self._build_stack_state(stack).items()
            },
            "optimizer_states": [
                {
                    "state": {
                        number: state for number, state in enumerate(itertools.chain.from_iterable(states)) if state
                    },
                    "param_groups": [
                        {**group_settings, "params": list(itertools.islice(numbers, len(group_states)))}
                        for group_settings, group_states in zip(settings, states, strict=True)
                    ],
                }
            ],
            "callbacks": {**checkpoint["callbacks"], RoundRunner.__qualname__: self._build_progress(rounds)},
            METADATA_KEY: {
                **checkpoint[METADATA_KEY],
                "seeds": checkpoint[METADATA_KEY]["seeds"][rounds],
                "stack_size": all_rounds.single_variant.stack_size,
                "network": list(network),
                RUN_KEY: run,
            },
        }

    def _find_stacks(self, rounds: slice) -> list[_VariantStack]:
        """Return the stacks of a variant, one for each shared stack that contains some of its rounds."""
        stacks = []
        for number, stack in enumerate(self._module.rounds.stacks):
            start, stop = max(stack.start, rounds.start), min(stack.stop, rounds.stop)
            if start < stop:
                stacks.append(
                    _VariantStack(number, stack.stop - stack.start, slice(start - stack.start, stop - stack.start))
                )
        return stacks

    def _build_stack_state(self, part: _VariantStack) -> dict[str, Any]:
        """Return the state of a variant's stack."""
        stack, stack_state = self._module.stacks[part.stack], dict[str, Any]()
        for name, value in self._stack_states[part.stack].items():
            round_index = find_owner(stack, name, part.rounds)  # None for tensors of all rounds
            if round_index is None:
                stack_state[name] = value[get_rows(value, part.rounds, part.variant_rounds)].clone()
            elif part.has_round(round_index):
                new_name = renumber_name(stack, name, part.rounds, round_index, round_index - part.variant_rounds.start)
                stack_state[new_name] = value
        return stack_state

    def _iterate_optimizer_state(self, part: _VariantStack, group: int) -> Iterator[dict[str, Any]]:
        """Yield the optimizer's state of each parameter of one group in a variant's stack, in order."""
        stack = self._module.stacks[part.stack]
        for name, _ in stack.named_parameters():
            round_index = find_owner(stack, name, part.rounds)  # None for parameters of all rounds
            for view, state in self._optimizer_states[group].get(f"stacks.{part.stack}.{name}", []):
                if round_index is None and view.rounds.start <= part.variant_rounds.start < view.rounds.stop:
                    start = view.rounds.start
                    rounds_in_view = slice(part.variant_rounds.start - start, part.variant_rounds.stop - start)
                    rows = get_rows(view.value, view.rounds.stop - start, rounds_in_view)
                    yield {key: _select_rows(value, view.value, rows) for key, value in state.items()}
                elif round_index is not None and part.has_round(round_index):
                    yield dict(state)

    def _build_progress(self, rounds: slice) -> dict[str, Any]:
        progress = self._checkpoint["callbacks"][RoundRunner.__qualname__]
        curves = {name: values[:, rounds].clone() for name, values in progress["curves"].items()}
        return {**progress, "curves": curves, "seconds": progress["seconds"] / self._module.rounds.variants}


def _select_rows(value: Any, parameter: Tensor, rows: slice) -> Any:  # noqa: ANN401 - any value of an optimizer's state
    """Return some rows of a value that an optimizer holds for each element; return other values unchanged."""
    is_per_element = isinstance(value, Tensor) and value.dim() > 0 and value.shape == parameter.shape
    return value[rows].clone() if is_per_element else value
