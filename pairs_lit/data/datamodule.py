"""The data module: the pairs of every round in memory, handed out stack after stack."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data.pairs import Pairs, Swap, draw, relate, side_by_side, swapped
from pairs_lit.data.sources import Digits, Source, SourceName, load_source
from pairs_lit.errors import PairsLitError, check_choice, check_positive, notice
from pairs_lit.relation import Relation
from pairs_lit.seeds import generator

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Normalise = Literal["raw", "unit", "standard"]
ImageSize = Literal[14, 28]


def default_root() -> str:
    """Return the folder that holds MNIST: the environment variable PAIRS_LIT_DATA, else ``data``."""
    return os.environ.get("PAIRS_LIT_DATA", "data")


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


@dataclass(frozen=True)
class DataSettings:
    """What decides which pairs a round sees; recorded in every checkpoint and run."""

    source: str
    relation: Relation
    train_pairs: int
    val_pairs: int
    test_pairs: int
    image_size: int
    swap: Swap
    normalise: Normalise
    reuse: bool


class PairBank:
    """The images of a source and the pairs of R rounds, all in memory.

    Args:
        source: The labelled digits.
        seeds: The seeds of the R rounds.
        settings: What to draw.

    Attributes:
        images: (n, H, W) float32, train, validation and test images in this order.
        pairs: By split, the pairs of the R rounds.

    Raises:
        PairsLitError: The source has too few images.
    """

    def __init__(self, source: Source, seeds: Sequence[int], settings: DataSettings) -> None:
        parts = [part for part in (source.train, source.validation, source.test) if part is not None]
        self._labels = torch.cat([part.labels for part in parts])
        ends = list(accumulate(len(part.labels) for part in parts))[:-1]
        self._pools = torch.arange(len(self._labels)).tensor_split(ends)
        self._settings = settings
        self.images = torch.cat([_resized(part, settings.image_size) for part in parts])
        if settings.normalise == "unit":
            self.images /= 255
        rounds = [self._draw(seed) for seed in seeds]
        self.pairs: dict[Split, Pairs] = {
            "train": side_by_side([train for train, _, _ in rounds]),
            "val": side_by_side([val for _, val, _ in rounds]),
            "test": side_by_side([test for _, _, test in rounds]),
        }
        self._scale = self._standard() if settings.normalise == "standard" else None

    def _draw(self, seed: int) -> tuple[Pairs, Pairs, Pairs]:
        settings = self._settings
        train_pool, val_pool = self._train_and_val_pools(seed)
        train = self._drawn("train", train_pool, settings.train_pairs, seed)
        val = self._drawn("val", val_pool, settings.val_pairs, seed)
        test = self._drawn("test", self._pools[-1], settings.test_pairs, seed)
        return swapped(train, settings.swap, settings.relation), val, test

    def _drawn(self, split: Split, pool: Tensor, count: int, seed: int) -> Pairs:
        index = draw(pool, count, generator(seed, f"{split} pairs"), reuse=self._settings.reuse)
        return relate(index, self._labels, self._settings.relation)

    def _train_and_val_pools(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return a source's own validation images, or hold out as many training images as this round needs."""
        train = self._pools[0]
        if len(self._pools) == 3:
            return train, self._pools[1]
        held_out = 2 * self._settings.val_pairs
        if held_out >= len(train) - 1:
            raise PairsLitError(
                f"data.val_pairs is {self._settings.val_pairs}, but the source has {len(train)} training images to "
                "share between training and validation pairs: ask for fewer."
            )
        order = train[torch.randperm(len(train), generator=generator(seed, "held-out images"))]
        return order[held_out:], order[:held_out]

    def _standard(self) -> tuple[Tensor, Tensor]:
        """Mean and std, (R, 1, 1, 1, 1) each, of the distinct images in each round's own training pairs."""
        own = [self.images[index.unique()].double() for index in self.pairs["train"].index]
        mean = torch.stack([images.mean() for images in own])
        std = torch.stack([images.std() for images in own])
        return mean.float().view(-1, 1, 1, 1, 1), std.float().view(-1, 1, 1, 1, 1)

    def gather(self, split: Split, rounds: slice, order: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, digits and targets of some rounds, each round's pairs in its own ``order`` (R, P)."""
        pairs = self.pairs[split]
        index, digits, target = pairs.index[rounds], pairs.digits[rounds], pairs.target[rounds]
        if order is not None:
            both = order[..., None].expand(-1, -1, 2)
            index, digits, target = index.gather(1, both), digits.gather(1, both), target.gather(1, order)
        return self._normalised(self.images[index], rounds), digits, target

    def _normalised(self, images: Tensor, rounds: slice) -> Tensor:
        if self._scale is None:
            return images
        mean, std = (value[rounds] for value in self._scale)
        return (images - mean) / std


def _resized(digits: Digits, size: int) -> Tensor:
    """Average-pool (n, 28, 28) uint8 to (n, size, size) float32, 0 … 255."""
    return F.avg_pool2d(digits.images.float(), 28 // size)


class StackLoader:
    """Batches of the given splits, stack after stack: one gather a stack, split and epoch; no per-sample Python.

    Args:
        bank: The pairs.
        splits: The splits to hand out.
        seeds: The seeds of all rounds.
        stack_size: How many rounds make a stack; the last stack may be smaller.
        batch_size: Pairs a batch; the last batch may be smaller.
        epoch: Where to ask for the current epoch, on which each round's own shuffle depends; None: no shuffling.
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
    ) -> None:
        self._bank = bank
        self._splits = splits
        self._seeds = seeds
        self._stacks = [slice(start, start + stack_size) for start in range(0, len(seeds), stack_size)]
        self._batch_size = batch_size
        self._epoch = epoch

    def __len__(self) -> int:
        """Count the batches of one epoch over all stacks."""
        sizes = [self._bank.pairs[split].target.shape[1] for split in self._splits]
        return len(self._stacks) * sum(-(-size // self._batch_size) for size in sizes)

    def __iter__(self) -> Iterator[StackBatch]:
        """Yield the batches of one epoch."""
        for stack, rounds in enumerate(self._stacks):
            for split in self._splits:
                yield from self._batches(stack, rounds, split)

    def _batches(self, stack: int, rounds: slice, split: Split) -> Iterator[StackBatch]:
        images, digits, target = self._bank.gather(split, rounds, self._order(rounds, split))
        for step, start in enumerate(range(0, target.shape[1], self._batch_size)):
            part = slice(start, start + self._batch_size)
            yield StackBatch(stack, split, step, images[:, part], digits[:, part], target[:, part])

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
                part.expand(size, *part.shape[1:]) for part in (batch.images, batch.digits, batch.target)
            )
            yield batch._replace(images=images, digits=digits, target=target)


class PairDataModule(LightningDataModule):
    """Pairs of handwritten digits for all rounds: each round's pairs are a pure function of its seed.

    Training pairs are drawn as the course does (a permutation of the images, taken two by two, no image twice).
    Validation pairs come from training digits that no training pair of the round uses, test pairs from the test
    digits, which are only evaluated.

    Args:
        seeds: The seeds of the rounds (on the command line: from ``rounds``).
        stack_size: Rounds a stack (on the command line: from ``rounds`` and the network).
        source: ``mnist``; ``digits``, scikit-learn's bundled digits; ``auto``: MNIST where it is present or can be
            downloaded, else the bundled digits with a loud warning.
        root: The folder that holds ``MNIST/raw``, or into which it is downloaded; null: the one that the environment
            variable PAIRS_LIT_DATA names, else ``data``.
        allow_unverified: Accept files in MNIST's format whose hashes are not MNIST's; every table then says so.
        relation: The target is 1 where the first digit is le (≤), lt (<), ge (≥) or gt (>) the second.
        train_pairs: Training pairs a round, before swapping.
        val_pairs: Validation pairs a round.
        test_pairs: Test pairs a round.
        batch_size: Training pairs a batch.
        eval_batch_size: Pairs a batch in evaluation; changes no figure but for float rounding.
        image_size: 14 (28×28 average-pooled by 2) or 28.
        swap: ``relabel`` adds every training pair swapped, its target recomputed from the classes; ``flip`` adds it
            with the target flipped, which is wrong for equal digits and exists only to reproduce gardoni's report.
        normalise: ``raw`` 0 … 255; ``unit`` divides by 255; ``standard`` uses mean and std of the round's own
            training images for all splits.
        reuse: Draw images again, in further permutations, where a source has too few; false: that is an error.

    Raises:
        PairsLitError: A count is below 1, or a value is none of those allowed.
    """

    def __init__(
        self,
        *,
        seeds: list[int],
        stack_size: int,
        source: SourceName = "auto",
        root: str | None = None,
        allow_unverified: bool = False,
        relation: Relation = "le",
        train_pairs: int = 1000,
        val_pairs: int = 1000,
        test_pairs: int = 1000,
        batch_size: int = 100,
        eval_batch_size: int = 100,
        image_size: ImageSize = 14,
        swap: Swap = "none",
        normalise: Normalise = "raw",
        reuse: bool = True,
    ) -> None:
        super().__init__()
        counts = {"train_pairs": train_pairs, "val_pairs": val_pairs, "test_pairs": test_pairs}
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        for name, value in (counts | sizes).items():
            check_positive(f"data.{name}", value)
        check_choice("data.source", source, SourceName)
        check_choice("data.relation", relation, Relation)
        check_choice("data.image_size", image_size, ImageSize)
        check_choice("data.swap", swap, Swap)
        check_choice("data.normalise", normalise, Normalise)
        self.image_size = image_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self._seeds = seeds
        self._stack_size = stack_size
        self._source_name: SourceName = source
        self._root = Path(default_root() if root is None else root)
        self._allow_unverified = allow_unverified
        self._wanted = DataSettings(
            source, relation, train_pairs, val_pairs, test_pairs, image_size, swap, normalise, reuse
        )
        self._loaded: tuple[PairBank, DataSettings] | None = None

    @property
    def bank(self) -> PairBank:
        """The images and pairs; they exist from :meth:`setup` on."""
        return self._after_setup()[0]

    @property
    def settings(self) -> DataSettings:
        """What was drawn, the source that was found included."""
        return self._after_setup()[1]

    def _after_setup(self) -> tuple[PairBank, DataSettings]:
        if self._loaded is None:
            self.setup("fit")
        assert self._loaded is not None
        return self._loaded

    def setup(self, stage: str) -> None:
        """Load the source and draw the pairs of all rounds, once."""
        if self._loaded is not None:
            return
        source = load_source(self._source_name, self._root, allow_unverified=self._allow_unverified)
        settings = DataSettings(**asdict(self._wanted) | {"source": source.name})
        bank = PairBank(source, self._seeds, settings)
        self._say_reuse(source, settings)
        self._loaded = bank, settings

    def _say_reuse(self, source: Source, settings: DataSettings) -> None:
        held_out = 2 * settings.val_pairs if source.validation is None else 0
        validation = settings.val_pairs if source.validation is None else len(source.validation.labels) // 2
        room = {
            "train": (settings.train_pairs, (len(source.train.labels) - held_out) // 2),
            "val": (settings.val_pairs, validation),
            "test": (settings.test_pairs, len(source.test.labels) // 2),
        }
        short = [f"{split} {asked} of {each}" for split, (asked, each) in room.items() if asked > each]
        if short:
            notice(f"{source.name} has too few images, so some are drawn more than once (pairs: {', '.join(short)}).")

    def loader(self, *splits: Split) -> StackLoader:
        """Return the batches of some splits, in their own order, for evaluation."""
        return StackLoader(
            self.bank, splits, seeds=self._seeds, stack_size=self._stack_size, batch_size=self.eval_batch_size
        )

    def train_dataloader(self) -> StackLoader:
        """Return the training batches, shuffled anew in each epoch by each round's own seed."""
        return StackLoader(
            self.bank,
            ("train",),
            seeds=self._seeds,
            stack_size=self._stack_size,
            batch_size=self.batch_size,
            epoch=self._current_epoch,
        )

    def _current_epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer is not None else 0

    def val_dataloader(self) -> StackLoader:
        """Return validation pairs and, while fitting, test pairs: both are plotted, nothing is selected on test."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return self.loader("val", "test") if fitting else self.loader("val")

    def test_dataloader(self) -> StackLoader:
        """Return each round's own test pairs."""
        return self.loader("test")

    def predict_dataloader(self) -> PredictLoader:
        """Return the test pairs of the first seed, for every round."""
        return PredictLoader(
            self.bank, ("test",), seeds=self._seeds, stack_size=self._stack_size, batch_size=self.eval_batch_size
        )
