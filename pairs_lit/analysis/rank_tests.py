"""Wilcoxon's signed-rank test and Mann and Whitney's test, exact for few rounds even with ties and zeros.

Accuracies over 1,000 pairs often tie. With ties, ``scipy.stats`` falls back to normal approximations, which can call
five pairs of rounds significant although no exact test of five pairs can reach 5 %.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pairs_lit.statistics import FloatArray

_MAX_EXACT_DIFFERENCES = 50  # also scipy's limit for samples without ties and zeros
_MAX_EXACT_PRODUCT = 400  # n·m, for instance two samples of 20 rounds


def run_signed_rank_test(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Test whether the differences in each row lie symmetrically about 0 (Wilcoxon 1945).

    Zeros are ranked, then left out (Pratt 1959); ties get the mean of their ranks. With at most 50 non-zero
    differences, p is exact: the share of all sign assignments whose statistic is at least as extreme. With more, p
    comes from the normal approximation.

    Args:
        rows: Differences, (k, n).

    Returns:
        For each row, the sign of the statistic (sum of positive minus sum of negative ranks) and the two-sided p value.
    """
    doubled = compute_doubled_ranks(np.abs(rows))
    doubled[rows == 0] = 0
    positive, negative = (np.where(has_sign, doubled, 0).sum(1) for has_sign in (rows > 0, rows < 0))
    p = np.ones(len(rows))
    is_exact = (rows != 0).sum(1) <= _MAX_EXACT_DIFFERENCES
    ranks = np.sort(doubled[is_exact], axis=1)
    smaller = np.minimum(positive, negative)[is_exact]
    p[is_exact] = [
        _compute_signed_rank_p(row.tobytes(), least) for row, least in zip(ranks, smaller.tolist(), strict=True)
    ]
    if not is_exact.all():
        from scipy import stats  # takes half a second to import

        test = stats.wilcoxon(rows[~is_exact], zero_method="pratt", method="asymptotic", axis=1)
        p[~is_exact] = test.pvalue
    return np.sign(positive - negative).astype(np.float64), p


def compute_doubled_ranks(rows: FloatArray) -> NDArray[np.int64]:
    """Return twice the rank of each value in its row; tied values get the mean of their ranks, a multiple of 1/2."""
    doubled = np.empty(rows.shape, dtype=np.int64)
    for row, ranks in zip(rows, doubled, strict=True):
        ordered = np.sort(row)
        ranks[:] = np.searchsorted(ordered, row, "left") + np.searchsorted(ordered, row, "right") + 1
    return doubled


def _compute_signed_rank_p(ranks: bytes, smaller: int) -> float:
    return min(1.0, 2 * float(_compute_signed_rank_probabilities(ranks)[smaller]))


@lru_cache(maxsize=128)
def _compute_signed_rank_probabilities(ranks: bytes) -> FloatArray:
    """Return, for each sum, the probability that the positive ranks add up to at most this sum under random signs."""
    probabilities = np.ones(1)
    for rank in np.frombuffer(ranks, dtype=np.int64).tolist():
        extended = np.zeros(len(probabilities) + rank)
        extended[: len(probabilities)] += probabilities / 2
        extended[rank:] += probabilities / 2
        probabilities = extended
    return np.cumsum(probabilities)


def run_rank_sum_test(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Test whether the values of one sample tend to be larger than those of another (Mann and Whitney 1947).

    Ties get the mean of their ranks. For small samples (n·m ≤ 400, for instance 20 rounds each), p is exact: twice the
    share of all divisions of the ranks that are at least as extreme. For larger ones, p comes from the normal
    approximation, corrected for ties and continuity.

    Args:
        first: Values of the first sample, (k, n).
        second: Values of the second, (k, m).

    Returns:
        For each row, the sign of the statistic (1 if the first sample tends to be larger) and the two-sided p value.
    """
    n, m = first.shape[1], second.shape[1]
    ranks = compute_doubled_ranks(np.hstack([first, second]))
    sums = ranks[:, :n].sum(1)
    sign = np.sign(sums - n * (n + m + 1)).astype(np.float64)
    if n * m > _MAX_EXACT_PRODUCT:
        from scipy import stats  # takes half a second to import

        varies = np.ptp(ranks, axis=1) > 0
        p = np.ones(len(ranks))
        p[varies] = stats.mannwhitneyu(first[varies], second[varies], axis=1, method="asymptotic").pvalue
        return sign, p
    size = min(n, m)
    smaller_sums = sums if n <= m else ranks[:, n:].sum(1)
    rows = zip(np.sort(ranks, axis=1), smaller_sums.tolist(), strict=True)
    return sign, np.array([_compute_rank_sum_p(row.tobytes(), size, total) for row, total in rows])


def _compute_rank_sum_p(ranks: bytes, size: int, total: int) -> float:
    below, above = _compute_rank_sum_probabilities(ranks, size)
    return min(1.0, 2 * float(min(below[total], above[total])))


@lru_cache(maxsize=128)
def _compute_rank_sum_probabilities(ranks: bytes, size: int) -> tuple[FloatArray, FloatArray]:
    """Return, for each sum, the probabilities that ``size`` random ranks add up to at most and to at least this sum."""
    values = np.frombuffer(ranks, dtype=np.int64)
    counts = np.zeros((size + 1, int(values.sum()) + 1))  # the number of subsets by size and sum
    counts[0, 0] = 1
    for rank in values.tolist():
        counts[1:, rank:] += counts[:-1, :-rank]
    probabilities = counts[size] / counts[size].sum()
    return np.cumsum(probabilities), np.cumsum(probabilities[::-1])[::-1]
