"""Power of a comparison of n rounds: the smallest possible p value and the minimum detectable effect."""

from functools import cache
from math import comb

import numpy as np

from pairs_lit.analysis.tables import format_p_value
from pairs_lit.statistics import NAN, SIGNIFICANCE_LEVEL, compute_t_detectable_errors
from pairs_lit.text import format_count

_PAIRED_RATIOS = (
    *(1.2622, 1.0659, 1.0904, 1.0852, 1.0410, 1.0627, 1.0619, 1.0424, 1.0384),
    *(1.0436, 1.0532, 1.0506, 1.0396, 1.0389, 1.0414),
)
_UNPAIRED_RATIOS = (
    *(1.2281, 1.1493, 1.0876, 1.0958, 1.0560, 1.0816, 1.0704, 1.0561, 1.0622),
    *(1.0635, 1.0491, 1.0606, 1.0520, 1.0537, 1.0541, 1.0460, 1.0484),
)
_FIRST_PAIRED_ROUNDS = 6
_FIRST_UNPAIRED_ROUNDS = 4
_LIMIT_RATIO = 1.0427
"""The ratio of the minimum detectable effect of both tests together to that of the t test alone.

The ratios hold for normal values, for 6 to 20 pairs of rounds and for two samples of 4 to 20 rounds each;
``benchmarks/decision.py --power`` simulates them. For more rounds they approach the limit, which follows from two test
statistics that are normal with correlation √(3/π).
"""


def compute_smallest_p(first: int, second: int, *, is_paired: bool) -> float:
    """Return the smallest p value that is possible with this many rounds.

    It is that of the rank test, because the larger p value of both tests counts. For n pairs of rounds, all differences
    have the same sign in 2 of 2ⁿ cases. For two samples, all rounds of one are better than all rounds of the other in 2
    of (n + m choose n) cases.

    Args:
        first: The number of rounds of the first run.
        second: The number of rounds of the second run; the same if the rounds are paired.
        is_paired: Whether the rounds are paired by seed.
    """
    return min(1.0, 2.0 ** (1 - first) if is_paired else 2 / comb(first + second, first))


@cache
def compute_needed_rounds(comparisons: int, *, is_paired: bool) -> int:
    """Return how many rounds per run are needed for a significant difference among this many comparisons."""
    n = 2
    while comparisons * compute_smallest_p(n, n, is_paired=is_paired) >= SIGNIFICANCE_LEVEL:
        n += 1
    return n


def describe_limit(first: int, second: int, comparisons: int, *, is_paired: bool, least: float | None = None) -> str:
    """Return why no difference can be significant with so few rounds, and how many are needed; empty if one can be.

    Args:
        first: The number of rounds of the first run.
        second: The number of rounds of the second run; the same if the rounds are paired.
        comparisons: The number of comparisons for which Holm's method corrects.
        is_paired: Whether the rounds are paired by seed.
        least: The smallest possible corrected p value, or None to compute it for comparisons that all have these
            numbers of rounds.
    """
    if least is None:
        least = min(1.0, comparisons * compute_smallest_p(first, second, is_paired=is_paired))
    if comparisons < 1 or least < SIGNIFICANCE_LEVEL:
        return ""
    rounds = format_count(first, "round") if is_paired or first == second else f"{first} and {second} rounds"
    among = f" and {comparisons} comparisons" if comparisons > 1 else ""
    needed = compute_needed_rounds(comparisons, is_paired=is_paired)
    return f"with {rounds}{among} the smallest possible p is {format_p_value(least)}; use at least {needed} rounds"


def compute_min_detectable_errors(first: int, second: int, freedom: float, *, is_paired: bool) -> float:
    """Return the minimum detectable effect in standard errors: the difference that both tests detect with 80 % power.

    It holds for a single comparison of normal values. For unpaired rounds it assumes equal spread, and is only a rough
    value if the spreads differ much.

    Args:
        first: The number of rounds of the first run.
        second: The number of rounds of the second run; the same if the rounds are paired.
        freedom: The degrees of freedom of the t test.
        is_paired: Whether the rounds are paired by seed.

    Returns:
        The number of standard errors, or NaN if no difference can be significant with so few rounds.
    """
    if compute_smallest_p(first, second, is_paired=is_paired) >= SIGNIFICANCE_LEVEL or np.isnan(freedom):
        return NAN
    ratios, start = (_PAIRED_RATIOS, _FIRST_PAIRED_ROUNDS) if is_paired else (_UNPAIRED_RATIOS, _FIRST_UNPAIRED_ROUNDS)
    rounds = 2 * first * second / (first + second)  # the power of unequal samples depends on their harmonic mean
    ratio = np.interp(rounds, start + np.arange(len(ratios) + 1), [*ratios, _LIMIT_RATIO])
    return compute_t_detectable_errors(freedom) * float(ratio)
