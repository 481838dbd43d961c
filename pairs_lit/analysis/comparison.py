"""Pairwise comparison of finished runs, formatted as text, Markdown, LaTeX or CSV."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pairs_lit.analysis.comparison_tests import (
    Decision,
    DecisionOutcome,
    MeasuredDifference,
    compare_many,
    make_decisions,
)
from pairs_lit.analysis.comparison_text import ComparedRun, describe_difference
from pairs_lit.analysis.effect_sizes import Estimate, estimate_interquartile_mean, estimate_superiority
from pairs_lit.analysis.failures import Failures, find_failures
from pairs_lit.analysis.html_tables import format_html
from pairs_lit.analysis.tables import Table, format_decimal, format_interval, format_p_value, format_table
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.metrics import COMPARABLE_METRICS, METRICS_BY_COLUMN, Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_folder import CONFIG_FILE, is_finished
from pairs_lit.runs.run_metadata import FINGERPRINT_KEY, find_differing_settings
from pairs_lit.runs.tables import METRIC_COLUMNS, format_csv
from pairs_lit.statistics import Summary, summarise
from pairs_lit.system.console import print_notice
from pairs_lit.system.deprecation import renamed_names
from pairs_lit.text import format_count, replace_control_characters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TableFormat = Literal["text", "md", "csv", "latex"]
METRICS = tuple(metric.column for metric in COMPARABLE_METRICS)
"""The columns by which runs can be compared."""

_SETTINGS_THAT_MUST_AGREE = {"source": "data source", "relation": "relation"}


_MAX_PAIRS_ALL_DESCRIBED = 3
"""Up to this many pairs of runs, each pair gets a sentence."""

_MAX_SENTENCES = 5
"""If there are more pairs, only the first run's comparisons with this many other runs get a sentence."""


@dataclass(frozen=True)
class PairwiseTest:
    """The comparison of two runs.

    Attributes:
        first: The name of the first run.
        second: The name of the second run.
        decision: The test results for the first run minus the second, corrected for all pairs that were compared.
        winner: The name of the run that is significantly better, or None if neither is.
        superiority: The probability that a round of the first run is better than a round of the second.
        rounds: The numbers of rounds of the first and of the second run.
        sentence: The result in one sentence.
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
        """The difference of the two runs, first minus second."""
        return self.decision.difference

    @property
    def p_holm(self) -> float:
        """The p value of the difference, corrected for all pairs that were compared."""
        return self.decision.p_holm

    @property
    def reason(self) -> DecisionOutcome:
        """The reason why there is a winner or none; the sentence gives the numbers."""
        return self.decision.outcome


@dataclass(frozen=True)
class Comparison:
    """The comparison of several runs; printing it shows its tables, as does a notebook.

    Attributes:
        metric: The column by which the runs are compared.
        runs: The runs.
        pairs: The comparison of each pair of runs.
        failures: The failed rounds of each run, in the order of the runs.
    """

    metric: str
    runs: Sequence[FinishedRun]
    pairs: Sequence[PairwiseTest]
    failures: Sequence[Failures]

    def __str__(self) -> str:
        return format_comparison(self, "text")

    def _repr_html_(self) -> str:
        """Return the tables and sentences as HTML, which notebooks display."""
        lines = "\n".join([*self.sentences, *self.failure_lines])
        return format_html([*_build_tables(self), lines, describe_method(self)])

    def plot(self) -> "Figure":
        """Draw the metric of each round as a point, one row per run, with the mean and its 95 % interval."""
        from pairs_lit.analysis.figures import draw_rounds  # matplotlib takes long to import

        values = {run.label: list(run.values(self.metric).values()) for run in self.runs}
        return draw_rounds(values, METRICS_BY_COLUMN[self.metric].label)

    @property
    def winner(self) -> str | None:
        """The name of the run that is significantly better than every other one, or None if there is none."""
        pair_winners = [pair.winner for pair in self.pairs]
        labels = [run.label for run in self.runs]
        winners = [label for label in labels if pair_winners and pair_winners.count(label) == len(labels) - 1]
        return winners[0] if winners else None

    def summary(self, run: FinishedRun) -> tuple[Summary, tuple[float, float]]:
        """Return a run's summary statistics and the 95 % interval of its mean."""
        summary = summarise(list(run.values(self.metric).values()))
        return summary, summary.interval

    def interquartile_mean(self, run: FinishedRun) -> Estimate:
        """Return the mean of the middle half of a run's rounds."""
        return estimate_interquartile_mean(list(run.values(self.metric).values()))

    @property
    def sentences(self) -> list[str]:
        """The result of each pair in a sentence; with many pairs, only those of the first run and the next ones."""
        described = (
            self.pairs
            if len(self.pairs) <= _MAX_PAIRS_ALL_DESCRIBED
            else self.pairs[: min(len(self.runs) - 1, _MAX_SENTENCES)]
        )
        left = len(self.pairs) - len(described)
        rest = [f"The table lists the other {left} comparisons."] if left else []
        return [*(pair.sentence for pair in described), *rest]

    @property
    def failure_lines(self) -> list[str]:
        """The failed rounds and the bound on the failure rate of each run; runs with the same text share a line."""
        labels: dict[str, list[str]] = {}
        for run, failures in zip(self.runs, self.failures, strict=True):
            labels.setdefault(str(failures), []).append(run.label)
        return [f"{', '.join(names)}: {description}." for description, names in labels.items()]


def read_runs(runs: Sequence[FinishedRun | str | Path]) -> list[FinishedRun]:
    """Load the runs that are given as folders, and give each run a unique label.

    If at least one run is finished, unfinished runs are skipped. A run that is given twice is used once. A notice
    reports both.
    """
    loaded = {run.folder: run for run in runs if isinstance(run, FinishedRun)}
    paths = _drop_duplicates([run.folder if isinstance(run, FinishedRun) else Path(run) for run in runs])
    unfinished = [path for path in paths if path.exists() and not is_finished(path)]
    if 0 < len(unfinished) < len(paths):
        paths = [path for path in paths if path not in unfinished]
        names = ", ".join(replace_control_characters(str(folder)) for folder in unfinished[:3])
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        print_notice(f"skipped (not finished runs): {names}{more}.")
    return label_uniquely([loaded[path] if path in loaded else FinishedRun.load(path) for path in paths])


def _drop_duplicates(folders: Sequence[Path]) -> list[Path]:
    """Return each folder once, with a notice for each repetition."""
    unique: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in unique:
            print_notice(
                f"{replace_control_characters(str(folder))} is given twice and used once: a run is not compared "
                "with itself."
            )
        unique.setdefault(folder.resolve(), folder)
    return list(unique.values())


def label_uniquely(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the runs with unique labels.

    A run's label is its name; runs of the same name also get the run folder's name, which holds the time. If these are
    still equal, the label is the path.
    """
    names = [run.label for run in runs]
    for lengthen in (_format_name_and_time, _format_path):
        names = [lengthen(run) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]
    return [replace(run, label=replace_control_characters(name)) for run, name in zip(runs, names, strict=True)]


def _format_name_and_time(run: FinishedRun) -> str:
    return f"{run.label}/{run.folder.resolve().name}"


def _format_path(run: FinishedRun) -> str:
    return str(run.folder.resolve())


def compare(
    runs: Sequence[FinishedRun | str | Path], metric: str = "test_accuracy", *, allow_different: bool = False
) -> Comparison:
    """Compare every pair of finished runs by a metric of their rounds.

    Args:
        runs: Runs, or run folders.
        metric: A column of ``rounds.csv``, or a loss such as ``test_loss``; lower losses are better.
        allow_different: Whether to compare runs with different data sources, relations or losses.

    Returns:
        The comparison; printing it shows its tables.

    Raises:
        PairsLitError: A folder does not hold a finished run, or the runs cannot be compared.
    """
    if metric not in METRICS:
        raise PairsLitError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    finished = read_runs(runs)
    check_comparable(finished, metric, allow_different=allow_different)
    return compare_pairs(finished, metric)


def compare_pairs(runs: Sequence[FinishedRun], metric: str) -> Comparison:
    """Compare every pair of runs, without checking that their data and losses are comparable.

    Raises:
        PairsLitError: There are several runs, and one of them has fewer than two rounds with this metric.
    """
    scores = [run.values(metric) for run in runs]
    for run, values in zip(runs, scores, strict=True):
        if len(values) < 2 <= len(runs):
            raise PairsLitError(
                f"{run.label} must have at least 2 rounds with {metric} to be compared, got {len(values)}."
            )
    failures = [find_failures(run) for run in runs]
    run_pairs = list(itertools.combinations(zip(runs, failures, scores, strict=True), 2))
    cases = [
        (first_scores, second_scores, not find_differing_settings(first.data, second.data))
        for (first, _, first_scores), (second, _, second_scores) in run_pairs
    ]
    decisions = make_decisions(compare_many(cases))
    pairs = [
        _build_pairwise_test(*run_pair, decision, METRICS_BY_COLUMN[metric])
        for run_pair, decision in zip(run_pairs, decisions, strict=True)
    ]
    return Comparison(metric, runs, pairs, failures)


_MeasuredRun = tuple[FinishedRun, Failures, dict[int, float]]


def _build_pairwise_test(first: _MeasuredRun, second: _MeasuredRun, decision: Decision, metric: Metric) -> PairwiseTest:
    """Build the comparison of two runs from the decision about their difference."""
    scores = [list(values.values()) for _, _, values in (first, second)]
    p_superiority = estimate_superiority(*reversed(scores)) if metric.is_loss else estimate_superiority(*scores)
    is_paired = decision.difference.is_paired
    compared_seeds = first[2].keys() & second[2].keys() if is_paired else first[2].keys() | second[2].keys()
    first_side, second_side = (
        ComparedRun(run.label, [seed for seed in failures.at_chance if seed in compared_seeds], failures.not_finite)
        for run, failures, _ in (first, second)
    )
    names = first_side.name, second_side.name
    winner = {1: names[0], -1: names[1]}.get(metric.better_sign * decision.sign)
    sentence = describe_difference(first_side, second_side, decision, metric)
    return PairwiseTest(*names, decision, winner, p_superiority, (len(scores[0]), len(scores[1])), sentence)


def check_comparable(runs: Sequence[FinishedRun], metric: str, *, allow_different: bool) -> None:
    """Raise PairsLitError if data sources, images, relations or compared losses differ, or a run lacks the metric."""
    for setting, words in _SETTINGS_THAT_MUST_AGREE.items():
        values = {run.label: run.data.get(setting) for run in runs}
        if len(set(values.values())) > 1 and not allow_different:
            listed = ", ".join(f"{label}: {value}" for label, value in values.items())
            raise PairsLitError(f"the runs differ in their {words} ({listed}). Add --allow-different to compare them.")
    for first, second in itertools.combinations(runs, 2):
        differing = find_differing_settings(first.data, second.data)
        # resizing changes the fingerprint, too, but resized images may be compared
        if FINGERPRINT_KEY in differing and "resize" not in differing and not allow_different:
            listed = ", ".join(f"{run.label}: {str(run.data[FINGERPRINT_KEY])[:8]}…" for run in (first, second))
            raise PairsLitError(
                "the runs differ in their images or labels, although their sources have the same name (SHA-256 "
                f"{listed}). Add --allow-different to compare them."
            )
    untrained = [run.label for run in runs if METRICS_BY_COLUMN[metric].is_of_digits and run.digits_trained is False]
    if untrained:
        raise PairsLitError(
            f"{untrained[0]}: its networks were not trained to classify digits, so its {metric} cannot be compared. "
            "Compare test_accuracy, or train with model.loss.digits and a model.loss.aux_weight above 0."
        )
    if not allow_different:
        _check_same_loss(runs, METRICS_BY_COLUMN[metric])
    lacking = [run.label for run in runs if not run.values(metric)]
    if lacking:
        common = [name for name in METRIC_COLUMNS if all(run.values(name) for run in runs)]
        known = f"Use one of {', '.join(common)}" if common else "The runs share no metric"
        raise PairsLitError(f"{lacking[0]} has no {metric}. {known}.")


def _check_same_loss(runs: Sequence[FinishedRun], metric: Metric) -> None:
    """Raise PairsLitError if the runs computed the compared loss in different ways."""
    if not metric.is_loss:
        return
    kinds = {run.label: _get_loss_settings(run, metric.loss_options) for run in runs}
    known = {label: kind for label, kind in kinds.items() if kind is not None}
    differing = [name for name in metric.loss_options if len({kind.get(name) for kind in known.values()}) > 1]
    if differing:
        listed = "; ".join(
            f"{label}: {', '.join(f'{name} {kind.get(name)}' for name in differing)}" for label, kind in known.items()
        )
        raise PairsLitError(
            f"the runs differ in their loss ({replace_control_characters(listed)}), so {metric.column} means "
            "something different in "
            "each. Compare an accuracy, or add --allow-different."
        )


def _get_loss_settings(run: FinishedRun, names: Sequence[str]) -> dict[str, object] | None:
    """Return a run's settings of these loss options, or None if its config.yaml is missing."""
    if not (run.folder / CONFIG_FILE).is_file():
        return None
    loss = run.config.get("model", {}).get("loss") or {}
    kind = {name: loss.get(name) for name in names}
    # with two classes, ce and bce give the same value
    return kind | {"target": "bce" if kind["target"] == "ce" else kind["target"]}


_TABULATE_STYLES = {"text": "simple", "md": "github", "latex": "latex_booktabs"}
_RUN_HEADER = ["run", "n", "mean", "std", "median", "min", "max", "95 % interval of the mean"]
_PAIR_HEADER = ["comparison", "test", "n", "difference", "95 % interval", "median", "p", "p (Holm)"]
_PAIR_HEADER += ["minimum detectable effect"]
_INTERQUARTILE_HEADER = ["run", "n", "interquartile mean", "95 % interval"]
_SUPERIORITY_HEADER = ["first, second", "n", "P(superiority)", "95 % interval"]
_ESCAPES = {
    "md": (r"([\\`*\[\]<>|!#&~])", r"\\\1"),
    "csv": (r"\A([=+@\t-])", r"'\1"),  # a spreadsheet would take the text for a formula
}
_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
}
_LATEX_ESCAPES |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def format_comparison(comparison: Comparison, style: TableFormat, *, statistics: bool = False) -> str:
    """Return the tables of runs and pairs, the sentences about them, and a note on the methods.

    Args:
        comparison: The comparison to format.
        style: The output format.
        statistics: Whether to add interquartile means and probabilities of superiority; CSV always contains them.
    """
    if style in _ESCAPES:
        comparison = _escape_names(comparison, *_ESCAPES[style])
    if style == "csv":
        return _format_csv(comparison)
    tables = _build_tables(comparison) + (_build_statistics_tables(comparison) if statistics else [])
    parts = [format_table(table.header, table.rows, _TABULATE_STYLES[style]) for table in tables if table.rows]
    footnote = describe_method(comparison) + (f" {_STATISTICS_NOTE}" if statistics else "")
    lines = [*comparison.sentences, *comparison.failure_lines]
    if style == "latex":
        lines, footnote = (
            ["".join(_LATEX_ESCAPES.get(letter, letter) for letter in line) for line in lines],
            f"% {footnote}",
        )
    bullet = "- " if style == "md" else ""
    paragraphs = ["\n".join(bullet + line for line in lines)] if lines else []
    return "\n\n".join([*parts, *paragraphs, footnote])


def _escape_names(comparison: Comparison, pattern: str, replacement: str) -> Comparison:
    """Return the comparison with the pattern escaped in run names and data settings, which are untrusted text."""

    def escape(value: Any) -> Any:  # noqa: ANN401 - a name or a data setting
        return re.sub(pattern, replacement, value) if isinstance(value, str) else value

    runs = [
        replace(run, label=escape(run.label), data={name: escape(value) for name, value in run.data.items()})
        for run in comparison.runs
    ]
    pairs = [
        replace(
            pair,
            first=escape(pair.first),
            second=escape(pair.second),
            winner=escape(pair.winner),
            sentence=escape(pair.sentence),
        )
        for pair in comparison.pairs
    ]
    return replace(comparison, runs=runs, pairs=pairs)


def _build_tables(comparison: Comparison) -> list[Table]:
    """Return the tables of runs and of pairs of runs."""
    pair_rows = [_build_pair_row(pair) for pair in comparison.pairs]
    return [Table(_RUN_HEADER, build_run_rows(comparison)), Table(_PAIR_HEADER, pair_rows)]


def build_run_rows(comparison: Comparison) -> list[list[str]]:
    """Return the table of runs, one row per run."""
    rows = []
    for run in comparison.runs:
        summary, ends = comparison.summary(run)
        n = f"{summary.n} ({len(run.failed)} failed)" if run.failed else str(summary.n)
        statistics = (summary.mean, summary.std, summary.median, summary.min, summary.max)
        rows.append([run.label, n, *map(format_decimal, statistics), format_interval(*ends)])
    return rows


def _build_pair_row(pair: PairwiseTest) -> list[str]:
    difference = pair.difference
    return [
        f"{pair.first} − {pair.second}",
        "paired by seed" if difference.is_paired else "unpaired (seeds or data settings differ)",
        ", ".join(map(str, difference.n[:1] if difference.is_paired else difference.n)),
        f"{difference.estimate:+.4f}",
        format_interval(difference.low, difference.high, "+"),
        f"{difference.median:+.4f}",
        format_p_value(difference.p),
        format_p_value(pair.p_holm),
        format_decimal(difference.min_detectable_effect),
    ]


def _build_statistics_tables(comparison: Comparison) -> list[Table]:
    """Return two tables: interquartile means by run, and probabilities of superiority by pair."""
    mean_rows, superiority_rows = [], []
    for run in comparison.runs:
        mean, n = comparison.interquartile_mean(run), str(comparison.summary(run)[0].n)
        mean_rows.append([run.label, n, format_decimal(mean.value), format_interval(mean.low, mean.high)])
    for pair in comparison.pairs:
        estimate, n = pair.superiority, ", ".join(map(str, pair.rounds))
        ends = f"{estimate.low:.3f} to {estimate.high:.3f}"
        superiority_rows.append([f"{pair.first}, {pair.second}", n, f"{estimate.value:.3f}", ends])
    return [Table(_INTERQUARTILE_HEADER, mean_rows), Table(_SUPERIORITY_HEADER, superiority_rows)]


_STATISTICS_NOTE = (
    "Interquartile mean: the mean of the middle half of the rounds, with Tukey and McLaughlin's interval. "
    "P(superiority): the probability that a round of the first run is better than a round of the second; ties count "
    "half (Mann and Whitney's U / (n·m)). Its interval is Newcombe's, which treats the rounds as independent."
)


def describe_method(comparison: Comparison) -> str:
    """Return the note on data and statistical methods that stands below the tables."""
    sources = sorted({str(run.data.get("source")) for run in comparison.runs})
    relations = sorted({str(run.data.get("relation")) for run in comparison.runs})
    text = f"{comparison.metric}; data: {', '.join(sources)}; relation: {', '.join(relations)}."
    text += " Std: sample standard deviation (ddof 1). Interval of the mean: Student's t."
    if comparison.pairs:
        count = len(comparison.pairs)
        text += (
            " Comparisons paired by seed use Student's paired t test and Wilcoxon's signed-rank test, unpaired ones "
            "Welch's t test and Mann and Whitney's test. The interval is that of the t test; p is the larger of the "
            f"two p values, and p (Holm) is corrected for {format_count(count, 'comparison')}. A run is called "
            "better only "
            "if both tests reject at 5 % and mean difference, median difference and ranks have the same sign. Minimum "
            "detectable effect: the smallest true difference that this rule detects with 80 % power in a single "
            "comparison."
        )
    text += " Failed rounds: the loss was not finite, or the round learned nothing (at chance on its training pairs)."
    metric = METRICS_BY_COLUMN[comparison.metric]
    if metric.is_loss:
        text += " A lower loss is better (target_loss excludes the auxiliary part)."
    if metric.is_best:
        text += " best_test_accuracy selects its epoch on the test set."
    if metric.is_over_all_pairs:
        text += (
            " Measured on all ordered pairs of two different images or on a sample of them, see each run's "
            "summary.json."
        )
    return text


_CSV_COLUMNS = ["run", "other", "how", "n", "n_other", "mean", "std", "median", "min", "max", "low", "high"]
_CSV_COLUMNS += ["p", "p_holm", "detectable", "iqm", "iqm_low", "iqm_high"]
_CSV_COLUMNS += ["superiority", "superiority_low", "superiority_high", "meaning"]
_CSV_COLUMNS += ["p_t", "p_rank", "winner", "outcome", "failed", "at_chance", "failure_rate_below"]


def _format_csv(comparison: Comparison) -> str:
    """Return one table with a row per run, then a row per pair; the mean of a pair is its difference."""
    rows = list[dict[str, object]]()
    for run, failures in zip(comparison.runs, comparison.failures, strict=True):
        summary, (low, high) = comparison.summary(run)
        mean_cells = _build_estimate_cells("iqm", comparison.interquartile_mean(run))
        failed = {"failed": len(failures.not_finite), "at_chance": len(failures.at_chance)}
        bound = {"failure_rate_below": failures.failure_rate_bound}
        rows.append({"run": run.label, **vars(summary), "low": low, "high": high, **mean_cells, **failed, **bound})
    for pair in comparison.pairs:
        difference = pair.difference
        row: dict[str, object] = {"run": pair.first, "other": pair.second, "how": difference.method}
        row |= {"n": difference.n[0], "n_other": difference.n[1], "mean": difference.estimate, "p_holm": pair.p_holm}
        row |= {name: getattr(difference, name) for name in ("median", "low", "high", "p", "p_t", "p_rank")}
        row |= {"detectable": difference.min_detectable_effect, "winner": pair.winner or "", "outcome": pair.reason}
        rows.append(row | _build_estimate_cells("superiority", pair.superiority) | {"meaning": pair.sentence})
    return format_csv(_CSV_COLUMNS, ([row.get(name, "") for name in _CSV_COLUMNS] for row in rows)).rstrip("\n")


def _build_estimate_cells(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


__getattr__ = renamed_names(__name__, {"Pair": "PairwiseTest"})
