"""Finished runs side by side, every pair of them tested, as text, Markdown, LaTeX or CSV."""

import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tabulate import tabulate

from pairs_lit.analysis.effects import Estimate, interquartile_mean, superiority
from pairs_lit.analysis.tables import decimal, p_value
from pairs_lit.analysis.verdicts import verdict
from pairs_lit.errors import PairsLitError, counted, notice, printable
from pairs_lit.runs.folder import is_finished
from pairs_lit.runs.run import Run
from pairs_lit.runs.summary import FINGERPRINT, unlike
from pairs_lit.runs.tables import LOSSES, METRIC_COLUMNS, OPTIONAL_COLUMNS
from pairs_lit.statistics import Difference, Summary, between_many, holm, mean_interval, summarise

Format = Literal["text", "md", "csv", "latex"]
METRICS = (*METRIC_COLUMNS, *LOSSES)
"""What runs can be compared by."""

_MUST_AGREE = {"source": "data source", "relation": "relation"}


_FEW, _MOST_SAID = 3, 5  # so many pairs all get a sentence; of more, so many of the first run's


@dataclass(frozen=True)
class Pair:
    """Two runs and how they differ.

    Attributes:
        first: The name of the first run.
        second: The name of the second run.
        difference: The first minus the second.
        p_holm: The p value of the difference, corrected for all pairs that were compared.
        superiority: The probability that a round of the first is better than a round of the second.
        rounds: How many rounds of the first and of the second this rests on.
        sentence: What this means.
    """

    first: str
    second: str
    difference: Difference
    p_holm: float
    superiority: Estimate
    rounds: tuple[int, int]
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Runs, their summaries with the 95 % interval of the mean, and all pairs."""

    metric: str
    runs: Sequence[Run]
    pairs: Sequence[Pair]

    def __str__(self) -> str:
        return show(self, "text")

    def summary(self, run: Run) -> tuple[Summary, tuple[float, float]]:
        """Summarise a run."""
        values = list(run.values(self.metric).values())
        return summarise(values), mean_interval(values)

    def interquartile_mean(self, run: Run) -> Estimate:
        """Return the mean of the middle half of a run's rounds."""
        return interquartile_mean(list(run.values(self.metric).values()))

    @property
    def sentences(self) -> list[str]:
        """What the pairs mean; of many pairs, those of the first run with the next ones."""
        said = self.pairs if len(self.pairs) <= _FEW else self.pairs[: min(len(self.runs) - 1, _MOST_SAID)]
        left = len(self.pairs) - len(said)
        return [pair.sentence for pair in said] + (
            [f"The other {left} comparisons stand in the table."] if left else []
        )


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read and label run folders; if some are finished, those that are not are left out, and a notice says so."""
    paths = [Path(folder) for folder in folders]
    unfinished = [path for path in paths if path.exists() and not is_finished(path)]
    if 0 < len(unfinished) < len(paths):
        paths = [path for path in paths if path not in unfinished]
        shown = ", ".join(printable(str(folder)) for folder in unfinished[:3])
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        notice(f"left out (not finished runs): {shown}{more}.")
    return labelled([Run.load(path) for path in paths])


def labelled(runs: Sequence[Run]) -> list[Run]:
    """Return runs with a label of their own each: with the time, where two have the same name."""
    names = [run.label for run in runs]
    return [
        replace(run, label=printable(name if names.count(name) == 1 else f"{name}/{run.folder.resolve().name}"))
        for run, name in zip(runs, names, strict=True)
    ]


def compare(
    runs: Sequence[Run | str | Path], metric: str = "test_accuracy", *, allow_different: bool = False
) -> Comparison:
    """Compare every pair of finished runs by a metric of their rounds.

    Args:
        runs: Runs, or run folders.
        metric: A column of ``rounds.csv``, or a loss (``test_loss`` and so on), of which less is better.
        allow_different: Compare runs of different data sources or relations, too.

    Returns:
        The comparison; printed, it shows its tables.

    Raises:
        PairsLitError: A folder is not one of a finished run, or the runs cannot be compared.
    """
    if metric not in METRICS:
        raise PairsLitError(f"metric is {metric!r}: it must be one of {', '.join(METRICS)}.")
    given = [run for run in runs if isinstance(run, Run)]
    folders = [run.folder if isinstance(run, Run) else run for run in runs]
    found = labelled(given) if len(given) == len(runs) else read_runs(folders)
    check_comparable(found, metric, allow_different=allow_different)
    return compared(found, metric)


def compared(runs: Sequence[Run], metric: str) -> Comparison:
    """Compare every pair of runs that may be compared; a run with fewer than 2 rounds is refused."""
    values = [(run, run.values(metric)) for run in runs]
    for run, each in values:
        if len(each) < 2 <= len(runs):
            raise PairsLitError(
                f"{run.label} has {counted(len(each), 'round')} with {metric}: a comparison needs 2 or more."
            )
    both = list(itertools.combinations(values, 2))
    found = between_many([(first, second, not unlike(one.data, other.data)) for (one, first), (other, second) in both])
    corrected = holm([each.p for each in found])
    pairs = []
    for ((one, first), (other, second)), difference, p in zip(both, found, corrected, strict=True):
        rounds = [list(each.values()) for each in (first, second)]
        better = superiority(*reversed(rounds)) if metric in LOSSES else superiority(*rounds)
        sentence = verdict(one.label, other.label, difference, p, metric, len(both))
        pairs.append(Pair(one.label, other.label, difference, p, better, (len(first), len(second)), sentence))
    return Comparison(metric, runs, pairs)


def check_comparable(runs: Sequence[Run], metric: str, *, allow_different: bool) -> None:
    """Refuse to compare runs whose data sources, images or relations differ, or without the metric."""
    for setting, words in _MUST_AGREE.items():
        values = {run.label: run.data.get(setting) for run in runs}
        if len(set(values.values())) > 1 and not allow_different:
            shown = ", ".join(f"{label}: {value}" for label, value in values.items())
            raise PairsLitError(f"the runs differ in their {words} ({shown}): add --allow-different to compare them.")
    for one, other in itertools.combinations(runs, 2):
        differing = unlike(one.data, other.data)
        # the same images in another size are a setting like others
        if FINGERPRINT in differing and "resize" not in differing and not allow_different:
            shown = ", ".join(f"{run.label}: {str(run.data[FINGERPRINT])[:8]}…" for run in (one, other))
            raise PairsLitError(
                f"the runs differ in their images or labels, though their source has one name (SHA-256 {shown}): add "
                "--allow-different to compare them."
            )
    untrained = [run.label for run in runs if "digit" in metric and run.digits_trained is False]
    if untrained:
        raise PairsLitError(
            f"{untrained[0]}: nothing trained its networks to name digits, so its {metric} cannot be compared: use "
            "test_accuracy, or train digits with model.loss.digits and a model.loss.aux_weight above 0."
        )
    lacking = [run.label for run in runs if not run.values(metric)]
    if lacking:
        common = [name for name in METRIC_COLUMNS if all(run.values(name) for run in runs)]
        raise PairsLitError(f"{lacking[0]} has no {metric}: all runs have {', '.join(common) or 'nothing in common'}.")


_STYLES = {"text": "simple", "md": "github", "latex": "latex_booktabs"}
_RUNS = ["run", "n", "mean", "std", "median", "min", "max", "95 % interval of the mean"]
_PAIRS = ["first − second", "how", "n", "difference", "95 % interval", "p", "p (Holm)", "detectable"]
_MIDDLES = ["run", "n", "interquartile mean", "95 % interval"]
_BETTER = ["first, second", "n", "P(a round of the first is better)", "95 % interval"]
_ESCAPES = {
    "md": (r"([\\`*\[\]<>|!#&~])", r"\\\1"),
    "csv": (r"\A([=+@\t-])", r"'\1"),  # a spreadsheet would take the text for a formula
}
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
_LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def show(comparison: Comparison, style: Format, *, statistics: bool = False) -> str:
    """Show the table of runs, the table of pairs, what they mean, and what both rest on.

    Args:
        comparison: What is shown.
        style: The format.
        statistics: Show interquartile means and probabilities of superiority, too; CSV always has them.
    """
    if style in _ESCAPES:
        comparison = _escaped(comparison, *_ESCAPES[style])
    if style == "csv":
        return _csv(comparison)
    tables = [(run_rows(comparison), _RUNS), ([_pair_row(pair) for pair in comparison.pairs], _PAIRS)]
    if statistics:
        tables += _more_tables(comparison)
    parts = [tabulate(rows, header, tablefmt=_STYLES[style], disable_numparse=True) for rows, header in tables if rows]
    foot = notes(comparison) + (f" {_STATISTICS}" if statistics else "")
    said = comparison.sentences
    if style == "latex":
        said, foot = ["".join(_LATEX.get(letter, letter) for letter in each) for each in said], f"% {foot}"
    bullet = "- " if style == "md" else ""
    sentences = ["\n".join(bullet + each for each in said)] if said else []
    return "\n\n".join([*parts, *sentences, foot])


def _escaped(comparison: Comparison, pattern: str, replacement: str) -> Comparison:
    """Spell the names of runs, and what they say of their data, as a format needs: they may come from anywhere."""

    def spell(value: Any) -> Any:  # noqa: ANN401 - a name or a data setting
        return re.sub(pattern, replacement, value) if isinstance(value, str) else value

    runs = [
        replace(run, label=spell(run.label), data={name: spell(value) for name, value in run.data.items()})
        for run in comparison.runs
    ]
    pairs = [
        replace(pair, first=spell(pair.first), second=spell(pair.second), sentence=spell(pair.sentence))
        for pair in comparison.pairs
    ]
    return replace(comparison, runs=runs, pairs=pairs)


def run_rows(comparison: Comparison) -> list[list[str]]:
    """Return one row a run."""
    rows = []
    for run in comparison.runs:
        summary, (low, high) = comparison.summary(run)
        n = f"{summary.n} ({len(run.failed)} failed)" if run.failed else str(summary.n)
        figures = (summary.mean, summary.std, summary.median, summary.min, summary.max)
        rows.append([run.label, n, *map(decimal, figures), f"{decimal(low)} to {decimal(high)}"])
    return rows


def _pair_row(pair: Pair) -> list[str]:
    each = pair.difference
    paired = each.method == "paired"
    return [
        f"{pair.first} − {pair.second}",
        "paired by seed" if paired else "unpaired (seeds or data settings differ)",
        ", ".join(map(str, each.n[:1] if paired else each.n)),
        f"{each.estimate:+.4f}",
        f"{each.low:+.4f} to {each.high:+.4f}",
        p_value(each.p),
        p_value(pair.p_holm),
        decimal(each.detectable),
    ]


def _more_tables(comparison: Comparison) -> list[tuple[list[list[str]], list[str]]]:
    """Return interquartile means, a row a run, and probabilities of superiority, a row a pair, with their headers."""
    middles, betters = [], []
    for run in comparison.runs:
        middle, n = comparison.interquartile_mean(run), str(comparison.summary(run)[0].n)
        middles.append([run.label, n, decimal(middle.value), f"{decimal(middle.low)} to {decimal(middle.high)}"])
    for pair in comparison.pairs:
        better, n = pair.superiority, ", ".join(map(str, pair.rounds))
        ends = f"{better.low:.3f} to {better.high:.3f}"
        betters.append([f"{pair.first}, {pair.second}", n, f"{better.value:.3f}", ends])
    return [(middles, _MIDDLES), (betters, _BETTER)]


_STATISTICS = (
    "Interquartile mean: of the middle half of the rounds, with Tukey and McLaughlin's interval. P(a round of the "
    "first is better): over all pairs of a round of either, ties count half (Mann and Whitney's U / (n·m)), with "
    "Newcombe's interval, which takes the rounds as independent."
)


def notes(comparison: Comparison) -> str:
    """Say what the figures are."""
    sources = sorted({str(run.data.get("source")) for run in comparison.runs})
    relations = sorted({str(run.data.get("relation")) for run in comparison.runs})
    text = f"{comparison.metric}; data: {', '.join(sources)}; relation: {', '.join(relations)}."
    text += " Std with ddof 1; interval of a mean: Student's t."
    if comparison.pairs:
        text += (
            " Pairs: where paired by seed, Student's interval and sign-change permutation test (from 14 rounds "
            "on Wilcoxon's signed-rank test), else Welch's; Holm corrects for all "
            f"{len(comparison.pairs)}. Detectable: the smallest true difference that so many rounds find with 80 % "
            "power at the 5 % level."
        )
    if comparison.metric in LOSSES:
        text += " Of a loss, less is better; it means something between losses of one kind only (target_loss: without "
        text += "the auxiliary part)."
    if "best_test" in comparison.metric:
        text += " best_test_accuracy selects its epoch on the test set."
    if comparison.metric in OPTIONAL_COLUMNS:
        text += " Over all ordered pairs of two different images, or a sample of them: each run's summary.json says."
    return text


_COLUMNS = ["run", "other", "how", "n", "n_other", "mean", "std", "median", "min", "max", "low", "high"]
_COLUMNS += ["p", "p_holm", "detectable", "iqm", "iqm_low", "iqm_high"]
_COLUMNS += ["superiority", "superiority_low", "superiority_high", "meaning"]


def _csv(comparison: Comparison) -> str:
    """One table: a row a run, then a row a pair, whose mean is the difference."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in comparison.runs:
        summary, (low, high) = comparison.summary(run)
        middle = _cells("iqm", comparison.interquartile_mean(run))
        writer.writerow({"run": run.label, **vars(summary), "low": low, "high": high, **middle})
    for pair in comparison.pairs:
        each = pair.difference
        row = {"run": pair.first, "other": pair.second, "how": each.method, "n": each.n[0], "n_other": each.n[1]}
        row |= {name: getattr(each, name) for name in ("low", "high", "p", "detectable")}
        row |= _cells("superiority", pair.superiority)
        writer.writerow(row | {"mean": each.estimate, "p_holm": pair.p_holm, "meaning": pair.sentence})
    return text.getvalue().rstrip("\n")


def _cells(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
