"""The one rule that decides whether rounds of one kind are better than those of another.

A difference is claimed only if two tests reject at 5 %, Student's paired t test and Wilcoxon's signed-rank test, and if
mean difference, median difference and ranks all have the same sign. Where rounds are not paired, the tests are Welch's
and Mann and Whitney's. One test alone misleads where rounds fail to learn: ranks see that most rounds are better and
miss that a few are lost, and a mean hides that only a few rounds make it. ``benchmarks/decision.py`` measures both
errors.

Since both tests must reject, the larger of their p values is a valid p value (an intersection–union test; Berger 1982),
and Holm's method corrects it for the number of comparisons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from pairs_lit.analysis.power import describe_limit, min_detectable_errors, smallest_p
from pairs_lit.analysis.rank_tests import rank_sum, signed_rank
from pairs_lit.errors import PairsLitError
from pairs_lit.statistics import LEVEL, Difference, Values, critical, holm, welch_error

ScoresBySeed = Mapping[int, float]
"""A metric of each round, by seed."""

Outcome = Literal["significant difference", "no significant difference", "tests disagree", "too few rounds"]


class BothTests(NamedTuple):
    """What both tests say of k samples; each field is (k,).

    Attributes:
        mean: The difference of the means.
        error: Its standard error.
        freedom: The degrees of freedom of t.
        median: Paired, the median difference, else the difference of the medians.
        rank_sign: 1 where the ranks of the first are higher, -1 where lower.
        p_t: The p value of Student's paired t test, or of Welch's.
        p_rank: That of Wilcoxon's signed-rank test, or of Mann and Whitney's.
    """

    mean: Values
    error: Values
    freedom: Values
    median: Values
    rank_sign: Values
    p_t: Values
    p_rank: Values

    @property
    def p(self) -> Values:
        """The larger p value of the two: that of rejecting with both tests."""
        return np.maximum(self.p_t, self.p_rank)

    @property
    def common_sign(self) -> Values:
        """The sign of mean, median and ranks where they agree, else 0."""
        signs = np.sign(np.stack([self.mean, self.median, self.rank_sign]))
        common: Values = np.where((signs == signs[0]).all(0), signs[0], 0.0)
        return common

    @property
    def sign(self) -> Values:
        """The outcome of a single comparison: 1 or -1 where both tests reject and the signs agree, else 0."""
        decided: Values = np.where(self.p < LEVEL, self.common_sign, 0.0)
        return decided


def paired_tests(rows: Values) -> BothTests:
    """Apply both tests to each row (k, n) of differences between rounds of one seed, n ≥ 2."""
    n = rows.shape[1]
    is_constant = np.ptp(rows, axis=1) == 0
    with np.errstate(over="ignore", invalid="ignore"):  # of losses beyond 1e150 the squares overflow: p_t is then 1
        mean = np.where(is_constant, rows[:, 0], rows.mean(1))
        error = np.where(is_constant, 0.0, rows.std(1, ddof=1) / sqrt(n))
    rank_sign, p_rank = signed_rank(rows)
    freedom = np.full(len(rows), n - 1.0)
    return BothTests(mean, error, freedom, np.median(rows, axis=1), rank_sign, _t_test_p(mean, error, freedom), p_rank)


def unpaired_tests(first: Values, second: Values) -> BothTests:
    """Apply both tests to each two rows (k, n) and (k, m) of values, n, m ≥ 2."""
    n, m = first.shape[1], second.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = first.mean(1) - second.mean(1)
        one, two = (np.where(np.ptp(rows, axis=1) > 0, rows.std(1, ddof=1), 0.0) for rows in (first, second))
        error, freedom = welch_error(one, two, n, m)
    median = np.median(first, axis=1) - np.median(second, axis=1)
    rank_sign, p_rank = rank_sum(first, second)
    return BothTests(mean, error, freedom, median, rank_sign, _t_test_p(mean, error, freedom), p_rank)


def _t_test_p(mean: Values, error: Values, freedom: Values) -> Values:
    """Return the two-sided p value of mean / error; without any spread it is 0, or 1 where the mean is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * special.stdtr(freedom, -np.abs(mean / error))
    return np.where(error == 0, np.where(mean == 0, 1.0, 0.0), np.nan_to_num(p, nan=1.0))


@dataclass(frozen=True)
class MeasuredDifference(Difference):
    """First minus second, as both tests see it; ``p`` is the larger of both p values.

    Attributes:
        detectable: The smallest true difference that this many rounds with this spread detect with 80 % power.
        median: Paired, the median of the differences, else the difference of the medians.
        rank_sign: 1 where the ranks of the first are higher, -1 where lower, 0 where neither.
        common_sign: The sign of mean, median and ranks where all three agree, else 0.
        p_t: The p value of Student's paired t test, or of Welch's.
        p_rank: That of Wilcoxon's signed-rank test, or of Mann and Whitney's.
    """

    detectable: float
    median: float
    rank_sign: int
    common_sign: int
    p_t: float
    p_rank: float

    @property
    def is_paired(self) -> bool:
        """Whether rounds of the same seed were compared with each other."""
        return self.method == "paired"

    @property
    def smallest_p(self) -> float:
        """The smallest p value that this number of rounds can give."""
        return smallest_p(*self.n, is_paired=self.is_paired)


def compare_rounds(first: ScoresBySeed, second: ScoresBySeed, *, same_data: bool) -> MeasuredDifference:
    """Compare the rounds of two runs.

    They are paired by seed where both have the same data (a seed then stands for the same pairs of images) and share
    two seeds or more; seeds that only one of them has are then left out. Else all rounds are compared unpaired.

    Args:
        first: The metric of each round of the first run; at least two, and all finite.
        second: The same of the second.
        same_data: Whether a seed stands for the same pairs of images in both.

    Raises:
        PairsLitError: There are fewer than two rounds, or a value is not finite.
    """
    return compare_many([(first, second, same_data)])[0]


def compare_many(cases: Sequence[tuple[ScoresBySeed, ScoresBySeed, bool]]) -> list[MeasuredDifference]:
    """Apply :func:`compare_rounds` to many pairs of runs."""
    return [_compare(*case) for case in cases]


def _compare(first: ScoresBySeed, second: ScoresBySeed, same_data: bool) -> MeasuredDifference:
    for values in (first, second):
        if len(values) < 2:
            raise PairsLitError(f"a comparison needs 2 rounds or more on each side, got {len(values)}.")
        if not all(map(isfinite, values.values())):
            raise PairsLitError("a comparison needs finite values, got NaN or infinity. Leave failed rounds out.")
    shared = [seed for seed in first if same_data and seed in second]
    is_paired = len(shared) > 1
    one, two = (np.array([values[seed] for seed in shared or values], dtype=np.float64) for values in (first, second))
    if is_paired:
        return _tested(paired_tests(_without_noise(one - two, one, two)[None]), (len(shared),) * 2, is_paired=True)
    one, two = (np.array(list(values.values()), dtype=np.float64) for values in (first, second))
    samples = [_without_noise(values, one, two)[None] for values in (one, two)]
    return _tested(unpaired_tests(*samples), (len(one), len(two)), is_paired=False)


def _without_noise(values: Values, *samples: Values) -> Values:
    """Round so that values tie that differ only by float noise, 1e-12 of the samples' typical size."""
    sizes = np.abs(np.concatenate(samples))
    typical = float(np.median(sizes[sizes > 0])) if sizes.any() else 1.0
    unit = 2.0 ** np.frexp(typical)[1]
    scaled = values / unit
    is_small = np.abs(scaled) < 1e3  # large ones would overflow in round
    rounded: Values = np.where(is_small, np.round(scaled, 12), scaled) * unit
    return rounded


def _tested(tests: BothTests, n: tuple[int, int], *, is_paired: bool) -> MeasuredDifference:
    """Return the only one of these tests, with its interval and what this many rounds could have found."""
    mean, error, freedom, median, rank_sign, p_t, p_rank = (float(values[0]) for values in tests)
    half = critical(freedom) * error if error > 0 else 0.0
    shift = error * min_detectable_errors(*n, freedom, is_paired=is_paired)
    method = "paired" if is_paired else "Welch"
    numbers = (mean, mean - half, mean + half, max(p_t, p_rank), shift)
    return MeasuredDifference(method, n, *numbers, median, int(rank_sign), int(tests.common_sign[0]), p_t, p_rank)


@dataclass(frozen=True)
class Decision:
    """What may be claimed of a difference, among the comparisons that were made with it.

    Attributes:
        difference: First minus second.
        p_holm: Its p value, the larger of both tests', corrected for the number of comparisons.
        p_t_holm: That of the t test alone, corrected in the same way.
        p_rank_holm: That of the rank test alone, corrected in the same way.
        smallest_p: The smallest corrected p value that this many rounds and comparisons can give.
        comparisons: For how many comparisons p is corrected.
    """

    difference: MeasuredDifference
    p_holm: float
    p_t_holm: float
    p_rank_holm: float
    smallest_p: float
    comparisons: int

    @property
    def t_rejects(self) -> bool:
        """Whether the t test alone rejects."""
        return self.p_t_holm < LEVEL

    @property
    def rank_rejects(self) -> bool:
        """Whether the rank test alone rejects."""
        return self.p_rank_holm < LEVEL

    @property
    def sign(self) -> int:
        """1 where the first is significantly larger, -1 where it is significantly smaller, else 0."""
        return self.difference.common_sign if self.p_holm < LEVEL else 0

    @property
    def outcome(self) -> Outcome:
        """What came out, in words."""
        if self.sign:
            return "significant difference"
        if self.smallest_p >= LEVEL:
            return "too few rounds"
        one_rejects = self.t_rejects != self.rank_rejects
        both_reject = self.t_rejects and self.rank_rejects
        is_contradictory = both_reject and self.difference.common_sign == 0
        return "tests disagree" if one_rejects or is_contradictory else "no significant difference"

    @property
    def limit(self) -> str:
        """Why so many rounds cannot show a difference, and how many can; empty where they can."""
        found = self.difference
        return describe_limit(*found.n, self.comparisons, is_paired=found.is_paired, least=self.smallest_p)


def decide(differences: Sequence[MeasuredDifference], other_p: Sequence[float] = ()) -> list[Decision]:
    """Decide which differences may be claimed.

    Args:
        differences: All comparisons that were made to answer one question.
        other_p: The p values of further tests of the same question, for which Holm's method corrects, too.
    """

    def correct(p_values: Sequence[float], others: Sequence[float] = other_p) -> list[float]:
        return holm([*p_values, *others])[: len(p_values)]

    p, p_t = correct([each.p for each in differences]), correct([each.p_t for each in differences])
    p_rank = correct([each.p_rank for each in differences])
    least = correct([each.smallest_p for each in differences], [0.0] * len(other_p))
    count = len(differences) + len(other_p)
    columns = zip(differences, p, p_t, p_rank, least, strict=True)
    return [Decision(*column, comparisons=count) for column in columns]
