import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pairs_lit.analysis.comparison import check_comparable, compared, read_runs
from pairs_lit.analysis.figures import rounds_figure
from pairs_lit.cli import main
from pairs_lit.runs.tables import RoundResult, write_rounds, write_summary

DATA = {"source": "mnist", "relation": "le", "train_pairs": 1000}
Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write a finished run by hand: accuracies of seeds that count up from ``seed``."""

    def make(name: str, accuracies: list[float], seed: int = 0, failed: int = 0, **data: object) -> Path:
        folder = tmp_path / "lightning_logs" / name / "20260101-000000-1"
        rows = [
            RoundResult(seed + place, "ok", 0.9, None, value, None, value, None, value + 0.01, 2)
            for place, value in enumerate(accuracies)
        ]
        lost = [RoundResult(seed + 90 + i, "failed", *[float("nan")] * 7, None) for i in range(failed)]
        write_rounds(folder / "rounds.csv", [*rows, *lost])
        write_summary(folder / "summary.json", {"data": DATA | data})
        return folder

    return make


GOOD, BETTER = [0.80, 0.82, 0.84, 0.83], [0.81, 0.84, 0.85, 0.86]


def test_runs_that_share_seeds_and_data_are_paired_by_seed(made: Made) -> None:
    runs = read_runs([made("a", BETTER), made("b", GOOD)])
    (pair,) = compared(runs, "test_accuracy").pairs
    assert (pair.first, pair.second, pair.difference.method) == ("a", "b", "paired")
    assert pair.difference.estimate == pytest.approx(0.0175)
    assert pair.difference.n == (4, 4)


def test_only_shared_seeds_are_paired(made: Made) -> None:
    runs = read_runs([made("a", BETTER), made("b", GOOD, seed=2)])
    (pair,) = compared(runs, "test_accuracy").pairs
    assert pair.difference.method == "paired"
    assert pair.difference.n == (2, 2)
    assert pair.difference.estimate == pytest.approx((0.85 - 0.80 + 0.86 - 0.82) / 2)


@pytest.mark.parametrize(("seed", "data"), [(100, {}), (0, {"train_pairs": 500}), (3, {})])
def test_other_seeds_or_data_settings_are_compared_unpaired_and_that_is_said(
    made: Made, seed: int, data: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [made("a", BETTER), made("b", GOOD, seed=seed, **data)]
    (pair,) = compared(read_runs(folders), "test_accuracy").pairs
    assert pair.difference.method == "Welch"
    assert main(["compare", *map(str, folders)]) == 0
    assert "unpaired (seeds or data settings differ)" in capsys.readouterr().out


def test_p_values_are_corrected_for_all_pairs(made: Made) -> None:
    runs = read_runs(
        [made(name, [value + shift for value in GOOD]) for name, shift in (("a", 0), ("b", 0.05), ("c", 0.1))]
    )
    pairs = compared(runs, "test_accuracy").pairs
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(pair.p_holm == pytest.approx(min(1, 3 * pair.difference.p)) for pair in pairs)


def test_failed_rounds_are_left_out_and_counted(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made("a", GOOD, failed=2)
    assert main(["compare", str(run)]) == 0
    out = capsys.readouterr().out
    assert "4 (2 failed)" in out
    assert "0.8225" in out


@pytest.mark.parametrize(("setting", "words"), [("source", "data source"), ("relation", "relation")])
def test_what_answers_different_questions_is_not_compared_unasked(
    made: Made, setting: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(made("a", GOOD)), str(made("b", GOOD, **{setting: "other"}))]
    assert main(["compare", *runs]) == 2
    assert f"the runs differ in their {words}" in capsys.readouterr().err
    assert main(["compare", *runs, "--allow-different"]) == 0


def test_a_metric_that_a_run_lacks_is_refused_with_those_it_has(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(made("a", GOOD))
    assert main(["compare", run, run, "--metric", "test_digit_accuracy"]) == 2
    assert "has no test_digit_accuracy: all runs have train_accuracy, val_accuracy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a finished run"),
        ([], "the following arguments are required: RUN"),
        (["nowhere", "--metric", "speed"], "invalid choice: 'speed'"),
        (["nowhere", "--figure", "a.gif"], "must end in one of .png"),
    ],
)
def test_mistakes_are_named_in_a_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_damaged_table_is_named(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made("a", GOOD)
    (run / "rounds.csv").write_text("seed,status\n0,ok\n")
    assert main(["compare", str(run)]) == 2
    assert "holds no readable run" in capsys.readouterr().err


def test_a_single_round_has_no_interval_and_cannot_be_compared_unpaired(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = made("a", [0.8]), made("b", GOOD, seed=50)
    assert main(["compare", str(one)]) == 0
    assert "–" in capsys.readouterr().out
    assert main(["compare", str(one), str(other)]) == 2
    assert "a has 1 rounds with test_accuracy: a comparison needs 2 or more" in capsys.readouterr().err


def test_csv_is_read_back(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made("a", BETTER), made("b", GOOD)]
    assert main(["compare", *map(str, runs), "--format", "csv"]) == 0
    first, second, pair = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["run"], second["run"], pair["run"], pair["other"]) == ("a", "b", "a", "b")
    assert float(first["mean"]) == pytest.approx(0.84)
    assert float(pair["mean"]) == pytest.approx(0.0175)
    assert float(pair["p"]) == float(pair["p_holm"])


@pytest.mark.parametrize(("style", "mark"), [("md", "| a"), ("latex", "\\toprule"), ("text", "---")])
def test_tables_are_written_to_a_file(made: Made, tmp_path: Path, style: str, mark: str) -> None:
    runs = [made("a", BETTER), made("b", GOOD)]
    file = tmp_path / "table"
    assert main(["compare", *map(str, runs), "--format", style, "--output", str(file)]) == 0
    text = file.read_text()
    assert mark in text
    assert "0.0175" in text
    assert "mnist" in text


def test_equal_names_are_told_apart_by_the_runs_time(made: Made, tmp_path: Path) -> None:
    run = made("a", GOOD)
    again = run.with_name("20260101-000000-2")
    again.mkdir()
    for file in ("rounds.csv", "summary.json"):
        (again / file).write_bytes((run / file).read_bytes())
    assert [each.label for each in read_runs([run, again])] == ["a/20260101-000000-1", "a/20260101-000000-2"]


def test_labels_hold_nothing_that_a_terminal_obeys(made: Made) -> None:
    (run,) = read_runs([made("a\x1b[31m", GOOD)])
    assert run.label == "a?[31m"


def test_the_figure_has_every_round_as_a_point(made: Made, tmp_path: Path) -> None:
    runs = [made("a", BETTER), made("b", GOOD)]
    assert main(["compare", *map(str, runs), "--figure", str(tmp_path / "f.svg")]) == 0
    assert (tmp_path / "f.svg").read_text().startswith("<?xml")
    (axes,) = rounds_figure({"a": BETTER, "b": GOOD}, "test accuracy").axes
    points = [line for line in axes.get_lines() if line.get_label().startswith(("a", "b"))]
    assert [sorted(line.get_xdata()) for line in points] == [sorted(BETTER), sorted(GOOD)]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a\nn = 4", "b\nn = 4"]


def test_summaries_of_finished_fits_are_read(fit: Callable[..., Path]) -> None:
    run = fit()
    (read,) = read_runs([run])
    check_comparable([read], "test_accuracy", allow_different=False)
    written = json.loads((run / "summary.json").read_text())["metrics"]["test_accuracy"]
    assert compared([read], "test_accuracy").summary(read)[0].mean == pytest.approx(written["mean"])
