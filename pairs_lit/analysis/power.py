"""What n rounds can find: the smallest possible p value, and the difference that is found with 80 % power."""

from functools import cache
from math import comb

import numpy as np

from pairs_lit.analysis.tables import p_value
from pairs_lit.statistics import LEVEL, NAN, t_detectable_errors
from pairs_lit.text import counted

_PAIRED = (
    *(1.2622, 1.0659, 1.0904, 1.0852, 1.0410, 1.0627, 1.0619, 1.0424, 1.0384),
    *(1.0436, 1.0532, 1.0506, 1.0396, 1.0389, 1.0414),
)
_UNPAIRED = (
    *(1.2281, 1.1493, 1.0876, 1.0958, 1.0560, 1.0816, 1.0704, 1.0561, 1.0622),
    *(1.0635, 1.0491, 1.0606, 1.0520, 1.0537, 1.0541, 1.0460, 1.0484),
)
_FIRST_PAIRED, _FIRST_UNPAIRED = 6, 4
_LIMIT = 1.0427
"""How much larger a difference must be for both tests to find 80 % of them than for the t test alone.

Of normal values, for 6 to 20 pairs of rounds, and for two samples of 4 to 20 rounds each: simulated by
``benchmarks/decision.py --power``. For more rounds it is the limit: the statistics of both tests are then normal, with
the correlation √(3/π).
"""


def smallest_p(first: int, second: int, *, is_paired: bool) -> float:
    """Return the smallest p value that the rank test of this many rounds can give; both tests together give no smaller.

    Of n pairs of rounds, all differences have the same sign in 2 of 2ⁿ cases; of two samples, all rounds of one are
    better than all of the other in 2 of (n + m choose n).

    Args:
        first: Rounds of the first run.
        second: Rounds of the second; paired, the same number.
        is_paired: Whether rounds are compared by seed.
    """
    return min(1.0, 2.0 ** (1 - first) if is_paired else 2 / comb(first + second, first))


@cache
def needed_rounds(comparisons: int, *, is_paired: bool) -> int:
    """Return how many rounds of each run make a significant difference possible, among so many comparisons."""
    n = 2
    while comparisons * smallest_p(n, n, is_paired=is_paired) >= LEVEL:
        n += 1
    return n


def describe_limit(first: int, second: int, comparisons: int, *, is_paired: bool, least: float | None = None) -> str:
    """Return why so many rounds cannot show a difference, and how many can; empty where they can.

    Args:
        first: Rounds of the first run.
        second: Rounds of the second; paired, the same number.
        comparisons: For how many comparisons Holm's method corrects.
        is_paired: Whether rounds are compared by seed.
        least: The smallest corrected p value that is possible; default: that of comparisons of so many rounds each.
    """
    if least is None:
        least = min(1.0, comparisons * smallest_p(first, second, is_paired=is_paired))
    if comparisons < 1 or least < LEVEL:
        return ""
    rounds = counted(first, "round") if is_paired or first == second else f"{first} and {second} rounds"
    among = f" and {comparisons} comparisons" if comparisons > 1 else ""
    needed = needed_rounds(comparisons, is_paired=is_paired)
    return f"with {rounds}{among} the smallest possible p is {p_value(least)}; use at least {needed} rounds"


def min_detectable_errors(first: int, second: int, freedom: float, *, is_paired: bool) -> float:
    """Return how many standard errors a true difference must have for the decision to find it with 80 % power.

    In a single comparison, of normal values. Unpaired, of equal spread; where the spreads differ much it is rough.

    Args:
        first: Rounds of the first run.
        second: Rounds of the second; paired, the same number.
        freedom: The degrees of freedom of t.
        is_paired: Whether rounds are compared by seed.

    Returns:
        NaN where so few rounds cannot show any difference.
    """
    if smallest_p(first, second, is_paired=is_paired) >= LEVEL or np.isnan(freedom):
        return NAN
    ratios, start = (_PAIRED, _FIRST_PAIRED) if is_paired else (_UNPAIRED, _FIRST_UNPAIRED)
    rounds = 2 * first * second / (first + second)  # of unequal samples, what counts is their harmonic mean
    ratio = np.interp(rounds, start + np.arange(len(ratios) + 1), [*ratios, _LIMIT])
    return t_detectable_errors(freedom) * float(ratio)
