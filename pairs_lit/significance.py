"""Is a difference between two sets of rounds more than chance? Intervals, tests, and what n could have detected.

``scipy.stats`` takes most of a second to load, so it is loaded only where it is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import special

LEVEL = 0.05
"""Intervals hold 1 − LEVEL; a test is called significant below LEVEL."""

POWER = 0.8
_RESAMPLES = 9999
_EXACT = 13  # up to so many pairs all 2**n sign changes are tried


@dataclass(frozen=True)
class Sample:
    """What a report publishes of n rounds: mean and std (ddof 1)."""

    n: int
    mean: float
    std: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        """Return the moments of two or more values."""
        return cls(len(values), float(np.mean(values)), float(np.std(values, ddof=1)))


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
        detectable: The smallest true difference that so many rounds, this scattered, find with 80 % power.
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


def _critical(freedom: float) -> float:
    """Return where Student's t of a two-sided test at the level begins."""
    return float(special.stdtrit(freedom, 1 - LEVEL / 2))


def half_width(sample: Sample) -> float:
    """Return half the width of Student's 95 % interval of a mean; NaN for fewer than two values."""
    if sample.n < 2:
        return float("nan")
    return _critical(sample.n - 1) * sample.std / sqrt(sample.n)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean; NaN for fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    sample = Sample.of(values)
    half = half_width(sample)
    return sample.mean - half, sample.mean + half


def between_rounds(first: Mapping[int, float], second: Mapping[int, float], *, same_data: bool) -> Difference:
    """Compare the rounds of two runs, each a figure by seed.

    Args:
        first: Two or more rounds.
        second: Two or more rounds.
        same_data: Whether a seed stands for the same pairs in both.

    Returns:
        :func:`paired` by the seeds they share, where that is right and there are two or more; else :func:`welch`.
    """
    shared = [seed for seed in first if seed in second]
    if same_data and len(shared) > 1:
        return paired([first[seed] for seed in shared], [second[seed] for seed in shared])
    return welch(Sample.of(list(first.values())), Sample.of(list(second.values())))


def welch(first: Sample, second: Sample) -> Difference:
    """Compare two independent samples of unequal variance by their moments (Welch 1947)."""
    from scipy import stats

    parts = [sample.std**2 / sample.n for sample in (first, second)]
    error = sqrt(sum(parts))
    estimate = first.mean - second.mean
    n = (first.n, second.n)
    if error == 0:
        return Difference("Welch", n, estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, 0.0)
    freedom = error**4 / sum(part**2 / (count - 1) for part, count in zip(parts, n, strict=True))
    half = _critical(freedom) * error
    test = stats.ttest_ind_from_stats(
        first.mean, first.std, first.n, second.mean, second.std, second.n, equal_var=False
    )
    return Difference(
        "Welch", n, estimate, estimate - half, estimate + half, float(test.pvalue), detectable(error, freedom)
    )


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two samples whose i-th values share a seed, by the differences within the pairs.

    The interval is the bootstrap's (BCa), the p value that of a sign-change permutation test of the mean difference,
    exact up to 13 pairs.
    """
    from scipy import stats

    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n, estimate = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / sqrt(n)
    if error == 0:
        p = 1.0 if estimate == 0 else 2.0 ** (1 - n)
        return Difference("paired", (n, n), estimate, estimate, estimate, p, 0.0)
    low, high = _bootstrap(differences)
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=2**n if n <= _EXACT else _RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return Difference("paired", (n, n), estimate, low, high, float(test.pvalue), detectable(error, n - 1))


def _bootstrap(differences: np.ndarray) -> tuple[float, float]:
    from scipy import stats

    found = stats.bootstrap(
        (differences,), np.mean, n_resamples=_RESAMPLES, confidence_level=1 - LEVEL, rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def spread_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Test whether two samples scatter equally: the p value of Brown and Forsythe's test (Levene's about medians)."""
    from scipy import stats

    return float(stats.levene(first, second, center="median").pvalue)


def detectable(error: float, freedom: float) -> float:
    """Return the true difference that a two-sided t test finds with 80 % power.

    Args:
        error: Standard error of the difference.
        freedom: Degrees of freedom.
    """
    from scipy import optimize

    critical = _critical(freedom)

    def lack(shift: float) -> float:
        found = 1 - special.nctdtr(freedom, shift, critical) + special.nctdtr(freedom, shift, -critical)
        return float(np.nan_to_num(found, nan=1.0)) - POWER  # NaN: too far out for scipy

    return error * float(optimize.brentq(lack, 0.0, 4 * critical + 10))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979): the chance of any false finding stays below the level."""
    order = np.argsort(p_values)
    count, largest = len(p_values), 0.0
    corrected = [0.0] * count
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
