"""Preparing: from the grey values of an image to what a round's network has learnt to see."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a round's network sees it.

    Attributes:
        image_size: H = W of what the network sees; larger images are average-pooled down to it.
        divisor: What grey values 0 … 255 are divided by.
        mean: What is subtracted then.
        std: What is divided by then.
    """

    image_size: int
    divisor: float
    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        """Prepare grey images: (..., S, S), 0 … 255, S a multiple of H → (..., H, W) float32."""
        *before, height, width = images.shape
        pooled = F.avg_pool2d(images.reshape(-1, 1, height, width).float(), height // self.image_size)
        return ((pooled / self.divisor - self.mean) / self.std).view(*before, self.image_size, self.image_size)
