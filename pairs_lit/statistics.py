"""Statistics over rounds: summaries, intervals, Welch's test from means and standard deviations, Holm's correction.

``scipy.stats`` takes most of a second to import, so the functions that need it import it themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import isnan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special

NAN = float("nan")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Summary statistics of one value per round; statistics that are undefined or unknown are NaN.

    Attributes:
        n: The number of rounds.
        mean: The mean.
        std: The standard deviation (ddof 1); NaN for fewer than two rounds.
        median: The median; like the minimum and the maximum, NaN if a published report does not give it.
        min: The minimum.
        max: The maximum.
    """

    n: int
    mean: float
    std: float
    median: float = NAN
    min: float = NAN
    max: float = NAN

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % t interval of the mean; NaN for fewer than two values."""
        return compute_critical_t(self.n - 1) * self.std / sqrt(self.n) if self.n > 1 else NAN

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % t interval of the mean; NaN for fewer than two values."""
        return self.mean - self.half_width, self.mean + self.half_width

    def _repr_html_(self) -> str:
        """Return the statistics in one line, which notebooks display."""
        others = {"median": self.median, "min": self.min, "max": self.max}
        known = [f"{name} {value:.4f}" for name, value in others.items() if not isnan(value)]
        return "; ".join([format_mean_and_std(self), *known])


def format_mean_and_std(summary: Summary) -> str:
    """Return a text such as ``0.8757 ± 0.0165 (n = 10)``; a single round has no ± part."""
    spread = f" ± {summary.std:.4f}" if summary.n > 1 else ""
    return f"{summary.mean:.4f}{spread} (n = {summary.n})"


def summarise(values: Sequence[float]) -> Summary:
    """Return the summary statistics of one value per round."""
    n = len(values)
    if n == 0:
        return Summary(0, NAN, NAN)
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if n > 1 else NAN
    return Summary(n, float(array.mean()), std, float(np.median(array)), float(array.min()), float(array.max()))


def summarise_rows(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the standard deviation (ddof 1) of each row of values (M, n); NaN if n is too small."""
    undefined = np.full(len(values), NAN)
    n = values.shape[-1] if len(values) else 0
    return values.mean(1) if n > 0 else undefined, values.std(1, ddof=1) if n > 1 else undefined


SIGNIFICANCE_LEVEL = 0.05
"""Significance level: intervals have confidence 1 − LEVEL, and a test rejects if p is below LEVEL."""

TARGET_POWER = 0.8
"""The power at which the minimum detectable effect is computed."""


@dataclass(frozen=True)
class Difference:
    """The difference of two means, first minus second, with its interval and p value.

    Attributes:
        method: ``paired`` (by seed) or ``Welch`` (unpaired).
        n: The numbers of rounds of the first and of the second; they are equal if the rounds are paired.
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
        """Whether the interval contains 0, so that either mean may be the larger one."""
        return self.low <= 0 <= self.high


def compute_critical_t(freedom: float) -> float:
    """Return the critical value of a two-sided t test at the significance level, for these degrees of freedom."""
    return float(special.stdtrit(freedom, 1 - SIGNIFICANCE_LEVEL / 2))


def compare_by_welch(first: Summary, second: Summary) -> Difference:
    """Compare two independent samples of unequal variance by their means and standard deviations (Welch 1947).

    Use this for published results, of which the single rounds are unknown. If all rounds are known, use
    :func:`pairs_lit.analysis.comparison_tests.compare_rounds`.
    """
    error, freedom = (float(value) for value in compute_welch_error(first.std, second.std, first.n, second.n))
    estimate, n = first.mean - second.mean, (first.n, second.n)
    if error == 0:
        return Difference("Welch", n, estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0)
    half, p = compute_critical_t(freedom) * error, float(2 * special.stdtr(freedom, -abs(estimate / error)))
    return Difference("Welch", n, estimate, estimate - half, estimate + half, p)


def compute_welch_error(
    first_std: FloatArray | float, second_std: FloatArray | float, n: int, m: int
) -> tuple[FloatArray, FloatArray]:
    """Return the standard error of the difference of two means, and its degrees of freedom (Welch, Satterthwaite)."""
    parts = np.square(first_std) / n, np.square(second_std) / m
    total = np.asarray(parts[0] + parts[1], dtype=np.float64)
    shares = [part / np.where(total > 0, total, 1.0) for part in parts]
    freedom = 1 / np.where(total > 0, shares[0] ** 2 / (n - 1) + shares[1] ** 2 / (m - 1), 1.0)
    return np.sqrt(total), freedom


@dataclass(frozen=True)
class SpreadRatio:
    """The ratio of two samples' standard deviations, with the p value of a test for equal spread.

    Attributes:
        ratio: The first standard deviation divided by the second; infinite if only the second is 0, NaN if both are.
        sign: 1 if the first sample has the larger spread, -1 if the second has. 0 if the standard deviations and the
            mean absolute deviations from the median, which the test compares, contradict each other.
        p: The p value of the Brown–Forsythe test (Levene's test about medians).
    """

    ratio: float
    sign: int
    p: float


def compare_spreads(first: Sequence[float], second: Sequence[float]) -> SpreadRatio:
    """Test whether two samples of two or more values have equal spread."""
    from scipy import stats

    samples = [np.asarray(values, dtype=np.float64).round(12) for values in (first, second)]
    stds = [float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0 for values in samples]
    deviations = [np.abs(values - np.median(values)).round(12) for values in samples]
    # two values always have equal deviations from their median, so the test statistic would be 0 / 0
    is_undefined = all(np.ptp(values) == 0 for values in deviations)
    p = 1.0 if is_undefined else float(stats.levene(*samples, center="median").pvalue)
    mean_deviations = [values.mean() for values in deviations]
    signs = [np.sign(first_spread - second_spread) for first_spread, second_spread in (stds, mean_deviations)]
    ratio = stds[0] / stds[1] if stds[1] > 0 else float("inf") if stds[0] > 0 else NAN
    return SpreadRatio(ratio, int(signs[0]) if signs[0] == signs[1] else 0, p)


@cache
def compute_t_detectable_errors(freedom: float) -> float:
    """Return the true difference, in standard errors, that a two-sided t test detects with 80 % power."""
    from scipy import optimize

    upper = 4 * compute_critical_t(freedom) + 10
    return float(optimize.brentq(lambda shift: _compute_t_power(freedom, shift) - TARGET_POWER, 0.0, upper))


def _compute_t_power(freedom: float, shift: float) -> float:
    """Return the power of a two-sided t test if the true difference is ``shift`` standard errors."""
    threshold = compute_critical_t(freedom)
    power = float(1 - special.nctdtr(freedom, shift, threshold) + special.nctdtr(freedom, shift, -threshold))
    if not isnan(power):
        return power
    # scipy returns NaN for many large shifts; then take the mean over the quantiles of the estimated standard error
    quantiles = (np.arange(1000) + 0.5) / 1000
    bounds = threshold * np.sqrt(special.gammaincinv(freedom / 2, quantiles) / (freedom / 2))
    return float((special.ndtr(shift - bounds) + special.ndtr(-shift - bounds)).mean())


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for multiple comparisons by Holm's method (1979).

    Rejecting the adjusted p values below the significance level keeps the chance of any false positive below it, too.
    """
    order = np.argsort(p_values)
    count, largest = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
