"""The range of grey values: images that are all alike, or nearly black, are no data."""

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError

LEAST_RANGE = 32
"""A part whose darkest and brightest pixel differ by less, of 255, holds masks, 4-bit values or the like."""

MASK_TOP = 16
"""A single image whose brightest pixel is no brighter, of 255, holds a mask, 4-bit values or the like."""

FAINT_RANGE = 64
"""A part whose grey values differ by less is reported, but accepted: dark photos."""


def check_grey_range(images: Tensor, name: str) -> list[str]:
    """Return what to tell of a part's images (n, H, W) where they have little contrast.

    Raises:
        PairsLitError: All of them are the same, or they use less than :data:`LEAST_RANGE` grey values.
    """
    darkest, brightest = images.amin(0), images.amax(0)
    low, high, are_several = int(darkest.min()), int(brightest.max()), len(images) > 1
    if are_several and torch.equal(darkest, brightest):
        what = f"all blank (grey value {low})" if low == high else "all identical"
        raise PairsLitError(
            f"data.source: {name}: images must differ from each other, got {len(images)} that are {what}. Check the "
            "files, their transparency and their range of values."
        )
    if are_several and high - low < LEAST_RANGE:
        raise PairsLitError(
            f"data.source: {name}: images must use the range 0 … 255 (integers) or 0 … 1 (floats), got grey values of "
            f"only {low} to {high} of 255 in all {len(images)}. Scale them: multiply masks of 0 and 1 by 255, values "
            "of 0 … 16 by 255 / 16."
        )
    few = (
        f"its {len(images)} images use only the grey values {low} to {high} of 255: if they were stored with another "
        "range, scale them"
    )
    return [few] if high - low < FAINT_RANGE else []
