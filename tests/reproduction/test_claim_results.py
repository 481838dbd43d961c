from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from pairs_lit.cli import main
from pairs_lit.inference.run import Run
from pairs_lit.reproduction.claim_results import (
    ContrastResult,
    compute_contrast,
    decide_contrasts,
    describe_findings,
    describe_round_limit,
    get_values,
    render_page,
)
from pairs_lit.reproduction.claims import CLAIMS, Claim, Contrast, Side
from pairs_lit.reproduction.published import REPORTS
from pairs_lit.runs.run_metadata import RunMetadata
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
    vars(run)["facts"] = RunMetadata(run.data, 2101, seconds, [], "")  # instead of those in its folder
    return run


def test_a_contrast_of_shared_seeds_is_paired() -> None:
    result = compute_contrast(Contrast("x", ONE, TWO), {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE)})
    difference = np.mean(np.subtract(GOOD, WORSE))
    assert result.n == "7, paired"
    assert result.found == f"{difference:+.4f}"
    assert result.difference is not None
    assert (result.difference.common_sign, result.difference.p) == (1, pytest.approx(2 / 2**7))


@pytest.mark.parametrize("other", [{"seed": 50}, {"swap": "flip"}])
def test_a_contrast_of_other_seeds_or_data_is_unpaired(other: dict[str, object]) -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE, **other)}
    result = compute_contrast(Contrast("x", ONE, TWO), fits)
    assert result.n == "7, 7, unpaired"
    assert result.difference is not None
    assert result.difference.p_t == pytest.approx(stats.ttest_ind(GOOD, WORSE, equal_var=False).pvalue)
    assert result.difference.p_rank == pytest.approx(2 / 3432)


def test_spreads_are_compared_by_their_ratio() -> None:
    wide = [0.5, 0.7, 0.9, 0.6, 0.8, 0.95, 0.55]
    fits = {("a", "one", ""): made(wide), ("a", "two", ""): made(GOOD)}
    result = compute_contrast(Contrast("x", ONE, TWO, "spread"), fits)
    assert result.found == f"× {np.std(wide, ddof=1) / np.std(GOOD, ddof=1):.2f}"
    (finding,) = decide_contrasts([result])
    assert finding.p == pytest.approx(stats.levene(wide, GOOD, center="median").pvalue)
    ratio = result.found.removeprefix("× ")
    assert describe([result]) == (
        f"- The standard deviation of the test accuracy over rounds of one is {ratio} times that of two "
        f"(p = {finding.p:.3f}, n = 7, 7)."
    )


def describe(answers: list[ContrastResult]) -> str:
    return describe_findings(answers, decide_contrasts(answers))


def test_a_zero_spread_is_the_smaller_one() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made([0.5] * 7)}
    result = compute_contrast(Contrast("x", ONE, TWO, "spread"), fits)
    assert "over rounds of one is inf times that of two (p " in describe([result])
    both = {("a", "one", ""): made([0.4] * 7), ("a", "two", ""): made([0.5] * 7)}
    text = describe([compute_contrast(Contrast("x", ONE, TWO, "spread"), both)])
    assert "does not differ significantly between one and two (ratio nan, p = 1.000, n = 7, 7)" in text


@pytest.mark.parametrize(
    ("yes_if", "expected"), [("neither", "- The standard"), ("higher", "- Yes: the"), ("lower", "- No, ")]
)
def test_a_spread_answers_its_question(yes_if: Literal["higher", "lower", "neither"], expected: str) -> None:
    fits = {("a", "one", ""): made([0.5, 0.7, 0.9, 0.6, 0.8, 0.95, 0.55]), ("a", "two", ""): made(GOOD)}
    assert describe([compute_contrast(Contrast("x", ONE, TWO, "spread", yes_if), fits)]).startswith(expected)


def test_times_are_compared_per_round() -> None:
    fits = {("a", "one", ""): made(GOOD, seconds=40.0), ("a", "two", ""): made(GOOD[:3], seconds=10.0)}
    result = compute_contrast(Contrast("x", ONE, TWO, "time"), fits)
    assert (result.first, result.second, result.found) == ("5.00 s per round", "2.50 s per round", "× 2.00")
    assert describe([result]) == (
        "- A round of one takes 2.00 times as long as a round of two "
        "(5.00 s per round against 2.50 s per round, measured once)."
    )


def test_a_side_may_be_another_metric_or_an_epoch(tmp_path: Path) -> None:
    curves = Curves([0, 1, 99], {"test/accuracy": np.array([[0.1, 0.2, np.nan], [0.3, 0.4, np.nan]])})
    write_curves(tmp_path / "curves.csv", curves)
    fits = {("a", "one", ""): made([0.5, 0.6], folder=tmp_path)}
    assert get_values(Side("a", "one", "best_test_accuracy"), fits) == {0: 0.51, 1: 0.61}
    assert get_values(Side("a", "one", "test/accuracy", 1), fits) == {0: 0.1, 1: 0.2}
    assert get_values(Side("a", "one", "test/accuracy", 60), fits) == {0: 0.3, 1: 0.4}


def test_sentences_follow_from_the_decision() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE), ("a", "three", ""): made(GOOD[::-1])}
    up, down = compute_contrast(Contrast("up", ONE, TWO), fits), compute_contrast(Contrast("down", TWO, ONE), fits)
    same = compute_contrast(Contrast("same", ONE, Side("a", "three")), fits)
    amount = f"{np.mean(np.subtract(GOOD, WORSE)):.4f}"
    assert up.difference is not None
    ends = f"{up.difference.low:+.4f} to {up.difference.high:+.4f}"
    assert describe([up]) == (
        f"- The test accuracy of one is {amount} higher than that of two "
        f"(95 % interval {ends}, p = 0.016, n = 7, paired)."
    )
    first, second = describe([up, down]).splitlines()
    assert f"one is {amount} higher than that of two" in first
    assert f"two is {amount} lower than that of one" in second
    first, second = describe([up, same]).splitlines()
    assert f"one is {amount} higher than that of two" in first
    assert f"one does not differ significantly from that of three (difference {same.found}, 95 %" in second
    limit = "with 7 rounds and 4 comparisons the smallest possible p is 0.062; use at least 8 rounds"
    text = describe([up] * 4).splitlines()[0]
    assert text.startswith(
        f"- The test accuracy of one cannot be shown to differ from that of two (difference +{amount}"
    )
    assert text.endswith(f"n = 7, paired): {limit}.")


@pytest.mark.parametrize(
    ("first", "second", "yes_if", "expected"),
    [
        ("one", "two", "higher", "Yes: the test accuracy of one is"),
        ("one", "two", "lower", "No, the opposite: the test accuracy of one is"),
        ("two", "one", "lower", "Yes: the test accuracy of two is"),
        ("one", "three", "higher", "Not shown: the test accuracy of one does not differ"),
        ("one", "two", "neither", "The test accuracy of one is"),
    ],
)
def test_a_yes_or_no_question_is_answered(
    first: str, second: str, yes_if: Literal["higher", "lower", "neither"], expected: str
) -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE), ("a", "three", ""): made(GOOD[::-1])}
    contrast = Contrast("x", Side("a", first), Side("a", second), yes_if=yes_if)
    assert describe([compute_contrast(contrast, fits)]).startswith(f"- {expected}")


def test_sentences_name_the_sides_and_what_was_measured(tmp_path: Path) -> None:
    seeds = [*range(7), 99]
    curves = Curves(seeds, {"test/accuracy": np.array([[*WORSE, np.nan], [*GOOD, np.nan]])})
    write_curves(tmp_path / "curves.csv", curves)
    fits = {("a", "one", ""): made(GOOD, folder=tmp_path)}
    plain, best = Side("a", "one", label="net A"), Side("a", "one", "best_test_accuracy", label="net A")
    early, late = (Side("a", "one", "test/accuracy", epoch, label="net A") for epoch in (1, 2))
    training = Side("a", "one", "train_accuracy", label="net A as trained")

    def text(first: Side, second: Side) -> str:
        return describe([compute_contrast(Contrast("x", first, second), fits)]).partition(" (95 %")[0]

    assert text(best, plain) == (
        "- The best test accuracy of net A is 0.0100 higher than its test accuracy after the last epoch"
    )
    assert text(plain, early).endswith("higher than its test accuracy after epoch 1")
    assert text(plain, early).startswith("- The test accuracy after the last epoch of net A is ")
    assert text(late, early).startswith("- The test accuracy after epoch 2 of net A is ")
    assert text(training, plain).startswith("- The training accuracy of net A as trained is ")
    assert text(training, plain).endswith(" higher than the test accuracy of net A")


def test_every_side_of_the_claims_has_a_label() -> None:
    sides = [side for claim in CLAIMS for contrast in claim.contrasts for side in (contrast.first, contrast.second)]
    assert all(side.label for side in sides)


def test_disagreeing_tests_are_described_with_mean_and_median() -> None:
    base = [0.87 + 0.001 * place for place in range(20)]
    better = [value + 0.004 + 0.0001 * place for place, value in enumerate(base)]
    better[4] = 0.55
    fits = {("a", "one", ""): made(better), ("a", "two", ""): made(base)}
    text = describe([compute_contrast(Contrast("x", ONE, TWO), fits)])
    assert text.startswith("- The tests disagree on whether the test accuracy of one differs from that of two: ")
    assert "the mean difference is -0.01" in text
    assert "the median difference +0.0049 (95 % interval " in text
    text = describe([compute_contrast(Contrast("x", ONE, TWO, yes_if="higher"), fits)])
    assert text.startswith("- Unclear: the tests disagree")


def test_the_page_corrects_over_the_tests_of_a_question() -> None:
    fits = {("a", "one", ""): made(GOOD), ("a", "two", ""): made(WORSE)}
    contrast = Contrast("x", ONE, TWO)
    two = Claim("Is it?", "Yes.", (contrast, contrast, Contrast("t", ONE, TWO, "time")), "Mind.")
    text = render_page([two, Claim("And that?", "No.", (contrast,))], fits, "Data: m.")
    first, second = text[text.index("## Is it?") :].split("## And that?")
    assert f"{2 * 2 / 2**7:.3f}" in first
    assert f"{2 / 2**7:.3f}" in second
    for part in (
        "*The reports*: Yes.",
        "*The reproduction*:\n\n- The test accuracy of one is",
        "measured once",
        "Mind.",
    ):
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
    sides = {side.fit_key for claim in CLAIMS for each in claim.contrasts for side in (each.first, each.second)}
    assert sides <= {(*row, "") for row in rows} | variants
    assert {(report, row) for report, row, _ in variants} <= rows
    remarks = [claim.remark for claim in CLAIMS] + [report.remark for report in REPORTS.values()]
    assert not any(letter.isdigit() for remark in remarks for letter in remark)


def test_questions_that_the_number_of_rounds_cannot_answer_are_counted() -> None:
    contrast = Contrast("x", ONE, TWO)
    claims = [Claim("One?", "Yes.", (contrast,)), Claim("Three?", "Yes.", (contrast,) * 3), Claim("No?", "Yes.", ())]
    limit = "with 6 rounds and 3 comparisons the smallest possible p is 0.094; use at least 7 rounds"
    expected = f"1 of 3 questions on the reports' claims cannot be answered by rounds that are paired by seed: {limit}"
    assert describe_round_limit(claims, 6) == expected
    assert describe_round_limit(claims, 7) == ""
    assert describe_round_limit(CLAIMS, 10) == ""  # the smallest number of rounds that the configs train


def test_the_command_warns_of_too_few_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--no-training", "--rounds", "3", "--runs", str(tmp_path)]) == 2
    assert "the smallest possible p is" in capsys.readouterr().err
