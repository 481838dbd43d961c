"""Checks of labelled images: shapes, types and the range of labels."""

import pytest
import torch

from pairs_lit.data.labelled_images import LabelledImages
from pairs_lit.errors import PairsLitError

IMAGES, LABELS = torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([0, 9, 5])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.float(), LABELS, r"got the shape \(3, 28, 28\) and torch.float32 for 3 labels"),
        (IMAGES.float() * torch.nan, LABELS, r"images must be \(n, S, S\) and uint8"),
        (IMAGES[:2], LABELS, r"got the shape \(2, 28, 28\) and torch.uint8 for 3 labels"),
        (IMAGES[:, :14], LABELS, r"images must be \(n, S, S\) and uint8 for n labels"),
        (IMAGES, LABELS.float(), r"labels must be \(n,\) and int64, got .* torch.float32"),
        (IMAGES, LABELS[:, None], r"labels must be .*, got the shape \(3, 1\)"),
        (IMAGES[:0], LABELS[:0], r"labels must be .*, got the shape \(0,\)"),
        (IMAGES, LABELS + 1, "labels must be from 0 to 9, got 1 to 10"),
        (IMAGES, LABELS - 1, "labels must be from 0 to 9, got -1 to 8"),
    ],
)
def test_wrong_images_or_labels_are_rejected(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        LabelledImages(images, labels)
