"""Labelled images, and sources that hold their training, validation and test parts."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.relation import NUM_DIGITS


def group_identical_images(images: Tensor) -> Tensor:
    """Return, for each of (n, H, W) uint8 images, the position of the first identical image, (n,) int64."""
    first: dict[bytes, int] = {}
    keys = (hashlib.blake2b(row, digest_size=16).digest() for row in images.flatten(1).numpy())
    return torch.tensor([first.setdefault(key, position) for position, key in enumerate(keys)], dtype=torch.int64)


@dataclass(frozen=True)
class LabelledImages:
    """Square grey images of one size with their class numbers.

    Attributes:
        images: (n, S, S) uint8, 0 … 255.
        labels: (n,) int64, 0 … K − 1.
        classes: K, the number of classes.

    Raises:
        PairsLitError: If images or labels have another shape, type or range.
    """

    images: Tensor
    labels: Tensor
    classes: int = NUM_DIGITS

    def __post_init__(self) -> None:
        count, *sides = self.images.shape if self.images.dim() > 0 else (0,)
        is_square = len(sides) == 2 and sides[0] == sides[1] > 0
        if self.images.dtype != torch.uint8 or count != len(self.labels) or not is_square:
            raise PairsLitError(
                f"images must be (n, S, S) and uint8 for n labels, got the shape {tuple(self.images.shape)} and "
                f"{self.images.dtype} for {len(self.labels)} labels."
            )
        if self.labels.dtype != torch.int64 or self.labels.dim() != 1 or len(self.labels) == 0:
            raise PairsLitError(
                f"labels must be (n,) and int64, got the shape {tuple(self.labels.shape)} and {self.labels.dtype}."
            )
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise PairsLitError(
                f"labels must be from 0 to {self.classes - 1}, got {self.labels.min()} to {self.labels.max()}."
            )

    @property
    def size(self) -> int:
        """S, the height and width of each image."""
        return self.images.shape[-1]


@dataclass(frozen=True)
class Source:
    """Source of images with a training and a test part; all parts have the same image size and classes.

    Attributes:
        name: The name in every table, such as ``mnist``, ``mnist (unverified)``, ``digits`` or ``FashionMNIST``.
        train: The images from which training pairs are drawn.
        validation: The images from which validation pairs are drawn, or None if they are drawn from training images
            that no training pair uses.
        test: The images from which test pairs are drawn; they are only evaluated.
        class_names: The names of the K classes, in their order; empty if they are called by their numbers.
        held_out: A description of the training images that were held out for the test, or None if the source has a
            separate test part.
        transposed: Whether the stored images have rows and columns exchanged, which reading has undone.
        original_size: The size of the images before ``data.resize``, ``28x28`` for instance, or the flattest and the
            narrowest size, ``20x30 to 60x40``, or None if unknown.
        bits: The number of bits in use in 16-bit images, or None if there were no such images.
        deterministic: Whether the dataset returned the same images when they were read again.
        notes: Notices from reading the images, a line each, for instance about skipped files.
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
        """Training, validation (if any) and test images, in this order."""
        return [part for part in (self.train, self.validation, self.test) if part is not None]

    def map_parts(self, change: Callable[[LabelledImages], LabelledImages]) -> "Source":
        """Return a copy of the source in which ``change`` was applied to each part."""
        validation = None if self.validation is None else change(self.validation)
        return replace(self, train=change(self.train), validation=validation, test=change(self.test))

    @cached_property
    def groups(self) -> Tensor:
        """For each image of all parts, in order, the position of the first identical image, (n,) int64."""
        return group_identical_images(torch.cat([part.images for part in self.parts]))

    def compute_fingerprint(self) -> str:
        """Return the SHA-256 of shapes, images and labels of all parts, in order."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(str(tuple(part.images.shape)).encode())
            for values in (part.images, part.labels):
                digest.update(values.contiguous().numpy().data)
        return digest.hexdigest()


def transpose_images(source: Source) -> Source:
    """Return a copy of a source in which rows and columns of the images are exchanged."""
    changed = source.map_parts(lambda part: replace(part, images=part.images.transpose(1, 2).contiguous()))
    return replace(changed, transposed=True)
