"""Preprocessing of grey images for the network of a round."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Preprocessing:
    """Average pooling and normalisation of images for the network of a round.

    Attributes:
        image_size: H = W of the network's input; larger images are average-pooled to it.
        divisor: The divisor of grey values 0 … 255.
        mean: The mean subtracted from the quotients.
        std: The standard deviation by which the differences are divided.
    """

    image_size: int
    divisor: float
    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        """Preprocess grey images: (..., S, S), 0 … 255, S a multiple of H → (..., H, W) float32."""
        *before, height, width = images.shape
        pooled = F.avg_pool2d(images.reshape(-1, 1, height, width).float(), height // self.image_size)
        return ((pooled / self.divisor - self.mean) / self.std).view(*before, self.image_size, self.image_size)
