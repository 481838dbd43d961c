"""Resizing images to one size, and no more of them than memory holds."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError

MOST_BYTES = 2**33
"""The most that the grey bytes of a part of a source may take; the network's floats take up to four times as much."""

_AT_A_TIME = 10_000  # to save memory


def check_memory(count: int, size: int) -> None:
    """Raise PairsLitError if so many images of this height and width take more than :data:`MOST_BYTES`."""
    if count * size**2 > MOST_BYTES:
        raise PairsLitError(
            f"{count:,} images of {size}×{size} take {count * size**2 / 2**30:,.0f} GiB, at most "
            f"{MOST_BYTES // 2**30} are held: set data.resize to a smaller size"
        )


def resize_images(images: Tensor, size: int | None) -> Tensor:
    """Return grey bytes (n, H, W) as (n, size, size), bilinear with antialias; one that is not square is squeezed.

    Images of this size stay as they are, as do all without a size.

    Raises:
        PairsLitError: They would take more than :data:`MOST_BYTES`.
    """
    if size is None or images.shape[1:] == (size, size):
        return images
    check_memory(len(images), size)
    large = (part[:, None].float() for part in torch.split(images, _AT_A_TIME))
    small = (F.interpolate(part, (size, size), mode="bilinear", antialias=True)[:, 0] for part in large)
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in small])
