"""Effect sizes next to the difference of means: probability of superiority and interquartile mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import special

from pairs_lit.statistics import NAN, SIGNIFICANCE_LEVEL, compute_critical_t

_TRIMMED_SHARE = 0.25


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval.

    Attributes:
        value: The estimate.
        low: The lower end of the interval; NaN if there are too few rounds for one.
        high: The upper end of the interval; NaN if there are too few rounds.
    """

    value: float
    low: float
    high: float


def estimate_superiority(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate the probability that a value of the first sample exceeds one of the second; ties count half.

    The estimate is Mann and Whitney's U / (n·m). The interval is Newcombe's fifth method (Statistics in Medicine 25,
    2006), which is valid for few rounds and stays between 0 and 1. It treats the rounds as independent, so it is rather
    too wide if two runs share their seeds and rounds of the same seed resemble each other.
    """
    n, m = len(first), len(second)
    # rounding keeps float noise from breaking ties
    lower, upper = (np.sort(np.asarray(values, dtype=np.float64).round(12)) for values in (second, first))
    # how many values of the second sample each value of the first exceeds, and how many it exceeds or equals
    counts = [np.searchsorted(lower, upper, side) for side in ("left", "right")]
    value = float(np.sum(counts)) / (2 * n * m)
    return Estimate(value, 1 - _compute_upper_end(1 - value, n, m), _compute_upper_end(value, n, m))


def _compute_upper_end(value: float, n: int, m: int) -> float:
    """Return the upper end of Newcombe's interval, for which the standard error is evaluated at the end itself."""
    from scipy import optimize

    critical_z = float(special.ndtri(1 - SIGNIFICANCE_LEVEL / 2))

    def compute_excess(p: float) -> float:
        spread = 1 + ((n + m) / 2 - 1) * ((1 - p) / (2 - p) + p / (1 + p))
        return p - value - critical_z * sqrt(p * (1 - p) * spread / (n * m))

    return 1.0 if value == 1 else float(optimize.brentq(compute_excess, value + 1e-12, 1.0))


def estimate_interquartile_mean(values: Sequence[float]) -> Estimate:
    """Return the mean of the middle half of the values, without the lowest and the highest quarter (rounded down).

    The interval is Tukey and McLaughlin's: a t interval with the winsorised variance. Its ends are NaN if fewer than
    two values remain.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, trimmed = len(ordered), int(_TRIMMED_SHARE * len(ordered))
    remaining = n - 2 * trimmed
    value = float(ordered[trimmed : n - trimmed].mean()) if n else NAN
    if remaining < 2:
        return Estimate(value, NAN, NAN)
    winsorised = np.clip(ordered, ordered[trimmed], ordered[n - 1 - trimmed])
    error = float(winsorised.std(ddof=1)) * sqrt((n - 1) / (remaining * (remaining - 1)))
    half = compute_critical_t(remaining - 1) * error
    return Estimate(value, value - half, value + half)
