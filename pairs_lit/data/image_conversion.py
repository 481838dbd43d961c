"""The size of images: resized, and no more of them than memory holds."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data.image_reader import arrays_to_greyscale, to_greyscale
from pairs_lit.errors import PairsLitError

MOST_BYTES = 2**33
"""The most that the grey bytes of a part of a source may take; the network's floats take up to four times as much."""

_AT_A_TIME = 10_000  # to save memory

grey, all_grey = to_greyscale, arrays_to_greyscale
"""Under these names, earlier releases had them here."""


def _in_parts(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([change(part) for part in torch.split(values, _AT_A_TIME)])


def check_memory(count: int, size: int) -> None:
    """Refuse more pictures of this height and width than :data:`MOST_BYTES` hold."""
    if count * size**2 > MOST_BYTES:
        raise PairsLitError(
            f"{count:,} pictures of {size}×{size} take {count * size**2 / 2**30:,.0f} GiB, at most "
            f"{MOST_BYTES // 2**30} are held: set data.resize to a smaller size"
        )


def resized(images: Tensor, size: int) -> Tensor:
    """Return grey bytes (n, H, W) as (n, size, size), bilinear with antialias; one that is not square is squeezed.

    Images of this size stay as they are.

    Raises:
        PairsLitError: They would take more than :data:`MOST_BYTES`.
    """
    if images.shape[1:] == (size, size):
        return images
    check_memory(len(images), size)

    def change(part: Tensor) -> Tensor:
        made = F.interpolate(part[:, None].float(), (size, size), mode="bilinear", antialias=True)
        return made[:, 0].round().clamp(0, 255).to(torch.uint8)

    return _in_parts(images, change)
