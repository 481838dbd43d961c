"""Result files of a run: ``rounds.csv``, ``curves.csv`` and ``summary.json``."""

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import translate_os_errors, write_atomically, write_text_atomically
from pairs_lit.runs.metrics import METRICS_BY_TAG, ROUND_METRICS, TOTAL_LOSSES
from pairs_lit.statistics import Summary, summarise
from pairs_lit.system.files import delete_file
from pairs_lit.text import suggest_name


@dataclass(frozen=True)
class RoundResult:
    """One row of ``rounds.csv``: the metrics of a trained network, 0 … 1, or None if they were not measured.

    Attributes:
        seed: The round's seed.
        status: ``ok``, or ``failed`` if its loss was not finite in some epoch.
        train_accuracy: Accuracy on all training pairs, from one evaluation pass.
        best_test_accuracy: The highest of all epochs: **selected on the test set**; belhadj's table gives it.
        best_test_epoch: The first epoch (from 1) that reached it, or None for a round that failed.
        val_all_accuracy: Accuracy on all ordered pairs of the validation images, or a large sample of them; the same
            holds for ``test_all_accuracy`` and test images.
    """

    seed: int
    status: str
    train_accuracy: float | None
    train_digit_accuracy: float | None
    val_accuracy: float | None
    val_digit_accuracy: float | None
    test_accuracy: float | None
    test_digit_accuracy: float | None
    best_test_accuracy: float | None
    best_test_epoch: int | None
    val_all_accuracy: float | None = None
    val_all_digit_accuracy: float | None = None
    test_all_accuracy: float | None = None
    test_all_digit_accuracy: float | None = None


COLUMNS = tuple(field.name for field in fields(RoundResult))
METRIC_COLUMNS = tuple(metric.column for metric in ROUND_METRICS)
"""The columns of ``rounds.csv`` that are summarised over rounds."""

_OPTIONAL_COLUMNS = tuple(metric.column for metric in ROUND_METRICS if metric.is_over_all_pairs)
"""The columns of ``rounds.csv`` that are left out if no round has a value."""

V = TypeVar("V")


class ByName(dict[str, V]):
    """A dictionary whose error for an unknown name lists the known ones."""

    def __missing__(self, name: str) -> NoReturn:
        """Raise PairsLitError that lists the known names."""
        raise build_unknown_name_error(name, self)


def build_unknown_name_error(name: str, known: Iterable[str]) -> PairsLitError:
    """Return the error for a name that is not among the known ones."""
    names = list(known)
    return PairsLitError(f"there is no {name!r}{suggest_name(name, names) or ':'} use one of {', '.join(names)}.")


@dataclass(frozen=True)
class Curves:
    """Metrics after each epoch.

    Attributes:
        seeds: The seeds of the R rounds.
        values: For each metric (``test/accuracy``), an array (E, R); row e is epoch e + 1.
    """

    seeds: Sequence[int]
    values: Mapping[str, NDArray[np.float64]]

    @property
    def epochs(self) -> int:
        """The number of epochs E."""
        return len(next(iter(self.values.values()), ()))

    def find_failed_rounds(self) -> NDArray[np.bool_]:
        """Return which rounds ever had a loss that is not finite, (R,)."""
        losses = [value for name, value in self.values.items() if name in TOTAL_LOSSES]
        return np.logical_not(np.isfinite(np.concatenate(losses)).all(axis=0))

    def get_last_values(self, metric: str) -> dict[int, float]:
        """Return a metric after the last epoch by seed, or an empty dictionary if it was not measured."""
        values = self.values.get(metric)
        if values is None or not len(values):
            return {}
        return dict(zip(self.seeds, values[-1].tolist(), strict=True))

    def with_errors(self) -> "Curves":
        """Return the curves with the error, 1 − accuracy, of each split: ``train/error`` and so on."""
        errors = {f"{name[:-8]}error": 1 - value for name, value in self.values.items() if name.endswith("/accuracy")}
        return Curves(self.seeds, {**self.values, **errors})

    def iterate_rows(self) -> Iterable[tuple[int, int, str, float]]:
        """Yield (seed, epoch, metric, value) by seed, epoch and metric."""
        for r, seed in enumerate(self.seeds):
            for epoch in range(self.epochs):
                for name, value in self.values.items():
                    yield seed, epoch + 1, name, float(value[epoch, r])


@dataclass(frozen=True)
class Evaluation:
    """Metrics that ``test`` or ``validate`` measured.

    Attributes:
        seeds: The seeds of the R rounds.
        measured: For each metric (``test/accuracy``), an array (R,).
    """

    seeds: Sequence[int]
    measured: Mapping[str, NDArray[np.float64]]

    @property
    def header(self) -> list[str]:
        """The names of the columns: seed, status, and the metrics."""
        return ["seed", "status", *(METRICS_BY_TAG[tag].column for tag in self.measured)]

    @property
    def rows(self) -> list[list[Any]]:
        """One row for each round."""
        values = np.stack(list(self.measured.values()), axis=1)
        rows = zip(self.seeds, values, strict=True)
        return [[seed, "ok" if np.isfinite(row).all() else "failed", *row.tolist()] for seed, row in rows]

    @property
    def failed(self) -> list[int]:
        """The seeds of the rounds with a value that is not finite."""
        return [seed for seed, status, *_ in self.rows if status == "failed"]

    def compute_summaries(self) -> dict[str, Summary]:
        """Summarise each metric over the rounds that did not fail."""
        good = [row for row in self.rows if row[1] == "ok"]
        return {name: summarise([row[place] for row in good]) for place, name in enumerate(self.header) if place > 1}


def summarise_rounds(results: Sequence[RoundResult]) -> ByName[Summary]:
    """Summarise each metric over the rounds that did not fail; metrics without values are left out."""
    rows = [vars(result) for result in results]
    measured = [name for name in METRIC_COLUMNS if any(row[name] is not None for row in rows)]
    return ByName({name: summarise([row[name] for row in rows if row["status"] == "ok"]) for name in measured})


def write_rounds(path: Path, results: Sequence[RoundResult]) -> None:
    """Write ``rounds.csv``: one row for each round, with an empty field for a value that was not measured."""
    write_csv(path, *build_round_rows(results))


def build_round_rows(results: Sequence[RoundResult]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns of ``rounds.csv`` and a row for each round, with None for a value that was not measured."""
    rows = [vars(result) for result in results]
    columns = [name for name in COLUMNS if name not in _OPTIONAL_COLUMNS or any(row[name] is not None for row in rows)]
    return columns, [[row[name] for name in columns] for row in rows]


MAX_UNCOMPRESSED_BYTES = 8 * 2**20
"""The largest ``curves.csv``, in bytes, that is not compressed: 1,000 rounds of 150 epochs are a million rows."""


def write_curves(path: Path, curves: Curves) -> None:
    """Write ``curves.csv`` with seed, epoch, metric and value, or ``curves.csv.gz`` instead if it is large."""
    content = format_csv(["seed", "epoch", "metric", "value"], curves.iterate_rows()).encode()
    is_large = len(content) > MAX_UNCOMPRESSED_BYTES
    target, obsolete = (_get_compressed_path(path), path) if is_large else (path, _get_compressed_path(path))
    if is_large:
        content = gzip.compress(content, compresslevel=6, mtime=0)  # without the time, equal curves give equal bytes
    write_atomically(target, lambda file: file.write(content))
    with translate_os_errors(obsolete):
        delete_file(obsolete)


def _get_compressed_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically, with floats in full precision."""
    write_text_atomically(path, format_csv(header, rows))


def add_note_column(
    header: Sequence[str], rows: Iterable[Sequence[object]], note: str
) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of a table with a note in a new last column, or unchanged if the note is empty."""
    extra = [note] if note else []
    return [*header, *["note"] * len(extra)], [[*row, *extra] for row in rows]


def format_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV, with floats in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``, with null for values that are not finite."""
    write_text_atomically(path, json.dumps(_replace_non_finite(summary), indent=2) + "\n")


def _replace_non_finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_rounds(path: Path) -> list[RoundResult]:
    """Read ``rounds.csv``.

    Raises:
        ValueError: It is not a file that :func:`write_rounds` has written.
    """
    results = []
    with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet may add a byte order mark
        for fields_in_file in csv.DictReader(file):
            row = {**dict.fromkeys(_OPTIONAL_COLUMNS, ""), **fields_in_file}
            numbers = {name: float(row[name]) if row[name] else None for name in METRIC_COLUMNS}
            epoch = int(row["best_test_epoch"]) if row["best_test_epoch"] else None
            status = row["status"]
            if status not in ("ok", "failed"):
                raise ValueError(f"status must be ok or failed, got {status!r}")
            if status == "ok" and not all(0 <= value <= 1 for value in numbers.values() if value is not None):
                raise ValueError(f"an accuracy of seed {row['seed']} is not within 0 … 1")
            results.append(RoundResult(seed=int(row["seed"]), status=status, **numbers, best_test_epoch=epoch))
    seeds = [result.seed for result in results]
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ValueError("seeds are missing or repeated")
    return results


def read_curves(path: Path) -> Curves:
    """Read ``curves.csv``, or ``curves.csv.gz`` instead.

    Raises:
        ValueError: It is damaged.
    """
    files = [file for file in (path, _get_compressed_path(path)) if file.is_file()]
    newest = max(files, key=lambda file: file.stat().st_mtime_ns, default=path)  # a killed process may leave both
    try:
        with (
            gzip.open(newest, "rt", newline="", encoding="utf-8-sig")
            if newest.suffix == ".gz"
            else newest.open(newline="", encoding="utf-8-sig")
        ) as file:
            rows = [(int(row["seed"]), row["metric"], float(row["value"])) for row in csv.DictReader(file)]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{newest.name}: {error}") from error
    seeds = list(dict.fromkeys(seed for seed, _, _ in rows))
    collected: dict[str, dict[int, list[float]]] = {}
    for seed, metric, value in rows:
        collected.setdefault(metric, {}).setdefault(seed, []).append(value)
    return Curves(seeds, ByName({name: np.array([by[seed] for seed in seeds]).T for name, by in collected.items()}))
