"""Wilcoxon's signed-rank test and Mann and Whitney's test, exact for few rounds even with ties and zeros.

Accuracies over 1,000 pairs tie often. There, ``scipy.stats`` falls back to normal approximations, which can call five
pairs of rounds significant though no test of five pairs can reach 5 %.
"""

from functools import lru_cache

import numpy as np

from pairs_lit.statistics import Values

_EXACT_DIFFERENCES = 50  # scipy's limit, too, for what neither ties nor is 0
_EXACT_PRODUCTS = 400  # two samples of 20 rounds


def signed_rank(rows: Values) -> tuple[Values, Values]:
    """Test whether the differences in each row lie symmetrically about 0 (Wilcoxon 1945).

    Zeros are ranked, then left out (Pratt 1959); ties get the mean of their ranks. Where at most 50 differences are not
    0, p is exact: the share of all changes of their signs that are as extreme, given their ranks. Else it is that of
    the normal approximation.

    Args:
        rows: Differences, (k, n).

    Returns:
        For each row, the sign of the statistic (positive ranks minus negative ones), and the two-sided p value.
    """
    from scipy import stats

    doubled = np.rint(2 * stats.rankdata(np.abs(rows), axis=1)).astype(np.int64)  # the mean of two ranks may be a half
    doubled[rows == 0] = 0
    positive, negative = (np.where(side, doubled, 0).sum(1) for side in (rows > 0, rows < 0))
    p = np.ones(len(rows))
    is_exact = (rows != 0).sum(1) <= _EXACT_DIFFERENCES
    ranks = np.sort(doubled[is_exact], axis=1)
    smaller = np.minimum(positive, negative)[is_exact]
    p[is_exact] = [_signed_rank_p(row.tobytes(), least) for row, least in zip(ranks, smaller.tolist(), strict=True)]
    if not is_exact.all():
        test = stats.wilcoxon(rows[~is_exact], zero_method="pratt", method="asymptotic", axis=1)
        p[~is_exact] = test.pvalue
    return np.sign(positive - negative).astype(np.float64), p


def _signed_rank_p(ranks: bytes, smaller: int) -> float:
    return min(1.0, 2 * float(_signed_rank_chances(ranks)[smaller]))


@lru_cache(maxsize=128)
def _signed_rank_chances(ranks: bytes) -> Values:
    """Return, for each sum, the chance that the positive ranks add up to it or less, if all signs are as likely."""
    chances = np.ones(1)
    for rank in np.frombuffer(ranks, dtype=np.int64).tolist():
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return np.cumsum(chances)


def rank_sum(first: Values, second: Values) -> tuple[Values, Values]:
    """Test whether the values of one sample tend to be larger than those of another (Mann and Whitney 1947).

    Ties get the mean of their ranks. For samples of up to 20 rounds each (n·m ≤ 400), p is exact: the share of all ways
    to divide the ranks that are as extreme, doubled. Else it is that of the normal approximation, corrected for ties
    and continuity.

    Args:
        first: Values of the first sample, (k, n).
        second: Values of the second, (k, m).

    Returns:
        For each row, the sign of the statistic (1: the first tends to be larger), and the two-sided p value.
    """
    from scipy import stats

    n, m = first.shape[1], second.shape[1]
    ranks = np.rint(2 * stats.rankdata(np.hstack([first, second]), axis=1)).astype(np.int64)
    sums = ranks[:, :n].sum(1)
    sign = np.sign(sums - n * (n + m + 1)).astype(np.float64)
    if n * m > _EXACT_PRODUCTS:
        constant = np.ptp(ranks, axis=1) == 0
        p = np.ones(len(ranks))
        p[~constant] = stats.mannwhitneyu(first[~constant], second[~constant], axis=1, method="asymptotic").pvalue
        return sign, p
    size = min(n, m)
    small = sums if n <= m else ranks[:, n:].sum(1)
    rows = zip(np.sort(ranks, axis=1), small.tolist(), strict=True)
    return sign, np.array([_rank_sum_p(row.tobytes(), size, total) for row, total in rows])


def _rank_sum_p(ranks: bytes, size: int, total: int) -> float:
    below, above = _rank_sum_chances(ranks, size)
    return min(1.0, 2 * float(min(below[total], above[total])))


@lru_cache(maxsize=128)
def _rank_sum_chances(ranks: bytes, size: int) -> tuple[Values, Values]:
    """Return, for each sum, the chance that so many of the ranks add up to it or less, and to it or more."""
    values = np.frombuffer(ranks, dtype=np.int64)
    ways = np.zeros((size + 1, int(values.sum()) + 1))
    ways[0, 0] = 1
    for rank in values.tolist():
        ways[1:, rank:] += ways[:-1, :-rank]
    chances = ways[size] / ways[size].sum()
    return np.cumsum(chances), np.cumsum(chances[::-1])[::-1]
