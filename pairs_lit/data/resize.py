"""Resizing of images to one size, with a limit on the memory that they take."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError

MAX_BYTES = 2**33
"""The largest total of grey bytes in one part of a source; as floats, they take up to four times as much memory."""

_CHUNK_SIZE = 10_000  # images per chunk, to save memory


def check_memory(count: int, size: int) -> None:
    """Raise PairsLitError if ``count`` images of ``size`` × ``size`` bytes would take more than :data:`MAX_BYTES`."""
    if count * size**2 > MAX_BYTES:
        raise PairsLitError(
            f"images must take at most {MAX_BYTES // 2**30} GiB, got {count:,} of {size}×{size}, which take "
            f"{count * size**2 / 2**30:,.0f} GiB. Set data.resize to a smaller size"
        )


def resize_images(images: Tensor, size: int | None) -> Tensor:
    """Return grey bytes (n, H, W) resized to (n, size, size) by bilinear interpolation with antialiasing.

    Images that are not square are squeezed. If ``size`` is None or the images have this size already, they are returned
    unchanged.

    Raises:
        PairsLitError: If the resized images would take more than :data:`MAX_BYTES`.
    """
    if size is None or images.shape[1:] == (size, size):
        return images
    check_memory(len(images), size)
    chunks = (chunk[:, None].float() for chunk in torch.split(images, _CHUNK_SIZE))
    resized = (F.interpolate(chunk, (size, size), mode="bilinear", antialias=True)[:, 0] for chunk in chunks)
    return torch.cat([chunk.round().clamp(0, 255).to(torch.uint8) for chunk in resized])
