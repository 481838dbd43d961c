"""Formatting of tables, numbers and notes for terminal output and reports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

from tabulate import tabulate

from pairs_lit.relation import get_sign
from pairs_lit.runs.metrics import METRICS_BY_COLUMN
from pairs_lit.runs.tables import Evaluation
from pairs_lit.statistics import Summary
from pairs_lit.text import format_count, replace_control_characters

_DIGIT_COLUMNS = frozenset(metric.column for metric in METRICS_BY_COLUMN.values() if metric.is_of_digits)


@dataclass(frozen=True)
class Table:
    """A table of results, to be formatted as text or HTML.

    Attributes:
        header: The names of the columns.
        rows: The cells of each row.
        alignment: The alignment of all cells in the table as text.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    alignment: Literal["left", "right"] = "left"

    def __str__(self) -> str:
        return tabulate(self.rows, self.header, disable_numparse=True, stralign=self.alignment)


def format_table(header: Sequence[str], rows: Iterable[Sequence[object]], style: str = "simple") -> str:
    """Return a table in one of ``tabulate``'s formats; texts that look like numbers are not reformatted."""
    return tabulate(list(rows), header, tablefmt=style, disable_numparse=True)


def drop_digit_metrics(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    """Return the summaries without digit metrics, for networks that were not trained to classify digits."""
    return {name: summary for name, summary in summaries.items() if name not in _DIGIT_COLUMNS}


def format_summary_table(summaries: Mapping[str, Summary], *, style: str = "simple") -> str:
    """Return a table with one row of summary statistics per metric.

    Args:
        summaries: The summaries by column of ``rounds.csv``; any other name becomes the label of its row.
        style: One of ``tabulate``'s table formats.
    """
    table = build_summary_table(summaries)
    alignments = ["left", *["right"] * 6]
    return tabulate(table.rows, table.header, tablefmt=style, disable_numparse=True, colalign=alignments)


def build_summary_table(summaries: Mapping[str, Summary]) -> Table:
    """Return the table of :func:`format_summary_table` before it is formatted."""
    labels = [METRICS_BY_COLUMN[name].label if name in METRICS_BY_COLUMN else name for name in summaries]
    cells = [(s.n, *map(format_decimal, (s.mean, s.std, s.median, s.min, s.max))) for s in summaries.values()]
    rows = [(label, *row) for label, row in zip(labels, cells, strict=True)]
    return Table(["", "n", "mean", "std", "median", "min", "max"], rows)


def format_evaluation_table(evaluation: Evaluation, *, with_digits: bool = True) -> str:
    """Return a table with one row per round, the summary table, and a note on failed rounds.

    Args:
        evaluation: The metrics of all rounds.
        with_digits: Whether to include digit metrics; they mean nothing if the networks were not trained on digits.
    """
    is_included = [with_digits or name not in _DIGIT_COLUMNS for name in evaluation.header]
    header, *rows = (list(compress(row, is_included)) for row in (evaluation.header, *evaluation.rows))
    cells = [[format_decimal(cell) if isinstance(cell, float) else cell for cell in row] for row in rows]
    summaries = evaluation.compute_summaries() if with_digits else drop_digit_metrics(evaluation.compute_summaries())
    parts = [
        format_table(header, cells),
        format_summary_table(summaries),
        describe_failures(evaluation.failed, len(evaluation.seeds)),
    ]
    return "\n\n".join(part for part in parts if part)


def describe_failures(failed: Sequence[int], count: int) -> str:
    """Return a note on the failed rounds, or an empty text if no round failed."""
    if not failed:
        return ""
    seeds = ", ".join(map(str, failed))
    return (
        f"{len(failed)} of {format_count(count, 'round')} FAILED (loss not finite; seed {seeds}): left out of the "
        "table."
    )


def describe_rounds_at_chance(seeds: Sequence[int], count: int) -> str:
    """Return a note on the rounds that learned nothing, or an empty text if there are none."""
    if not seeds:
        return ""
    listed = ", ".join(map(str, seeds))
    return (
        f"{len(seeds)} of {format_count(count, 'round')} AT CHANCE (on the training pairs no better than the "
        "majority-class "
        f"baseline; seed {listed}): kept in the table."
    )


_MAX_NAMES = 12


def describe_classes(relation: str, names: Sequence[str], count: int) -> str:
    """Return which class numbers a relation compares, or an empty text if the classes are the ten digits."""
    if not names and count == 10:
        return ""
    listed = [f"{number} = {replace_control_characters(name)[:40]!r}" for number, name in enumerate(names)]
    if len(listed) > _MAX_NAMES:
        listed = [*listed[: _MAX_NAMES - 1], "…", listed[-1]]
    numbers = ", ".join(listed) or f"0 to {count - 1}"
    return f"relation {relation}: first {get_sign(relation)} second by class number ({count} classes): {numbers}"


def format_decimal(value: float) -> str:
    """Return an accuracy or a loss with four decimals, or a dash for NaN."""
    return "–" if value != value else f"{value:.4f}"


def format_interval(low: float, high: float, sign: str = "") -> str:
    """Return an interval such as ``0.0032 to 0.0048``, or a dash for NaN; the sign ``+`` marks positive ends."""
    return "–" if low != low else f"{low:{sign}.4f} to {high:{sign}.4f}"


def format_p_value(p: float) -> str:
    """Return a p value with three decimals, or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
