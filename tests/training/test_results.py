import csv
import gzip
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.run import Run
from pairs_lit.runs import tables
from pairs_lit.runs.tables import (
    METRIC_COLUMNS,
    Curves,
    Evaluation,
    RoundResult,
    read_curves,
    read_rounds,
    summarise_rounds,
    write_csv,
    write_curves,
    write_rounds,
    write_summary,
)
from pairs_lit.statistics import summarise
from pairs_lit.training.results import build_round_results
from tests.conftest import Fit

GOOD = RoundResult(
    seed=7,
    status="ok",
    train_accuracy=0.9,
    train_digit_accuracy=None,
    val_accuracy=0.8,
    val_digit_accuracy=None,
    test_accuracy=0.7,
    test_digit_accuracy=None,
    best_test_accuracy=0.75,
    best_test_epoch=3,
)
FAILED = replace(GOOD, seed=8, status="failed", test_accuracy=0.1, best_test_accuracy=math.nan, best_test_epoch=None)

finite = st.floats(allow_nan=False, allow_infinity=False)
quick = settings(deadline=None, max_examples=40)
results = st.builds(
    RoundResult,
    seed=st.integers(0, 2**32 - 1),
    status=st.sampled_from(["ok", "failed"]),
    best_test_epoch=st.none() | st.integers(1, 10**6),
    **dict.fromkeys(METRIC_COLUMNS, st.none() | st.floats(0, 1)),
)


@st.composite
def curves(draw: st.DrawFn) -> Curves:
    seeds = draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True))
    names = draw(st.lists(st.sampled_from(["train/loss", "val/accuracy", "test/accuracy"]), min_size=1, unique=True))
    epochs = draw(st.integers(1, 4))
    rows = st.lists(finite, min_size=len(seeds), max_size=len(seeds))
    table = st.lists(rows, min_size=epochs, max_size=epochs).map(np.array)
    return Curves(seeds, {name: draw(table) for name in names})


def build_curves(*test_accuracy: Sequence[float], loss: Sequence[Sequence[float]] | None = None) -> Curves:
    """Build curves of the seeds 5 and 6; each argument is one epoch."""
    epochs = len(test_accuracy)
    values = {
        "train/loss": np.array(loss if loss is not None else [[1.0, 1.0]] * epochs),
        "val/accuracy": np.array([[0.5, 0.6]] * epochs),
        "test/accuracy": np.array(test_accuracy),
    }
    return Curves([5, 6], values)


TRAIN = {"train/accuracy": np.array([0.98, 0.99])}


@quick
@given(rounds=st.lists(results, min_size=1, max_size=5, unique_by=lambda result: result.seed))
def test_rounds_are_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, rounds: list[RoundResult]) -> None:
    path = tmp_path_factory.getbasetemp() / "rounds.csv"
    write_rounds(path, rounds)
    assert read_rounds(path) == rounds


@quick
@given(written=curves())
def test_curves_are_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, written: Curves) -> None:
    path = tmp_path_factory.getbasetemp() / "curves.csv"
    write_curves(path, written)
    read = read_curves(path)
    assert read.seeds == written.seeds
    assert list(read.values) == list(written.values)
    assert read.epochs == written.epochs
    for name, values in written.values.items():
        np.testing.assert_array_equal(read.values[name], values, strict=True)


def test_rounds_csv_has_a_row_per_round_and_empty_fields_for_missing_values(tmp_path: Path) -> None:
    write_rounds(tmp_path / "rounds.csv", [GOOD, FAILED])
    assert (tmp_path / "rounds.csv").read_text().splitlines() == [
        "seed,status,train_accuracy,train_digit_accuracy,val_accuracy,val_digit_accuracy,"
        "test_accuracy,test_digit_accuracy,best_test_accuracy,best_test_epoch",
        "7,ok,0.9,,0.8,,0.7,,0.75,3",
        "8,failed,0.9,,0.8,,0.1,,nan,",
    ]


def test_metrics_over_all_pairs_are_the_last_columns(tmp_path: Path) -> None:
    rounds = [replace(GOOD, test_all_accuracy=0.5), replace(FAILED, test_all_accuracy=math.nan)]
    write_rounds(tmp_path / "rounds.csv", rounds)
    lines = (tmp_path / "rounds.csv").read_text().splitlines()
    assert lines[0].endswith(",best_test_accuracy,best_test_epoch,test_all_accuracy")
    assert lines[1:] == ["7,ok,0.9,,0.8,,0.7,,0.75,3,0.5", "8,failed,0.9,,0.8,,0.1,,nan,,nan"]
    assert read_rounds(tmp_path / "rounds.csv")[0] == rounds[0]
    assert list(summarise_rounds(rounds))[-1] == "test_all_accuracy"


def test_a_table_of_rounds_without_a_required_column_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "rounds.csv").write_text("seed,status,train_accuracy,best_test_epoch\n7,ok,0.5,3\n")
    with pytest.raises(KeyError, match="train_digit_accuracy"):
        read_rounds(tmp_path / "rounds.csv")


def test_a_round_whose_final_metrics_are_not_finite_has_failed() -> None:
    rounds = build_round_results(build_curves([0.5, 0.5]), TRAIN | {"test/all_accuracy": np.array([math.nan, 0.75])})
    assert [result.status for result in rounds] == ["failed", "ok"]
    assert rounds[1].test_all_accuracy == 0.75


def test_a_failed_round_is_read_back_with_nan(tmp_path: Path) -> None:
    write_rounds(tmp_path / "rounds.csv", [FAILED])
    (read,) = read_rounds(tmp_path / "rounds.csv")
    assert replace(read, best_test_accuracy=None) == replace(FAILED, best_test_accuracy=None)
    assert read.best_test_accuracy is not None
    assert math.isnan(read.best_test_accuracy)


def test_curves_csv_is_tidy_with_epochs_from_one(tmp_path: Path) -> None:
    write_curves(tmp_path / "curves.csv", Curves([5, 6], {"val/loss": np.array([[0.5, math.nan], [0.25, math.inf]])}))
    with (tmp_path / "curves.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["seed", "epoch", "metric", "value"],
            ["5", "1", "val/loss", "0.5"],
            ["5", "2", "val/loss", "0.25"],
            ["6", "1", "val/loss", "nan"],
            ["6", "2", "val/loss", "inf"],
        ]


def test_curves_with_values_that_are_not_finite_are_read_back(tmp_path: Path) -> None:
    values = np.array([[0.5, math.nan], [-math.inf, math.inf]])
    write_curves(tmp_path / "curves.csv", Curves([5, 6], {"val/loss": values}))
    np.testing.assert_array_equal(read_curves(tmp_path / "curves.csv").values["val/loss"], values)


@pytest.fixture
def _large_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_UNCOMPRESSED_BYTES", 100)


@pytest.mark.usefixtures("_large_at_once")
def test_large_curves_are_compressed_to_the_same_bytes_each_time(tmp_path: Path) -> None:
    large, path = Curves([5, 6], {"val/loss": np.arange(20.0).reshape(10, 2)}), tmp_path / "curves.csv"
    write_curves(path, large)
    assert [file.name for file in tmp_path.iterdir()] == ["curves.csv.gz"]
    first = (tmp_path / "curves.csv.gz").read_bytes()
    write_curves(path, large)
    assert (tmp_path / "curves.csv.gz").read_bytes() == first
    with gzip.open(tmp_path / "curves.csv.gz", "rt") as file:
        assert list(csv.reader(file))[:2] == [["seed", "epoch", "metric", "value"], ["5", "1", "val/loss", "0.0"]]
    np.testing.assert_array_equal(read_curves(path).values["val/loss"], large.values["val/loss"])


@pytest.mark.usefixtures("_large_at_once")
def test_only_one_file_of_curves_is_left_when_their_size_changes(tmp_path: Path) -> None:
    large, path = Curves([5, 6], {"val/loss": np.arange(20.0).reshape(10, 2)}), tmp_path / "curves.csv"
    small = Curves([5], {"val/loss": np.array([[1.0]])})
    for curves, name in ((small, "curves.csv"), (large, "curves.csv.gz"), (small, "curves.csv")):
        write_curves(path, curves)
        assert [file.name for file in tmp_path.iterdir()] == [name]
        np.testing.assert_array_equal(read_curves(path).values["val/loss"], curves.values["val/loss"])


def test_the_newer_of_two_files_of_curves_is_read(tmp_path: Path) -> None:
    for seed, name in enumerate(("curves.csv", "curves.csv.gz")):
        write_curves(tmp_path / "new" / "curves.csv", Curves([seed], {"val/loss": np.array([[1.0]])}))
        content = (tmp_path / "new" / "curves.csv").read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        os.utime(tmp_path / name, (seed, seed))
    assert read_curves(tmp_path / "curves.csv").seeds == [1]
    os.utime(tmp_path / "curves.csv", (5, 5))
    assert read_curves(tmp_path / "curves.csv").seeds == [0]


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"no" + content[2:]])
def test_damaged_compressed_curves_are_rejected(damage: Callable[[bytes], bytes], fit: Fit) -> None:
    run = fit()
    content = gzip.compress((run / "curves.csv").read_bytes())
    (run / "curves.csv").unlink()
    (run / "curves.csv.gz").write_bytes(damage(content))
    with pytest.raises(PairsLitError, match=r"holds no readable run \(curves\.csv\.gz: .*its files are damaged"):
        _ = Run.load(run).curves


@pytest.mark.slow
def test_a_run_with_compressed_curves_can_be_resumed_and_read(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = Run.load(fit("--trainer.max_epochs", "3"))
    run = fit("--trainer.max_epochs", "1")
    monkeypatch.setattr(tables, "MAX_UNCOMPRESSED_BYTES", 100)
    options = ["--ckpt_path", str(run / "checkpoints/last.ckpt"), "--trainer.max_epochs", "3"]
    assert main(["fit", "--config", str(run / "config.yaml"), *options]) == 0
    assert [file.name for file in run.glob("curves*")] == ["curves.csv.gz"]
    for name, values in Run.load(run).curves.values.items():
        np.testing.assert_array_equal(values, uninterrupted.curves.values[name])
    monkeypatch.undo()
    options = ["--ckpt_path", str(run / "checkpoints/last.ckpt"), "--trainer.max_epochs", "4"]
    assert main(["fit", "--config", str(run / "config.yaml"), *options]) == 0
    assert [file.name for file in run.glob("curves*")] == ["curves.csv"]
    assert Run.load(run).curves.epochs == 4


def test_errors_are_one_minus_accuracies() -> None:
    both = Curves([5], {"train/accuracy": np.array([[0.75]]), "train/digit_accuracy": np.array([[0.5]])}).with_errors()
    assert both.values["train/error"].tolist() == [[0.25]]
    assert set(both.values) == {"train/accuracy", "train/digit_accuracy", "train/error"}


def test_curves_count_their_epochs() -> None:
    assert build_curves([0.1, 0.2], [0.3, 0.4], [0.5, 0.6]).epochs == 3
    assert Curves([5], {}).epochs == 0


def test_final_metrics_are_those_of_the_last_epoch() -> None:
    first, second = build_round_results(build_curves([0.9, 0.1], [0.2, 0.3]), TRAIN)
    assert (first.seed, first.status, second.seed, second.status) == (5, "ok", 6, "ok")
    assert (first.train_accuracy, first.val_accuracy, first.test_accuracy) == (0.98, 0.5, 0.2)
    assert (second.train_accuracy, second.val_accuracy, second.test_accuracy) == (0.99, 0.6, 0.3)


def test_the_final_train_accuracy_is_that_of_the_final_evaluation() -> None:
    running = build_curves([0.5, 0.5])
    both = Curves(running.seeds, {**running.values, "train/accuracy": np.array([[0.1, 0.1]])})
    assert [result.train_accuracy for result in build_round_results(both, TRAIN)] == [0.98, 0.99]


def test_without_digit_logits_there_is_no_digit_accuracy() -> None:
    result = build_round_results(build_curves([0.5, 0.5]), TRAIN)[0]
    assert (result.train_digit_accuracy, result.val_digit_accuracy, result.test_digit_accuracy) == (None, None, None)


def test_digit_accuracies_are_part_of_the_results() -> None:
    plain = build_curves([0.5, 0.5])
    digits = {"val/digit_accuracy": np.array([[0.3, 0.4]]), "test/digit_accuracy": np.array([[0.5, 0.6]])}
    train = TRAIN | {"train/digit_accuracy": np.array([0.7, 0.8])}
    result = build_round_results(Curves(plain.seeds, {**plain.values, **digits}), train)[1]
    assert (result.train_digit_accuracy, result.val_digit_accuracy, result.test_digit_accuracy) == (0.8, 0.4, 0.6)


@pytest.mark.parametrize(
    ("accuracies", "best", "epoch"),
    [([0.1, 0.3, 0.2], 0.3, 2), ([0.3, 0.3, 0.3], 0.3, 1), ([0.1, 0.2, 0.4], 0.4, 3), ([0.2, 0.5, 0.5], 0.5, 2)],
)
def test_the_best_test_epoch_is_the_first_maximum_counted_from_one(
    accuracies: list[float], best: float, epoch: int
) -> None:
    first, second = build_round_results(build_curves(*([value, 0.9] for value in accuracies)), TRAIN)
    assert (first.best_test_accuracy, first.best_test_epoch) == (best, epoch)
    assert (second.best_test_accuracy, second.best_test_epoch) == (0.9, 1)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_loss_that_is_ever_not_finite_fails_only_its_round(broken: float, epoch: int, split: str) -> None:
    plain = build_curves([0.5, 0.5], [0.6, 0.6], [0.7, 0.7])
    loss = np.ones((3, 2))
    loss[epoch, 1] = broken
    measured = Curves(plain.seeds, {**plain.values, f"{split}/loss": loss})
    assert measured.find_failed_rounds().tolist() == [False, True]
    good, failed = build_round_results(measured, TRAIN)
    assert (good.status, good.best_test_accuracy, good.best_test_epoch) == ("ok", 0.7, 3)
    assert (failed.seed, failed.status, failed.best_test_epoch) == (6, "failed", None)
    assert failed.best_test_accuracy is not None
    assert math.isnan(failed.best_test_accuracy)


def test_summaries_summarise_the_columns() -> None:
    rounds = [replace(GOOD, seed=seed, val_accuracy=seed / 10) for seed in range(4)]
    by_metric = summarise_rounds(rounds)
    assert by_metric["val_accuracy"] == summarise([0.0, 0.1, 0.2, 0.3])
    assert list(by_metric) == ["train_accuracy", "val_accuracy", "test_accuracy", "best_test_accuracy"]


def test_summaries_leave_out_failed_rounds() -> None:
    assert summarise_rounds([GOOD, FAILED, replace(GOOD, seed=9)]) == summarise_rounds([GOOD, replace(GOOD, seed=9)])
    assert summarise_rounds([GOOD, FAILED])["test_accuracy"].n == 1


def test_summaries_of_failed_rounds_have_n_of_zero() -> None:
    by_metric = summarise_rounds([FAILED, replace(FAILED, seed=9)])
    assert by_metric["test_accuracy"].n == 0
    assert math.isnan(by_metric["test_accuracy"].mean)


def test_summaries_leave_out_metrics_that_no_round_has_even_if_all_failed() -> None:
    assert "test_digit_accuracy" not in summarise_rounds([FAILED])


def test_metric_columns_are_all_except_seed_status_and_epoch() -> None:
    names = [field.name for field in fields(RoundResult)]
    assert {*names} - {*METRIC_COLUMNS} == {"seed", "status", "best_test_epoch"}
    assert [name for name in names if name in METRIC_COLUMNS] == list(METRIC_COLUMNS)


def read_strict_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    def reject(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not valid JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=reject)


def test_summary_json_is_strict_json_with_null_for_nan_and_infinity(tmp_path: Path) -> None:
    metrics = {name: asdict(summary) for name, summary in summarise_rounds([GOOD]).items()}
    written = {"metrics": metrics, "list": [math.nan, 1, (math.inf, "–")], "times": {"seconds": np.float64("-inf")}}
    write_summary(tmp_path / "summary.json", written)
    read = read_strict_json(tmp_path / "summary.json")
    assert read["metrics"]["test_accuracy"] == {
        "n": 1, "mean": 0.7, "std": None, "median": 0.7, "min": 0.7, "max": 0.7
    }  # fmt: skip
    assert read["list"] == [None, 1, [None, "–"]]
    assert read["times"] == {"seconds": None}


@quick
@given(value=st.recursive(st.none() | st.booleans() | st.integers() | finite | st.text(), st.lists, max_leaves=5))
def test_summary_json_keeps_all_other_values(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "summary.json"
    write_summary(path, {"value": value, "data": {"source": value}})
    assert read_strict_json(path) == {"value": value, "data": {"source": value}}


def build_evaluation() -> Evaluation:
    accuracy = np.array([0.5, math.nan, 0.75])
    return Evaluation([3, 4, 5], {"test/loss": np.array([1.0, math.inf, 2.0]), "test/accuracy": accuracy})


def test_an_evaluation_has_a_row_per_round() -> None:
    assert build_evaluation().header == ["seed", "status", "test_loss", "test_accuracy"]
    first, failed, last = build_evaluation().rows
    assert first == [3, "ok", 1.0, 0.5]
    assert failed[:3] == [4, "failed", math.inf]
    assert last == [5, "ok", 2.0, 0.75]


def test_an_evaluation_names_the_failed_seeds_and_leaves_them_out() -> None:
    assert build_evaluation().failed == [4]
    assert build_evaluation().compute_summaries() == {
        "test_loss": summarise([1.0, 2.0]),
        "test_accuracy": summarise([0.5, 0.75]),
    }


def test_an_evaluation_can_be_written_as_a_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "test.csv", build_evaluation().header, build_evaluation().rows)
    assert (tmp_path / "test.csv").read_text().splitlines() == [
        "seed,status,test_loss,test_accuracy",
        "3,ok,1.0,0.5",
        "4,failed,inf,nan",
        "5,ok,2.0,0.75",
    ]
