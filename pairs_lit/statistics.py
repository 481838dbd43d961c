"""Statistics over rounds: summaries, intervals, tests, and what n could have detected.

``scipy.stats`` takes most of a second to load, so it is loaded only where it is needed.
"""

from collections.abc import Mapping, Sequence
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
_EXACT = 13  # up to so many pairs all 2**n sign changes are tried
_TOGETHER = 20  # so many arrays are resampled at once: more would not fit the cache

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """First minus second.

    Attributes:
        method: How it was found, in words.
        n: Rounds of the first and of the second; equal where they are paired.
        estimate: The difference of the means.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Two-sided p value.
        detectable: The smallest true difference that this many rounds with this spread detect with 80 % power.
    """

    method: str
    n: tuple[int, int]
    estimate: float
    low: float
    high: float
    p: float
    detectable: float

    @property
    def contains_zero(self) -> bool:
        """Whether the interval leaves open which of the two is larger."""
        return self.low <= 0 <= self.high


def critical(freedom: float) -> float:
    """Return the critical value of a two-sided t test at the level."""
    return float(special.stdtrit(freedom, 1 - LEVEL / 2))


def half_width(sample: Summary) -> float:
    """Return half the width of Student's 95 % interval of a mean; NaN for fewer than two values."""
    return critical(sample.n - 1) * sample.std / sqrt(sample.n) if sample.n > 1 else NAN


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean; NaN for fewer than two values."""
    sample = summarise(values)
    half = half_width(sample)
    return sample.mean - half, sample.mean + half


Rounds = Mapping[int, float]
"""A figure of each round, by seed."""


def between_rounds(first: Rounds, second: Rounds, *, same_data: bool, bootstrap: bool = False) -> Difference:
    """Compare two runs of two or more rounds each.

    The result is that of :func:`paired` where both have the same data (a seed then stands for the same pairs) and share
    two or more seeds, else that of :func:`welch`.

    Args:
        first: The first run.
        second: The second run.
        same_data: Whether a seed stands for the same pairs in both.
        bootstrap: Where paired, give the bootstrap's interval (BCa), which the pages of ``docs/results`` state; of few
            rounds it covers less often than it says.
    """
    return between_many([(first, second, same_data)], bootstrap=bootstrap)[0]


def between_many(cases: Sequence[tuple[Rounds, Rounds, bool]], *, bootstrap: bool = False) -> list[Difference]:
    """Apply :func:`between_rounds` to many pairs of runs; a pair's result does not depend on the others."""
    shared = [
        np.array([first[seed] - second[seed] for seed in first if same_data and seed in second])
        for first, second, same_data in cases
    ]
    together = iter(_paired_many([each for each in shared if len(each) > 1], bootstrap=bootstrap))
    return [
        next(together) if len(each) > 1 else welch(summarise(list(first.values())), summarise(list(second.values())))
        for (first, second, _), each in zip(cases, shared, strict=True)
    ]


def welch(first: Summary, second: Summary) -> Difference:
    """Compare two independent samples of unequal variance by their moments (Welch 1947)."""
    from scipy import stats

    parts = [sample.std**2 / sample.n for sample in (first, second)]
    error = sqrt(sum(parts))
    estimate = first.mean - second.mean
    n = (first.n, second.n)
    if error == 0:
        return Difference("Welch", n, estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, 0.0)
    freedom = error**4 / sum(part**2 / (count - 1) for part, count in zip(parts, n, strict=True))
    half = critical(freedom) * error
    test = stats.ttest_ind_from_stats(
        first.mean, first.std, first.n, second.mean, second.std, second.n, equal_var=False
    )
    return Difference(
        "Welch", n, estimate, estimate - half, estimate + half, float(test.pvalue), detectable(error, freedom)
    )


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two samples whose i-th values share a seed, by the differences within the pairs.

    The interval is Student's: in simulations of rounds it covers the true difference closest to as often as it says
    (``tests/test_significance.py``). The p value is that of the exact sign-change permutation test of the mean
    difference up to 13 pairs, and of Wilcoxon's signed-rank test (Pratt's zeros) of more.
    """
    return _paired_many([np.subtract(first, second, dtype=np.float64)], bootstrap=False)[0]


def least_p(difference: Difference) -> float:
    """Return the smallest p value that so many rounds can give: 2 of 2**n sign changes where few are paired, else 0."""
    n = difference.n[0]
    return 2.0 ** (1 - n) if difference.method == "paired" and n <= _EXACT else 0.0


def paired_t(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two samples whose i-th values share a seed by Student's t of the differences within the pairs.

    For confirming one comparison that was planned: its p value is below 0.05 where its interval, which is that of
    :func:`paired`, leaves out 0.
    """
    from scipy import stats

    differences = summarise(np.subtract(first, second, dtype=np.float64).round(12).tolist())
    n, estimate, half = (differences.n, differences.n), differences.mean, half_width(differences)
    if differences.std == 0:
        return Difference("paired t", n, estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, 0.0)
    error, freedom = differences.std / sqrt(differences.n), differences.n - 1
    p = float(2 * stats.t.sf(abs(estimate) / error, freedom))
    shift = detectable(error, freedom)
    return Difference("paired t", n, estimate, estimate - half, estimate + half, p, shift)


def _paired_many(differences: Sequence[Values], *, bootstrap: bool) -> list[Difference]:
    """Compare each array of differences with 0; those of equal length are computed together."""
    found = dict[int, Difference]()
    for n in {len(each) for each in differences}:
        places = [place for place, each in enumerate(differences) if len(each) == n]
        for start in range(0, len(places), _TOGETHER):
            chunk = places[start : start + _TOGETHER]
            rows = np.stack([differences[place] for place in chunk])
            found |= zip(chunk, _paired_rows(rows, bootstrap=bootstrap), strict=True)
    return [found[place] for place in range(len(differences))]


def _paired_rows(rows: Values, *, bootstrap: bool) -> list[Difference]:
    """Compare each row (k, n) of differences with 0."""
    rows = rows.round(12)  # what is equal but for float noise must tie
    n = rows.shape[1]
    estimates, errors = rows.mean(1), rows.std(1, ddof=1) / sqrt(n)
    scattered = np.ptp(rows, axis=1) > 0
    half = np.where(scattered, errors * critical(n - 1), 0.0)
    low, high = estimates - half, estimates + half
    p = np.where(estimates == 0, 1.0, 2.0 ** (1 - n))
    if scattered.any():
        p[scattered] = _paired_p(rows[scattered])
        if bootstrap:
            low[scattered], high[scattered] = _resampled(rows[scattered])
    shifts = np.where(scattered, errors * _detectable_errors(n - 1), 0.0)
    columns = zip(*(column.tolist() for column in (estimates, low, high, p, shifts)), strict=True)
    return [Difference("paired", (n, n), *column) for column in columns]


def _paired_p(rows: Values) -> Values:
    """Return the p value of each row (k, n), none of them constant."""
    from scipy import stats

    n = rows.shape[1]
    if n <= _EXACT:
        test = stats.permutation_test((rows,), np.mean, permutation_type="samples", n_resamples=2**n, axis=-1)
    else:
        test = stats.wilcoxon(rows, zero_method="pratt", method="asymptotic", axis=1)
    found: Values = test.pvalue
    return found


def _resampled(rows: Values) -> tuple[Values, Values]:
    """Return the ends of the bootstrap's interval of each row (k, n), none of them constant."""
    from scipy import stats

    interval = stats.bootstrap(
        (rows,),
        lambda values, axis: values.mean(axis).round(12),  # resamples that differ only by float noise must tie
        n_resamples=9999,
        batch=100,  # what fits the cache
        axis=-1,
        confidence_level=1 - LEVEL,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return interval.low, interval.high


def spread_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Test whether two samples scatter equally: the p value of Brown and Forsythe's test (Levene's about medians)."""
    from scipy import stats

    return float(stats.levene(first, second, center="median").pvalue)


def detectable(error: float, freedom: float) -> float:
    """Return the true difference that a two-sided t test finds with 80 % power, from its standard error."""
    return error * _detectable_errors(freedom)


@cache
def _detectable_errors(freedom: float) -> float:
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
