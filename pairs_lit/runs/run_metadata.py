"""Metadata of a run, read from ``summary.json``; files with anything but numbers and short texts are rejected."""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.commit import is_commit
from pairs_lit.runs.run_folder import SUMMARY_FILE
from pairs_lit.text import replace_control_characters

Settings = dict[str, str | int | float | None]
"""The data settings of a run."""

DETERMINISTIC_KEY = "deterministic"
"""The key that records whether a dataset returned the same images when it was read again."""

UNRECORDED_SETTINGS: Settings = {"resize": None, "classes": 10, "held_out": None}
"""Settings of all runs and checkpoints of the releases that did not record them."""

FINGERPRINT_KEY = "fingerprint"
"""The data setting that identifies images and labels; earlier releases did not record it."""


def find_differing_settings(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Return the names of the data settings in which two runs differ; fingerprints only count if both have one."""
    first, second = {**UNRECORDED_SETTINGS, **one}, {**UNRECORDED_SETTINGS, **other}
    names = [name for name in dict.fromkeys([*first, *second]) if first.get(name) != second.get(name)]
    both_known = bool(first.get(FINGERPRINT_KEY)) and bool(second.get(FINGERPRINT_KEY))
    return [name for name in names if name != FINGERPRINT_KEY or both_known]


@dataclass(frozen=True)
class RunMetadata:
    """Metadata of a run, for the pages of a reproduction.

    Attributes:
        data: The data settings.
        parameters: The number of parameters of one round's network.
        seconds: The training time of all rounds.
        commits: The commits that trained it; more than one if it was resumed with other code.
        torch: The version of torch.
    """

    data: Settings
    parameters: int
    seconds: float
    commits: list[str]
    torch: str


def read_metadata(folder: Path) -> RunMetadata:
    """Read the metadata in a run folder's ``summary.json``; raise PairsLitError if it is damaged."""
    settings = read_data_settings(folder)
    with translate_read_errors(folder):
        summary = _read_summary(folder)
        seconds, commits = float(summary["times"]["seconds"]), summary["versions"]["commits"]
        if not math.isfinite(seconds):
            raise ValueError(f"the time is {seconds}")
        if not all(commit is None or is_commit(commit) for commit in commits):
            raise ValueError("a commit is not a hash")
        _check_plain_text(settings["source"])
        _check_plain_text(torch := summary["versions"]["torch"])
        return RunMetadata(settings, int(summary["parameters_per_round"]), seconds, list(map(str, commits)), torch)


def read_data_settings(folder: Path) -> Settings:
    """Read the data settings in a run folder's ``summary.json``; raise PairsLitError if they are damaged."""
    with translate_read_errors(folder):
        settings = _read_summary(folder)["data"]
        for value in settings.values():
            if not isinstance(value, str | int | float | None) or len(str(value)) > 100:
                raise ValueError("a data setting is not a plain value, or too long")
        return {
            name: replace_control_characters(value) if isinstance(value, str) else value
            for name, value in settings.items()
        }


def read_digits_trained(folder: Path) -> bool | None:
    """Return whether a run's networks were trained to classify digits, or None if its release did not record it."""
    with translate_read_errors(folder):
        is_trained = _read_summary(folder).get("digits_trained")
        return is_trained if isinstance(is_trained, bool) else None


def read_at_chance(folder: Path) -> list[int] | None:
    """Return the seeds of the rounds that stayed at chance level, or None if ``summary.json`` does not record them."""
    with translate_read_errors(folder):
        seeds = _read_summary(folder).get("rounds", {}).get("at_chance")
        if seeds is not None and not (isinstance(seeds, list) and all(type(seed) is int for seed in seeds)):
            raise ValueError("rounds.at_chance is not a list of seeds")
        return seeds


_MAX_NAME_LENGTH = 200


def read_class_names(folder: Path) -> list[str]:
    """Return the names of a run's classes in their order, or an empty list if they are called by their numbers.

    Raises:
        PairsLitError: The names are not texts, or not as many as there are classes.
    """
    with translate_read_errors(folder):
        summary = _read_summary(folder)
        names, count = summary.get("class_names", []), summary["data"].get("classes", UNRECORDED_SETTINGS["classes"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("class_names is not a list of texts")
        if names and len(names) != count:
            raise ValueError(f"there are {len(names)} class names for {count} classes")
        return [replace_control_characters(name)[:_MAX_NAME_LENGTH] for name in names]


@contextmanager
def translate_read_errors(folder: Path) -> Iterator[None]:
    """Translate errors in reading a run folder into PairsLitError: a file is missing or damaged."""
    try:
        yield
    except OSError as error:
        below = [path.parent for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/{SUMMARY_FILE}")]
        example = max(below, default=Path("lightning_logs/cnn_aux/20260101-120000-1"))
        raise PairsLitError(
            f"{folder} is not a finished run ({Path(str(error.filename)).name} is missing). Give a run folder such as "
            f"{replace_control_characters(str(example))}."
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error) as error:
        reason = replace_control_characters(str(error))[:200]
        raise PairsLitError(f"{folder} holds no readable run ({reason}): its files are damaged.") from error


def _read_summary(folder: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8-sig"))


def _check_plain_text(text: object) -> None:
    """Raise ValueError for a text that a Markdown page could not show literally."""
    if not isinstance(text, str) or not re.fullmatch(r"[\w.+ ()-]{1,100}", text):
        raise ValueError("the source or the version of torch is not a plain text")
