import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pairs_lit.statistics import (
    Summary,
    between_many,
    between_rounds,
    detectable,
    half_width,
    holm,
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


def test_paired_interval_of_many_seeds_is_close_to_students_and_always_the_same() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.9, 0.02, 200), rng.normal(0.89, 0.02, 200)
    found = paired(first.tolist(), second.tolist())
    interval = stats.t.interval(0.95, 199, (first - second).mean(), stats.sem(first - second))
    assert (found.low, found.high) == pytest.approx(interval, abs=3e-4)
    assert found == paired(first.tolist(), second.tolist())
    assert found.p < 0.001


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
