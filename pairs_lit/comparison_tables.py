"""A comparison of runs as text, Markdown, LaTeX or CSV."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace

from tabulate import tabulate

from pairs_lit.compare import Comparison, Format, Pair
from pairs_lit.report import decimal

_STYLES = {"text": "simple", "md": "github", "latex": "latex_booktabs"}
_RUNS = ["run", "n", "mean", "std", "median", "min", "max", "95 % interval of the mean"]
_PAIRS = ["first − second", "how", "n", "difference", "95 % interval", "p", "p (Holm)", "detectable"]


def show(comparison: Comparison, style: Format) -> str:
    """Show the table of runs, the table of pairs and what both rest on."""
    if style == "csv":
        return _csv(comparison)
    if style == "md":
        comparison = _renamed(comparison, _in_markdown)
    runs = tabulate(run_rows(comparison), _RUNS, tablefmt=_STYLES[style], disable_numparse=True)
    below = notes(comparison)
    if style == "latex":
        below = f"% {below}"
    if not comparison.pairs:
        return f"{runs}\n\n{below}"
    pairs = [_pair_row(pair) for pair in comparison.pairs]
    table = tabulate(pairs, _PAIRS, tablefmt=_STYLES[style], disable_numparse=True)
    return f"{runs}\n\n{table}\n\n{below}"


def _renamed(comparison: Comparison, spell: Callable[[str], str]) -> Comparison:
    """Spell the names of runs, and what they say of their data, as a format needs: they may come from anywhere."""
    runs = [
        replace(
            run,
            label=spell(run.label),
            data={name: spell(value) if isinstance(value, str) else value for name, value in run.data.items()},
        )
        for run in comparison.runs
    ]
    pairs = [replace(pair, first=spell(pair.first), second=spell(pair.second)) for pair in comparison.pairs]
    return replace(comparison, runs=runs, pairs=pairs)


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\`*\[\]<>|!#&~])", r"\\\1", text)


def _in_spreadsheet(text: str) -> str:
    """Keep a program that opens the table from taking a name for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def run_rows(comparison: Comparison) -> list[list[str]]:
    """Return one row a run."""
    rows = []
    for run in comparison.runs:
        summary, (low, high) = comparison.summary(run)
        n = f"{summary.n} ({run.failed} failed)" if run.failed else str(summary.n)
        figures = (summary.mean, summary.std, summary.median, summary.min, summary.max)
        rows.append([run.label, n, *map(decimal, figures), f"{decimal(low)} to {decimal(high)}"])
    return rows


def _pair_row(pair: Pair) -> list[str]:
    each = pair.difference
    n = str(each.n[0]) if each.method == "paired" else f"{each.n[0]}, {each.n[1]}"
    return [
        f"{pair.first} − {pair.second}",
        "paired by seed" if each.method == "paired" else "unpaired (seeds or data settings differ)",
        n,
        f"{each.estimate:+.4f}",
        f"{each.low:+.4f} to {each.high:+.4f}",
        p_value(each.p),
        p_value(pair.p_holm),
        decimal(each.detectable),
    ]


def notes(comparison: Comparison) -> str:
    """Say what the figures are."""
    sources = sorted({str(run.data.get("source")) for run in comparison.runs})
    relations = sorted({str(run.data.get("relation")) for run in comparison.runs})
    text = (
        f"{comparison.metric}; data: {', '.join(sources)}; relation: {', '.join(relations)}. Std with ddof 1; interval "
        "of a mean: Student's t."
    )
    if comparison.pairs:
        text += (
            " Pairs: where paired by seed, bootstrap interval (BCa) and sign-change permutation test (from 14 rounds "
            "on Wilcoxon's signed-rank test), else Welch's; Holm corrects for all "
            f"{len(comparison.pairs)}. Detectable: the smallest true difference that so many rounds find with 80 % "
            "power at the 5 % level."
        )
    if "best_test" in comparison.metric:
        text += " best_test_accuracy selects its epoch on the test set."
    return text


def p_value(p: float) -> str:
    """Show a p value with its meaningful digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


_COLUMNS = ["run", "other", "how", "n", "n_other", "mean", "std", "median", "min", "max", "low", "high"]
_COLUMNS += ["p", "p_holm", "detectable"]


def _csv(comparison: Comparison) -> str:
    """One table: a row a run, then a row a pair, whose mean is the difference."""
    comparison = _renamed(comparison, _in_spreadsheet)
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in comparison.runs:
        summary, (low, high) = comparison.summary(run)
        writer.writerow({"run": run.label, **vars(summary), "low": low, "high": high})
    for pair in comparison.pairs:
        each = pair.difference
        found = {"how": each.method, "n": each.n[0], "n_other": each.n[1], "mean": each.estimate}
        found |= {"low": each.low, "high": each.high, "p": each.p, "p_holm": pair.p_holm}
        writer.writerow({"run": pair.first, "other": pair.second, **found, "detectable": each.detectable})
    return text.getvalue().rstrip("\n")
