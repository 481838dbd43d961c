"""The published results and claims are data files: read and checked key by key."""

import re
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairs_lit.data.pair_store import SPLITS
from pairs_lit.errors import PairsLitError
from pairs_lit.reproduction.claims import CURVE_METRICS, Contrast, Side, read_claims
from pairs_lit.reproduction.published import REPORTS, Sweep, Variant, read_reports
from pairs_lit.runs.metrics import EPOCH_METRIC_NAMES
from pairs_lit.statistics import Summary
from tests.conftest import CONFIGS

PUBLISHED, CLAIMS = CONFIGS / "reports" / "published.yaml", CONFIGS / "reports" / "claims.yaml"


def report() -> dict[str, Any]:
    """Return a report that uses every key."""
    rows = [{"name": "one", "title": "One", "parameters": 7, "mean": 0.5, "std": 0.1}, {"name": "two", "title": "2"}]
    return {
        "name": "somebody",
        "folder": "reports/somebody",
        "rounds": 10,
        "column": "best_test_accuracy",
        "alone": 3,
        "rows": [rows[0], rows[1] | {"parameters": 8, "minutes": 2}],
        "plots": {"epochs": {"rows": ["one"], "panels": {"test/accuracy": "accuracy"}}},
        "sweeps": [{"name": "rate", "row": "one", "options": {"a.b": "{}"}, "title": "rate", "values": [0, 0.5]}],
        "variants": [{"name": "wide", "title": "wide", "options": {"a.c": "2"}, "rows": ["two"]}],
        "remark": "So.",
    }


def claim() -> dict[str, Any]:
    sides = {"first": {"report": "somebody", "row": "one"}, "second": {"report": "somebody", "row": "two"}}
    return {"question": "Is it?", "said": "Yes.", "contrasts": [{"title": "1 − 2", **sides}]}


def written(folder: Path, content: object) -> Path:
    path = folder / "data.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True))
    return path


def test_a_report_is_read(tmp_path: Path) -> None:
    result = read_reports(written(tmp_path, {"reports": [report()]}))["somebody"]
    one, two = result.rows
    assert astuple(result.get_published_summary(one)) == pytest.approx(astuple(Summary(10, 0.5, 0.1)), nan_ok=True)
    assert (result.get_published_summary(two), two.minutes, result.has_published_values) == (None, 2.0, True)
    assert result.sweeps == (Sweep("rate", "one", {"a.b": "{}"}, "rate", (0.0, 0.5)),)
    assert result.variants == (Variant("wide", "wide", {"a.c": "2"}, ("two",)),)
    assert result.plots["epochs"].panels == {"test/accuracy": "accuracy"}


def test_a_claim_is_read(tmp_path: Path) -> None:
    reports = read_reports(written(tmp_path, {"reports": [report()]}))
    content = claim()
    content["contrasts"][0] |= {"kind": "spread", "yes_if": "lower"}
    content["contrasts"][0]["second"] |= {"variant": "wide", "metric": "test/accuracy", "epoch": 3, "label": "two"}
    (result,) = read_claims(written(tmp_path, {"claims": [content]}), reports)
    second = Side("somebody", "two", "test/accuracy", 3, "wide", "two")
    assert result.contrasts == (Contrast("1 − 2", Side("somebody", "one"), second, "spread", "lower"),)


ROW = "reports.somebody.rows.one"
WRONG_REPORTS = {
    "rows.0.mean": ("high", rf"{ROW}\.mean: expected a number, got 'high'\."),
    "rows.0.std": (True, rf"{ROW}\.std: expected a number, got True"),
    "rows.0.parameters": (1.5, rf"{ROW}\.parameters: expected a whole number, got 1\.5"),
    "rows.0.means": (1, rf"{ROW}\.means: there is no such key, use name, title, parameters, mean"),
    "rows.0.title": (None, rf"{ROW}\.title: expected a text .*, got None"),
    "rows": ({}, r"somebody\.rows: expected a list, got {}"),
    "plots": ([], r"somebody\.plots: expected keys with values, got \[\]"),
    "plots.epochs.rows": (["six"], r"somebody\.plots\.epochs: there is no row 'six', use one, two"),
    "sweeps.0.row": ("six", r"somebody\.sweeps\.rate: there is no row 'six'"),
    "sweeps.0.options.a": (2, r"sweeps\.rate\.options\.a: expected a text \(a number in quotes is one\), got 2"),
    "variants.0.rows": (["six"], r"somebody\.variants\.wide: there is no row 'six'"),
    "variants.0.name": ("rate", "somebody: two recipes have the name 'rate'"),
    "column": ("accuracy", r"somebody\.column: expected one of test_accuracy, best_test_accuracy, got 'accuracy'"),
}
WRONG_CLAIMS = {
    "said": (1, r"claims\.Is it\?\.said: expected a text"),
    "contrasts.0.kind": ("median", "1 − 2.kind: expected one of mean, spread, time, got 'median'"),
    "contrasts.0.yes_if": ("larger", "1 − 2.yes_if: expected one of higher, lower, neither, got 'larger'"),
    "contrasts.0.first.report": ("nobody", r"first\.report: there is no report 'nobody', use somebody"),
    "contrasts.0.first.row": ("six", r"first\.row: there is no row 'six' of somebody, use one, two"),
    "contrasts.0.first.variant": ("long", r"first\.variant: somebody has no variant 'long', use wide"),
    "contrasts.0.second.metric": ("speed", r"second\.metric: 'speed' is no column of rounds\.csv, use train_accuracy"),
    "contrasts.0.second.epoch": ("last", r"second\.epoch: expected a whole number, got 'last'"),
}


def changed(content: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    *outer, last = key.split(".")
    place: Any = content
    for name in outer:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return content


@pytest.mark.parametrize("key", WRONG_REPORTS)
def test_a_wrong_key_of_a_report_is_named(key: str, tmp_path: Path) -> None:
    value, message = WRONG_REPORTS[key]
    path = written(tmp_path, {"reports": [changed(report(), key, value)]})
    with pytest.raises(PairsLitError, match=rf"^{re.escape(str(path))}: .*{message}"):
        read_reports(path)


@pytest.mark.parametrize("key", WRONG_CLAIMS)
def test_a_wrong_key_of_a_claim_is_named(key: str, tmp_path: Path) -> None:
    reports = read_reports(written(tmp_path, {"reports": [report()]}))
    value, message = WRONG_CLAIMS[key]
    path = written(tmp_path, {"claims": [changed(claim(), key, value)]})
    with pytest.raises(PairsLitError, match=rf"^{re.escape(str(path))}: .*{message}"):
        read_claims(path, reports)


@pytest.mark.parametrize("metric", ["test_accuracy", "test/speed", "accuracy"])
def test_a_metric_that_no_epoch_has_is_named(metric: str, tmp_path: Path) -> None:
    reports = read_reports(written(tmp_path, {"reports": [report()]}))
    content = claim()
    content["contrasts"][0]["first"] |= {"metric": metric, "epoch": 3}
    path = written(tmp_path, {"claims": [content]})
    with pytest.raises(PairsLitError, match=rf"first\.metric: '{metric}' is no metric of curves\.csv, use train/"):
        read_claims(path, reports)


def test_the_metrics_of_an_epoch_are_those_measured_after_each_epoch() -> None:
    assert {metric.partition("/")[2] for metric in CURVE_METRICS} == set(EPOCH_METRIC_NAMES)
    assert {metric.partition("/")[0] for metric in CURVE_METRICS} == set(SPLITS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reports: []\nreports: []", "reports is given twice, in lines 1 and 2. Keep one"),
        ("reports:\n- name: a\n  rounds: 1\n  rows: []\n  rounds: 2", "rounds is given twice, in lines 3 and 5"),
        ("reports:\n- plots: {a: {}, 'a': {}}", "a is given twice, in lines 2 and 2"),
    ],
)
def test_a_duplicate_key_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match=rf"data\.yaml: {message}"):
        read_reports(written(tmp_path, text))


@pytest.mark.parametrize("key", ["name", "folder", "rounds", "rows"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    content = report()
    del content[key]
    with pytest.raises(PairsLitError, match=rf"data\.yaml: reports\..*\.{key}: is missing"):
        read_reports(written(tmp_path, {"reports": [content]}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reports: [", "cannot be read .ParserError"),
        ("", "its top level: expected keys with values, got None"),
        ("reports: {}", "reports: expected a list, got {}"),
        ("reports: [1]", r"reports\.1: expected keys with values, got 1"),
        ("report: []", "report: there is no such key, use reports"),
    ],
)
def test_invalid_content_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match=rf"data\.yaml:? {message}"):
        read_reports(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match=r"none\.yaml cannot be read .FileNotFoundError"):
        read_reports(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", [PUBLISHED, CLAIMS], ids=lambda path: path.name)
def test_the_files_are_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# What the ")
    assert not re.search(r"(: |- )[&*!]", text)
    assert all(len(line) <= 120 for line in text.splitlines())


def test_published_values_agree_with_the_reports() -> None:
    rows = {(name, row.name): row for name, each in REPORTS.items() for row in each.rows}
    grall = rows["grall", "b_classes_ce"]
    assert (grall.mean, grall.std) == (pytest.approx(1 - 0.056), 0.01)
    pillonel = rows["pillonel", "model3"]
    assert (pillonel.mean, pillonel.std, pillonel.minutes) == (0.8935, 0.0430, 30.75)
    printed = [row.percent for row in REPORTS["pillonel"].rows]
    assert printed == [100, 107.4, 114.8, 211.1]
    page = (CONFIGS.parent / "docs" / "results" / "pillonel.md").read_text(encoding="utf-8")
    assert all(
        re.search(rf"\| {row.minutes:.2f} min +\| {row.percent:.1f} +\|", page) for row in REPORTS["pillonel"].rows
    )
