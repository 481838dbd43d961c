"""Finished runs side by side, every pair of them tested, as text, Markdown, LaTeX or CSV."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pairs_lit.analysis.comparison_tests import Decision, MeasuredDifference, Outcome, compare_many, decide
from pairs_lit.analysis.comparison_text import Side, describe_difference
from pairs_lit.analysis.effect_sizes import Estimate, interquartile_mean, superiority
from pairs_lit.analysis.failures import Failures, failures_of
from pairs_lit.analysis.tables import decimal, interval, p_value, table
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.metrics import BY_COLUMN, COMPARED_METRICS, Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_folder import CONFIG, is_finished
from pairs_lit.runs.run_metadata import FINGERPRINT, unlike
from pairs_lit.runs.tables import METRIC_COLUMNS, csv_text
from pairs_lit.statistics import Summary, summarise
from pairs_lit.system.console import notice
from pairs_lit.text import counted, printable

Format = Literal["text", "md", "csv", "latex"]
METRICS = tuple(metric.column for metric in COMPARED_METRICS)
"""What runs can be compared by."""

_MUST_AGREE = {"source": "data source", "relation": "relation"}


_FEW, _MOST_SAID = 3, 5  # so many pairs all get a sentence; of more, so many of the first run's


@dataclass(frozen=True)
class Pair:
    """Two runs and how they differ.

    Attributes:
        first: The name of the first run.
        second: The name of the second run.
        decision: What may be claimed of the first minus the second, among all pairs that were compared.
        winner: The name of the run that is significantly better, or None if neither is.
        superiority: The probability that a round of the first is better than a round of the second.
        rounds: How many rounds of the first and of the second this rests on.
        sentence: What this means.
    """

    first: str
    second: str
    decision: Decision
    winner: str | None
    superiority: Estimate
    rounds: tuple[int, int]
    sentence: str

    @property
    def difference(self) -> MeasuredDifference:
        """The first minus the second."""
        return self.decision.difference

    @property
    def p_holm(self) -> float:
        """The p value of the difference, corrected for all pairs that were compared."""
        return self.decision.p_holm

    @property
    def reason(self) -> Outcome:
        """Why there is a winner, or why there is none; the sentence has the numbers."""
        return self.decision.outcome


@dataclass(frozen=True)
class Comparison:
    """Runs, their summaries with the 95 % interval of the mean, and all pairs.

    Attributes:
        metric: What is compared.
        runs: The runs.
        pairs: Every two of them.
        failures: The failed rounds of each run, in the order of the runs.
    """

    metric: str
    runs: Sequence[FinishedRun]
    pairs: Sequence[Pair]
    failures: Sequence[Failures]

    def __str__(self) -> str:
        return show(self, "text")

    @property
    def winner(self) -> str | None:
        """The name of the run that is significantly better than every other one, or None if there is none."""
        won = [pair.winner for pair in self.pairs]
        winners = [run.label for run in self.runs if won and won.count(run.label) == len(self.runs) - 1]
        return winners[0] if winners else None

    def summary(self, run: FinishedRun) -> tuple[Summary, tuple[float, float]]:
        """Return a run's summary, and the 95 % interval of its mean."""
        summary = summarise(list(run.values(self.metric).values()))
        return summary, summary.interval

    def interquartile_mean(self, run: FinishedRun) -> Estimate:
        """Return the mean of the middle half of a run's rounds."""
        return interquartile_mean(list(run.values(self.metric).values()))

    @property
    def sentences(self) -> list[str]:
        """What the pairs mean; of many pairs, those of the first run with the next ones."""
        said = self.pairs if len(self.pairs) <= _FEW else self.pairs[: min(len(self.runs) - 1, _MOST_SAID)]
        left = len(self.pairs) - len(said)
        return [pair.sentence for pair in said] + ([f"The table lists the other {left} comparisons."] if left else [])

    @property
    def failure_lines(self) -> list[str]:
        """How many rounds of each run failed, and how often they may fail; runs that say the same share a line."""
        labels: dict[str, list[str]] = {}
        for run, failures in zip(self.runs, self.failures, strict=True):
            labels.setdefault(str(failures), []).append(run.label)
        return [f"{', '.join(names)}: {failures}." for failures, names in labels.items()]


def read_runs(runs: Sequence[FinishedRun | str | Path]) -> list[FinishedRun]:
    """Read run folders, unless they are read already, and label the runs.

    If some are finished, those that are not are left out. A run that is given twice is read once. A notice says so.
    """
    known = {run.folder: run for run in runs if isinstance(run, FinishedRun)}
    paths = _drop_repeated([run.folder if isinstance(run, FinishedRun) else Path(run) for run in runs])
    unfinished = [path for path in paths if path.exists() and not is_finished(path)]
    if 0 < len(unfinished) < len(paths):
        paths = [path for path in paths if path not in unfinished]
        shown = ", ".join(printable(str(folder)) for folder in unfinished[:3])
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        notice(f"left out (not finished runs): {shown}{more}.")
    return labelled([known[path] if path in known else FinishedRun.load(path) for path in paths])


def _drop_repeated(folders: Sequence[Path]) -> list[Path]:
    """Return each folder once, and give a notice of those that are given again."""
    kept: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in kept:
            notice(f"{printable(str(folder))} is given twice; a run is not compared with itself.")
        kept.setdefault(folder.resolve(), folder)
    return list(kept.values())


def labelled(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return runs with a label of their own each: with the time where two have the same name, else with the path."""
    names = [run.label for run in runs]
    for longer in (_name_and_time, _path):
        names = [longer(run) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]
    return [replace(run, label=printable(name)) for run, name in zip(runs, names, strict=True)]


def _name_and_time(run: FinishedRun) -> str:
    return f"{run.label}/{run.folder.resolve().name}"


def _path(run: FinishedRun) -> str:
    return str(run.folder.resolve())


def compare(
    runs: Sequence[FinishedRun | str | Path], metric: str = "test_accuracy", *, allow_different: bool = False
) -> Comparison:
    """Compare every pair of finished runs by a metric of their rounds.

    Args:
        runs: Runs, or run folders.
        metric: A column of ``rounds.csv``, or a loss (``test_loss`` and so on), of which less is better.
        allow_different: Compare runs of different data sources, relations or losses, too.

    Returns:
        The comparison; printed, it shows its tables.

    Raises:
        PairsLitError: A folder is not one of a finished run, or the runs cannot be compared.
    """
    if metric not in METRICS:
        raise PairsLitError(f"metric is {metric!r}: it must be one of {', '.join(METRICS)}.")
    found = read_runs(runs)
    check_comparable(found, metric, allow_different=allow_different)
    return compared(found, metric)


def compared(runs: Sequence[FinishedRun], metric: str) -> Comparison:
    """Compare every pair of runs that may be compared; a run with fewer than 2 rounds is refused."""
    values = [(run, run.values(metric)) for run in runs]
    for run, each in values:
        if len(each) < 2 <= len(runs):
            raise PairsLitError(
                f"{run.label} has {counted(len(each), 'round')} with {metric}: a comparison needs 2 or more."
            )
    failures = [failures_of(run) for run in runs]
    both = list(itertools.combinations(zip(runs, failures, (each for _, each in values), strict=True), 2))
    cases = [(first, second, not unlike(one.data, other.data)) for (one, _, first), (other, _, second) in both]
    decisions = decide(compare_many(cases))
    pairs = [_pair(*two, decision, BY_COLUMN[metric]) for two, decision in zip(both, decisions, strict=True)]
    return Comparison(metric, runs, pairs, failures)


_Measured = tuple[FinishedRun, Failures, dict[int, float]]


def _pair(first: _Measured, second: _Measured, decision: Decision, metric: Metric) -> Pair:
    """Describe two runs, of which a decision was made."""
    rounds = [list(values.values()) for _, _, values in (first, second)]
    better = superiority(*reversed(rounds)) if metric.is_loss else superiority(*rounds)
    seeds = first[2].keys() & second[2].keys() if decision.difference.is_paired else first[2].keys() | second[2].keys()
    one, other = (
        Side(run.label, [seed for seed in failures.at_chance if seed in seeds], failures.not_finite)
        for run, failures, _ in (first, second)
    )
    winner = {1: one.name, -1: other.name}.get(metric.better_sign * decision.sign)
    sentence = describe_difference(one, other, decision, metric)
    return Pair(one.name, other.name, decision, winner, better, (len(rounds[0]), len(rounds[1])), sentence)


def check_comparable(runs: Sequence[FinishedRun], metric: str, *, allow_different: bool) -> None:
    """Raise PairsLitError if data sources, images, relations or compared losses differ, or a run lacks the metric."""
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
    untrained = [run.label for run in runs if BY_COLUMN[metric].is_of_digits and run.digits_trained is False]
    if untrained:
        raise PairsLitError(
            f"{untrained[0]}: nothing trained its networks to name digits, so its {metric} cannot be compared: use "
            "test_accuracy, or train digits with model.loss.digits and a model.loss.aux_weight above 0."
        )
    if not allow_different:
        _check_losses(runs, BY_COLUMN[metric])
    lacking = [run.label for run in runs if not run.values(metric)]
    if lacking:
        common = [name for name in METRIC_COLUMNS if all(run.values(name) for run in runs)]
        raise PairsLitError(f"{lacking[0]} has no {metric}: all runs have {', '.join(common) or 'nothing in common'}.")


def _check_losses(runs: Sequence[FinishedRun], metric: Metric) -> None:
    """Raise PairsLitError if the runs do not measure the same loss: its numbers cannot be compared with each other."""
    if not metric.is_loss:
        return
    kinds = {run.label: _loss_of(run, metric.loss_options) for run in runs}
    known = {label: kind for label, kind in kinds.items() if kind is not None}
    differing = [name for name in metric.loss_options if len({kind.get(name) for kind in known.values()}) > 1]
    if differing:
        shown = "; ".join(
            f"{label}: {', '.join(f'{name} {kind.get(name)}' for name in differing)}" for label, kind in known.items()
        )
        raise PairsLitError(
            f"the runs differ in their loss ({printable(shown)}), so {metric.column} does not mean the same: compare "
            "an accuracy, or add --allow-different."
        )


def _loss_of(run: FinishedRun, names: Sequence[str]) -> dict[str, object] | None:
    """Return what a run's loss is made of, or None if its configuration is not there."""
    if not (run.folder / CONFIG).is_file():
        return None
    loss = run.config.get("model", {}).get("loss") or {}
    kind = {name: loss.get(name) for name in names}
    # of two classes, both cross-entropies are the same number
    return kind | {"target": "bce" if kind["target"] == "ce" else kind["target"]}


_STYLES = {"text": "simple", "md": "github", "latex": "latex_booktabs"}
_RUNS = ["run", "n", "mean", "std", "median", "min", "max", "95 % interval of the mean"]
_PAIRS = ["comparison", "test", "n", "difference", "95 % interval", "median", "p", "p (Holm)"]
_PAIRS += ["minimum detectable effect"]
_MIDDLES = ["run", "n", "interquartile mean", "95 % interval"]
_BETTER = ["first, second", "n", "P(superiority)", "95 % interval"]
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
    parts = [table(header, rows, _STYLES[style]) for rows, header in tables if rows]
    foot = notes(comparison) + (f" {_STATISTICS}" if statistics else "")
    said = [*comparison.sentences, *comparison.failure_lines]
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
        replace(
            pair,
            first=spell(pair.first),
            second=spell(pair.second),
            winner=spell(pair.winner),
            sentence=spell(pair.sentence),
        )
        for pair in comparison.pairs
    ]
    return replace(comparison, runs=runs, pairs=pairs)


def run_rows(comparison: Comparison) -> list[list[str]]:
    """Return one row a run."""
    rows = []
    for run in comparison.runs:
        summary, ends = comparison.summary(run)
        n = f"{summary.n} ({len(run.failed)} failed)" if run.failed else str(summary.n)
        figures = (summary.mean, summary.std, summary.median, summary.min, summary.max)
        rows.append([run.label, n, *map(decimal, figures), interval(*ends)])
    return rows


def _pair_row(pair: Pair) -> list[str]:
    each = pair.difference
    return [
        f"{pair.first} − {pair.second}",
        "paired by seed" if each.is_paired else "unpaired (seeds or data settings differ)",
        ", ".join(map(str, each.n[:1] if each.is_paired else each.n)),
        f"{each.estimate:+.4f}",
        interval(each.low, each.high, "+"),
        f"{each.median:+.4f}",
        p_value(each.p),
        p_value(pair.p_holm),
        decimal(each.detectable),
    ]


def _more_tables(comparison: Comparison) -> list[tuple[list[list[str]], list[str]]]:
    """Return interquartile means, a row a run, and probabilities of superiority, a row a pair, with their headers."""
    middles, betters = [], []
    for run in comparison.runs:
        middle, n = comparison.interquartile_mean(run), str(comparison.summary(run)[0].n)
        middles.append([run.label, n, decimal(middle.value), interval(middle.low, middle.high)])
    for pair in comparison.pairs:
        better, n = pair.superiority, ", ".join(map(str, pair.rounds))
        ends = f"{better.low:.3f} to {better.high:.3f}"
        betters.append([f"{pair.first}, {pair.second}", n, f"{better.value:.3f}", ends])
    return [(middles, _MIDDLES), (betters, _BETTER)]


_STATISTICS = (
    "Interquartile mean: of the middle half of the rounds, with Tukey and McLaughlin's interval. P(superiority): the "
    "probability that a round of the first is better than a round of the second, ties count half (Mann and Whitney's "
    "U / (n·m)), with Newcombe's interval, which takes the rounds as independent."
)


def notes(comparison: Comparison) -> str:
    """Say what the figures are."""
    sources = sorted({str(run.data.get("source")) for run in comparison.runs})
    relations = sorted({str(run.data.get("relation")) for run in comparison.runs})
    text = f"{comparison.metric}; data: {', '.join(sources)}; relation: {', '.join(relations)}."
    text += " Std with ddof 1; interval of a mean: Student's t."
    if comparison.pairs:
        text += (
            " Comparisons: Student's paired t test and Wilcoxon's signed-rank test where paired by seed, else Welch's "
            "and Mann and Whitney's; the interval is that of the t test, p the larger of both, corrected for all "
            f"{len(comparison.pairs)} by Holm's method. A run is called better only if both tests reject at 5 % and "
            "mean difference, median difference and ranks have the same sign. Minimum detectable effect: the smallest "
            "true difference that this rule finds with 80 % power in a single comparison."
        )
    text += " Failed: the loss was not finite, or the round learned nothing (at chance on its training pairs)."
    metric = BY_COLUMN[comparison.metric]
    if metric.is_loss:
        text += " Of a loss, less is better (target_loss: without the auxiliary part)."
    if metric.is_best:
        text += " best_test_accuracy selects its epoch on the test set."
    if metric.is_over_all_pairs:
        text += " Over all ordered pairs of two different images, or a sample of them: each run's summary.json says."
    return text


_COLUMNS = ["run", "other", "how", "n", "n_other", "mean", "std", "median", "min", "max", "low", "high"]
_COLUMNS += ["p", "p_holm", "detectable", "iqm", "iqm_low", "iqm_high"]
_COLUMNS += ["superiority", "superiority_low", "superiority_high", "meaning"]
_COLUMNS += ["p_t", "p_rank", "winner", "outcome", "failed", "at_chance", "failure_rate_below"]


def _csv(comparison: Comparison) -> str:
    """One table: a row a run, then a row a pair, whose mean is the difference."""
    rows = list[dict[str, object]]()
    for run, failures in zip(comparison.runs, comparison.failures, strict=True):
        summary, (low, high) = comparison.summary(run)
        middle = _cells("iqm", comparison.interquartile_mean(run))
        failed = {"failed": len(failures.not_finite), "at_chance": len(failures.at_chance)}
        bound = {"failure_rate_below": failures.bound}
        rows.append({"run": run.label, **vars(summary), "low": low, "high": high, **middle, **failed, **bound})
    for pair in comparison.pairs:
        each = pair.difference
        row: dict[str, object] = {"run": pair.first, "other": pair.second, "how": each.method}
        row |= {"n": each.n[0], "n_other": each.n[1], "mean": each.estimate, "p_holm": pair.p_holm}
        row |= {name: getattr(each, name) for name in ("median", "low", "high", "p", "p_t", "p_rank", "detectable")}
        row |= {"winner": pair.winner or "", "outcome": pair.reason}
        rows.append(row | _cells("superiority", pair.superiority) | {"meaning": pair.sentence})
    return csv_text(_COLUMNS, ([row.get(name, "") for name in _COLUMNS] for row in rows)).rstrip("\n")


def _cells(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
