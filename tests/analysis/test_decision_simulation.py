"""Error rates of the decision rule, simulated by ``benchmarks/decision.py`` and listed in ``docs/comparing.md``."""

from pathlib import Path

import numpy as np
import pytest

import decision

PAGE = Path(__file__).parents[2] / "docs" / "comparing.md"
CASES = {case.title: case for case in decision.CASES}
EQUAL = [case for case in decision.CASES if case.true_sign == 0 and case is not decision.NEAR_CEILING]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("n", decision.COUNTS)
@pytest.mark.parametrize("case", EQUAL, ids=lambda case: case.title)
def test_false_winners_are_rare_where_no_failure_is_hidden(case: decision.Case, n: int) -> None:
    assert decision.simulate(case, n).decision_if_failures_visible.wrong <= 0.06


@pytest.mark.parametrize("n", decision.COUNTS)
def test_strong_skew_misleads_less_than_either_test(n: int) -> None:
    result = decision.simulate(decision.NEAR_CEILING, n)
    assert result.decision.wrong <= min(result.student.wrong, result.wilcoxon.wrong, 0.08)


@pytest.mark.parametrize("n", decision.COUNTS)
@pytest.mark.parametrize("case", decision.CASES, ids=lambda case: case.title)
def test_no_winner_has_the_lower_mean(case: decision.Case, n: int) -> None:
    tests = decision.simulate(case, n).tests
    assert not np.any((tests.sign != 0) & (np.sign(tests.mean) != tests.sign))
    assert not np.any((tests.sign != 0) & (np.sign(tests.median) != tests.sign))


@pytest.mark.parametrize("n", decision.COUNTS)
def test_of_normal_differences_little_power_is_lost(n: int) -> None:
    result = decision.simulate(decision.NORMAL_BETTER, n)
    lost = round(100 * (result.student.right - result.decision.right))
    assert lost <= (8 if n == 6 else 4)  # points


@pytest.mark.parametrize("n", [20, 30, 100])
def test_the_former_rule_named_the_wrong_winner(n: int) -> None:
    result = decision.simulate(decision.ONE_FAILS, n)
    assert result.wilcoxon.wrong > 0.9
    assert result.decision.wrong < 0.4


@pytest.mark.parametrize(("n", "is_paired"), [(7, True), (12, True), (20, True), (6, False), (15, False)])
def test_the_constants_of_power_are_those_of_the_benchmark(n: int, is_paired: bool) -> None:
    from pairs_lit.analysis import power

    ratios = (
        power._PAIRED_RATIOS[n - power._FIRST_PAIRED_ROUNDS]
        if is_paired
        else power._UNPAIRED_RATIOS[n - power._FIRST_UNPAIRED_ROUNDS]
    )
    assert decision.compute_power_ratio(n, is_paired=is_paired, count=20_000) == pytest.approx(ratios, abs=0.01)
    assert decision.compute_limit_ratio() == pytest.approx(power._LIMIT_RATIO, abs=1e-4)


def test_the_page_has_the_table() -> None:
    assert decision.render_table() in PAGE.read_text(encoding="utf-8")
