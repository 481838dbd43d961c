"""Labelled images, and where they come from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.relation import DIGITS


def group_identical(images: Tensor) -> Tensor:
    """Return for each of (n, H, W) uint8 images the position of the first one that is identical to it, (n,) int64."""
    first: dict[bytes, int] = {}
    keys = (hashlib.blake2b(row, digest_size=16).digest() for row in images.flatten(1).numpy())
    return torch.tensor([first.setdefault(key, place) for place, key in enumerate(keys)], dtype=torch.int64)


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images.

    Attributes:
        images: (n, S, S) uint8, 0 … 255.
        labels: (n,) int64, 0 … K − 1.
        classes: K.

    Raises:
        PairsLitError: Images or labels have another shape, type or range.
    """

    images: Tensor
    labels: Tensor
    classes: int = DIGITS

    def __post_init__(self) -> None:
        count, *sides = self.images.shape if self.images.dim() > 0 else (0,)
        is_square = len(sides) == 2 and sides[0] == sides[1] > 0
        if self.images.dtype != torch.uint8 or count != len(self.labels) or not is_square:
            raise PairsLitError(
                f"images of shape {tuple(self.images.shape)} and {self.images.dtype} with {len(self.labels)} labels: "
                "(n, S, S) and uint8 are needed for n labels."
            )
        if self.labels.dtype != torch.int64 or self.labels.dim() != 1 or len(self.labels) == 0:
            raise PairsLitError(
                f"labels of shape {tuple(self.labels.shape)} and {self.labels.dtype}: (n,) and int64 are needed."
            )
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise PairsLitError(
                f"labels from {self.labels.min()} to {self.labels.max()}: 0 … {self.classes - 1} are needed."
            )

    @property
    def size(self) -> int:
        """S, the height and width of an image."""
        return self.images.shape[-1]


@dataclass(frozen=True)
class Source:
    """Where images come from; all parts have images of one size and the same classes.

    Attributes:
        name: As it stands in every table: ``mnist``, ``mnist (unverified)``, ``digits``, ``FashionMNIST`` and so on.
        train: What training pairs are drawn from.
        validation: What validation pairs are drawn from; None: from training images that no training pair uses.
        test: What test pairs are drawn from; only ever evaluated.
        class_names: What the K classes are called, in their order; empty: by their numbers.
        held_out: What was held out for the test, in words; None: the source has test images of its own.
        transposed: Whether the stored images have rows and columns exchanged, which reading has undone.
        original_size: The height and width of the images before ``data.resize``, ``28x28`` for instance, or from the
            flattest to the narrowest, ``20x30 to 60x40``, or None if that is not known.
        bits: How many bits of 16-bit images are in use, or None if there were no such images.
        deterministic: Whether the dataset returned the same images when it was asked again.
        notes: What was told when the images were read, a line each: files that were skipped, and the like.
    """

    name: str
    train: LabelledImages
    validation: LabelledImages | None
    test: LabelledImages
    class_names: Sequence[str] = ()
    held_out: str | None = None
    transposed: bool = False
    original_size: str | None = None
    bits: int | None = None
    deterministic: bool = True
    notes: Sequence[str] = ()

    @property
    def parts(self) -> list[LabelledImages]:
        """Training, validation and test images, as far as there are any."""
        return [part for part in (self.train, self.validation, self.test) if part is not None]

    def with_parts(self, change: Callable[[LabelledImages], LabelledImages]) -> "Source":
        """Return the source with each of its parts changed."""
        validation = None if self.validation is None else change(self.validation)
        return replace(self, train=change(self.train), validation=validation, test=change(self.test))

    @cached_property
    def groups(self) -> Tensor:
        """For each image of all parts, in order, the position of the first one that is identical to it, (n,) int64."""
        return group_identical(torch.cat([part.images for part in self.parts]))

    def fingerprint(self) -> str:
        """Return the SHA-256 of shapes, images and labels of all parts, in order: other data, another fingerprint."""
        found = hashlib.sha256()
        for part in self.parts:
            found.update(str(tuple(part.images.shape)).encode())
            for values in (part.images, part.labels):
                found.update(values.contiguous().numpy().data)
        return found.hexdigest()


def transpose_images(source: Source) -> Source:
    """Return a source with rows and columns of its images exchanged."""
    changed = source.with_parts(lambda part: replace(part, images=part.images.transpose(1, 2).contiguous()))
    return replace(changed, transposed=True)
