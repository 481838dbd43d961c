"""Statistics over rounds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """n values in short; std is the sample's (ddof 1), NaN for n = 1; all but n are NaN for n = 0."""

    n: int
    mean: float
    std: float
    median: float
    min: float
    max: float


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the values of n rounds."""
    n, nan = len(values), float("nan")
    if n == 0:
        return Summary(0, nan, nan, nan, nan, nan)
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if n > 1 else nan
    return Summary(n, float(array.mean()), std, float(np.median(array)), float(array.min()), float(array.max()))
