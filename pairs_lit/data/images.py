"""Labelled images, and where they come from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.relation import DIGITS


@dataclass(frozen=True)
class Digits:
    """Labelled images.

    Attributes:
        images: (n, 28, 28) uint8, 0 … 255.
        labels: (n,) int64, 0 … 9.

    Raises:
        PairsLitError: Images or labels have another form.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.shape != (len(self.labels), 28, 28):
            raise PairsLitError(
                f"images of shape {tuple(self.images.shape)} and {self.images.dtype} with {len(self.labels)} labels: "
                "(n, 28, 28) and uint8 are needed for n labels."
            )
        if self.labels.dtype != torch.int64 or self.labels.dim() != 1 or len(self.labels) == 0:
            raise PairsLitError(
                f"labels of shape {tuple(self.labels.shape)} and {self.labels.dtype}: (n,) and int64 are needed."
            )
        if self.labels.min() < 0 or self.labels.max() >= DIGITS:
            raise PairsLitError(f"labels from {self.labels.min()} to {self.labels.max()}: 0 … 9 are needed.")


@dataclass(frozen=True)
class Source:
    """Where digits come from.

    Attributes:
        name: As it stands in every table: ``mnist``, ``mnist (unverified)`` or ``digits``.
        train: What training pairs are drawn from.
        validation: What validation pairs are drawn from; None: from training images that no training pair uses.
        test: What test pairs are drawn from; only ever evaluated.
    """

    name: str
    train: Digits
    validation: Digits | None
    test: Digits
