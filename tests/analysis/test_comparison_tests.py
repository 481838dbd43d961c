"""The decision rule: its tests against scipy and hand-worked cases, its properties, and its power."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from pairs_lit import PairsLitError
from pairs_lit.analysis.comparison_tests import (
    Decision,
    MeasuredDifference,
    compare_many,
    compare_rounds,
    make_decisions,
    run_paired_tests,
    run_unpaired_tests,
)
from pairs_lit.analysis.comparison_text import ComparedRun, describe_difference
from pairs_lit.analysis.power import (
    compute_min_detectable_errors,
    compute_needed_rounds,
    compute_smallest_p,
    describe_limit,
)
from pairs_lit.analysis.rank_tests import compute_doubled_ranks, run_rank_sum_test, run_signed_rank_test
from pairs_lit.runs.metrics import METRICS_BY_COLUMN
from pairs_lit.statistics import adjust_holm, compute_t_detectable_errors


def rounds(values: object, seed: int = 0) -> dict[int, float]:
    return dict(enumerate(np.asarray(values, dtype=float).tolist(), seed))


def compared(first: object, second: object, *, same_data: bool = True) -> MeasuredDifference:
    return compare_rounds(rounds(first), rounds(second), same_data=same_data)


def decided(first: object, second: object, *, same_data: bool = True) -> Decision:
    return make_decisions([compared(first, second, same_data=same_data)])[0]


# the two rank tests


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (5, 7), (3, 400)])
def test_ranks_are_scipys(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).integers(0, 9, shape) / 10
    ranks = compute_doubled_ranks(rows)
    assert ranks.dtype == np.int64
    assert np.array_equal(ranks, 2 * stats.rankdata(rows, axis=1))


@pytest.mark.parametrize("n", [1, 2, 5, 6, 13, 20, 50])
def test_signed_ranks_without_ties_are_scipys_exact_test(n: int) -> None:
    rows = np.random.default_rng(n).normal(0.3, 1, (10, n))
    assert run_signed_rank_test(rows)[1] == pytest.approx(stats.wilcoxon(rows, axis=1, method="exact").pvalue)


@pytest.mark.parametrize("n", [3, 6, 8])
def test_signed_ranks_with_ties_and_zeros_are_all_sign_changes(n: int) -> None:
    row = np.random.default_rng(n).integers(-2, 4, n).astype(float)
    ranks = stats.rankdata(np.abs(row)) * (row != 0)
    observed = ranks[row > 0].sum()
    sums = np.array([ranks[np.array(signs)].sum() for signs in itertools.product((False, True), repeat=n)])
    tails = (sums <= observed + 1e-9).mean(), (sums >= observed - 1e-9).mean()
    assert run_signed_rank_test(row[None])[1][0] == pytest.approx(min(1, 2 * min(tails)))
    assert run_signed_rank_test(row[None])[1][0] == pytest.approx(stats.wilcoxon(row, zero_method="pratt").pvalue)


def test_signed_ranks_of_many_rounds_are_scipys_normal_approximation() -> None:
    rows = np.random.default_rng(0).integers(-20, 25, (3, 100)).astype(float)
    expected = stats.wilcoxon(rows, zero_method="pratt", method="asymptotic", axis=1).pvalue
    assert run_signed_rank_test(rows)[1] == pytest.approx(expected)


def test_few_differences_among_many_zeros_are_not_significant() -> None:
    row = np.array([[0.001] * 4 + [0.0] * 16])
    assert stats.wilcoxon(row[0], zero_method="pratt").pvalue < 0.05  # the normal approximation
    assert run_signed_rank_test(row)[1][0] == 2 / 2**4
    assert run_signed_rank_test(np.zeros((1, 8)))[1][0] == 1


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 8), (20, 20), (8, 50), (50, 8)])
def test_rank_sums_without_ties_are_scipys_exact_test(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.5, 1, (5, n)), rng.normal(0, 1, (5, m))
    expected = stats.mannwhitneyu(first, second, axis=1, method="exact")
    sign, p = run_rank_sum_test(first, second)
    assert p == pytest.approx(expected.pvalue)
    assert sign == pytest.approx(np.sign(expected.statistic - n * m / 2))


@pytest.mark.parametrize(("n", "m"), [(2, 3), (3, 5), (5, 3)])
def test_rank_sums_with_ties_are_all_divisions(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.integers(0, 4, (1, n)).astype(float), rng.integers(1, 5, (1, m)).astype(float)
    ranks = stats.rankdata(np.hstack([first, second])[0])
    sums = np.array([sum(chosen) for chosen in itertools.combinations(ranks.tolist(), n)])
    observed = ranks[:n].sum()
    tails = (sums <= observed + 1e-9).mean(), (sums >= observed - 1e-9).mean()
    assert run_rank_sum_test(first, second)[1][0] == pytest.approx(min(1, 2 * min(tails)))


def test_rank_sums_of_many_rounds_are_scipys_normal_approximation() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 20, (2, 3, 30)).astype(float)
    expected = stats.mannwhitneyu(first, second, axis=1, method="asymptotic").pvalue
    assert run_rank_sum_test(first, second)[1] == pytest.approx(expected)
    same = np.full((1, 30), 0.5)
    assert run_rank_sum_test(same, same)[1][0] == 1


def test_small_tied_samples_are_not_significant() -> None:
    first, second = np.full((1, 3), 1.0), np.full((1, 4), 2.0)
    assert stats.mannwhitneyu(first[0], second[0]).pvalue < 0.05  # the normal approximation
    assert run_rank_sum_test(first, second)[1][0] == pytest.approx(2 / 35)


# differences


@pytest.mark.parametrize("n", [2, 3, 10, 14, 60])
def test_a_paired_difference_is_students_and_wilcoxons(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.9, 0.02, n), rng.normal(0.89, 0.02, n)
    found, expected = compared(first, second), stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert (found.method, found.n) == ("paired", (n, n))
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (np.mean(first - second), interval.low, interval.high)
    )
    assert found.median == pytest.approx(np.median(first - second))
    method = "exact" if n <= 50 else "asymptotic"
    ranks = stats.wilcoxon(first - second, method=method).pvalue
    assert (found.p_t, found.p_rank) == pytest.approx((expected.pvalue, ranks))
    assert found.p == max(found.p_t, found.p_rank)


@pytest.mark.parametrize(("n", "m"), [(2, 3), (10, 10), (30, 12)])
def test_an_unpaired_difference_is_welchs_and_mann_and_whitneys(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.9, 0.02, n), rng.normal(0.88, 0.04, m)
    found, expected = compared(first, second, same_data=False), stats.ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert (found.method, found.n) == ("Welch", (n, m))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.median == pytest.approx(np.median(first) - np.median(second))
    ranks = stats.mannwhitneyu(first, second, method="exact").pvalue
    assert (found.p_t, found.p_rank) == pytest.approx((expected.pvalue, ranks))


def test_only_rounds_of_shared_seeds_are_paired() -> None:
    first, second = {0: 0.9, 1: 0.8, 2: 0.85}, {1: 0.7, 2: 0.8, 3: 0.1}
    assert compare_rounds(first, second, same_data=True).estimate == pytest.approx(0.075)
    assert compare_rounds(first, second, same_data=False).n == (3, 3)
    assert compare_rounds(first, {2: 0.8, 3: 0.1}, same_data=True).method == "Welch"  # one shared seed is too few


def test_pairing_finds_what_is_hidden_by_the_spread_between_seeds() -> None:
    rng = np.random.default_rng(2)
    seeds = rng.normal(0.8, 0.1, 10)
    better = seeds + 0.01 + rng.normal(0, 0.001, 10)
    assert compared(better, seeds).p < 0.01
    assert compared(better, seeds, same_data=False).p > 0.5


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.25, 2 / 2**6)])
def test_differences_that_are_all_the_same(shift: float, p: float) -> None:
    base = np.array([0.5, 0.75, 0.25, 0.625, 0.125, 0.0])
    result = compared(base + shift, base)
    assert (result.low, result.estimate, result.high, result.median, result.p) == (shift, shift, shift, shift, p)
    assert result.min_detectable_effect == 0
    assert decided(base + shift, base).sign == (shift > 0)
    noisy = compared([0.85, 0.86, 0.87, 0.31], [0.80, 0.81, 0.82, 0.26])  # equal except for float noise
    assert noisy.low == noisy.high == pytest.approx(0.05)


def test_samples_without_spread() -> None:
    assert decided([0.5] * 6, [0.5] * 7, same_data=False).outcome == "no significant difference"
    assert decided([0.6] * 6, [0.5] * 7, same_data=False).sign == 1
    assert decided([0.6] * 3, [0.5] * 3, same_data=False).outcome == "too few rounds"


@pytest.mark.parametrize(("first", "second"), [([0.5], [0.5, 0.6]), ([0.5, math.nan], [0.5, 0.6]), ([], [0.5, 0.6])])
def test_incomparable_values_are_rejected(first: list[float], second: list[float]) -> None:
    with pytest.raises(PairsLitError, match=r"each run must have at least 2 rounds|compared values must be finite"):
        compared(first, second)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e9, 1e30])
def test_decision_does_not_depend_on_the_scale_of_losses(scale: float) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 0.1, 12), rng.normal(0.9, 0.1, 12)
    found, scaled = compared(first, second), compared(first * scale, second * scale)
    assert (scaled.p_t, scaled.p_rank) == pytest.approx((found.p_t, found.p_rank))
    assert scaled.estimate == pytest.approx(found.estimate * scale)


def test_exploded_loss_in_one_round_does_not_hide_the_others() -> None:
    base = np.linspace(0.3, 0.5, 12)
    first = base - 0.001 * np.arange(1, 13)
    first[5] = 3e38
    result = decided(first, base)
    assert result.outcome == "tests disagree" or not result.sign
    assert result.difference.median < 0


# the decision


@pytest.mark.parametrize("same_data", [True, False])
def test_a_clear_difference_has_a_winner(same_data: bool) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.9, 0.01, 12), rng.normal(0.8, 0.01, 12)
    assert decided(first, second, same_data=same_data).sign == 1
    assert decided(second, first, same_data=same_data).sign == -1


def failing(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return rounds that are better by 0.4 points on every seed but 17, which ended at chance."""
    rng = np.random.default_rng(0)
    base = 0.87 + rng.normal(0, 0.01, n)
    better = base + 0.004 + rng.normal(0, 0.001, n)
    better[17] = 0.55
    return better, base


def test_better_in_most_rounds_with_a_lower_mean_has_no_winner() -> None:
    result = decided(*failing())
    assert result.difference.p_rank < 0.001
    assert result.difference.estimate < 0 < result.difference.median
    assert (result.sign, result.outcome) == (0, "tests disagree")


def test_the_sentence_says_how_the_tests_disagree_and_which_seed_explains_it() -> None:
    better, base = failing()
    expected = (
        r"The tests disagree on a and b in test accuracy, n = 20 pairs of rounds: a is better in most rounds \(median "
        r"\+0\.4 points, p < 0\.001\), but its mean is lower \(by 1\.2 points, 95 % interval -2\.2 to 4\.6, p = "
        r"0\.465\): seed 17 ended at chance\."
    )
    sentence = describe_difference(
        ComparedRun("a", [17]), ComparedRun("b"), decided(better, base), METRICS_BY_COLUMN["test_accuracy"]
    )
    assert re.fullmatch(expected, sentence)


def test_sentence_about_losses_reverses_higher_and_lower() -> None:
    better, base = failing()
    sentence = describe_difference(
        ComparedRun("a"), ComparedRun("b", [17]), decided(1 - better, 1 - base), METRICS_BY_COLUMN["val_loss"]
    )
    assert "a is better in most rounds (median -0.0040, p < 0.001), but its mean is higher (by 0.0120" in sentence
    assert sentence.endswith("seed 17 of b ended at chance.")


def test_sentence_reports_a_mean_raised_by_few_rounds() -> None:
    base = np.full(30, 0.87)
    other = base + np.array([*np.linspace(-0.03, -0.02, 8), *np.linspace(-0.003, 0.005, 22)])
    result = decided(base, other)
    assert result.t_rejects
    assert not result.rank_rejects
    sentence = describe_difference(
        ComparedRun("a"), ComparedRun("b", list(range(8))), result, METRICS_BY_COLUMN["test_accuracy"]
    )
    assert "a has the higher mean (by 0.6 points" in sentence
    assert "but it is not significantly better in most rounds (median" in sentence
    assert sentence.endswith("seeds 0, 1, 2, 3, 4, 5, 6 and 7 of b ended at chance.")


def test_two_tests_that_reject_in_opposite_directions_name_no_winner() -> None:
    differences = np.array([0.01 + 0.0001 * place for place in range(22)] + [-0.3] * 8)
    result = decided(0.8 + differences, np.full(30, 0.8))
    assert result.difference.estimate < 0 < result.difference.median
    assert result.sign == 0


def test_a_median_of_zero_has_no_winner() -> None:
    first = np.array([0.5] * 13 + [0.51 + 0.001 * place for place in range(12)])
    result = decided(first, np.full(25, 0.5))
    assert result.t_rejects
    assert result.rank_rejects
    assert result.outcome == "tests disagree"
    sentence = describe_difference(ComparedRun("a"), ComparedRun("b"), result, METRICS_BY_COLUMN["test_accuracy"])
    assert "a has the higher mean" in sentence
    assert "but its median is not better (median +0.0 points" in sentence


def test_sentence_names_failed_rounds() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.9, 0.01, 12), rng.normal(0.8, 0.01, 12)
    sentence = describe_difference(
        ComparedRun("a", [], [3, 40]), ComparedRun("b"), decided(first, second), METRICS_BY_COLUMN["test_accuracy"]
    )
    assert sentence.endswith("; failed rounds were left out: seeds 3 and 40 of a.")


def test_holm_corrects_the_larger_p_for_all_comparisons() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(0.8, 0.01, 10)
    result = compare_many(
        [(rounds(base + shift * rng.normal(1, 0.4, 10)), rounds(base), True) for shift in (0.01, 0.1)]
    )
    decisions = make_decisions(result, other_p=[0.03])
    assert [each.p_holm for each in decisions] == adjust_holm([result[0].p, result[1].p, 0.03])[:2]
    assert [each.comparisons for each in decisions] == [3, 3]
    assert make_decisions([]) == []


accuracies = st.integers(0, 1000).map(lambda value: value / 1000)
shifts = st.sampled_from([0.0, 0.0, 0.4, -0.8])
"""Shifts of the first of two runs, with which some runs win."""
pairs_of_rounds = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=30)
samples = st.lists(accuracies, min_size=2, max_size=25)


@given(pairs=pairs_of_rounds, shift=shifts)
def test_no_winner_has_the_lower_mean_or_median(pairs: list[tuple[float, float]], shift: float) -> None:
    first, second = np.add(np.array(pairs).T, [[shift], [0]])
    sign = decided(first, second).sign
    differences = (first - second).round(12)
    assert sign in (0, np.sign(differences.mean().round(12)))
    assert sign in (0, np.sign(np.median(differences)))


@given(values=samples, second=samples, shift=shifts)
def test_no_unpaired_winner_has_the_lower_mean_or_median(
    values: list[float], second: list[float], shift: float
) -> None:
    first = np.array(values) + shift
    sign = decided(first, second, same_data=False).sign
    assert sign in (0, np.sign(round(np.mean(first) - np.mean(second), 12)))
    assert sign in (0, np.sign(round(np.median(first) - np.median(second), 12)))


@given(pairs=pairs_of_rounds, shift=shifts, same_data=st.booleans())
def test_swapping_shifting_and_shuffling(pairs: list[tuple[float, float]], shift: float, same_data: bool) -> None:
    first, second = np.add(np.array(pairs).T, [[shift], [0]])
    result = decided(first, second, same_data=same_data)
    swapped = decided(second, first, same_data=same_data)
    assert (swapped.sign, swapped.outcome) == (-result.sign, result.outcome)
    assert swapped.p_holm == pytest.approx(result.p_holm)
    places = np.random.default_rng(len(pairs)).permutation(len(pairs))
    assert decided(first[places], second[places], same_data=same_data).p_holm == pytest.approx(result.p_holm)
    for factor, added in ((1, 0.5), (7, 0)):
        changed = decided(first * factor + added, second * factor + added, same_data=same_data)
        assert changed.p_holm == pytest.approx(result.p_holm, abs=1e-9)
        assert changed.sign == result.sign


@given(pairs=pairs_of_rounds, shift=shifts)
def test_a_winner_lies_outside_the_interval(pairs: list[tuple[float, float]], shift: float) -> None:
    result = decided(*np.add(np.array(pairs).T, [[shift], [0]]))
    if not result.sign:
        return
    low, high = sorted((result.sign * result.difference.low, result.sign * result.difference.high))
    assert 0 < low <= high  # "better by 1.4 points (95 % interval -2.4 to 5.1), p = 0.002" is impossible


def test_a_single_comparison_is_what_the_simulation_counts() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.87, 0.01, (2, 30, 10))
    for tests, same_data in ((run_paired_tests(first - second), True), (run_unpaired_tests(first, second), False)):
        result = [decided(*each, same_data=same_data).sign for each in zip(first, second, strict=True)]
        assert result == tests.sign.tolist()


# power


def test_the_smallest_p_is_that_of_the_most_extreme_rounds() -> None:
    for n in (2, 5, 6, 13, 20):
        result = compared(np.arange(1, n + 1) / 100 + 0.5, np.full(n, 0.5))
        assert result.p_rank == pytest.approx(result.smallest_p) == 2.0 ** (1 - n)
    for n, m in ((2, 2), (3, 5), (6, 6)):
        result = compared(np.arange(n) + 10, np.arange(m), same_data=False)
        assert result.p_rank == pytest.approx(result.smallest_p) == 2 / math.comb(n + m, n)
    assert compute_smallest_p(1, 1, is_paired=True) == 1


def test_limit_names_rounds_and_comparisons() -> None:
    text = describe_limit(6, 6, 3, is_paired=True)
    assert text == "with 6 rounds and 3 comparisons the smallest possible p is 0.094; use at least 7 rounds"
    assert describe_limit(7, 7, 3, is_paired=True) == ""
    assert (
        describe_limit(5, 5, 1, is_paired=True)
        == "with 5 rounds the smallest possible p is 0.062; use at least 6 rounds"
    )
    assert describe_limit(2, 3, 1, is_paired=False).startswith("with 2 and 3 rounds the smallest possible p is 0.200")
    assert describe_limit(1, 1, 0, is_paired=True) == ""
    assert [compute_needed_rounds(count, is_paired=True) for count in (1, 2, 3, 100)] == [6, 7, 7, 12]
    assert compute_needed_rounds(1, is_paired=False) == 4


def test_each_comparison_has_the_limit_of_its_own_n() -> None:
    few, many = rounds(np.arange(1, 6) / 100 + 0.5), rounds(np.arange(1, 31) / 100 + 0.5)
    result = make_decisions(
        compare_many([(few, rounds(np.full(5, 0.5)), True), (many, rounds(np.full(30, 0.5)), True)])
    )
    assert [each.outcome for each in result] == ["too few rounds", "significant difference"]
    assert result[0].smallest_p == 2 / 2**5
    assert result[0].limit == "with 5 rounds and 2 comparisons the smallest possible p is 0.062; use at least 7 rounds"


@pytest.mark.parametrize("n", [2, 5])
def test_too_few_rounds_detect_nothing(n: int) -> None:
    assert math.isnan(compared(np.arange(n) / 10, np.zeros(n)).min_detectable_effect)
    assert math.isnan(compute_min_detectable_errors(3, 3, 4.0, is_paired=False))


@pytest.mark.parametrize("n", [5, 10, 100])
def test_t_test_has_80_percent_power_at_its_detectable_effect(n: int) -> None:
    shift = compute_t_detectable_errors(n - 1) / math.sqrt(n)
    rng = np.random.default_rng(n)
    p = stats.ttest_1samp(rng.normal(shift, 1, (20000, n)), 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("n", [6, 10, 30])
def test_decision_has_80_percent_power_at_the_detectable_effect(n: int) -> None:
    power_of(n, n, is_paired=True, count=4000, tolerance=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 7, 8, 10, 13, 14, 20, 30, 50, 100])
@pytest.mark.parametrize("is_paired", [True, False])
def test_power_at_the_detectable_effect_in_many_samples(n: int, is_paired: bool) -> None:
    power_of(n, n, is_paired=is_paired, count=40000, tolerance=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(6, 12), (10, 30), (20, 100)])
def test_power_with_unequal_numbers_of_rounds_is_nearly_80_percent(n: int, m: int) -> None:
    power_of(n, m, is_paired=False, count=20000, tolerance=0.02)


def power_of(n: int, m: int, *, is_paired: bool, count: int, tolerance: float) -> None:
    """Check the power of the decision at the minimum detectable effect."""
    rng = np.random.default_rng([n, m])
    freedom, error = (n - 1, 1 / math.sqrt(n)) if is_paired else (n + m - 2, math.sqrt(1 / n + 1 / m))
    if n != m:
        freedom = (1 / n + 1 / m) ** 2 / (1 / n**2 / (n - 1) + 1 / m**2 / (m - 1))  # Welch's
    shift = error * compute_min_detectable_errors(n, m, freedom, is_paired=is_paired)
    first, second = rng.normal(shift, 1, (count, n)), rng.normal(0, 1, (count, m))
    tests = run_paired_tests(first) if is_paired else run_unpaired_tests(first, second)
    assert np.mean(tests.sign > 0) == pytest.approx(0.8, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 10, 20, 50])
@pytest.mark.parametrize(("kind", "least"), [("normal", 0.94), ("logit-normal", 0.89)])
def test_the_interval_covers_the_true_difference(kind: str, least: float, n: int) -> None:
    rng, count = np.random.default_rng(n), 1000
    if kind == "normal":
        differences, truth = rng.normal(0, 0.0113, (count, n)), 0.0
    else:  # accuracies near 1 with a long tail against accuracies in the middle
        differences = accuracy(rng, 3.5, 0.8, (count, n)) - accuracy(rng, 1.8, 0.1, (count, n))
        many = np.random.default_rng(0)
        truth = (accuracy(many, 3.5, 0.8, (4000, 1000)) - accuracy(many, 1.8, 0.1, (4000, 1000))).mean()
    result = [compared(row, np.zeros(n)) for row in differences]
    share = np.mean([each.low <= truth <= each.high for each in result])
    print(f"{kind}, n = {n}: {share:.3f}")
    assert share >= least


def accuracy(rng: np.random.Generator, location: float, spread: float, shape: tuple[int, int]) -> np.ndarray:
    """Return random logit-normal accuracies, rounded as for 1,000 pairs."""
    return np.round(special.expit(rng.normal(location, spread, shape)), 3)
