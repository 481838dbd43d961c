"""``summary.json``, read as numbers and short texts only, or refused; and the commit that made a run."""

import csv
import json
import math
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs_lit.errors import PairsLitError, printable
from pairs_lit.runs.folder import SUMMARY

PACKAGE = Path(__file__).parent.parent


def commit(package: Path = PACKAGE) -> str | None:
    """Return the commit that the package's files belong to, ``+changes`` added where they differ from it.

    Args:
        package: The package's folder.

    Returns:
        None if git does not track the files, as in an installation.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(package, "rev-parse", "--short=10", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", ".", "../configs")
    return None if head is None else head + ("+changes" if changed else "")


def is_commit(name: object) -> bool:
    """Tell whether a value from a file is what :func:`commit` returns for files under git's control."""
    return isinstance(name, str) and re.fullmatch(r"[0-9a-f]{7,40}(\+changes)?", name) is not None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None


Settings = dict[str, str | int | float | None]
"""The data settings of a run."""


@dataclass(frozen=True)
class Facts:
    """Facts about a run that the pages of a reproduction state beside its figures.

    Attributes:
        data: The data settings.
        parameters: How many parameters a round's network has.
        seconds: How long all rounds took.
        commits: The commits that trained it; more than one where it was interrupted.
        torch: The version of torch.
    """

    data: Settings
    parameters: int
    seconds: float
    commits: list[str]
    torch: str


def read_facts(folder: Path) -> Facts:
    """Read a run folder's ``summary.json``.

    Raises:
        PairsLitError: It does not exist, or holds something that no run writes.
    """
    with readable(folder):
        found = _json(folder)
        parameters, seconds = int(found["parameters_per_round"]), float(found["times"]["seconds"])
        versions = found["versions"]
        if not math.isfinite(seconds):
            raise ValueError(f"the time is {seconds}")
        settings = _settings(found)
        _word(settings["source"])
        return Facts(settings, parameters, seconds, list(map(_commit, versions["commits"])), _word(versions["torch"]))


def read_data(folder: Path) -> Settings:
    """Read the data settings alone from a run folder's ``summary.json``.

    Raises:
        PairsLitError: As :func:`read_facts`.
    """
    with readable(folder):
        return _settings(_json(folder))


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn errors in reading a run folder into one line.

    Raises:
        PairsLitError: A file is missing or damaged.
    """
    try:
        yield
    except OSError as error:
        raise PairsLitError(
            f"{folder} is not a finished run ({Path(str(error.filename)).name} is missing): give run folders such as "
            "lightning_logs/cnn_aux/20260101-120000-1."
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error) as error:
        reason = printable(str(error))[:200]
        raise PairsLitError(f"{folder} holds no readable run ({reason}): its tables are damaged.") from error


def _json(folder: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))


def _settings(found: Mapping[str, Any]) -> Settings:
    settings = found["data"]
    if not all(isinstance(value, str | int | float | None) for value in settings.values()):
        raise ValueError("the data settings are not plain values")
    return {name: _text(value) if isinstance(value, str) else value for name, value in settings.items()}


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 100:
        raise ValueError("a text is missing or too long")
    return printable(value)


def _word(value: object) -> str:
    """Accept only texts that a page can show as they are, without Markdown's special characters."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w.+ ()-]{1,100}", value):
        raise ValueError("the source or the version of torch is not a plain text")
    return value


def _commit(value: object) -> str:
    if value is not None and not is_commit(value):
        raise ValueError("a commit is not a hash")
    return str(value)
