"""Loaders: the batches of one epoch, stack after stack."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from pairs_lit.data.augment import Augmenter
from pairs_lit.data.pair_store import PairBank, Split
from pairs_lit.data.pairs import Pairs
from pairs_lit.seeds import generator


class StackBatch(NamedTuple):
    """One batch of one stack of R rounds.

    Attributes:
        stack: Which stack.
        split: ``train``, ``val`` or ``test``.
        step: Which batch of this stack in this epoch.
        images: (R, B, 2, H, W) float32.
        digits: (R, B, 2) int64.
        target: (R, B) int64.
    """

    stack: int
    split: Split
    step: int
    images: Tensor
    digits: Tensor
    target: Tensor

    @classmethod
    def unlabelled(cls, stack: int, images: Tensor) -> "StackBatch":
        """Return a batch of images of which only the answers are asked for."""
        none = torch.zeros(images.shape[:3], dtype=torch.int64, device=images.device)
        return cls(stack, "test", 0, images, none, none[..., 0])

    def on(self, device: torch.device) -> "StackBatch":
        """Return the batch on a device."""
        return self if self.images.device == device else self.changed(lambda part: part.to(device))

    def changed(self, change: Callable[[Tensor], Tensor]) -> "StackBatch":
        """Apply a function to each tensor."""
        return self._replace(images=change(self.images), digits=change(self.digits), target=change(self.target))


@dataclass(frozen=True, eq=False)
class StackLoader:
    """Batches of the given splits, stack after stack: one gather for each batch, no Python loop over samples.

    Attributes:
        bank: The pairs.
        splits: The splits to hand out.
        stacks: The rounds of each stack that this worker trains, by the stack's number (``Rounds.of_worker``).
        batch_size: Pairs per batch; the last batch may be smaller.
        epoch: Where to ask for the current epoch, on which each round's own shuffle depends; None: no shuffling.
        change: Changes the images at random, by each round's own seed; None: they stay as they are.
    """

    bank: PairBank
    splits: Sequence[Split]
    stacks: Mapping[int, slice]
    batch_size: int
    epoch: Callable[[], int] | None = None
    change: Augmenter | None = None

    def __len__(self) -> int:
        """Count the batches of one epoch over all stacks."""
        return len(self.stacks) * sum(
            ceil(self.bank.pairs[split].target.shape[1] / self.batch_size) for split in self.splits
        )

    def __iter__(self) -> Iterator[StackBatch]:
        """Yield the batches of one epoch."""
        for stack, rounds in self.stacks.items():
            for split in self.splits:
                yield from self._batches(stack, rounds, split)

    def _batches(self, stack: int, rounds: slice, split: Split) -> Iterator[StackBatch]:
        pairs = self._pairs(rounds, split)
        gather = partial(self.bank.gather, rounds=rounds)
        if self.change is not None:
            draws = [generator(seed, "augment", self._epoch or 0) for seed in self.bank.seeds[rounds]]
            gather = partial(self.bank.gather_changed, rounds=rounds, change=self.change, draws=draws)
        for step, start in enumerate(range(0, pairs.target.shape[1], self.batch_size)):
            part = slice(start, start + self.batch_size)
            images = gather(pairs.index[:, part])
            yield StackBatch(stack, split, step, images, pairs.digits[:, part], pairs.target[:, part])

    @property
    def _epoch(self) -> int | None:
        return None if self.epoch is None else self.epoch()

    def _pairs(self, rounds: slice, split: Split) -> Pairs:
        return self.bank.ordered(split, rounds, self._epoch)


@dataclass(frozen=True, eq=False)
class PlacesLoader(StackLoader):
    """Pairs of the images of which all pairs are measured, the same ones for every round.

    Attributes:
        places: Which pairs, (P, 2) int64 positions in :meth:`PairBank.images_of`.
    """

    places: Tensor = field(kw_only=True)

    def __len__(self) -> int:
        """Count the batches over all stacks and splits."""
        return len(self.stacks) * len(self.splits) * ceil(len(self.places) / self.batch_size)

    def _batches(self, stack: int, rounds: slice, split: Split) -> Iterator[StackBatch]:
        images = self.bank.images_of(split, rounds)
        for step, part in enumerate(torch.split(self.places, self.batch_size)):
            pairs = self.bank.related(images[:, part])
            yield StackBatch(stack, split, step, self.bank.gather(pairs.index, rounds), pairs.digits, pairs.target)


class PredictLoader(StackLoader):
    """The test pairs of the first round, shown to every round of every stack, each with its own preparation."""

    def _pairs(self, rounds: slice, split: Split) -> Pairs:
        first, size = self.bank.ordered(split, slice(0, 1)), len(self.bank.seeds[rounds])
        index, digits = (part.expand(size, -1, -1) for part in (first.index, first.digits))
        return Pairs(index, digits, first.target.expand(size, -1))
