import math

import numpy as np
import pytest
from scipy import stats

from pairs_lit.analysis.effect_sizes import estimate_interquartile_mean, estimate_superiority
from pairs_lit.statistics import Summary, adjust_holm, compare_by_welch, compare_spreads, summarise


def sample(values: np.ndarray) -> Summary:
    return Summary(len(values), float(values.mean()), float(values.std(ddof=1)))


@pytest.mark.parametrize(("n", "m", "spread"), [(10, 10, 1.0), (10, 100, 3.0), (2, 3, 0.1)])
def test_welch_from_moments_equals_scipy_on_the_values(n: int, m: int, spread: float) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.9, 0.02, n), rng.normal(0.88, 0.02 * spread, m)
    ours, theirs = compare_by_welch(sample(first), sample(second)), stats.ttest_ind(first, second, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.estimate == pytest.approx(first.mean() - second.mean())
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.n == (n, m)


def test_welch_of_values_without_spread_is_certain() -> None:
    same, other = Summary(10, 0.5, 0.0), Summary(10, 0.6, 0.0)
    assert (compare_by_welch(same, same).p, compare_by_welch(same, same).contains_zero) == (1.0, True)
    assert (compare_by_welch(same, other).p, compare_by_welch(same, other).contains_zero) == (0.0, False)


def test_holm_is_the_hand_worked_case() -> None:
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert adjust_holm([]) == []


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.8, 0.82, 0.79, 0.85]
    assert summarise(values).interval == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert all(map(math.isnan, summarise([0.8]).interval))
    assert math.isnan(Summary(1, 0.8, math.nan).half_width)


def test_spreads_are_compared_by_brown_and_forsythes_test() -> None:
    wide, narrow = [0.5, 0.7, 0.9, 0.6, 0.8, 0.95, 0.55], [0.90, 0.92, 0.91, 0.93, 0.92, 0.90, 0.94]
    result = compare_spreads(wide, narrow)
    assert result.ratio == pytest.approx(np.std(wide, ddof=1) / np.std(narrow, ddof=1))
    assert result.p == pytest.approx(stats.levene(wide, narrow, center="median").pvalue)
    assert (result.sign, compare_spreads(narrow, wide).sign) == (1, -1)


def test_a_spread_whose_two_measures_contradict_each_other_has_no_direction() -> None:
    outlier = [0.5] * 19 + [0.9]  # the larger standard deviation, the smaller mean deviation from the median
    even = [0.5 + 0.04 * (-1) ** place for place in range(20)]
    assert np.std(outlier) > np.std(even)
    assert compare_spreads(outlier, even).sign == 0


@pytest.mark.parametrize(
    ("first", "second", "sign"),
    [([0.5, 0.6, 0.7], [0.5] * 3, 1), ([0.5] * 3, [0.5, 0.6, 0.7], -1), ([0.5] * 3, [0.6] * 3, 0)],
)
def test_samples_without_spread_have_undefined_ratio(first: list[float], second: list[float], sign: int) -> None:
    assert compare_spreads(first, second).sign == sign


def test_two_values_each_give_no_test_of_their_spread() -> None:
    assert compare_spreads([0.5, 0.6], [0.5, 0.9]).p == 1


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 8), (10, 10), (100, 30)])
def test_superiority_is_mann_and_whitneys_u_with_ties(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.integers(85, 95, n) / 100, rng.integers(84, 94, m) / 100
    result = estimate_superiority(first.tolist(), second.tolist())
    assert result.value == pytest.approx(stats.mannwhitneyu(first, second).statistic / (n * m))
    by_hand = np.mean([(a > b) + 0.5 * (a == b) for a in first for b in second])
    assert result.value == pytest.approx(by_hand)
    assert 0 <= result.low <= result.value <= result.high <= 1
    mirrored = estimate_superiority(second.tolist(), first.tolist())
    assert (1 - mirrored.high, 1 - mirrored.value, 1 - mirrored.low) == pytest.approx(
        (result.low, result.value, result.high)
    )


def test_superiority_at_its_ends_and_of_equal_rounds() -> None:
    assert (estimate_superiority([2, 3, 4], [0, 1]).value, estimate_superiority([2, 3, 4], [0, 1]).high) == (1, 1)
    assert 0.3 < estimate_superiority([2, 3, 4], [0, 1]).low < 1
    assert estimate_superiority([0.3], [0.1 + 0.2]).value == 0.5  # equal except for float noise


@pytest.mark.parametrize("value", [0.55, 0.8, 0.97])
def test_the_ends_of_superiority_solve_newcombes_equation(value: float) -> None:
    first = np.arange(20) / 20
    second = first + (0.5 - value) * 0.6
    result = estimate_superiority(first, second)
    for end in (result.low, result.high):
        n = m = 20
        first_part, second_part = end / (2 - end), 2 * end**2 / (1 + end)  # Hanley and McNeil's Q1 and Q2
        mean = (n + m) / 2 - 1  # for n − 1 and m − 1: Newcombe's fifth method
        variance = (end * (1 - end) + mean * (first_part - end**2) + mean * (second_part - end**2)) / (n * m)
        assert abs(end - result.value) == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_interval_of_superiority_covers_the_true_probability(n: int) -> None:
    rng, truth = np.random.default_rng(n), stats.norm.cdf(1 / np.sqrt(2))
    result = [estimate_superiority(rng.normal(1, 1, n), rng.normal(0, 1, n)) for _ in range(1000)]
    assert np.mean([each.low <= truth <= each.high for each in result]) == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 100])
def test_the_interquartile_mean_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).beta(8, 2, n)
    assert estimate_interquartile_mean(values).value == pytest.approx(stats.trim_mean(values, 0.25))


@pytest.mark.parametrize("n", [4, 10, 21])
def test_the_interval_of_the_interquartile_mean_rests_on_yuens_error(n: int) -> None:
    values = np.random.default_rng(n).beta(8, 2, n)
    result = estimate_interquartile_mean(values)
    yuen = stats.ttest_ind(values + 1, values, equal_var=False, trim=0.25)  # the two errors are the same
    error = 1 / yuen.statistic / np.sqrt(2)
    half = stats.t.ppf(0.975, n - 2 * int(0.25 * n) - 1) * error
    assert (result.low, result.high) == pytest.approx((result.value - half, result.value + half))


def test_the_interquartile_mean_of_few_rounds() -> None:
    assert math.isnan(estimate_interquartile_mean([0.5]).low)
    assert math.isnan(estimate_interquartile_mean([]).value)
    pair = estimate_interquartile_mean([0.5, 0.6])  # two values are too few to trim
    assert (pair.low, pair.high) == pytest.approx(summarise([0.5, 0.6]).interval)
