"""Significance tests that decide whether the rounds of one run are better than those of another.

A difference is significant only if two tests reject at 5 %, a t test and a rank test, and if mean difference, median
difference and ranks all have the same sign. For paired rounds, the tests are Student's paired t test and Wilcoxon's
signed-rank test; for unpaired rounds, Welch's t test and Mann and Whitney's test. A single test is misleading if some
rounds fail to learn: a rank test ignores how bad the few failed rounds are, and a t test does not show that only a few
rounds cause the difference of the means. ``benchmarks/decision.py`` measures how often either test alone is wrong.

Since both tests must reject, the larger of their p values is a valid p value (an intersection–union test; Berger 1982).
Holm's method corrects it for the number of comparisons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from pairs_lit.analysis.power import compute_min_detectable_errors, compute_smallest_p, describe_limit
from pairs_lit.analysis.rank_tests import run_rank_sum_test, run_signed_rank_test
from pairs_lit.errors import PairsLitError
from pairs_lit.statistics import (
    SIGNIFICANCE_LEVEL,
    Difference,
    FloatArray,
    adjust_holm,
    compute_critical_t,
    compute_welch_error,
)
from pairs_lit.system.deprecation import RenamedAttribute

ScoresBySeed = Mapping[int, float]
"""The metric of each round, by seed."""

DecisionOutcome = Literal["significant difference", "no significant difference", "tests disagree", "too few rounds"]


class CombinedTests(NamedTuple):
    """Results of the t test and the rank test for k comparisons; each field has shape (k,).

    Attributes:
        mean: The difference of the means, first minus second.
        standard_error: The standard error of the difference.
        degrees_of_freedom: The degrees of freedom of the t test.
        median: The median of the differences if paired, the difference of the medians if unpaired.
        rank_sign: 1 if the first sample has the higher ranks, -1 if the second has, 0 if they are equal.
        p_t: The p value of the t test (Student's paired test or Welch's).
        p_rank: The p value of the rank test (Wilcoxon's signed-rank test or Mann and Whitney's).
    """

    mean: FloatArray
    standard_error: FloatArray
    degrees_of_freedom: FloatArray
    median: FloatArray
    rank_sign: FloatArray
    p_t: FloatArray
    p_rank: FloatArray

    @property
    def p(self) -> FloatArray:
        """The larger of the two p values, which is the p value of requiring both tests to reject."""
        return np.maximum(self.p_t, self.p_rank)

    @property
    def common_sign(self) -> FloatArray:
        """The sign of mean, median and ranks if all three agree, else 0."""
        signs = np.sign(np.stack([self.mean, self.median, self.rank_sign]))
        common: FloatArray = np.where((signs == signs[0]).all(0), signs[0], 0.0)
        return common

    @property
    def sign(self) -> FloatArray:
        """The decision without correction for other comparisons: 1 or -1 if significant, else 0."""
        significant_sign: FloatArray = np.where(self.p < SIGNIFICANCE_LEVEL, self.common_sign, 0.0)
        return significant_sign


def run_paired_tests(rows: FloatArray) -> CombinedTests:
    """Apply both paired tests to each row of differences between rounds of the same seed; rows is (k, n), n ≥ 2."""
    n = rows.shape[1]
    is_constant = np.ptp(rows, axis=1) == 0
    with np.errstate(over="ignore", invalid="ignore"):  # the squares of losses above 1e150 overflow, then p_t is 1
        mean = np.where(is_constant, rows[:, 0], rows.mean(1))
        error = np.where(is_constant, 0.0, rows.std(1, ddof=1) / sqrt(n))
    rank_sign, p_rank = run_signed_rank_test(rows)
    freedom = np.full(len(rows), n - 1.0)
    return CombinedTests(
        mean, error, freedom, np.median(rows, axis=1), rank_sign, _compute_t_test_p(mean, error, freedom), p_rank
    )


def run_unpaired_tests(first: FloatArray, second: FloatArray) -> CombinedTests:
    """Apply both unpaired tests to each row of (k, n) values and the same row of (k, m) values; n, m ≥ 2."""
    n, m = first.shape[1], second.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = first.mean(1) - second.mean(1)
        first_std, second_std = (
            np.where(np.ptp(rows, axis=1) > 0, rows.std(1, ddof=1), 0.0) for rows in (first, second)
        )
        error, freedom = compute_welch_error(first_std, second_std, n, m)
    median = np.median(first, axis=1) - np.median(second, axis=1)
    rank_sign, p_rank = run_rank_sum_test(first, second)
    return CombinedTests(mean, error, freedom, median, rank_sign, _compute_t_test_p(mean, error, freedom), p_rank)


def _compute_t_test_p(mean: FloatArray, error: FloatArray, freedom: FloatArray) -> FloatArray:
    """Return the two-sided p value of t = mean / error; if the error is 0, p is 1 for a zero mean and else 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * special.stdtr(freedom, -np.abs(mean / error))
    return np.where(error == 0, np.where(mean == 0, 1.0, 0.0), np.nan_to_num(p, nan=1.0))


@dataclass(frozen=True)
class MeasuredDifference(Difference):
    """The difference of two runs, first minus second, with both tests; ``p`` is the larger of the two p values.

    Attributes:
        min_detectable_effect: The smallest true difference that this many rounds with this spread detect with 80 %
            power in a single comparison.
        median: The median of the differences if paired, the difference of the medians if unpaired.
        rank_sign: 1 if the first run has the higher ranks, -1 if the second has, 0 if they are equal.
        common_sign: The sign of mean, median and ranks if all three agree, else 0.
        p_t: The p value of the t test (Student's paired test or Welch's).
        p_rank: The p value of the rank test (Wilcoxon's signed-rank test or Mann and Whitney's).
    """

    min_detectable_effect: float
    median: float
    rank_sign: int
    common_sign: int
    p_t: float
    p_rank: float

    detectable = RenamedAttribute("min_detectable_effect")

    @property
    def is_paired(self) -> bool:
        """Whether the rounds were paired by seed."""
        return self.method == "paired"

    @property
    def smallest_p(self) -> float:
        """The smallest p value that is possible with these numbers of rounds."""
        return compute_smallest_p(*self.n, is_paired=self.is_paired)


def compare_rounds(first: ScoresBySeed, second: ScoresBySeed, *, same_data: bool) -> MeasuredDifference:
    """Compare the rounds of two runs.

    Rounds are paired by seed if both runs have the same data, so that a seed selects the same pairs of images in both,
    and if they share at least two seeds. Seeds that only one run has are then ignored. Otherwise, all rounds are
    compared unpaired.

    Args:
        first: The metric of each round of the first run: two or more finite values.
        second: The metric of each round of the second run: two or more finite values.
        same_data: Whether a seed selects the same pairs of images in both runs.

    Raises:
        PairsLitError: A run has fewer than two rounds, or a value is not finite.
    """
    return compare_many([(first, second, same_data)])[0]


def compare_many(cases: Sequence[tuple[ScoresBySeed, ScoresBySeed, bool]]) -> list[MeasuredDifference]:
    """Return the result of :func:`compare_rounds` for each pair of runs."""
    return [_compare_two(*case) for case in cases]


def _compare_two(first: ScoresBySeed, second: ScoresBySeed, same_data: bool) -> MeasuredDifference:
    for values in (first, second):
        if len(values) < 2:
            raise PairsLitError(f"each run must have at least 2 rounds to be compared, got {len(values)}.")
        if not all(map(isfinite, values.values())):
            raise PairsLitError("compared values must be finite, got NaN or infinity. Leave failed rounds out.")
    shared = [seed for seed in first if same_data and seed in second]
    if len(shared) > 1:
        a, b = (np.array([values[seed] for seed in shared], dtype=np.float64) for values in (first, second))
        return _build_difference(
            run_paired_tests(_round_off_noise(a - b, a, b)[None]), (len(shared),) * 2, is_paired=True
        )
    a, b = (np.array(list(values.values()), dtype=np.float64) for values in (first, second))
    samples = [_round_off_noise(values, a, b)[None] for values in (a, b)]
    return _build_difference(run_unpaired_tests(*samples), (len(a), len(b)), is_paired=False)


def _round_off_noise(values: FloatArray, *samples: FloatArray) -> FloatArray:
    """Return the values rounded to 1e-12 of the samples' typical size, so that float noise does not break ties."""
    sizes = np.abs(np.concatenate(samples))
    typical = float(np.median(sizes[sizes > 0])) if sizes.any() else 1.0
    unit = 2.0 ** np.frexp(typical)[1]
    scaled = values / unit
    is_small = np.abs(scaled) < 1e3  # rounding very large values would overflow
    rounded: FloatArray = np.where(is_small, np.round(scaled, 12), scaled) * unit
    return rounded


def _build_difference(tests: CombinedTests, n: tuple[int, int], *, is_paired: bool) -> MeasuredDifference:
    """Build the difference from the results of a single comparison, with interval and minimum detectable effect."""
    mean, error, freedom, median, rank_sign, p_t, p_rank = (float(values[0]) for values in tests)
    half = compute_critical_t(freedom) * error if error > 0 else 0.0
    shift = error * compute_min_detectable_errors(*n, freedom, is_paired=is_paired)
    method = "paired" if is_paired else "Welch"
    numbers = (mean, mean - half, mean + half, max(p_t, p_rank), shift)
    return MeasuredDifference(method, n, *numbers, median, int(rank_sign), int(tests.common_sign[0]), p_t, p_rank)


@dataclass(frozen=True)
class Decision:
    """The decision whether a difference is significant, corrected for all comparisons that were made together.

    Attributes:
        difference: The difference, first minus second.
        p_holm: The larger p value of the two tests, corrected for the number of comparisons.
        p_t_holm: The p value of the t test alone, corrected in the same way.
        p_rank_holm: The p value of the rank test alone, corrected in the same way.
        smallest_p: The smallest corrected p value that is possible with these numbers of rounds and comparisons.
        comparisons: The number of comparisons for which the p values are corrected.
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
        return self.p_t_holm < SIGNIFICANCE_LEVEL

    @property
    def rank_rejects(self) -> bool:
        """Whether the rank test alone rejects."""
        return self.p_rank_holm < SIGNIFICANCE_LEVEL

    @property
    def sign(self) -> int:
        """1 if the first is significantly larger, -1 if it is significantly smaller, else 0."""
        return self.difference.common_sign if self.p_holm < SIGNIFICANCE_LEVEL else 0

    @property
    def outcome(self) -> DecisionOutcome:
        """The result in words."""
        if self.sign:
            return "significant difference"
        if self.smallest_p >= SIGNIFICANCE_LEVEL:
            return "too few rounds"
        only_one_rejects = self.t_rejects != self.rank_rejects
        both_reject = self.t_rejects and self.rank_rejects
        is_contradictory = both_reject and self.difference.common_sign == 0
        return "tests disagree" if only_one_rejects or is_contradictory else "no significant difference"

    @property
    def limit(self) -> str:
        """Why no difference can be significant with so few rounds, and how many are needed; empty if one can be."""
        n, is_paired = self.difference.n, self.difference.is_paired
        return describe_limit(*n, self.comparisons, is_paired=is_paired, least=self.smallest_p)


def make_decisions(differences: Sequence[MeasuredDifference], other_p: Sequence[float] = ()) -> list[Decision]:
    """Decide which differences are significant, with Holm's correction for all of them together.

    Args:
        differences: All comparisons that were made to answer one question.
        other_p: The p values of further tests that belong to the same question and count in the correction.
    """

    def correct(p_values: Sequence[float], others: Sequence[float] = other_p) -> list[float]:
        return adjust_holm([*p_values, *others])[: len(p_values)]

    p = correct([difference.p for difference in differences])
    p_t = correct([difference.p_t for difference in differences])
    p_rank = correct([difference.p_rank for difference in differences])
    smallest = correct([difference.smallest_p for difference in differences], [0.0] * len(other_p))
    count = len(differences) + len(other_p)
    rows = zip(differences, p, p_t, p_rank, smallest, strict=True)
    return [Decision(*row, comparisons=count) for row in rows]
