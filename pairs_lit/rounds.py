"""The rounds of a fit: their seeds, the stacks that they form, and the worker that trains each stack."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Rounds:
    """The rounds of a fit, numbered from 0, variant after variant.

    Everything that must know which rounds there are, which of them form a stack, and which worker trains it, asks here.

    Attributes:
        seeds: The seed of each round. Each variant has the same seeds.
        stack_size: The largest number of rounds in a stack.
        variants: How many variants train side by side; an ordinary fit has one.
    """

    seeds: list[int]
    stack_size: int
    variants: int = 1

    @property
    def of_one_variant(self) -> "Rounds":
        """The rounds of a fit that trains one of the variants alone."""
        count = len(self.seeds) // self.variants
        return Rounds(self.seeds[:count], min(self.stack_size, count))

    @cached_property
    def stacks(self) -> list[slice]:
        """The rounds of each stack: a stack holds whole variants, or rounds of one variant only."""
        rounds, size = len(self.seeds), self.stack_size
        each = rounds // self.variants
        if size >= each:
            step = size // each * each
            return [slice(start, min(start + step, rounds)) for start in range(0, rounds, step)]
        return [
            slice(start, min(start + size, own + each))
            for own in range(0, rounds, each)
            for start in range(own, own + each, size)
        ]

    def of_variant(self, variant: int) -> slice:
        """Return the rounds of a variant."""
        count = len(self.seeds) // self.variants
        return slice(variant * count, (variant + 1) * count)

    def of_worker(self, rank: int, world_size: int) -> Mapping[int, slice]:
        """Return the stacks that a worker trains, by their numbers: rank, rank + world_size, and so on."""
        return dict(list(enumerate(self.stacks))[rank::world_size])

    def find(self, number: int) -> tuple[int, int]:
        """Return the number of the stack that holds a round, and the round's place in it."""
        stack = next(stack for stack, rounds in enumerate(self.stacks) if number < rounds.stop)
        return stack, number - self.stacks[stack].start
