"""Labelled images are bytes with labels from 0."""

import pytest
import torch

from pairs_lit.data.labelled_images import LabelledImages
from pairs_lit.errors import PairsLitError

IMAGES, LABELS = torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([0, 9, 5])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.float(), LABELS, r"images of shape \(3, 28, 28\) and torch.float32 with 3 labels"),
        (IMAGES.float() * torch.nan, LABELS, "uint8 are needed"),
        (IMAGES[:2], LABELS, r"images of shape \(2, 28, 28\) and torch.uint8 with 3 labels"),
        (IMAGES[:, :14], LABELS, r"\(n, S, S\) and uint8 are needed"),
        (IMAGES, LABELS.float(), "labels of shape .* torch.float32"),
        (IMAGES, LABELS[:, None], r"labels of shape \(3, 1\)"),
        (IMAGES[:0], LABELS[:0], r"labels of shape \(0,\)"),
        (IMAGES, LABELS + 1, "labels from 1 to 10: 0 … 9 are needed"),
        (IMAGES, LABELS - 1, "labels from -1 to 8"),
    ],
)
def test_digits_are_bytes_with_labels_0_to_9(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        LabelledImages(images, labels)
