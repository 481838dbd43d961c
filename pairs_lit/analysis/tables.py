"""Tables for people."""

from collections.abc import Mapping, Sequence
from itertools import compress

from tabulate import tabulate

from pairs_lit.runs.tables import Evaluation
from pairs_lit.statistics import Summary
from pairs_lit.text import counted, printable

LABELS = {
    "train_accuracy": "train accuracy",
    "train_digit_accuracy": "train digit accuracy",
    "val_accuracy": "validation accuracy",
    "val_digit_accuracy": "validation digit accuracy",
    "test_accuracy": "test accuracy",
    "test_digit_accuracy": "test digit accuracy",
    "best_test_accuracy": "best test accuracy of any epoch (selected on test)",
    "val_all_accuracy": "validation accuracy, all pairs",
    "val_all_digit_accuracy": "validation digit accuracy, all images",
    "test_all_accuracy": "test accuracy, all pairs",
    "test_all_digit_accuracy": "test digit accuracy, all images",
}
"""By column of ``rounds.csv``."""

TITLES = {
    "accuracy": "accuracy (fraction of pairs)",
    "digit_accuracy": "digit accuracy (fraction of digits)",
    "loss": "loss",
    "target_loss": "target loss (without the auxiliary part)",
    "digit_loss": "digit loss (unweighted)",
}
"""By metric of ``curves.csv``, with the unit."""


def without_digits(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    """Return the summaries that do not measure how well digits are named, for networks that nothing trained to."""
    return {name: summary for name, summary in summaries.items() if "digit" not in name}


def summary_table(summaries: Mapping[str, Summary], *, style: str = "simple") -> str:
    """Show a row for each column of ``rounds.csv`` (std with ddof 1), in one of ``tabulate``'s table formats."""
    rows = [
        (LABELS.get(name, name.replace("_", " ")), s.n, *map(decimal, (s.mean, s.std, s.median, s.min, s.max)))
        for name, s in summaries.items()
    ]
    header = ["", "n", "mean", "std", "median", "min", "max"]
    return tabulate(rows, header, tablefmt=style, disable_numparse=True, colalign=["left", *["right"] * 6])


def evaluation_table(evaluation: Evaluation, *, with_digits: bool = True) -> str:
    """Show one row for each round, then the summary; without digit metrics, if nothing trained them."""
    shown = [with_digits or "digit" not in name for name in evaluation.header]
    header, *rows = (list(compress(row, shown)) for row in (evaluation.header, *evaluation.rows))
    cells = [[decimal(cell) if isinstance(cell, float) else cell for cell in row] for row in rows]
    summaries = evaluation.summaries() if with_digits else without_digits(evaluation.summaries())
    rounds = tabulate(cells, header, disable_numparse=True)
    parts = [rounds, summary_table(summaries), failures(evaluation.failed, len(evaluation.seeds))]
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


_SIGNS = {"le": "≤", "lt": "<", "ge": "≥", "gt": ">"}
_MOST_NAMES = 12


def classes(relation: str, names: Sequence[str], count: int) -> str:
    """Say what a relation compares where the classes are not the ten digits; nothing where they are."""
    if not names and count == 10:
        return ""
    listed = [f"{number} = {printable(name)[:40]!r}" for number, name in enumerate(names)]
    if len(listed) > _MOST_NAMES:
        listed = [*listed[: _MOST_NAMES - 1], "…", listed[-1]]
    shown = ", ".join(listed) or f"0 to {count - 1}"
    return f"relation {relation}: first {_SIGNS[relation]} second by the number of the class, of {count}: {shown}"


def mean_and_std(summary: Summary) -> str:
    """Show ``0.8757 ± 0.0165 (n = 10)``; without ± for a single round."""
    spread = f" ± {summary.std:.4f}" if summary.n > 1 else ""
    return f"{summary.mean:.4f}{spread} (n = {summary.n})"


def decimal(value: float) -> str:
    """Show an accuracy or a loss; a dash where there is none."""
    return "–" if value != value else f"{value:.4f}"


def p_value(p: float) -> str:
    """Show a p value with its meaningful digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
