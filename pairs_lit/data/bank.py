"""The bank: the images of a source and the pairs of all rounds, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data.images import Digits, Source
from pairs_lit.data.pairs import Pairs, Swap, draw, relate, side_by_side, swapped
from pairs_lit.errors import PairsLitError
from pairs_lit.relation import Relation
from pairs_lit.seeds import generator
from pairs_lit.threads import computing_on

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Normalise = Literal["raw", "unit", "standard"]


@dataclass(frozen=True)
class DataSettings:
    """The settings that decide which pairs a round sees; recorded in every checkpoint and run."""

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
        with computing_on(1):  # the last bits of a sum depend on the number of threads
            mean = torch.stack([images.mean() for images in own])
            std = torch.stack([images.std() for images in own])
        return mean.float().view(-1, 1, 1, 1, 1), std.float().view(-1, 1, 1, 1, 1)

    def ordered(self, split: Split, rounds: slice, order: Tensor | None = None) -> Pairs:
        """Return the pairs of some rounds, each round's in its own ``order`` (R, P)."""
        pairs = self.pairs[split]
        index, digits, target = pairs.index[rounds], pairs.digits[rounds], pairs.target[rounds]
        if order is None:
            return Pairs(index, digits, target)
        both = order[..., None].expand(-1, -1, 2)
        return Pairs(index.gather(1, both), digits.gather(1, both), target.gather(1, order))

    def commoner(self, split: Split) -> Tensor:
        """Return the share of each round's more frequent answer, (R,) float64: the accuracy of always giving it."""
        share = self.pairs[split].target.double().mean(1)
        return torch.maximum(share, 1 - share)

    def gather(self, index: Tensor, rounds: slice) -> Tensor:
        """Return the images (R, B, 2, H, W) of some rounds' pairs, by their places (R, B, 2) in ``images``."""
        images = self.images.index_select(
            0, index.flatten()
        )  # copies whole rows: three times faster than images[index]
        return self._normalised(images.view(*index.shape, *images.shape[1:]), rounds)

    def _normalised(self, images: Tensor, rounds: slice) -> Tensor:
        if self._scale is None:
            return images
        mean, std = (value[rounds] for value in self._scale)
        return (images - mean) / std


def _resized(digits: Digits, size: int) -> Tensor:
    """Average-pool (n, 28, 28) uint8 to (n, size, size) float32, 0 … 255, some thousand at a time to save memory."""
    parts = torch.split(digits.images, 10_000)
    return torch.cat([F.avg_pool2d(part.float(), 28 // size) for part in parts])
