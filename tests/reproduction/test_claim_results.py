from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pairs_lit.cli import main
from pairs_lit.inference.run import Run
from pairs_lit.reproduction.claim_results import (
    Answer,
    answer,
    describe_findings,
    describe_limit_of,
    find,
    page,
    values,
)
from pairs_lit.reproduction.claims import CLAIMS, Claim, Contrast, Side
from pairs_lit.reproduction.published import REPORTS
from pairs_lit.runs.run_metadata import Facts
from pairs_lit.runs.tables import Curves, RoundResult, write_curves

ONE, TWO = Side("a", "one"), Side("a", "two")
GOOD = [0.90, 0.92, 0.91, 0.93, 0.92, 0.90, 0.94]
WORSE = [0.80, 0.83, 0.80, 0.84, 0.81, 0.82, 0.83]


def made(
    accuracies: list[float], seed: int = 0, seconds: float = 10.0, folder: Path = Path(), **data: str | int
) -> Run:
    rows = [
        RoundResult(seed + place, "ok", 0.99, None, value, None, value, None, value + 0.01, 2)
        for place, value in enumerate(accuracies)
    ]
    lost = RoundResult(99, "failed", *[float("nan")] * 7, None)
    run = Run(folder, "a", [*rows, lost], {"source": "mnist"} | data)
    vars(run)["facts"] = Facts(run.data, 2101, seconds, [], "")  # in place of what its folder would say
    return run


def test_a_contrast_of_shared_seeds_is_paired() -> None:
    found = answer(Contrast("x", ONE, TWO), {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE)})
    difference = np.mean(np.subtract(GOOD, WORSE))
    assert found.n == "7, paired"
    assert found.found == f"{difference:+.4f}"
    assert found.difference is not None
    assert (found.difference.common_sign, found.difference.p) == (1, pytest.approx(2 / 2**7))


@pytest.mark.parametrize("other", [{"seed": 50}, {"swap": "flip"}])
def test_a_contrast_of_other_seeds_or_data_is_not(other: dict[str, object]) -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE, **other)}
    found = answer(Contrast("x", ONE, TWO), fits)
    assert found.n == "7, 7, unpaired"
    assert found.difference is not None
    assert found.difference.p_t == pytest.approx(stats.ttest_ind(GOOD, WORSE, equal_var=False).pvalue)
    assert found.difference.p_rank == pytest.approx(2 / 3432)


def test_spreads_are_compared_by_their_ratio() -> None:
    wide = [0.5, 0.7, 0.9, 0.6, 0.8, 0.95, 0.55]
    fits = {("a", "one", ""): made(wide), ("a", "two", ""): made(GOOD)}
    found = answer(Contrast("x", ONE, TWO, "spread"), fits)
    assert found.found == f"× {np.std(wide, ddof=1) / np.std(GOOD, ddof=1):.2f}"
    (finding,) = find([found])
    assert finding.p == pytest.approx(stats.levene(wide, GOOD, center="median").pvalue)
    assert said([found]) == f"the first scatters more: x ({found.found})"


def said(answers: list[Answer]) -> str:
    return describe_findings(answers, find(answers))


def test_a_spread_of_nothing_is_the_smaller_one() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made([0.5] * 7)}
    found = answer(Contrast("x", ONE, TWO, "spread"), fits)
    assert said([found]) == "the first scatters more: x (× inf)"
    both = {("a", "one", ""): made([0.4] * 7), ("a", "two", ""): made([0.5] * 7)}
    assert said([answer(Contrast("x", ONE, TWO, "spread"), both)]) == "no difference in scatter shown: x (× nan)"


def test_times_are_compared_a_round() -> None:
    fits = {("a", "one", ""): made(GOOD, seconds=40.0), ("a", "two", ""): made(GOOD[:3], seconds=10.0)}
    found = answer(Contrast("x", ONE, TWO, "time"), fits)
    assert (found.first, found.second, found.found) == ("5.00 s a round", "2.50 s a round", "× 2.00")
    assert said([found]) == "measured once: x (× 2.00)"


def test_a_side_may_be_another_metric_or_an_epoch(tmp_path: Path) -> None:
    curves = Curves([0, 1, 99], {"test/accuracy": np.array([[0.1, 0.2, np.nan], [0.3, 0.4, np.nan]])})
    write_curves(tmp_path / "curves.csv", curves)
    fits = {("a", "one", ""): made([0.5, 0.6], folder=tmp_path)}
    assert values(Side("a", "one", "best_test_accuracy"), fits) == {0: 0.51, 1: 0.61}
    assert values(Side("a", "one", "test/accuracy", 1), fits) == {0: 0.1, 1: 0.2}
    assert values(Side("a", "one", "test/accuracy", 60), fits) == {0: 0.3, 1: 0.4}


def test_what_is_said_follows_from_the_decision() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE), ("a", "three", ""): made(GOOD[::-1])}
    up, down = answer(Contrast("up", ONE, TWO), fits), answer(Contrast("down", TWO, ONE), fits)
    same = answer(Contrast("same", ONE, Side("a", "three")), fits)
    found = f"{np.mean(np.subtract(GOOD, WORSE)):+.4f}"
    assert said([up]) == f"the first is higher: up ({found})"
    assert said([up, down]) == (
        f"the first is higher: up ({found}); the first is lower: down ({found.replace('+', '-')})"
    )
    assert said([up, same]) == f"the first is higher: up ({found}); no difference shown: same ({same.found})"
    four = "with 7 rounds and 4 comparisons the smallest possible p is 0.062; use at least 8 rounds"
    assert said([up] * 4).startswith(f"no difference can be shown ({four}): up")


def test_tests_that_disagree_are_said_to_with_mean_and_median() -> None:
    base = [0.87 + 0.001 * place for place in range(20)]
    better = [value + 0.004 + 0.0001 * place for place, value in enumerate(base)]
    better[4] = 0.55
    fits = {("a", "one", ""): made(better), ("a", "two", ""): made(base)}
    text = said([answer(Contrast("x", ONE, TWO), fits)])
    assert text.startswith("the tests disagree: x (mean -0.01")
    assert text.endswith("median +0.0049)")


def test_the_page_corrects_over_the_tests_of_a_question() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE)}
    contrast = Contrast("x", ONE, TWO)
    two = Claim("Is it?", "Yes.", (contrast, contrast, Contrast("t", ONE, TWO, "time")), "Mind.")
    text = page([two, Claim("And that?", "No.", (contrast,))], fits, "Data: m.")
    first, second = text[text.index("## Is it?") :].split("## And that?")
    assert f"{2 * 2 / 2**7:.3f}" in first
    assert f"{2 / 2**7:.3f}" in second
    for part in ("*The reports*: Yes.", "**Ours**: the first is higher: x", "measured once: t (× ", "Mind."):
        assert part in first
    assert "Data: m." in text


def test_every_claim_names_rows_that_exist() -> None:
    rows = {(report.name, row.name) for report in REPORTS.values() for row in report.rows}
    variants = {
        (report.name, row, variant.name)
        for report in REPORTS.values()
        for variant in report.variants
        for row in variant.rows
    }
    sides = {side.fit for claim in CLAIMS for each in claim.contrasts for side in (each.first, each.second)}
    assert sides <= {(*row, "") for row in rows} | variants
    assert {(report, row) for report, row, _ in variants} <= rows
    remarks = [claim.remark for claim in CLAIMS] + [report.remark for report in REPORTS.values()]
    assert not any(letter.isdigit() for remark in remarks for letter in remark)


def test_so_few_rounds_that_questions_stay_open_are_named_before_training() -> None:
    contrast = Contrast("x", ONE, TWO)
    claims = [Claim("One?", "Yes.", (contrast,)), Claim("Three?", "Yes.", (contrast,) * 3), Claim("No?", "Yes.", ())]
    limit = "with 6 rounds and 3 comparisons the smallest possible p is 0.094; use at least 7 rounds"
    expected = f"1 of 3 questions on the reports' claims cannot be answered by rounds that are paired by seed: {limit}"
    assert describe_limit_of(claims, 6) == expected
    assert describe_limit_of(claims, 7) == ""
    assert describe_limit_of(CLAIMS, 10) == ""  # what the configs train


def test_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--no-training", "--rounds", "3", "--runs", str(tmp_path)]) == 2
    assert "the smallest possible p is" in capsys.readouterr().err
