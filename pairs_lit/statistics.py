"""Statistics over rounds: summaries, intervals, Welch's test from moments, Holm's correction.

``scipy.stats`` takes most of a second to load, so it is loaded only where it is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special

NAN = float("nan")


@dataclass(frozen=True)
class Summary:
    """What n rounds have in common; figures that do not exist are NaN.

    Attributes:
        n: How many rounds.
        mean: Their mean.
        std: Their standard deviation (ddof 1); NaN for n = 1.
        median: Their median; reports may leave it out, and so the next two.
        min: The least.
        max: The greatest.
    """

    n: int
    mean: float
    std: float
    median: float = NAN
    min: float = NAN
    max: float = NAN

    @property
    def half_width(self) -> float:
        """Half the width of Student's 95 % interval of the mean; NaN for fewer than two values."""
        return critical(self.n - 1) * self.std / sqrt(self.n) if self.n > 1 else NAN

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % interval of the mean; NaN for fewer than two values."""
        return self.mean - self.half_width, self.mean + self.half_width


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the values of n rounds."""
    n = len(values)
    if n == 0:
        return Summary(0, NAN, NAN)
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if n > 1 else NAN
    return Summary(n, float(array.mean()), std, float(np.median(array)), float(array.min()), float(array.max()))


LEVEL = 0.05
"""Intervals hold 1 − LEVEL; a test is called significant below LEVEL."""

POWER = 0.8
"""The share of true differences that is found where a difference is called detectable."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """First minus second.

    Attributes:
        method: ``paired`` by seed, or ``Welch``.
        n: Rounds of the first and of the second; equal where they are paired.
        estimate: The difference of the means.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Two-sided p value.
    """

    method: str
    n: tuple[int, int]
    estimate: float
    low: float
    high: float
    p: float

    @property
    def contains_zero(self) -> bool:
        """Whether the interval leaves open which of the two is larger."""
        return self.low <= 0 <= self.high


def critical(freedom: float) -> float:
    """Return the critical value of a two-sided t test at the level."""
    return float(special.stdtrit(freedom, 1 - LEVEL / 2))


def welch(first: Summary, second: Summary) -> Difference:
    """Compare two independent samples of unequal variance by their moments (Welch 1947).

    For figures of which only mean and standard deviation are known. Where all rounds are,
    :func:`pairs_lit.analysis.comparison_tests.compare_rounds` decides.
    """
    error, freedom = (float(value) for value in welch_error(first.std, second.std, first.n, second.n))
    estimate, n = first.mean - second.mean, (first.n, second.n)
    if error == 0:
        return Difference("Welch", n, estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0)
    half, p = critical(freedom) * error, float(2 * special.stdtr(freedom, -abs(estimate / error)))
    return Difference("Welch", n, estimate, estimate - half, estimate + half, p)


def welch_error(first_std: Values | float, second_std: Values | float, n: int, m: int) -> tuple[Values, Values]:
    """Return the standard error of the difference of two means, and its degrees of freedom (Welch, Satterthwaite)."""
    parts = np.square(first_std) / n, np.square(second_std) / m
    total = np.asarray(parts[0] + parts[1], dtype=np.float64)
    shares = [part / np.where(total > 0, total, 1.0) for part in parts]
    freedom = 1 / np.where(total > 0, shares[0] ** 2 / (n - 1) + shares[1] ** 2 / (m - 1), 1.0)
    return np.sqrt(total), freedom


@dataclass(frozen=True)
class SpreadRatio:
    """How the scatter of one sample compares with that of another.

    Attributes:
        ratio: The first standard deviation over the second; infinite where only the second is 0, NaN where both are.
        sign: 1 where the first scatters more, -1 where less, 0 where the standard deviations and the mean deviations
            from the median, which the test compares, do not agree.
        p: The p value of Brown and Forsythe's test (Levene's about medians).
    """

    ratio: float
    sign: int
    p: float


def compare_spreads(first: Sequence[float], second: Sequence[float]) -> SpreadRatio:
    """Test whether two samples of two or more values scatter equally."""
    from scipy import stats

    samples = [np.asarray(values, dtype=np.float64).round(12) for values in (first, second)]
    stds = [float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0 for values in samples]
    deviations = [np.abs(values - np.median(values)).round(12) for values in samples]
    is_undefined = all(np.ptp(each) == 0 for each in deviations)  # of two values each, the deviations are always equal
    p = 1.0 if is_undefined else float(stats.levene(*samples, center="median").pvalue)
    signs = [np.sign(each[0] - each[1]) for each in (stds, [values.mean() for values in deviations])]
    ratio = stds[0] / stds[1] if stds[1] > 0 else float("inf") if stds[0] > 0 else NAN
    return SpreadRatio(ratio, int(signs[0]) if signs[0] == signs[1] else 0, p)


@cache
def t_detectable_errors(freedom: float) -> float:
    """Return how many standard errors a true difference must have for a two-sided t test to find 80 % of them."""
    from scipy import optimize

    threshold = critical(freedom)

    def lack(shift: float) -> float:
        found = 1 - special.nctdtr(freedom, shift, threshold) + special.nctdtr(freedom, shift, -threshold)
        return float(np.nan_to_num(found, nan=1.0)) - POWER  # NaN: too far out for scipy

    return float(optimize.brentq(lack, 0.0, 4 * threshold + 10))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979): the chance of any false finding stays below the level."""
    order = np.argsort(p_values)
    count, largest = len(p_values), 0.0
    corrected = [0.0] * count
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
