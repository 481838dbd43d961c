"""The bank: the images of a source and the pairs of all rounds, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from pairs_lit.data.augment import Augmenter
from pairs_lit.data.duplicates import describe, find_duplicates
from pairs_lit.data.image_format import measure_format
from pairs_lit.data.labelled_images import Source
from pairs_lit.data.pairs import Pairs, Swap, draw, relate, side_by_side, swapped
from pairs_lit.data.splits import hold_out
from pairs_lit.errors import PairsLitError
from pairs_lit.relation import DIGITS, Relation
from pairs_lit.seeds import generator
from pairs_lit.system.threads import computing_on

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Normalise = Literal["raw", "unit", "standard"]

MOST_UNSEEN = 10_000
"""Of so many validation images at most all pairs are measured, where a source has no validation images of its own."""


@dataclass(frozen=True)
class DataSettings:
    """The settings that decide which pairs a round sees; recorded in every checkpoint and run.

    The last three are those of the source that was found; earlier releases recorded none of the last four, see
    :data:`pairs_lit.runs.run_metadata.UNRECORDED`.

    Attributes:
        resize: The height and width that images were given; None: as they were.
        classes: K, the number of classes.
        held_out: What was held out for the test, in words; None: the source has test images of its own.
        fingerprint: The SHA-256 of all images and labels.
    """

    source: str
    relation: Relation
    train_pairs: int
    val_pairs: int
    test_pairs: int
    image_size: int
    swap: Swap
    normalise: Normalise
    reuse: bool
    resize: int | None = None
    classes: int = DIGITS
    held_out: str | None = None
    fingerprint: str = ""

    @property
    def pairs(self) -> dict[Split, int]:
        """How many pairs each split has, before swapping."""
        return {"train": self.train_pairs, "val": self.val_pairs, "test": self.test_pairs}


def check_image_size(image_size: int, size: int) -> None:
    """Refuse an image size to which images cannot be average-pooled.

    Raises:
        PairsLitError: It does not divide the images' own size.
    """
    if size % image_size:
        allowed = ", ".join(str(each) for each in range(1, size + 1) if size % each == 0)
        raise PairsLitError(
            f"data.image_size is {image_size}, but the images are {size}×{size}: it must be one of {allowed}; or set "
            "data.resize to a multiple of it."
        )


class PairBank:
    """The images of a source and the pairs of R rounds, one for each seed, all in memory.

    Args:
        source: Where images come from.
        seeds: The seeds of the rounds.
        settings: Which pairs each round sees.
        originals: Keep the training images in their own size, too, for :meth:`gather_changed`.

    Attributes:
        class_names: What the classes are called, in their order; empty: by their numbers.
        image_format: What the training images look like.
        notes: What was told when the images were read, a line each.
        deterministic: Whether the dataset returned the same images when it was asked again.
        duplicates: How many images are identical to others.
        warnings: The same in words, a line each; empty where there are none.
        images: (n, H, W) float32, train, validation and test images in this order.
        pairs: By split, the pairs of the R rounds.
        scale: With ``standard``, mean and std of each round's training images, (R, 1, 1, 1, 1) each.
        scarce: In words, the splits that have too few images, so that some are drawn more than once.
        top: The largest grey value of ``images``.

    Raises:
        PairsLitError: The source has too few images.
    """

    def __init__(
        self, source: Source, seeds: Sequence[int], settings: DataSettings, *, originals: bool = False
    ) -> None:
        self.seeds = seeds
        self.class_names, size = source.class_names, source.train.size
        self.deterministic = source.deterministic
        self.notes, self.duplicates, self._groups = source.notes, find_duplicates(source), source.groups
        self.warnings = describe(self.duplicates, source)
        self.settings = settings = replace(
            settings,
            source=f"{source.name} (originals {size}x{size})" if originals else source.name,
            classes=source.train.classes,
            held_out=source.held_out,
            fingerprint=source.fingerprint(),
        )
        check_image_size(settings.image_size, size)
        self.image_format = measure_format(source)
        parts, factor = source.parts, size // settings.image_size
        self._labels = torch.cat([part.labels for part in parts])
        ends = list(accumulate(len(part.labels) for part in parts))[:-1]
        self._own_pools = torch.arange(len(self._labels)).tensor_split(ends)
        chunks = [chunk for part in parts for chunk in torch.split(part.images, 10_000)]  # to save memory
        self.images = torch.cat([F.avg_pool2d(chunk.float(), factor) for chunk in chunks])
        self._originals = source.train.images if originals else None
        self.top = 1.0 if settings.normalise == "unit" else 255.0
        if settings.normalise == "unit":
            self.images /= 255
        drawn_of = {seed: self._draw(seed) for seed in dict.fromkeys(seeds)}
        rounds = [drawn_of[seed] for seed in seeds]
        self.pairs = {split: side_by_side([drawn[split] for drawn in rounds]) for split in SPLITS}
        self.scale = self._standard() if settings.normalise == "standard" else None
        room = {split: len(pool) // 2 for split, pool in self._pools(seeds[0]).items()}
        self.scarce = [f"{split} {n} of {room[split]}" for split, n in settings.pairs.items() if n > room[split]]

    def _draw(self, seed: int) -> dict[Split, Pairs]:
        settings, drawn = self.settings, dict[Split, Pairs]()
        for split, pool in self._pools(seed).items():
            try:
                index = draw(pool, settings.pairs[split], generator(seed, f"{split} pairs"), reuse=settings.reuse)
            except PairsLitError as error:
                raise PairsLitError(f"data.{split}_pairs: {error}") from error
            drawn[split] = relate(index, self._labels, settings.relation)
        return drawn | {"train": swapped(drawn["train"], settings.swap, settings.relation)}

    def _pools(self, seed: int) -> dict[Split, Tensor]:
        """Return the images that a round draws from; where a source has none for validation, some for training."""
        train, *validation, test = self._own_pools
        if validation:
            return {"train": train, "val": validation[0], "test": test}
        held_out = 2 * self.settings.val_pairs
        if held_out >= len(train) - 1:
            raise PairsLitError(self._propose_pairs())
        order = train[torch.randperm(len(train), generator=generator(seed, "held-out images"))]
        val, rest = hold_out(order, held_out, self._groups)
        return {"train": rest, "val": val, "test": test}

    def _propose_pairs(self) -> str:
        """Return what to say of too many validation pairs, with numbers of pairs that fit the source."""
        images, asked = len(self._own_pools[0]), f"data.val_pairs is {self.settings.val_pairs}, but the source has"
        most = (images - 2) // 2
        if most < 1:
            return f"{asked} {images} training images: 4 or more are needed. Add images."
        val = max(1, images // 6)
        fitting = {"val": val, "train": (images - 2 * val) // 2, "test": max(1, len(self._own_pools[-1]) // 2)}
        options = " ".join(f"--data.{split}_pairs {count}" for split, count in fitting.items())
        return (
            f"{asked} {images} training images to share between training and validation pairs, two for each pair: ask "
            f"for {most} or fewer, for instance {options}."
        )

    def _standard(self) -> tuple[Tensor, Tensor]:
        """Mean and std, (R, 1, 1, 1, 1) each, of the distinct images in each round's own training pairs."""
        own = [self.images[index.unique()].double() for index in self.pairs["train"].index]
        with computing_on(1):  # the last bits of a sum depend on the number of threads
            mean = torch.stack([images.mean() for images in own])
            std = torch.stack([images.std() for images in own])
        return mean.float().view(-1, 1, 1, 1, 1), std.float().view(-1, 1, 1, 1, 1)

    def ordered(self, split: Split, rounds: slice, epoch: int | None = None) -> Pairs:
        """Return the pairs of some rounds; for an epoch of training, shuffled by each round's own seed."""
        pairs = self.pairs[split]
        index, digits, target = pairs.index[rounds], pairs.digits[rounds], pairs.target[rounds]
        if epoch is None:
            return Pairs(index, digits, target)
        generators = [generator(seed, "shuffle", epoch) for seed in self.seeds[rounds]]
        order = torch.stack([torch.randperm(target.shape[1], generator=each) for each in generators])
        both = order[..., None].expand(-1, -1, 2)
        return Pairs(index.gather(1, both), digits.gather(1, both), target.gather(1, order))

    def images_of(self, split: Split, rounds: slice) -> Tensor:
        """Return the images of which all pairs are measured, (R, n) places in ``images``; n is the same for all rounds.

        They are all test images or all validation images; where a source has none for validation, the training images
        that no training pair of the round shows, up to :data:`MOST_UNSEEN`: first those held out for its validation
        pairs, then those that its draw left over.
        """
        if split != "val" or len(self._own_pools) > 2:
            pool = self._own_pools[-1 if split == "test" else 1]
            return pool.expand(len(self.seeds[rounds]), -1)
        unseen = []
        for seed, shown in zip(self.seeds[rounds], self.pairs["train"].index[rounds], strict=True):
            pools = self._pools(seed)
            spare = max(0, len(pools["train"]) - 2 * self.settings.train_pairs)  # of the config, not of what was drawn
            left = pools["train"][~torch.isin(pools["train"], shown)]
            unseen.append(torch.cat([pools["val"], left[:spare]])[:MOST_UNSEEN])
        return torch.stack(unseen)

    def count_of(self, split: Split) -> int:
        """Return n, of how many images all pairs are measured."""
        return self.images_of(split, slice(0, 1)).shape[1]

    def related(self, index: Tensor) -> Pairs:
        """Return pairs of images (..., 2), given by their places in ``images``, with their classes and targets."""
        return relate(index, self._labels, self.settings.relation)

    def commoner(self, split: Split) -> Tensor:
        """Return the share of each round's more frequent answer, (R,) float64: the accuracy of always giving it."""
        share = self.pairs[split].target.double().mean(1)
        return torch.maximum(share, 1 - share)

    def gather(self, index: Tensor, rounds: slice) -> Tensor:
        """Return the images (R, B, 2, H, W) of some rounds' pairs, by their places (R, B, 2) in ``images``."""
        rows = self.images.index_select(0, index.flatten())  # three times faster than images[index]
        return self._prepared(rows.view(*index.shape, *rows.shape[1:]), rounds)

    def gather_changed(self, index: Tensor, rounds: slice, change: Augmenter, draws: Sequence[Generator]) -> Tensor:
        """Return the same of training pairs, changed at random, before they are prepared."""
        rows = (self.images if self._originals is None else self._originals).index_select(0, index.flatten())
        if self._originals is not None:
            rows = rows.float() * (self.top / 255)
        changed = change(rows.view(len(index), -1, *rows.shape[1:]), draws)
        return self._prepared(changed.view(*index.shape, *changed.shape[2:]), rounds)

    def _prepared(self, images: Tensor, rounds: slice) -> Tensor:
        if self.scale is None:
            return images
        mean, std = (value[rounds] for value in self.scale)
        return (images - mean) / std
