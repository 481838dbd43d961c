"""Check of grey values: images that are all identical or have almost no contrast are rejected."""

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError

MIN_RANGE = 32
"""The least difference between the darkest and the brightest pixel of a part, of 255.

A smaller difference is typical of unscaled masks (0 and 1) and 4-bit values."""

MAX_MASK_VALUE = 16
"""The largest grey value, of 255, up to which a single image is taken for an unscaled mask or 4-bit values."""

LOW_CONTRAST_RANGE = 64
"""A part whose grey values differ by less is accepted with a notice; dark photos may be like that."""


def check_grey_range(images: Tensor, name: str) -> list[str]:
    """Return a notice if a part's images (n, H, W) have little contrast, else an empty list.

    Raises:
        PairsLitError: If all images are identical, or their grey values differ by less than :data:`MIN_RANGE`.
    """
    darkest, brightest = images.amin(0), images.amax(0)
    low, high, are_several = int(darkest.min()), int(brightest.max()), len(images) > 1
    if are_several and torch.equal(darkest, brightest):
        problem = f"all blank (grey value {low})" if low == high else "all identical"
        raise PairsLitError(
            f"data.source: {name}: images must differ from each other, got {len(images)} that are {problem}. Check the "
            "files, their transparency and their range of values."
        )
    if are_several and high - low < MIN_RANGE:
        raise PairsLitError(
            f"data.source: {name}: images must use the range 0 … 255 (integers) or 0 … 1 (floats), got grey values of "
            f"only {low} to {high} of 255 in all {len(images)}. Multiply masks of 0 and 1 by 255, and values of 0 … 16 "
            "by 255 / 16."
        )
    low_contrast = (
        f"its {len(images)} images use only grey values from {low} to {high} of 255. If they were stored with another "
        "range, scale them"
    )
    return [low_contrast] if high - low < LOW_CONTRAST_RANGE else []
