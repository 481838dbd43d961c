"""How large a difference is, in other words than the mean's: probability of superiority, interquartile mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import special

from pairs_lit.statistics import LEVEL, NAN, critical

_TRIMMED = 0.25


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure.
        low: Lower end; NaN where so few rounds give no interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def superiority(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate the probability that a round of the first gives more than a round of the second; ties count half.

    It is Mann and Whitney's U / (n·m). The interval is Newcombe's fifth (Statistics in Medicine 25, 2006), which holds
    for few rounds and never leaves 0 … 1. Rounds are taken as independent, so where two runs share their seeds, and
    rounds of one seed resemble each other, it is rather too wide.
    """
    n, m = len(first), len(second)
    points, others = (
        np.sort(np.asarray(each, dtype=np.float64).round(12)) for each in (first, second)
    )  # noise must tie
    beaten = [np.searchsorted(others, points, side) for side in ("left", "right")]  # without ties, and with them
    value = float(np.sum(beaten)) / (2 * n * m)
    return Estimate(value, 1 - _upper_end(1 - value, n, m), _upper_end(value, n, m))


def _upper_end(value: float, n: int, m: int) -> float:
    """Return the largest probability whose own standard error, times the critical value, reaches down to the value."""
    from scipy import optimize

    width = float(special.ndtri(1 - LEVEL / 2))

    def beyond(p: float) -> float:
        spread = 1 + ((n + m) / 2 - 1) * ((1 - p) / (2 - p) + p / (1 + p))
        return p - value - width * sqrt(p * (1 - p) * spread / (n * m))

    return 1.0 if value == 1 else float(optimize.brentq(beyond, value + 1e-12, 1.0))


def interquartile_mean(values: Sequence[float]) -> Estimate:
    """Return the mean of the middle half of the rounds: a quarter of them (rounded down) is left out at either end.

    The interval is Tukey and McLaughlin's: Student's, from the winsorised variance. NaN for fewer than two rounds.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, out = len(ordered), int(_TRIMMED * len(ordered))
    kept = n - 2 * out
    value = float(ordered[out : n - out].mean()) if n else NAN
    if kept < 2:
        return Estimate(value, NAN, NAN)
    winsorised = np.clip(ordered, ordered[out], ordered[n - 1 - out])
    error = float(winsorised.std(ddof=1)) * sqrt((n - 1) / (kept * (kept - 1)))
    half = critical(kept - 1) * error
    return Estimate(value, value - half, value + half)
