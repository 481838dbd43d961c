"""Metrics: their names in files never change, and all other names follow from the table."""

from dataclasses import fields

import pytest

from pairs_lit.data.pair_store import SPLITS
from pairs_lit.runs.metrics import (
    COMPARABLE_METRICS,
    EPOCH_METRICS,
    METRICS_BY_COLUMN,
    METRICS_BY_TAG,
    ROUND_METRICS,
    SPLIT_NAMES,
    SWEEP_METRICS,
    Metric,
)
from pairs_lit.runs.tables import RoundResult

BEST_LABEL = "best test accuracy of any epoch (selected on test)"


def test_the_columns_of_rounds_csv_are_those_of_earlier_releases() -> None:
    assert [metric.column for metric in ROUND_METRICS] == [
        *("train_accuracy", "train_digit_accuracy", "val_accuracy", "val_digit_accuracy"),
        *("test_accuracy", "test_digit_accuracy", "best_test_accuracy"),
        *("val_all_accuracy", "val_all_digit_accuracy", "test_all_accuracy", "test_all_digit_accuracy"),
    ]


def test_a_row_of_rounds_csv_has_a_field_for_each_metric() -> None:
    others = {"seed", "status", "best_test_epoch"}
    names = [field.name for field in fields(RoundResult) if field.name not in others]
    assert names == [metric.column for metric in ROUND_METRICS]


def test_the_metrics_of_curves_csv_are_those_of_earlier_releases() -> None:
    names = ["loss", "target_loss", "digit_loss", "accuracy", "digit_accuracy"]
    assert [metric.tag for metric in EPOCH_METRICS] == [f"{split}/{name}" for split in SPLITS for name in names]
    assert list(SPLIT_NAMES) == list(SPLITS)


def test_runs_are_compared_by_accuracies_and_losses() -> None:
    losses = [metric for metric in COMPARABLE_METRICS if metric not in ROUND_METRICS]
    assert [metric.column for metric in losses] == ["val_loss", "val_target_loss", "test_loss", "test_target_loss"]
    assert [metric.is_loss for metric in COMPARABLE_METRICS] == [metric in losses for metric in COMPARABLE_METRICS]
    assert {metric.better_sign for metric in losses} == {-1}
    assert {metric.better_sign for metric in ROUND_METRICS} == {1}


def test_a_sweep_ranks_by_validation_metrics() -> None:
    assert {metric.split for metric in SWEEP_METRICS} == {"val"}
    assert {metric.name for metric in SWEEP_METRICS} == {metric.name for metric in METRICS_BY_TAG.values()}


@pytest.mark.parametrize(
    ("column", "title", "words", "label"),
    [
        ("val_accuracy", "accuracy (fraction of pairs)", "validation accuracy", None),
        ("train_digit_accuracy", "digit accuracy (fraction of digits)", "training digit accuracy", None),
        ("test_target_loss", "target loss (without the auxiliary part)", "test target loss", None),
        ("val_all_accuracy", "all accuracy", "validation all accuracy", "validation accuracy, all pairs"),
        ("test_all_digit_accuracy", "all digit accuracy", "test all digit accuracy", "test digit accuracy, all images"),
        ("best_test_accuracy", "accuracy (fraction of pairs)", "best test accuracy", BEST_LABEL),
    ],
)
def test_names_in_sentences(column: str, title: str, words: str, label: str | None) -> None:
    metric = METRICS_BY_COLUMN[column]
    assert (metric.title, metric.words, metric.label) == (title, words, label or words)


def test_a_metric_is_found_by_either_name() -> None:
    assert METRICS_BY_TAG["val/digit_loss"] == METRICS_BY_COLUMN["val_digit_loss"] == Metric("val", "digit_loss")
    assert METRICS_BY_TAG["test/accuracy"] == METRICS_BY_COLUMN["test_accuracy"]
    assert METRICS_BY_COLUMN["best_test_accuracy"] == Metric("test", "accuracy", is_best=True)
    assert not METRICS_BY_TAG["test/accuracy"].is_best


@pytest.mark.parametrize(
    ("column", "is_of_digits", "is_over_all_pairs"),
    [
        ("test_accuracy", False, False),
        ("val_digit_loss", True, False),
        ("val_all_accuracy", False, True),
        ("test_all_digit_accuracy", True, True),
    ],
)
def test_properties_of_metrics(column: str, is_of_digits: bool, is_over_all_pairs: bool) -> None:
    metric = METRICS_BY_COLUMN[column]
    assert (metric.is_of_digits, metric.is_over_all_pairs) == (is_of_digits, is_over_all_pairs)
