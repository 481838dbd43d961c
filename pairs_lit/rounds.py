"""Assignment of the rounds of a fit to variants, stacks and workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Rounds:
    """The rounds of a fit and how they are grouped.

    Rounds are numbered from 0: first all rounds of variant 0, then all rounds of variant 1, and so on. This class is
    the only place that decides which rounds form a stack and which worker trains it.

    Attributes:
        seeds: The seed of each round; every variant has the same seeds.
        stack_size: The largest number of rounds in a stack.
        variants: The number of variants that train side by side; an ordinary fit has one.
    """

    seeds: list[int]
    stack_size: int
    variants: int = 1

    @property
    def single_variant(self) -> "Rounds":
        """The rounds of a fit that trains a single one of the variants."""
        count = len(self.seeds) // self.variants
        return Rounds(self.seeds[:count], min(self.stack_size, count))

    @cached_property
    def stacks(self) -> list[slice]:
        """The rounds of each stack. A stack holds either whole variants or some rounds of a single variant."""
        rounds, size = len(self.seeds), self.stack_size
        per_variant = rounds // self.variants
        if size >= per_variant:
            step = size // per_variant * per_variant
            return [slice(start, min(start + step, rounds)) for start in range(0, rounds, step)]
        return [
            slice(start, min(start + size, first + per_variant))
            for first in range(0, rounds, per_variant)
            for start in range(first, first + per_variant, size)
        ]

    def get_variant_slice(self, variant: int) -> slice:
        """Return the numbers of a variant's rounds as a slice."""
        count = len(self.seeds) // self.variants
        return slice(variant * count, (variant + 1) * count)

    def get_worker_stacks(self, rank: int, world_size: int) -> Mapping[int, slice]:
        """Return the stacks that a worker trains, by stack number.

        The worker trains the stacks rank, rank + world_size, rank + 2·world_size and so on.
        """
        return dict(list(enumerate(self.stacks))[rank::world_size])

    def find_stack(self, number: int) -> tuple[int, int]:
        """Return the number of the stack that contains a round, and the index of the round in this stack."""
        stack = next(stack for stack, rounds in enumerate(self.stacks) if number < rounds.stop)
        return stack, number - self.stacks[stack].start
