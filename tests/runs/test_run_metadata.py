"""Metadata of run folders: anything but numbers and short texts is rejected."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_metadata import RunMetadata, read_data_settings, read_metadata

SUMMARY: dict[str, Any] = {
    "data": {"source": "mnist", "train_pairs": 1000, "swap": None},
    "parameters_per_round": 2101,
    "times": {"seconds": 1.5},
    "versions": {"torch": "2.6.0", "commits": ["0123456789", "abcdef0123+changes", None]},
}


def written(folder: Path, summary: object) -> Path:
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_a_summary_is_read(tmp_path: Path) -> None:
    commits = ["0123456789", "abcdef0123+changes", "None"]
    assert read_metadata(written(tmp_path, SUMMARY)) == RunMetadata(SUMMARY["data"], 2101, 1.5, commits, "2.6.0")
    assert read_data_settings(tmp_path) == SUMMARY["data"]


def test_control_characters_are_replaced(tmp_path: Path) -> None:
    hostile = copy.deepcopy(SUMMARY)
    hostile["data"]["source"] = "\x1b[2Ja"
    assert read_data_settings(written(tmp_path, hostile))["source"] == "?[2Ja"


def with_markdown_as_a_commit(summary: dict[str, Any]) -> None:
    summary["versions"]["commits"] = ["[here](http:x)"]


def with_markdown_as_a_source(summary: dict[str, Any]) -> None:
    summary["data"]["source"] = "[here](http:x)"


def with_markdown_as_a_version(summary: dict[str, Any]) -> None:
    summary["versions"]["torch"] = "![here](http:x)"


def with_a_long_text(summary: dict[str, Any]) -> None:
    summary["versions"]["torch"] = "a" * 1000


def with_a_list_among_the_settings(summary: dict[str, Any]) -> None:
    summary["data"]["source"] = ["mnist"]


def without_times(summary: dict[str, Any]) -> None:
    del summary["times"]


def with_an_endless_time(summary: dict[str, Any]) -> None:
    summary["times"]["seconds"] = float("inf")


def with_endless_parameters(summary: dict[str, Any]) -> None:
    summary["parameters_per_round"] = float("inf")


@pytest.mark.parametrize(
    "damage",
    [
        with_markdown_as_a_commit,
        with_markdown_as_a_source,
        with_markdown_as_a_version,
        with_a_long_text,
        with_a_list_among_the_settings,
        without_times,
        with_an_endless_time,
        with_endless_parameters,
    ],
)
def test_damaged_summaries_are_rejected(tmp_path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    hostile = copy.deepcopy(SUMMARY)
    damage(hostile)
    with pytest.raises(PairsLitError, match=r"holds no readable run .*: its files are damaged"):
        read_metadata(written(tmp_path, hostile))


@pytest.mark.parametrize("summary", [None, [], "text", 1, {"data": []}, {"data": None}])
def test_other_json_is_rejected(tmp_path: Path, summary: object) -> None:
    for read in (read_metadata, read_data_settings):
        with pytest.raises(PairsLitError, match="holds no readable run"):
            read(written(tmp_path, summary))


def test_a_folder_without_a_summary_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match=r"is not a finished run \(summary\.json is missing\)"):
        read_metadata(tmp_path)
