"""Loaders: the batches of one epoch, stack after stack."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pairs_lit.data.bank import PairBank, Split
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


class StackLoader:
    """Batches of the given splits, stack after stack: one gather for each batch, no Python loop over samples.

    Args:
        bank: The pairs.
        splits: The splits to hand out.
        seeds: The seeds of all rounds.
        stack_size: How many rounds make a stack; the last stack may be smaller.
        batch_size: Pairs per batch; the last batch may be smaller.
        epoch: Where to ask for the current epoch, on which each round's own shuffle depends; None: no shuffling.
        share: Which of the stacks to hand out: those of this worker.
    """

    def __init__(
        self,
        bank: PairBank,
        splits: Sequence[Split],
        *,
        seeds: Sequence[int],
        stack_size: int,
        batch_size: int,
        epoch: Callable[[], int] | None = None,
        share: slice = slice(None),
    ) -> None:
        self._bank = bank
        self._splits = splits
        self._seeds = seeds
        stacks = [slice(start, start + stack_size) for start in range(0, len(seeds), stack_size)]
        self._stacks = list(enumerate(stacks))[share]
        self._batch_size = batch_size
        self._epoch = epoch

    def __len__(self) -> int:
        """Count the batches of one epoch over all stacks."""
        sizes = [self._bank.pairs[split].target.shape[1] for split in self._splits]
        return len(self._stacks) * sum(-(-size // self._batch_size) for size in sizes)

    def __iter__(self) -> Iterator[StackBatch]:
        """Yield the batches of one epoch."""
        for stack, rounds in self._stacks:
            for split in self._splits:
                yield from self._batches(stack, rounds, split)

    def _batches(self, stack: int, rounds: slice, split: Split) -> Iterator[StackBatch]:
        pairs = self._bank.ordered(split, rounds, self._order(rounds, split))
        for step, start in enumerate(range(0, pairs.target.shape[1], self._batch_size)):
            part = slice(start, start + self._batch_size)
            images = self._bank.gather(pairs.index[:, part], rounds)
            yield StackBatch(stack, split, step, images, pairs.digits[:, part], pairs.target[:, part])

    def _order(self, rounds: slice, split: Split) -> Tensor | None:
        if self._epoch is None:
            return None
        epoch, size = self._epoch(), self._bank.pairs[split].target.shape[1]
        shuffles = [torch.randperm(size, generator=generator(seed, "shuffle", epoch)) for seed in self._seeds[rounds]]
        return torch.stack(shuffles)


class PredictLoader(StackLoader):
    """The test pairs of the first round, shown to every round of every stack."""

    def _batches(self, stack: int, rounds: slice, split: Split) -> Iterator[StackBatch]:
        size = len(self._seeds[rounds])
        for batch in super()._batches(stack, slice(0, 1), split):
            images, digits, target = (
                part.repeat(size, *[1] * (part.dim() - 1)) for part in (batch.images, batch.digits, batch.target)
            )
            yield batch._replace(images=images, digits=digits, target=target)
