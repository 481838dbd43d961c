"""Pure functions on pairs of images: sampling, targets, swapping, stacking of rounds."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.relation import Relation, compute_target
from pairs_lit.seeds import build_generator

Swap = Literal["none", "relabel", "flip"]
"""Whether swapped pairs are added to the training pairs, and how their targets are computed."""


@dataclass(frozen=True)
class Pairs:
    """P pairs of images; a leading dimension R holds those of R rounds.

    Attributes:
        index: (..., P, 2) int64, the positions of the two images among all images of the source.
        digits: (..., P, 2) int64, the classes of the two images.
        target: (..., P) int64, 1 where the relation holds.
    """

    index: Tensor
    digits: Tensor
    target: Tensor

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> "Pairs":
        """Return pairs in which a function was applied to each tensor."""
        return Pairs(change(self.index), change(self.digits), change(self.target))


def sample_pairs(pool: Tensor, count: int, generator: torch.Generator, *, reuse: bool) -> Tensor:
    """Draw pairs (count, 2) int64 from a pool of images (n,) int64.

    As in the course's own code, the images are permuted and the first 2·count of them are paired in order, so no image
    is drawn twice. If the pool is too small and ``reuse`` is true, further permutations follow. Within a permutation no
    image is drawn twice, so the two images of a pair always differ.

    Raises:
        PairsLitError: If the pool holds fewer than two images, or is too small and ``reuse`` is false.
    """
    per_permutation = len(pool) // 2
    if per_permutation < 1 or (count > per_permutation and not reuse):
        raise PairsLitError(
            f"{count} pairs were requested, but {len(pool)} images make only {per_permutation} pairs if none is drawn "
            "twice. Choose fewer pairs, or set data.reuse to true."
        )
    repeats = -(-count // per_permutation)
    permutations = [torch.randperm(len(pool), generator=generator)[: 2 * per_permutation] for _ in range(repeats)]
    return pool[torch.cat(permutations)[: 2 * count]].view(count, 2)


def compute_targets(index: Tensor, labels: Tensor, relation: Relation) -> Pairs:
    """Return pairs with their classes and targets, from positions of images (..., P, 2) and all ``labels`` (n,)."""
    digits = labels[index]
    return Pairs(index, digits, compute_target(relation, digits))


def add_swapped_pairs(pairs: Pairs, swap: Swap, relation: Relation) -> Pairs:
    """Return P pairs followed by the same P pairs with their images swapped; ``none`` adds nothing.

    ``relabel`` computes the target of a swapped pair from its classes. ``flip`` uses 1 - target, the literal rule of
    gardoni's report, **which is wrong for pairs of equal digits** (10 % of all); it exists only to reproduce that
    report.
    """
    if swap == "none":
        return pairs
    digits = pairs.digits.flip(-1)
    target = compute_target(relation, digits) if swap == "relabel" else 1 - pairs.target
    return _join_pairs([pairs, Pairs(pairs.index.flip(-1), digits, target)], torch.cat)


MAX_ORDERED_PAIRS = 200_000
"""The largest number of ordered pairs that are evaluated; larger sets are represented by a random sample."""


def build_ordered_pairs(images: int) -> Tensor:
    """Return all ordered pairs of two different images out of ``images``, as (P, 2) int64 positions.

    If there are more than :data:`MAX_ORDERED_PAIRS`, return a random sample of this size, drawn with replacement; it is
    the same at every call.
    """
    if images * (images - 1) > MAX_ORDERED_PAIRS:
        fixed_generator = build_generator(0, "all pairs", images)
        first = torch.randint(images, (MAX_ORDERED_PAIRS,), generator=fixed_generator)
        second = torch.randint(images - 1, (MAX_ORDERED_PAIRS,), generator=fixed_generator)
    else:
        first, second = torch.arange(images).repeat_interleave(images - 1), torch.arange(images - 1).repeat(images)
    return torch.stack([first, second + (second >= first)], 1)


def stack_rounds(rounds: list[Pairs]) -> Pairs:
    """Return the pairs of R rounds as one object with a leading dimension R."""
    return _join_pairs(rounds, torch.stack)


def _join_pairs(parts: list[Pairs], join: Callable[[list[Tensor]], Tensor]) -> Pairs:
    return Pairs(*(join([getattr(part, field.name) for part in parts]) for field in fields(Pairs)))
