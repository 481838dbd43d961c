from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pairs_lit.reproduction.answers import answer, page, values, verdict
from pairs_lit.reproduction.claims import CLAIMS, Claim, Contrast, Side
from pairs_lit.reproduction.published import REPORTS
from pairs_lit.runs.run import Run
from pairs_lit.runs.summary import Facts
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
    assert (found.direction, found.p) == (1, pytest.approx(2 / 2**7))


@pytest.mark.parametrize("other", [{"seed": 50}, {"swap": "flip"}])
def test_a_contrast_of_other_seeds_or_data_is_not(other: dict[str, object]) -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE, **other)}
    found = answer(Contrast("x", ONE, TWO), fits)
    assert found.n == "7, 7, unpaired"
    assert found.p == pytest.approx(stats.ttest_ind(GOOD, WORSE, equal_var=False).pvalue)


def test_spreads_are_compared_by_their_ratio() -> None:
    wide = [0.5, 0.7, 0.9, 0.6, 0.8, 0.95, 0.55]
    fits = {("a", "one", ""): made(wide), ("a", "two", ""): made(GOOD)}
    found = answer(Contrast("x", ONE, TWO, "spread"), fits)
    assert found.found == f"× {np.std(wide, ddof=1) / np.std(GOOD, ddof=1):.2f}"
    assert found.p == pytest.approx(stats.levene(wide, GOOD, center="median").pvalue)


def test_a_spread_of_nothing_has_no_ratio_and_no_test() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made([0.5] * 7)}
    assert answer(Contrast("x", ONE, TWO, "spread"), fits).found == "× nan"


def test_times_are_compared_a_round() -> None:
    fits = {("a", "one", ""): made(GOOD, seconds=40.0), ("a", "two", ""): made(GOOD[:3], seconds=10.0)}
    found = answer(Contrast("x", ONE, TWO, "time"), fits)
    assert (found.first, found.second, found.found) == ("5.00 s a round", "2.50 s a round", "× 2.00")
    assert verdict([found], [None]) == "measured once: x (× 2.00)"


def test_a_side_may_be_another_metric_or_an_epoch(tmp_path: Path) -> None:
    curves = Curves([0, 1, 99], {"test/accuracy": np.array([[0.1, 0.2, np.nan], [0.3, 0.4, np.nan]])})
    write_curves(tmp_path / "curves.csv", curves)
    fits = {("a", "one", ""): made([0.5, 0.6], folder=tmp_path)}
    assert values(Side("a", "one", "best_test_accuracy"), fits) == {0: 0.51, 1: 0.61}
    assert values(Side("a", "one", "test/accuracy", 1), fits) == {0: 0.1, 1: 0.2}
    assert values(Side("a", "one", "test/accuracy", 60), fits) == {0: 0.3, 1: 0.4}


def test_the_verdict_follows_from_p_and_direction() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE)}
    up, down = answer(Contrast("up", ONE, TWO), fits), answer(Contrast("down", TWO, ONE), fits)
    wide = answer(
        Contrast("wide", ONE, TWO, "spread"), {("a", "one", ""): made([0.1, 0.9, 0.5]), ("a", "two", ""): made(GOOD)}
    )
    found = f"{np.mean(np.subtract(GOOD, WORSE)):+.4f}"
    assert (
        verdict([up, down], [0.01, 0.04])
        == f"the first is higher: up ({found}); the first is lower: down ({found.replace('+', '-')})"
    )
    assert verdict([up, up], [0.01, 0.2]) == f"the first is higher: up ({found}); no difference shown: up ({found})"
    assert verdict([wide], [0.01]).startswith("the first scatters more: wide (× ")


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
