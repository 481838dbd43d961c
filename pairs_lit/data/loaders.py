"""Data loaders: batches of pairs for each stack of rounds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from pairs_lit.data.augment import Augmenter
from pairs_lit.data.pair_store import PairStore, Split
from pairs_lit.data.pairs import Pairs
from pairs_lit.seeds import build_generator


class StackBatch(NamedTuple):
    """One batch of B pairs for each of the R rounds in a stack.

    Attributes:
        stack: The number of the stack.
        split: ``train``, ``val`` or ``test``.
        step: The number of the batch within this stack, split and epoch.
        images: (R, B, 2, H, W) float32.
        digits: (R, B, 2) int64, the classes of the images.
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
        """Return a batch of images (R, B, 2, H, W) with zeros as labels, for prediction only."""
        zeros = torch.zeros(images.shape[:3], dtype=torch.int64, device=images.device)
        return cls(stack, "test", 0, images, zeros, zeros[..., 0])

    def to_device(self, device: torch.device) -> "StackBatch":
        """Return the batch on a device."""
        return self if self.images.device == device else self.map_tensors(lambda tensor: tensor.to(device))

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> "StackBatch":
        """Return a batch in which a function was applied to each tensor."""
        return self._replace(images=change(self.images), digits=change(self.digits), target=change(self.target))


_FULL_BATCH_SIZE = 28
"""The largest height and width of images that are evaluated in batches of the requested size: MNIST's."""


def bound_batch_size(batch_size: int, image_size: int) -> int:
    """Return how many pairs are evaluated at a time, which bounds the memory of an evaluation.

    For images larger than MNIST's, a batch has as many pixels as one of ``batch_size`` pairs of MNIST's images, but at
    least one pair.

    Args:
        batch_size: The requested number of pairs.
        image_size: The height and width of the images.
    """
    return max(1, batch_size * _FULL_BATCH_SIZE**2 // max(image_size, _FULL_BATCH_SIZE) ** 2)


@dataclass(frozen=True, eq=False)
class StackLoader:
    """Loader of batches stack by stack; each batch is gathered from memory without a Python loop over pairs.

    Attributes:
        store: The images and pairs of all rounds.
        splits: The splits to load, in this order for each stack.
        stacks: The rounds of each stack that this worker trains, by the stack's number (``Rounds.get_worker_stacks``).
        batch_size: Pairs per batch; the last batch may be smaller.
        get_epoch: A function that returns the current epoch. Each round's pairs are shuffled by its seed and the
            epoch. If None, the pairs are not shuffled.
        augmenter: The random augmentation of the images, or None if they stay unchanged.
    """

    store: PairStore
    splits: Sequence[Split]
    stacks: Mapping[int, slice]
    batch_size: int
    get_epoch: Callable[[], int] | None = None
    augmenter: Augmenter | None = None

    def __len__(self) -> int:
        """Return the number of batches in one epoch, over all stacks and splits."""
        return len(self.stacks) * sum(
            ceil(self.store.pairs[split].target.shape[1] / self.batch_size) for split in self.splits
        )

    def __iter__(self) -> Iterator[StackBatch]:
        """Yield the batches of one epoch."""
        for stack, rounds in self.stacks.items():
            for split in self.splits:
                yield from self._iter_batches(stack, rounds, split)

    def _iter_batches(self, stack: int, rounds: slice, split: Split) -> Iterator[StackBatch]:
        pairs = self._get_pairs(rounds, split)
        indices = torch.split(pairs.index, self.batch_size, 1)
        for step, images in enumerate(self._iter_images(indices, rounds)):
            batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
            yield StackBatch(stack, split, step, images, pairs.digits[:, batch], pairs.target[:, batch])

    def _iter_images(self, indices: Sequence[Tensor], rounds: slice) -> Iterator[Tensor]:
        """Yield the images of each batch, from the positions (R, B, 2) of its pairs."""
        if self.augmenter is None:
            yield from (self.store.gather_images(index, rounds) for index in indices)
            return
        generators = [build_generator(seed, "augment", self._epoch or 0) for seed in self.store.seeds[rounds]]
        counts = [2 * index.shape[1] for index in indices]
        numbers = self.augmenter.draw_batches(counts, generators, self.store.images.device)
        for index, batch_numbers in zip(indices, numbers, strict=True):
            yield self.store.gather_augmented(index, rounds, self.augmenter, batch_numbers)

    @property
    def _epoch(self) -> int | None:
        return None if self.get_epoch is None else self.get_epoch()

    def _get_pairs(self, rounds: slice, split: Split) -> Pairs:
        return self.store.get_pairs(split, rounds, self._epoch)


@dataclass(frozen=True, eq=False)
class AllPairsLoader(StackLoader):
    """Loader of arbitrary pairs of evaluation images, the same positions for every round.

    It serves the evaluation of all ordered pairs (``data.all_pairs``).

    Attributes:
        positions: The pairs, (P, 2) int64 positions in the rows of :meth:`PairStore.get_evaluation_images`.
    """

    positions: Tensor = field(kw_only=True)

    def __len__(self) -> int:
        """Return the number of batches over all stacks and splits."""
        return len(self.stacks) * len(self.splits) * ceil(len(self.positions) / self.batch_size)

    def _iter_batches(self, stack: int, rounds: slice, split: Split) -> Iterator[StackBatch]:
        images = self.store.get_evaluation_images(split, rounds)
        for step, positions in enumerate(torch.split(self.positions, self.batch_size)):
            pairs = self.store.label_pairs(images[:, positions])
            yield StackBatch(
                stack, split, step, self.store.gather_images(pairs.index, rounds), pairs.digits, pairs.target
            )


class PredictLoader(StackLoader):
    """Loader of the first round's test pairs for every round; each round normalises their images in its own way."""

    def _get_pairs(self, rounds: slice, split: Split) -> Pairs:
        first, size = self.store.get_pairs(split, slice(0, 1)), len(self.store.seeds[rounds])
        index, digits = (values.expand(size, -1, -1) for values in (first.index, first.digits))
        return Pairs(index, digits, first.target.expand(size, -1))
