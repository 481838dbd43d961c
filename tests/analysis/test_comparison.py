import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pairs_lit.analysis.comparison import check_comparable, compare, compare_pairs, read_runs
from pairs_lit.analysis.comparison_tests import Decision, compare_rounds, make_decisions
from pairs_lit.analysis.comparison_text import ComparedRun, describe_difference
from pairs_lit.analysis.failures import Failures, find_failures, format_seed_list
from pairs_lit.analysis.figures import draw_rounds
from pairs_lit.cli import main
from pairs_lit.inference.run import Run
from pairs_lit.runs.metrics import METRICS_BY_COLUMN
from pairs_lit.runs.tables import RoundResult, write_rounds, write_summary
from tests.support.notebooks import read_html

DATA = {"source": "mnist", "relation": "le", "train_pairs": 1000}
Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Return a function that writes a finished run with these accuracies; the seeds count up from ``seed``."""

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
    (pair,) = compare_pairs(runs, "test_accuracy").pairs
    assert (pair.first, pair.second, pair.difference.method) == ("a", "b", "paired")
    assert pair.difference.estimate == pytest.approx(0.0175)
    assert pair.difference.n == (4, 4)


def test_only_shared_seeds_are_paired(made: Made) -> None:
    runs = read_runs([made("a", BETTER), made("b", GOOD, seed=2)])
    (pair,) = compare_pairs(runs, "test_accuracy").pairs
    assert pair.difference.method == "paired"
    assert pair.difference.n == (2, 2)
    assert pair.difference.estimate == pytest.approx((0.85 - 0.80 + 0.86 - 0.82) / 2)


@pytest.mark.parametrize(("seed", "data"), [(100, {}), (0, {"train_pairs": 500}), (3, {})])
def test_other_seeds_or_data_settings_are_reported_as_unpaired(
    made: Made, seed: int, data: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [made("a", BETTER), made("b", GOOD, seed=seed, **data)]
    (pair,) = compare_pairs(read_runs(folders), "test_accuracy").pairs
    assert pair.difference.method == "Welch"
    assert main(["compare", *map(str, folders)]) == 0
    assert "unpaired (seeds or data settings differ)" in capsys.readouterr().out


def test_p_values_are_corrected_for_all_pairs(made: Made) -> None:
    runs = read_runs(
        [made(name, [value + shift for value in GOOD]) for name, shift in (("a", 0), ("b", 0.05), ("c", 0.1))]
    )
    pairs = compare_pairs(runs, "test_accuracy").pairs
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(pair.p_holm == pytest.approx(min(1, 3 * pair.difference.p)) for pair in pairs)


def test_failed_rounds_are_left_out_and_counted(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made("a", GOOD, failed=2)
    assert main(["compare", str(run)]) == 0
    out = capsys.readouterr().out
    assert "4 (2 failed)" in out
    assert "0.8225" in out


@pytest.mark.parametrize(("setting", "words"), [("source", "data source"), ("relation", "relation")])
def test_different_data_need_allow_different(
    made: Made, setting: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(made("a", GOOD)), str(made("b", GOOD, **{setting: "other"}))]
    assert main(["compare", *runs]) == 2
    assert f"the runs differ in their {words}" in capsys.readouterr().err
    assert main(["compare", *runs, "--allow-different"]) == 0


def test_missing_metric_is_rejected_with_the_available_ones(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(made("a", GOOD))
    assert main(["compare", run, run, "--metric", "test_digit_accuracy"]) == 2
    assert "has no test_digit_accuracy. Use one of train_accuracy, val_accuracy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a finished run"),
        ([], "the following arguments are required: RUN"),
        (["nowhere", "--metric", "speed"], "invalid choice: 'speed'"),
        (["nowhere", "--metric", "test_acuracy"], "'test_target_loss'): did you mean test_accuracy? ("),
        (["nowhere", "--metrik", "test_loss"], "unrecognized arguments: --metrik test_loss: did you mean --metric? ("),
        (["nowhere", "--figure", "a.gif"], "must end in one of .png"),
        (["nowhere", "--figure", "a:b.png"], "--figure must be a name that every system accepts, got 'a:b.png', which"),
        (["nowhere", "--output", "nul"], "--output must be a name that every system accepts, got 'nul', which Windows"),
        (
            ["nowhere", "--output", "a.png", "--figure", "A.PNG"],
            "--output and --figure must be different files, got A.PNG",
        ),
    ],
)
def test_user_errors_give_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "a must have at least 2 rounds with test_accuracy to be compared, got 1." in capsys.readouterr().err


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


def test_runs_of_equal_names_are_labelled_with_their_time(made: Made, tmp_path: Path) -> None:
    run = made("a", GOOD)
    again = run.with_name("20260101-000000-2")
    again.mkdir()
    for file in ("rounds.csv", "summary.json"):
        (again / file).write_bytes((run / file).read_bytes())
    assert [each.label for each in read_runs([run, again])] == ["a/20260101-000000-1", "a/20260101-000000-2"]


def test_labels_contain_no_control_characters(made: Made) -> None:
    (run,) = read_runs([made("a\x1b[31m", GOOD)])
    assert run.label == "a?[31m"


def test_the_figure_has_every_round_as_a_point(made: Made, tmp_path: Path) -> None:
    runs = [made("a", BETTER), made("b", GOOD)]
    assert main(["compare", *map(str, runs), "--figure", str(tmp_path / "f.svg")]) == 0
    assert (tmp_path / "f.svg").read_text().startswith("<?xml")
    (axes,) = draw_rounds({"a": BETTER, "b": GOOD}, "test accuracy").axes
    points = [line for line in axes.get_lines() if line.get_label().startswith(("a", "b"))]
    assert [sorted(line.get_xdata()) for line in points] == [sorted(BETTER), sorted(GOOD)]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a\nn = 4", "b\nn = 4"]


def test_a_comparison_draws_its_metric(made: Made) -> None:
    (axes,) = compare([made("a", BETTER), made("b", GOOD)], "best_test_accuracy").plot().axes
    points = [line for line in axes.get_lines() if line.get_label().startswith(("a", "b"))]
    assert [max(line.get_xdata()) for line in points] == pytest.approx([0.87, 0.85])
    assert axes.get_xlabel().startswith("test accuracy of any epoch") or "best test accuracy" in axes.get_xlabel()


def test_a_notebook_shows_tables_and_sentences(made: Made) -> None:
    comparison = compare([made("a", BETTER, failed=1), made("b<i>&", GOOD)])
    texts = read_html(comparison._repr_html_())
    assert texts[:2] == ["run", "n"]
    place = texts.index("a")
    assert texts[place + 1 : place + 3] == ["4 (1 failed)", "0.8400 ± 0.0216"]
    assert "a − b<i>&" in texts
    assert set(comparison.sentences) | set(comparison.failure_lines) <= set(texts)
    assert texts[-1].startswith("test_accuracy; data: mnist; relation: le.")


def test_a_single_run_is_shown_without_a_table_of_pairs(made: Made) -> None:
    assert "comparison" not in read_html(compare([made("a", GOOD)])._repr_html_())


def test_summaries_of_finished_fits_are_read(fit: Callable[..., Path]) -> None:
    run = fit()
    (read,) = read_runs([run])
    check_comparable([read], "test_accuracy", allow_different=False)
    written = json.loads((run / "summary.json").read_text())["metrics"]["test_accuracy"]
    assert compare_pairs([read], "test_accuracy").summary(read)[0].mean == pytest.approx(written["mean"])


def said(runs: list[Path], metric: str = "test_accuracy") -> list[str]:
    return compare_pairs(read_runs(runs), metric).sentences


SHIFTS = [0.040, 0.038, 0.045, 0.036, 0.043, 0.041, 0.039]


def test_a_better_run_is_called_better_whichever_comes_first(made: Made) -> None:
    base = [0.80, 0.82, 0.84, 0.83, 0.81, 0.79, 0.85]
    better = [value + shift for value, shift in zip(base, SHIFTS, strict=True)]
    a, b = made("a", better), made("b", base)
    low, high = stats.t.interval(0.95, 6, np.mean(SHIFTS), stats.sem(SHIFTS))
    expected = (
        f"a is better than b in test accuracy by 4.0 points (95 % interval {100 * low:.1f} to {100 * high:.1f}), n = 7 "
        "pairs of rounds, p = 0.016 (paired)."
    )
    assert said([a, b]) == [expected]
    assert said([b, a]) == [expected]


def test_similar_runs_get_the_minimum_detectable_effect(made: Made) -> None:
    base = [0.80, 0.82, 0.84, 0.83, 0.81, 0.79, 0.85]
    other = [value + shift for value, shift in zip(base, [0.01, -0.01, 0.02, -0.02, 0.0, 0.015, -0.01], strict=True)]
    runs = [made("a", other), made("b", base)]
    (pair,) = compare_pairs(read_runs(runs), "test_accuracy").pairs
    (sentence,) = said(runs)
    assert sentence.startswith(
        "a and b do not differ significantly in test accuracy: the first minus the second is 0.1 points"
    )
    points = f"{100 * pair.difference.min_detectable_effect:.1f}"
    assert sentence.endswith(f"the minimum detectable effect is {points} points (80 % power).")


def test_sentence_mentions_unpaired_runs(made: Made) -> None:
    (sentence,) = said([made("a", BETTER), made("b", [each - 0.2 for each in GOOD], seed=50)])
    assert "a is better than b in test accuracy by" in sentence
    assert "n = 4 and 4 rounds" in sentence
    assert sentence.endswith("(unpaired).")


@pytest.mark.parametrize(
    ("first", "second", "seed", "expected"),
    [
        ([0.9, 0.95], [0.5, 0.6], 0, "with 2 rounds the smallest possible p is 0.500; use at least 6 rounds."),
        (BETTER, GOOD, 0, "with 4 rounds the smallest possible p is 0.125; use at least 6 rounds."),
        (GOOD, GOOD, 0, "all compared rounds are equal (4 pairs of rounds)"),
        ([0.5] * 3, [0.5] * 4, 9, "all compared rounds are equal (3 and 4 rounds)"),
        ([0.2, 0.9], [0.4, 0.6], 9, "with 2 rounds the smallest possible p is 0.333; use at least 4 rounds."),
        ([0.1, 0.9, 0.1, 0.9], [0.8, 0.2, 0.8, 0.2], 9, "too few rounds to detect a difference"),
    ],
)
def test_tiny_and_equal_samples(made: Made, first: list[float], second: list[float], seed: int, expected: str) -> None:
    (sentence,) = said([made("a", first), made("b", second, seed=seed)])
    assert "do not differ significantly" in sentence
    assert expected in sentence
    assert "nan" not in sentence


def test_failed_rounds_do_not_count_in_sentences(made: Made) -> None:
    (sentence,) = said([made("a", BETTER, failed=3), made("b", GOOD, failed=1)])
    assert "n = 4 pairs of rounds" in sentence


def test_only_the_first_of_many_runs_is_described_in_sentences(made: Made) -> None:
    base = [0.5, 0.52, 0.54, 0.53, 0.51, 0.49, 0.55, 0.5]
    runs = [
        made(name, [value + 0.01 * place + 0.001 * i for i, value in enumerate(base)])
        for place, name in enumerate("abcdefgh")
    ]
    assert len(said(runs[:3])) == 3
    four = said(runs[:4])
    assert [each.split(" in ")[0] for each in four[:3]] == [f"{name} is better than a" for name in "bcd"]
    assert four[3] == "The table lists the other 3 comparisons."
    assert len(said(runs)) == 6
    assert said(runs)[-1] == "The table lists the other 23 comparisons."
    assert "Holm's correction for 28 comparisons" in said(runs)[0]


@pytest.mark.parametrize("style", ["text", "md", "latex", "csv"])
def test_every_format_carries_the_sentence_and_the_statistics(
    made: Made, style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(made("a_1", BETTER)), str(made("b", GOOD))]
    assert main(["compare", *runs, "--format", style, "--statistics"]) == 0
    out = capsys.readouterr().out
    assert "do not differ significantly" in out
    above = stats.mannwhitneyu(BETTER, GOOD).statistic / 16
    middle = stats.trim_mean(BETTER, 0.25)
    if style == "csv":
        first, _, pair = csv.DictReader(io.StringIO(out))
        assert float(pair["superiority"]) == pytest.approx(above)
        assert float(pair["superiority_low"]) < above < float(pair["superiority_high"])
        assert float(first["iqm"]) == pytest.approx(middle)
        assert pair["meaning"].startswith("a_1 and b do not differ significantly")
    else:
        assert f"{above:.3f}" in out
        assert f"{middle:.4f}" in out
        name = {"text": "a_1", "md": "- a_1", "latex": r"a\_1"}[style]
        assert f"\n{name} and b do not" in out
        assert main(["compare", *runs, "--format", style]) == 0
        assert "nterquartile" not in capsys.readouterr().out


def test_names_in_sentences_are_escaped_for_the_format(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(made("a|b", BETTER)), str(made("{x}%", GOOD))]
    assert main(["compare", *runs, "--format", "latex"]) == 0
    assert r"a|b and \{x\}\% do not differ significantly" in capsys.readouterr().out
    assert main(["compare", *runs, "--format", "md"]) == 0
    assert r"- a\|b and {x}% do not differ significantly" in capsys.readouterr().out


def test_lower_losses_are_better(fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    long, short = fit("--rounds.count", "6", "--trainer.max_epochs", "3"), fit("--rounds.count", "6")
    (run, _) = read_runs([long, short])
    last = [
        row
        for row in csv.DictReader(io.StringIO((long / "curves.csv").read_text()))
        if row["metric"] == "test/target_loss"
    ]
    expected = {int(row["seed"]): float(row["value"]) for row in last if row["epoch"] == "3"}
    assert run.values("test_target_loss") == expected
    result = compare_pairs(read_runs([long, short]), "test_loss")
    (pair,) = result.pairs
    assert main(["compare", str(long), str(short), "--metric", "test_loss"]) == 0
    out = capsys.readouterr().out
    assert "A lower loss is better" in out
    assert pair.sentence in out
    assert "points" not in pair.sentence
    lower = np.mean(
        [a < b for a in run.values("test_loss").values() for b in result.runs[1].values("test_loss").values()]
    )
    assert pair.superiority.value == pytest.approx(lower)


def between(first: list[float], second: list[float], metric: str) -> tuple[Decision, str]:
    """Compare two runs a and b of the same seeds."""
    result = compare_rounds(dict(enumerate(first)), dict(enumerate(second)), same_data=True)
    (decision,) = make_decisions([result])
    return decision, describe_difference(ComparedRun("a"), ComparedRun("b"), decision, METRICS_BY_COLUMN[metric])


@pytest.mark.parametrize(("shift", "winner"), [(-0.2, "a"), (0.2, "b")])
def test_the_lower_loss_wins(shift: float, winner: str) -> None:
    rng = np.random.default_rng(0)
    decision, sentence = between((1 + shift + rng.normal(0, 0.01, 10)).tolist(), [1.0] * 10, "val_target_loss")
    result = decision.difference
    other = "b" if winner == "a" else "a"
    assert sentence.startswith(f"{winner} is better than {other} (lower validation target loss) by 0.")
    low, high = sorted((abs(result.low), abs(result.high)))
    assert f"(95 % interval {low:.4f} to {high:.4f})" in sentence


def test_run_without_the_loss_is_rejected(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made("a", GOOD)
    (run / "curves.csv").write_text("seed,epoch,metric,value\n0,1,val/loss,0.5\n")
    assert main(["compare", str(run), "--metric", "test_loss"]) == 2
    assert "a has no test_loss. Use one of train_accuracy" in capsys.readouterr().err


def test_small_differences_are_not_rounded_away() -> None:
    _, sentence = between([0.9004, 0.9005, 0.9006, 0.9005, 0.9004, 0.9006, 0.9005], [0.9] * 7, "test_accuracy")
    assert "by 0.05 points (95 % interval 0.04 to 0.06)" in sentence
    _, sentence = between([1 + 1e-7 * place for place in range(1, 8)], [1.0] * 7, "test_loss")
    assert "by 0.0000004 (95 % interval 0.0000002 to 0.0000006)" in sentence


FLAWED = [0.87, 0.86, 0.88, 0.85, 0.89, 0.90, 0.84, 0.86, 0.87, 0.88]


@pytest.fixture
def flawed(made: Made) -> list[Path]:
    """Return two runs; the first is better by 0.4 to 0.6 points except on seed 7, which learned nothing."""
    better = [value + 0.004 + 0.0002 * place for place, value in enumerate(FLAWED)]
    better[7] = 0.55
    better += [value + 0.005 for value in FLAWED]
    run, other = made("a", better), made("b", FLAWED * 2)
    content = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(content | {"rounds": {"at_chance": [7]}}))
    return [run, other]


def test_a_run_with_a_lower_mean_is_not_called_better_and_the_seed_is_named(flawed: list[Path]) -> None:
    comparison = compare(flawed)
    (pair,) = comparison.pairs
    assert (pair.winner, pair.reason, comparison.winner) == (None, "tests disagree", None)
    assert "a is better in most rounds (median +0.5 points, p < 0.001), but its mean is lower (by" in pair.sentence
    assert pair.sentence.endswith("seed 7 ended at chance.")
    assert compare(flawed[::-1]).pairs[0].reason == "tests disagree"


def test_a_winner_is_named_with_the_reason(made: Made) -> None:
    base = [0.80, 0.82, 0.84, 0.83, 0.81, 0.79, 0.85, 0.83]
    runs = [
        made(name, [value + shift + 0.001 * place for place, value in enumerate(base)])
        for name, shift in (("a", 0.0), ("b", 0.1), ("c", 0.05))
    ]
    comparison = compare(runs)
    assert comparison.winner == "b"
    assert [pair.winner for pair in comparison.pairs] == ["b", "c", "b"]
    assert {pair.reason for pair in comparison.pairs} == {"significant difference"}
    assert compare(runs[:1]).winner is None


def test_sentence_mentions_too_few_rounds_for_the_comparisons(made: Made) -> None:
    runs = [
        made(name, [0.7 + 0.01 * place + shift for place in range(6)])
        for name, shift in zip("abc", (0, 0.1, 0.2), strict=True)
    ]
    comparison = compare(runs)
    limit = "with 6 rounds and 3 comparisons the smallest possible p is 0.094; use at least 7 rounds."
    assert all(limit in sentence for sentence in comparison.sentences)
    assert {pair.reason for pair in comparison.pairs} == {"too few rounds"}
    assert compare(runs[:2]).winner == "b"


def test_failed_rounds_are_counted_with_the_bound_that_n_allows(
    flawed: list[Path], made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *map(str, flawed), str(made("c", FLAWED * 3, failed=2))]) == 0
    out = capsys.readouterr().out
    for line in (
        "a: 1 of 20 failed (seed 7 at chance): failure rate below 21.6 % at 95 % confidence.",
        "b: 0 of 20 failed: failure rate below 13.9 % at 95 % confidence.",
        "c: 2 of 32 failed (seeds 90 and 91 not finite): failure rate below 18.4 % at 95 % confidence.",
    ):
        assert line in out
    assert main(["compare", *map(str, flawed), "--format", "csv"]) == 0
    first, second, pair = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["failed"], first["at_chance"], second["at_chance"]) == ("0", "1", "0")
    assert float(second["failure_rate_below"]) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert (pair["winner"], pair["outcome"]) == ("", "tests disagree")
    assert float(pair["p"]) == max(float(pair["p_t"]), float(pair["p_rank"]))
    assert float(pair["median"]) == pytest.approx(0.005)


@pytest.mark.parametrize(("failed", "count", "bound"), [(0, 30, 0.0950), (2, 30, 0.1953), (5, 5, 1.0), (0, 1, 0.95)])
def test_the_failure_rates_bound_is_clopper_and_pearsons(failed: int, count: int, bound: float) -> None:
    result = Failures(count, list(range(failed)), [])
    expected = stats.binomtest(failed, count, alternative="less").proportion_ci(0.95, method="exact").high
    assert result.failure_rate_bound == pytest.approx(bound, abs=1e-4) == pytest.approx(expected, abs=1e-4)


def test_failures_in_words() -> None:
    assert str(Failures(30, [], [])) == "0 of 30 failed: failure rate below 9.5 % at 95 % confidence"
    assert str(Failures(2, [3], [4])) == "2 of 2 failed (seed 3 not finite; seed 4 at chance)"
    assert format_seed_list(list(range(12))) == "seeds 0, 1, 2, 3, 4, 5, 6 and 5 more"


def test_a_run_that_recorded_no_rounds_at_chance_is_judged_by_its_accuracies(made: Made) -> None:
    run = made("a", [0.8, 0.55, 0.9, 0.45])
    assert find_failures(Run.load(run)).at_chance == [1, 3]
    (run / "summary.json").write_text(json.dumps({"data": DATA, "rounds": {"at_chance": []}}))
    assert find_failures(Run.load(run)).at_chance == []


def test_a_damaged_record_of_rounds_at_chance_is_named(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made("a", GOOD)
    (run / "summary.json").write_text(json.dumps({"data": DATA, "rounds": {"at_chance": "all"}}))
    assert main(["compare", str(run)]) == 2
    assert "rounds.at_chance is not a list of seeds" in capsys.readouterr().err


def test_a_run_that_is_given_twice_is_not_compared_with_itself(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made("a", BETTER), made("b", GOOD)]
    for given in ([runs[0], runs[0], runs[1]], [Run.load(each) for each in (runs[0], runs[0], runs[1])]):
        comparison = compare(given)
        assert [run.label for run in comparison.runs] == ["a", "b"]
        assert len(comparison.pairs) == 1
        assert "is given twice and used once: a run is not compared with itself." in capsys.readouterr().err


def test_copies_of_a_run_are_labelled_with_their_paths(made: Made, tmp_path: Path) -> None:
    run = made("a", GOOD)
    copy = tmp_path / "other" / "a" / run.name
    shutil.copytree(run, copy)
    (pair,) = compare([run, copy]).pairs
    assert (pair.first, pair.second) == (str(run.resolve()), str(copy.resolve()))
    assert "all compared rounds are equal" in pair.sentence


def with_loss(run: Path, value: float, **loss: object) -> str:
    """Add loss curves of one epoch and a config with this loss to a run, and return the run folder."""
    config = {"model": {"loss": {"target": "bce", "digits": "none", "aux_weight": 1.0} | loss}}
    (run / "config.yaml").write_text(json.dumps(config))
    lines = [f"{seed},1,{name},{value}\n" for seed in range(4) for name in ("test/loss", "test/target_loss")]
    (run / "curves.csv").write_text("seed,epoch,metric,value\n" + "".join(lines))
    return str(run)


@pytest.mark.parametrize(
    ("metric", "loss", "message"),
    [
        ("test_loss", {"aux_weight": 0.1}, "differ in their loss (a: aux_weight 1.0; b: aux_weight 0.1), so test_loss"),
        (
            "test_target_loss",
            {"target": "mse"},
            "(a: target bce; b: target mse), so test_target_loss means something",
        ),
        (
            "test_target_loss",
            {"target": "none"},
            "b: target none), so test_target_loss means something different in each.",
        ),
    ],
)
def test_different_losses_need_allow_different(
    made: Made, metric: str, loss: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [with_loss(made("a", GOOD), 0.5), with_loss(made("b", GOOD), 0.1, **loss)]
    assert main(["compare", *runs, "--metric", metric]) == 2
    assert message in capsys.readouterr().err
    assert main(["compare", *runs, "--metric", metric, "--allow-different"]) == 0
    assert main(["compare", *runs]) == 0


@pytest.mark.parametrize("loss", [{"target": "ce"}, {"digits": "ce", "aux_weight": 0.1}])
def test_target_losses_of_one_kind_are_compared(made: Made, loss: dict[str, object]) -> None:
    runs = [with_loss(made("a", GOOD), 0.5), with_loss(made("b", GOOD), 0.1, **loss)]
    assert compare(runs, "test_target_loss").pairs[0].difference.estimate == pytest.approx(0.4)
