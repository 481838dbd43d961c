import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairs_lit.analysis.tables import (
    describe_failures,
    describe_rounds_at_chance,
    format_evaluation_table,
    format_summary_table,
)
from pairs_lit.runs.tables import Evaluation
from pairs_lit.statistics import Summary, format_mean_and_std, summarise

accuracies = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"\|" if "|" in line else r" {2,}", line.strip("| "))]


def parsed(table: str) -> dict[str, Summary]:
    """Parse a summary table, which has one row per metric below the header and its rule."""
    rows = [cells(line) for line in table.splitlines()[2:]]
    numbers = {row[0]: [math.nan if cell == "–" else float(cell) for cell in row[2:]] for row in rows}
    return {row[0]: Summary(int(row[1]), *numbers[row[0]]) for row in rows}


def same_to_four_places(shown: Summary, summary: Summary) -> bool:
    pairs = zip(
        (shown.mean, shown.std, shown.median, shown.min, shown.max),
        (summary.mean, summary.std, summary.median, summary.min, summary.max),
        strict=True,
    )
    return shown.n == summary.n and all(math.isclose(a, b, abs_tol=5.1e-5) or (a != a and b != b) for a, b in pairs)


@pytest.mark.parametrize("style", ["simple", "github"])
@given(test=accuracies, train=accuracies)
def test_the_tables_numbers_are_those_of_summarise(style: str, test: list[float], train: list[float]) -> None:
    by_metric = {"train_accuracy": summarise(train), "test_accuracy": summarise(test)}
    shown = parsed(format_summary_table(by_metric, style=style))
    assert list(shown) == ["training accuracy", "test accuracy"]
    assert same_to_four_places(shown["training accuracy"], by_metric["train_accuracy"])
    assert same_to_four_places(shown["test accuracy"], by_metric["test_accuracy"])


def test_the_table_names_its_columns() -> None:
    assert cells(format_summary_table({"test_accuracy": summarise([0.5])}).splitlines()[0]) == [
        "n", "mean", "std", "median", "min", "max"
    ]  # fmt: skip


def test_undefined_statistics_are_dashes() -> None:
    assert cells(format_summary_table({"test_accuracy": summarise([])}).splitlines()[-1]) == [
        "test accuracy",
        "0",
        *"–––––",
    ]
    assert cells(format_summary_table({"test_accuracy": summarise([0.5])}).splitlines()[-1])[3] == "–"


def test_best_test_accuracy_is_labelled_as_selected_on_test() -> None:
    assert "selected on test" in format_summary_table({"best_test_accuracy": summarise([0.5])})


def test_a_metric_without_a_label_keeps_its_name() -> None:
    assert "test digit loss" in format_summary_table({"test_digit_loss": summarise([0.5])})


def test_failures_count_and_name_the_seeds() -> None:
    text = describe_failures([3, 17], 10)
    assert "2 of 10 rounds FAILED" in text
    assert re.search(r"seed 3, 17\b", text)
    assert "left out of the table" in text


def test_single_round_is_singular() -> None:
    assert "1 of 1 round FAILED" in describe_failures([3], 1)
    assert "1 of 1 round AT CHANCE" in describe_rounds_at_chance([3], 1)


def test_no_failures_give_an_empty_text() -> None:
    assert describe_failures([], 10) == ""


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5, 0.75], "0.6250 ± 0.1768 (n = 2)"),
        ([0.87565], "0.8757 (n = 1)"),
        ([1.0, 1.0, 1.0], "1.0000 ± 0.0000 (n = 3)"),
    ],
)
def test_mean_and_std_come_with_n(values: list[float], text: str) -> None:
    assert format_mean_and_std(summarise(values)) == text


def evaluation(*accuracy: float) -> Evaluation:
    return Evaluation(list(range(3, 3 + len(accuracy))), {"test/accuracy": np.array(accuracy)})


def test_an_evaluations_table_shows_every_round_then_the_summary() -> None:
    rounds, summary = format_evaluation_table(evaluation(0.5, 0.75)).split("\n\n")
    assert [cells(line) for line in rounds.splitlines()[2:]] == [["3", "ok", "0.5000"], ["4", "ok", "0.7500"]]
    assert same_to_four_places(parsed(summary)["test accuracy"], summarise([0.5, 0.75]))


def test_an_evaluations_table_names_the_rounds_that_failed() -> None:
    rounds, summary, failed = format_evaluation_table(evaluation(0.5, math.nan, 0.75)).split("\n\n")
    assert cells(rounds.splitlines()[3]) == ["4", "failed", "–"]
    assert same_to_four_places(parsed(summary)["test accuracy"], summarise([0.5, 0.75]))
    assert "1 of 3 rounds FAILED" in failed
    assert "seed 4" in failed
