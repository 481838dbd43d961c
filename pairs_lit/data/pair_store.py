"""In-memory store of a source's images and of the pairs of all rounds."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data.augment import Augmenter
from pairs_lit.data.duplicates import count_duplicates, describe_duplicates
from pairs_lit.data.image_format import measure_format
from pairs_lit.data.labelled_images import Source
from pairs_lit.data.pairs import Pairs, Swap, add_swapped_pairs, compute_targets, sample_pairs, stack_rounds
from pairs_lit.data.splits import hold_out
from pairs_lit.errors import PairsLitError
from pairs_lit.relation import NUM_DIGITS, Relation
from pairs_lit.seeds import build_generator
from pairs_lit.system.threads import use_threads

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Normalise = Literal["raw", "unit", "standard"]

MAX_UNSEEN_IMAGES = 10_000
"""The largest number of validation images whose pairs are all evaluated, if the source has no validation part."""


@dataclass(frozen=True)
class DataSettings:
    """Settings that determine the pairs of each round; recorded in every checkpoint and run.

    ``classes``, ``held_out`` and ``fingerprint`` are properties of the loaded source. Earlier releases did not record
    these three and ``resize``, see :data:`pairs_lit.runs.run_metadata.UNRECORDED_SETTINGS`.

    Attributes:
        resize: The height and width to which images were resized, or None if they were not.
        classes: K, the number of classes.
        held_out: A description of the training images that were held out for the test, or None if the source has a
            separate test part.
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
    classes: int = NUM_DIGITS
    held_out: str | None = None
    fingerprint: str = ""

    @property
    def pair_counts(self) -> dict[Split, int]:
        """The number of pairs per round in each split, before swapped pairs are added."""
        return {"train": self.train_pairs, "val": self.val_pairs, "test": self.test_pairs}


def check_image_size(image_size: int, size: int) -> None:
    """Raise PairsLitError unless images of this size can be average-pooled to ``data.image_size``."""
    if size % image_size:
        allowed = ", ".join(str(divisor) for divisor in range(1, size + 1) if size % divisor == 0)
        raise PairsLitError(
            f"data.image_size must be one of {allowed} for images of {size}×{size}, got {image_size}. Choose one of "
            "these, or set data.resize to a multiple of data.image_size."
        )


class PairStore:
    """In-memory store of the images of a source and the pairs of R rounds, one round per seed.

    Args:
        source: The source of the images.
        seeds: The seeds of the rounds.
        settings: The settings that determine the pairs of each round.
        originals: Whether to keep the training images at their original size, too, for :meth:`gather_augmented`.

    Attributes:
        class_names: The names of the classes, in their order; empty if they are called by their numbers.
        image_format: The measured format of the training images.
        notes: Notices from reading the images, a line each.
        deterministic: Whether the dataset returned the same images when they were read again.
        duplicates: The numbers of images that are identical to others.
        warnings: Warnings about duplicates, a line each; empty if there are none.
        images: (n, H, W) float32, the training, validation (if any) and test images in this order.
        pairs: The pairs of the R rounds, by split.
        scale: With ``standard``, mean and standard deviation of each round's training images, (R, 1, 1, 1, 1) each;
            else None.
        scarce_splits: Descriptions of the splits that have too few images, so that some are drawn more than once.
        max_grey: The largest grey value of ``images``.

    Raises:
        PairsLitError: If the source has too few images.
    """

    def __init__(
        self, source: Source, seeds: Sequence[int], settings: DataSettings, *, originals: bool = False
    ) -> None:
        self.seeds = seeds
        self.class_names, size = source.class_names, source.train.size
        self.deterministic = source.deterministic
        self.notes, self.duplicates, self._groups = source.notes, count_duplicates(source), source.groups
        self.warnings = describe_duplicates(self.duplicates, source)
        self.settings = settings = replace(
            settings,
            source=f"{source.name} (originals {size}x{size})" if originals else source.name,
            classes=source.train.classes,
            held_out=source.held_out,
            fingerprint=source.compute_fingerprint(),
        )
        check_image_size(settings.image_size, size)
        self.image_format = measure_format(source)
        parts, factor = source.parts, size // settings.image_size
        self._labels = torch.cat([part.labels for part in parts])
        ends = list(accumulate(len(part.labels) for part in parts))[:-1]
        self._part_pools = torch.arange(len(self._labels)).tensor_split(ends)
        chunks = [chunk for part in parts for chunk in torch.split(part.images, 10_000)]  # to save memory
        self.images = torch.cat([F.avg_pool2d(chunk.float(), factor) for chunk in chunks])
        self._originals = source.train.images if originals else None
        self.max_grey = 1.0 if settings.normalise == "unit" else 255.0
        if settings.normalise == "unit":
            self.images /= 255
        pairs_by_seed = {seed: self._sample_round(seed) for seed in dict.fromkeys(seeds)}
        rounds = [pairs_by_seed[seed] for seed in seeds]
        self.pairs = {split: stack_rounds([round_pairs[split] for round_pairs in rounds]) for split in SPLITS}
        self._train_index = self.pairs["train"].index
        self.scale = self._compute_scale() if settings.normalise == "standard" else None
        available = {split: len(pool) // 2 for split, pool in self._build_pools(seeds[0]).items()}
        self.scarce_splits = [
            f"{split} {count} of {available[split]}"
            for split, count in settings.pair_counts.items()
            if count > available[split]
        ]

    @property
    def tensor_bytes(self) -> int:
        """The size of the images and pairs."""
        return sum(tensor.nbytes for tensor in self._list_tensors())

    def _list_tensors(self) -> list[Tensor]:
        """Return the tensors from which batches are gathered."""
        pairs = [tensor for part in self.pairs.values() for tensor in (part.index, part.digits, part.target)]
        return [self.images, self._labels, *pairs, *([] if self._originals is None else [self._originals])]

    def to(self, device: torch.device) -> "PairStore":
        """Return a store of the same pairs that gathers batches on a device.

        Random numbers are still drawn on the CPU, so that they do not depend on the device.
        """
        moved = copy(self)
        moved.images, moved._labels = self.images.to(device), self._labels.to(device)
        moved._originals = None if self._originals is None else self._originals.to(device)
        moved.pairs = {
            split: pairs.map_tensors(lambda tensor: tensor.to(device)) for split, pairs in self.pairs.items()
        }
        moved.scale = None if self.scale is None else (self.scale[0].to(device), self.scale[1].to(device))
        return moved

    def _sample_round(self, seed: int) -> dict[Split, Pairs]:
        """Return the pairs of a round by split, drawn with its seed; training pairs include swapped ones."""
        settings, pairs = self.settings, dict[Split, Pairs]()
        for split, pool in self._build_pools(seed).items():
            try:
                index = sample_pairs(
                    pool, settings.pair_counts[split], build_generator(seed, f"{split} pairs"), reuse=settings.reuse
                )
            except PairsLitError as error:
                raise PairsLitError(f"data.{split}_pairs: {error}") from error
            pairs[split] = compute_targets(index, self._labels, settings.relation)
        return pairs | {"train": add_swapped_pairs(pairs["train"], settings.swap, settings.relation)}

    def _build_pools(self, seed: int) -> dict[Split, Tensor]:
        """Return the positions of the images from which a round draws the pairs of each split.

        If the source has no validation part, each round holds out some training images for validation.
        """
        train, *validation, test = self._part_pools
        if validation:
            return {"train": train, "val": validation[0], "test": test}
        num_held_out = 2 * self.settings.val_pairs
        if num_held_out >= len(train) - 1:
            raise PairsLitError(self._describe_too_many_pairs())
        order = torch.randperm(len(train), generator=build_generator(seed, "held-out images"))  # train is 0, 1, 2, …
        val, rest = hold_out(order, num_held_out, self._groups)
        return {"train": rest, "val": val, "test": test}

    def _describe_too_many_pairs(self) -> str:
        """Return an error about too many validation pairs, with numbers of pairs that suit the source."""
        images = len(self._part_pools[0])
        max_pairs = (images - 2) // 2
        if max_pairs < 1:
            return (
                f"data.source must have 4 or more training images to share with validation, got {images}. Add images."
            )
        val = max(1, images // 6)
        suitable = {"val": val, "train": (images - 2 * val) // 2, "test": max(1, len(self._part_pools[-1]) // 2)}
        options = " ".join(f"--data.{split}_pairs {count}" for split, count in suitable.items())
        return (
            f"data.val_pairs must be {max_pairs} or less, got {self.settings.val_pairs}: training and validation pairs "
            f"share {images} training images, two for each pair. Choose fewer, for instance {options}."
        )

    def _compute_scale(self) -> tuple[Tensor, Tensor]:
        """Return mean and std, (R, 1, 1, 1, 1) each, of the distinct images in each round's training pairs."""
        with use_threads(1):  # the rounding of a sum depends on the number of threads
            scales = torch.stack([self._measure_scale(index.unique()) for index in self.pairs["train"].index])
        mean, std = scales.float().T.contiguous()
        return mean.view(-1, 1, 1, 1, 1), std.view(-1, 1, 1, 1, 1)

    def _measure_scale(self, index: Tensor) -> Tensor:
        """Return mean and std, (2,) float64, of the images at some positions."""
        images = self.images.index_select(0, index).double()  # one round at a time: those of all would fill the memory
        return torch.stack([images.mean(), images.std()])

    def get_pairs(self, split: Split, rounds: slice, epoch: int | None = None) -> Pairs:
        """Return the pairs of some rounds; if an epoch is given, shuffled by each round's seed and the epoch."""
        pairs = self.pairs[split]
        index, digits, target = pairs.index[rounds], pairs.digits[rounds], pairs.target[rounds]
        if epoch is None:
            return Pairs(index, digits, target)
        generators = [build_generator(seed, "shuffle", epoch) for seed in self.seeds[rounds]]
        order = torch.stack([torch.randperm(target.shape[1], generator=shuffler) for shuffler in generators])
        order = order.to(target.device)
        image_order = order[..., None].expand(-1, -1, 2)
        return Pairs(index.gather(1, image_order), digits.gather(1, image_order), target.gather(1, order))

    def get_evaluation_images(self, split: Split, rounds: slice) -> Tensor:
        """Return the images whose pairs are all evaluated, (R, n) positions in ``images``; n is equal for all rounds.

        They are all test images or all validation images. If the source has no validation part, they are up to
        :data:`MAX_UNSEEN_IMAGES` training images that occur in no training pair of the round: first those held out for
        its validation pairs, then those that were not drawn.
        """
        if split != "val" or len(self._part_pools) > 2:
            pool = self._part_pools[-1 if split == "test" else 1]
            return pool.expand(len(self.seeds[rounds]), -1).to(self.images.device)
        unseen = []
        for seed, train_images in zip(self.seeds[rounds], self._train_index[rounds], strict=True):
            pools = self._build_pools(seed)
            not_drawn = pools["train"][~torch.isin(pools["train"], train_images)]
            num_spare = max(
                0, len(pools["train"]) - 2 * self.settings.train_pairs
            )  # independent of the draw, so that n is equal for all rounds
            unseen.append(torch.cat([pools["val"], not_drawn[:num_spare]])[:MAX_UNSEEN_IMAGES])
        return torch.stack(unseen).to(self.images.device)

    def count_evaluation_images(self, split: Split) -> int:
        """Return n, the number of images whose pairs are all evaluated."""
        return self.get_evaluation_images(split, slice(0, 1)).shape[1]

    def label_pairs(self, index: Tensor) -> Pairs:
        """Return pairs with their classes and targets, from positions (..., 2) in ``images``."""
        return compute_targets(index, self._labels, self.settings.relation)

    def compute_majority_accuracy(self, split: Split) -> Tensor:
        """Return the accuracy of always predicting each round's more frequent target, (R,) float64."""
        share = self.pairs[split].target.double().mean(1)
        return torch.maximum(share, 1 - share)

    def gather_images(self, index: Tensor, rounds: slice) -> Tensor:
        """Return the normalised images (R, B, 2, H, W) of some rounds' pairs at positions (R, B, 2) in ``images``."""
        rows = self.images.index_select(0, index.flatten())  # three times faster than images[index]
        return self._normalise(rows.view(*index.shape, *rows.shape[1:]), rounds)

    def gather_augmented(self, index: Tensor, rounds: slice, change: Augmenter, numbers: Tensor) -> Tensor:
        """Return the images (R, B, 2, H, W) of training pairs, changed by random numbers and then normalised."""
        rows = (self.images if self._originals is None else self._originals).index_select(0, index.flatten())
        if self._originals is not None:
            rows = rows.float() * (self.max_grey / 255)
        changed = change.change_images(rows.view(len(index), -1, *rows.shape[1:]), numbers)
        return self._normalise(changed.view(*index.shape, *changed.shape[2:]), rounds)

    def _normalise(self, images: Tensor, rounds: slice) -> Tensor:
        """Return images (R, …) normalised by each round's mean and standard deviation, if ``standard`` is set."""
        if self.scale is None:
            return images
        mean, std = (value[rounds] for value in self.scale)
        return (images - mean) / std
