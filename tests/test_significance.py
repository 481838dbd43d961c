import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from pairs_lit.analysis.effects import interquartile_mean, superiority
from pairs_lit.statistics import (
    Summary,
    between_many,
    between_rounds,
    detectable,
    half_width,
    holm,
    least_p,
    mean_interval,
    paired,
    paired_t,
    welch,
)


def sample(values: np.ndarray) -> Summary:
    return Summary(len(values), float(values.mean()), float(values.std(ddof=1)))


@pytest.mark.parametrize(("n", "m", "spread"), [(10, 10, 1.0), (10, 100, 3.0), (2, 3, 0.1)])
def test_welch_from_moments_equals_scipy_on_the_values(n: int, m: int, spread: float) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.9, 0.02, n), rng.normal(0.88, 0.02 * spread, m)
    ours, theirs = welch(sample(first), sample(second)), stats.ttest_ind(first, second, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.estimate == pytest.approx(first.mean() - second.mean())
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.n == (n, m)


def test_welch_of_values_without_spread_is_certain() -> None:
    same, other = Summary(10, 0.5, 0.0), Summary(10, 0.6, 0.0)
    assert (welch(same, same).p, welch(same, same).contains_zero) == (1.0, True)
    assert (welch(same, other).p, welch(same, other).contains_zero) == (0.0, False)


def test_paired_p_is_that_of_all_sign_changes_counted_by_hand() -> None:
    differences = np.array([0.03, 0.01, -0.005, 0.02, 0.015])
    base = np.array([0.8, 0.85, 0.9, 0.7, 0.75])
    observed = abs(differences.mean())
    means = [np.mean(np.multiply(signs, differences)) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean([abs(mean) >= observed - 1e-12 for mean in means])
    found = paired((base + differences).tolist(), base.tolist())
    assert found.p == pytest.approx(expected)
    assert found.estimate == pytest.approx(differences.mean())
    assert found.method == "paired"


@pytest.mark.parametrize("n", [2, 3, 10, 14, 200])
def test_the_paired_interval_is_students(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.9, 0.02, n), rng.normal(0.89, 0.02, n)
    found = paired(first.tolist(), second.tolist())
    interval = stats.t.interval(0.95, n - 1, (first - second).mean(), stats.sem(first - second))
    assert (found.low, found.high) == pytest.approx(interval)


def test_the_bootstraps_interval_is_there_for_pages_that_state_it_and_always_the_same() -> None:
    rng = np.random.default_rng(1)
    first, second = (dict(enumerate(rng.normal(mean, 0.02, 200))) for mean in (0.9, 0.89))
    found = between_rounds(first, second, same_data=True, bootstrap=True)
    plain = between_rounds(first, second, same_data=True)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=3e-4)
    assert (found.low, found.high) != (plain.low, plain.high)
    assert found == between_rounds(first, second, same_data=True, bootstrap=True)
    assert (found.estimate, found.p, found.detectable) == (plain.estimate, plain.p, plain.detectable)


def accuracies(rng: np.random.Generator, location: float, spread: float, shape: tuple[int, int]) -> np.ndarray:
    """Draw accuracies of 1,000 pairs each, logit-normal."""
    return np.round(special.expit(rng.normal(location, spread, shape)), 3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 10, 20, 50])
@pytest.mark.parametrize(("kind", "least"), [("normal", 0.94), ("logit-normal", 0.89)])
def test_the_paired_interval_covers_the_true_difference_and_better_than_the_bootstraps(
    kind: str, least: float, n: int
) -> None:
    rng, count = np.random.default_rng(n), 1000
    if kind == "normal":
        shared = rng.normal(0.87, 0.008, (count, n))  # what two runs of one seed have in common
        first, second = (shared + rng.normal(0, 0.008, (count, n)) for _ in range(2))
        truth = 0.0
    else:  # near the ceiling, with a tail, against the middle
        first, second = accuracies(rng, 3.5, 0.8, (count, n)), accuracies(rng, 1.8, 0.1, (count, n))
        many = np.random.default_rng(0)
        truth = (accuracies(many, 3.5, 0.8, (4000, 1000)) - accuracies(many, 1.8, 0.1, (4000, 1000))).mean()
    cases = [(dict(enumerate(one)), dict(enumerate(two)), True) for one, two in zip(first, second, strict=True)]
    shares = [
        np.mean([each.low <= truth <= each.high for each in between_many(cases, bootstrap=bootstrap)])
        for bootstrap in (False, True)
    ]
    print(f"{kind}, n = {n}: Student {shares[0]:.3f}, BCa {shares[1]:.3f}")
    assert shares[0] >= least
    assert shares[0] >= shares[1] - 0.01  # of 50 rounds both cover nearly alike
    if n <= 10:
        assert shares[0] > shares[1]


def test_so_few_pairs_cannot_give_a_small_p() -> None:
    for n in (2, 5, 6, 13):
        found = paired([0.5 + 0.01 * place for place in range(1, n + 1)], [0.5] * n)
        assert found.p == pytest.approx(least_p(found)) == 2.0 ** (1 - n)
    assert least_p(paired(np.arange(14) + 1.0, np.zeros(14))) == 0
    assert least_p(welch(Summary(2, 0.5, 0.1), Summary(2, 0.6, 0.1))) == 0


def test_paired_p_of_many_seeds_is_wilcoxons() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.integers(860, 900, (2, 40)) / 1000
    differences = np.round(first - second, 3)
    assert len(np.unique(np.abs(differences))) < 40  # ties
    assert 0 in differences
    expected = stats.wilcoxon(differences, zero_method="pratt", method="asymptotic").pvalue
    assert paired(first.tolist(), second.tolist()).p == pytest.approx(expected)


def test_a_pair_of_runs_gives_the_same_alone_or_among_many() -> None:
    rng = np.random.default_rng(4)
    cases = [
        (dict(enumerate(rng.normal(0.9, 0.02, n))), dict(enumerate(rng.normal(0.9, 0.02, m))), same)
        for n, m, same in [(10, 10, True), (10, 12, False), (100, 100, True), (12, 10, True), (5, 40, True)] * 9
    ]
    for found, (first, second, same) in zip(between_many(cases), cases, strict=True):
        alone = between_rounds(first, second, same_data=same)
        assert (found.method, found.n) == (alone.method, alone.n)
        numbers = [(each.estimate, each.low, each.high, each.p, each.detectable) for each in (found, alone)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)


def test_pairing_finds_what_is_hidden_by_the_spread_between_seeds() -> None:
    rng = np.random.default_rng(2)
    seeds = rng.normal(0.8, 0.1, 10)
    better, worse = seeds + 0.01 + rng.normal(0, 0.001, 10), seeds
    assert paired(better.tolist(), worse.tolist()).p < 0.01
    assert welch(sample(better), sample(worse)).p > 0.5


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.25, 2 / 2**4)])
def test_paired_differences_without_spread(shift: float, p: float) -> None:
    found = paired([0.5 + shift, 0.75 + shift, 0.25 + shift, 1.0 + shift], [0.5, 0.75, 0.25, 1.0])
    assert (found.low, found.estimate, found.high, found.p) == (shift, shift, shift, p)


@pytest.mark.parametrize("n", [5, 10, 100])
def test_the_detectable_difference_is_found_four_times_in_five(n: int) -> None:
    shift = detectable(1 / math.sqrt(n), n - 1)
    rng = np.random.default_rng(n)
    p = stats.ttest_1samp(rng.normal(shift, 1, (20000, n)), 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.01)


def test_holm_is_the_hand_worked_case() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.8, 0.82, 0.79, 0.85]
    assert mean_interval(values) == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert all(map(math.isnan, mean_interval([0.8])))
    assert math.isnan(half_width(Summary(1, 0.8, math.nan)))


def test_students_t_of_the_differences_is_scipys() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.9, 0.02, 12), rng.normal(0.88, 0.02, 12)
    found, expected = paired_t(first, second), stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert found.method == "paired t"
    assert found.n == (12, 12)
    assert found.estimate == pytest.approx(np.mean(first - second))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.detectable == pytest.approx(paired(first, second).detectable)


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.1, 0.0)])
def test_differences_that_are_all_the_same_have_no_spread(shift: float, p: float) -> None:
    found = paired_t([0.5 + shift, 0.6 + shift], [0.5, 0.6])
    assert (found.low, found.high, found.p, found.detectable) == (pytest.approx(shift), pytest.approx(shift), p, 0.0)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 8), (10, 10), (100, 30)])
def test_superiority_is_mann_and_whitneys_u_with_ties(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.integers(85, 95, n) / 100, rng.integers(84, 94, m) / 100
    found = superiority(first.tolist(), second.tolist())
    assert found.value == pytest.approx(stats.mannwhitneyu(first, second).statistic / (n * m))
    by_hand = np.mean([(a > b) + 0.5 * (a == b) for a in first for b in second])
    assert found.value == pytest.approx(by_hand)
    assert 0 <= found.low <= found.value <= found.high <= 1
    mirrored = superiority(second.tolist(), first.tolist())
    assert (1 - mirrored.high, 1 - mirrored.value, 1 - mirrored.low) == pytest.approx(
        (found.low, found.value, found.high)
    )


def test_superiority_at_its_ends_and_of_equal_rounds() -> None:
    assert (superiority([2, 3, 4], [0, 1]).value, superiority([2, 3, 4], [0, 1]).high) == (1, 1)
    assert 0.3 < superiority([2, 3, 4], [0, 1]).low < 1
    assert superiority([0.3], [0.1 + 0.2]).value == 0.5  # equal but for float noise


@pytest.mark.parametrize("value", [0.55, 0.8, 0.97])
def test_the_ends_of_superiority_solve_newcombes_equation(value: float) -> None:
    first = np.arange(20) / 20
    second = first + (0.5 - value) * 0.6
    found = superiority(first, second)
    for end in (found.low, found.high):
        n = m = 20
        first_part, second_part = end / (2 - end), 2 * end**2 / (1 + end)  # Hanley and McNeil's Q1 and Q2
        mean = (n + m) / 2 - 1  # for n − 1 and m − 1: Newcombe's fifth method
        variance = (end * (1 - end) + mean * (first_part - end**2) + mean * (second_part - end**2)) / (n * m)
        assert abs(end - found.value) == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_interval_of_superiority_covers_the_true_probability(n: int) -> None:
    rng, truth = np.random.default_rng(n), stats.norm.cdf(1 / np.sqrt(2))
    found = [superiority(rng.normal(1, 1, n), rng.normal(0, 1, n)) for _ in range(1000)]
    assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 100])
def test_the_interquartile_mean_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).beta(8, 2, n)
    assert interquartile_mean(values).value == pytest.approx(stats.trim_mean(values, 0.25))


@pytest.mark.parametrize("n", [4, 10, 21])
def test_the_interval_of_the_interquartile_mean_rests_on_yuens_error(n: int) -> None:
    values = np.random.default_rng(n).beta(8, 2, n)
    found = interquartile_mean(values)
    yuen = stats.ttest_ind(values + 1, values, equal_var=False, trim=0.25)  # the two errors are the same
    error = 1 / yuen.statistic / np.sqrt(2)
    half = stats.t.ppf(0.975, n - 2 * int(0.25 * n) - 1) * error
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_the_interquartile_mean_of_few_rounds() -> None:
    assert math.isnan(interquartile_mean([0.5]).low)
    assert math.isnan(interquartile_mean([]).value)
    pair = interquartile_mean([0.5, 0.6])  # nothing is trimmed
    assert (pair.low, pair.high) == pytest.approx(mean_interval([0.5, 0.6]))
