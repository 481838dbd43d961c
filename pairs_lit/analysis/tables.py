"""Tables for people."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

from tabulate import tabulate

from pairs_lit.relation import sign_of
from pairs_lit.runs.metrics import BY_COLUMN
from pairs_lit.runs.tables import Evaluation
from pairs_lit.statistics import Summary
from pairs_lit.text import counted, printable

_OF_DIGITS = frozenset(metric.column for metric in BY_COLUMN.values() if metric.is_of_digits)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], style: str = "simple") -> str:
    """Show rows as they are, no text read as a number, in one of ``tabulate``'s formats."""
    return tabulate(list(rows), header, tablefmt=style, disable_numparse=True)


def without_digits(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    """Return the summaries, by column, that do not measure how well digits are named: nothing trained that."""
    return {name: summary for name, summary in summaries.items() if name not in _OF_DIGITS}


def summary_table(summaries: Mapping[str, Summary], *, style: str = "simple") -> str:
    """Show a row for each summary (std with ddof 1), in one of ``tabulate``'s table formats.

    Args:
        summaries: By column of a table of rounds, or by what else the row is to be called.
        style: The format.
    """
    labels = [BY_COLUMN[name].label if name in BY_COLUMN else name for name in summaries]
    figures = [(s.n, *map(decimal, (s.mean, s.std, s.median, s.min, s.max))) for s in summaries.values()]
    rows = [(label, *each) for label, each in zip(labels, figures, strict=True)]
    header = ["", "n", "mean", "std", "median", "min", "max"]
    return tabulate(rows, header, tablefmt=style, disable_numparse=True, colalign=["left", *["right"] * 6])


def evaluation_table(evaluation: Evaluation, *, with_digits: bool = True) -> str:
    """Show one row for each round, then the summary; without digit metrics, if nothing trained them."""
    shown = [with_digits or name not in _OF_DIGITS for name in evaluation.header]
    header, *rows = (list(compress(row, shown)) for row in (evaluation.header, *evaluation.rows))
    cells = [[decimal(cell) if isinstance(cell, float) else cell for cell in row] for row in rows]
    summaries = evaluation.summaries() if with_digits else without_digits(evaluation.summaries())
    parts = [table(header, cells), summary_table(summaries), failures(evaluation.failed, len(evaluation.seeds))]
    return "\n\n".join(part for part in parts if part)


def failures(failed: Sequence[int], count: int) -> str:
    """Say how many rounds failed and what became of them; nothing where none did."""
    if not failed:
        return ""
    seeds = ", ".join(map(str, failed))
    return f"{len(failed)} of {counted(count, 'round')} FAILED (loss not finite; seed {seeds}): left out of the table."


def at_chance(seeds: Sequence[int], count: int) -> str:
    """Say how many rounds have learned nothing; nothing where there is none."""
    if not seeds:
        return ""
    listed = ", ".join(map(str, seeds))
    return (
        f"{len(seeds)} of {counted(count, 'round')} AT CHANCE (on the training pairs no better than always giving the "
        f"commoner answer; seed {listed}): kept in the table."
    )


_MOST_NAMES = 12


def classes(relation: str, names: Sequence[str], count: int) -> str:
    """Say what a relation compares where the classes are not the ten digits; nothing where they are."""
    if not names and count == 10:
        return ""
    listed = [f"{number} = {printable(name)[:40]!r}" for number, name in enumerate(names)]
    if len(listed) > _MOST_NAMES:
        listed = [*listed[: _MOST_NAMES - 1], "…", listed[-1]]
    shown = ", ".join(listed) or f"0 to {count - 1}"
    return f"relation {relation}: first {sign_of(relation)} second by the number of the class, of {count}: {shown}"


def mean_and_std(summary: Summary) -> str:
    """Show ``0.8757 ± 0.0165 (n = 10)``; without ± for a single round."""
    spread = f" ± {summary.std:.4f}" if summary.n > 1 else ""
    return f"{summary.mean:.4f}{spread} (n = {summary.n})"


def decimal(value: float) -> str:
    """Show an accuracy or a loss; a dash where there is none."""
    return "–" if value != value else f"{value:.4f}"


def interval(low: float, high: float, sign: str = "") -> str:
    """Show the ends of an interval, ``+0.0032 to +0.0048`` with the sign ``+``; a dash where there is none."""
    return "–" if low != low else f"{low:{sign}.4f} to {high:{sign}.4f}"


def p_value(p: float) -> str:
    """Show a p value with its meaningful digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
