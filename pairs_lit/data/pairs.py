"""Pairs, by pure functions: draw them, compute their targets, swap them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.relation import Relation, target_of
from pairs_lit.seeds import generator

Swap = Literal["none", "relabel", "flip"]
"""How a training set is doubled by its swapped pairs, if at all."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split; with a leading dimension R, those of R rounds.

    Attributes:
        index: (..., P, 2) int64, the two images of each pair, as positions in the images of the split's source.
        digits: (..., P, 2) int64, their classes.
        target: (..., P) int64, 1 where the relation holds.
    """

    index: Tensor
    digits: Tensor
    target: Tensor


def draw(pool: Tensor, count: int, generator: torch.Generator, *, reuse: bool) -> Tensor:
    """Draw pairs (count, 2) int64 from a pool of images (n,) int64.

    As the course does, permute the images and take the first 2·count of them in twos: no image is drawn twice. If
    ``reuse`` allows it, a pool that is too small is permuted again, as often as needed; no image is then drawn twice
    within one permutation, so no pair shows one image twice.

    Raises:
        PairsLitError: The pool is too small and ``reuse`` is false, or it holds fewer than two images.
    """
    each = len(pool) // 2
    if each < 1 or (count > each and not reuse):
        raise PairsLitError(
            f"{count} pairs were asked for, but {len(pool)} images make {each} pairs without drawing one twice: "
            "ask for fewer, or set data.reuse to true."
        )
    permutations = [torch.randperm(len(pool), generator=generator)[: 2 * each] for _ in range(-(-count // each))]
    return pool[torch.cat(permutations)[: 2 * count]].view(count, 2)


def relate(index: Tensor, labels: Tensor, relation: Relation) -> Pairs:
    """Look up the classes of drawn pairs (P, 2) in ``labels`` (n,) and compute the targets."""
    digits = labels[index]
    return Pairs(index, digits, target_of(relation, digits))


def swapped(pairs: Pairs, swap: Swap, relation: Relation) -> Pairs:
    """Add each pair's swapped twin: P pairs → 2·P, the twins last; ``none`` adds nothing.

    ``relabel`` computes the twin's target from its classes. ``flip`` takes 1 - target, the literal rule of gardoni's
    report, **which is wrong for pairs of equal digits** (10 % of all); it exists only to reproduce that report.
    """
    if swap == "none":
        return pairs
    digits = pairs.digits.flip(-1)
    target = target_of(relation, digits) if swap == "relabel" else 1 - pairs.target
    return _joined([pairs, Pairs(pairs.index.flip(-1), digits, target)], torch.cat)


SAMPLED_PAIRS = 200_000
"""How many ordered pairs stand for all of them where each has to be shown to the network."""


def ordered_pairs(images: int) -> Tensor:
    """Return pairs of two different of ``images`` images, (P, 2) int64 positions: all of them, in either order.

    Of more than :data:`SAMPLED_PAIRS`, so many are drawn with replacement, the same at every call.
    """
    if images * (images - 1) > SAMPLED_PAIRS:
        drawing = generator(0, "all pairs", images)
        first = torch.randint(images, (SAMPLED_PAIRS,), generator=drawing)
        second = torch.randint(images - 1, (SAMPLED_PAIRS,), generator=drawing)
    else:
        first, second = torch.arange(images).repeat_interleave(images - 1), torch.arange(images - 1).repeat(images)
    return torch.stack([first, second + (second >= first)], 1)


def side_by_side(rounds: list[Pairs]) -> Pairs:
    """Put the pairs of R rounds into one table with a leading dimension R."""
    return _joined(rounds, torch.stack)


def _joined(parts: list[Pairs], join: Callable[[list[Tensor]], Tensor]) -> Pairs:
    return Pairs(*(join([getattr(part, field.name) for part in parts]) for field in fields(Pairs)))
