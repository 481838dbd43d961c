"""Report of a sweep: the table of trials and the confirmation of the winner on fresh seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pairs_lit.analysis.comparison import Comparison, compare_pairs
from pairs_lit.analysis.comparison_tests import Decision, MeasuredDifference
from pairs_lit.analysis.comparison_text import ComparedRun, describe_difference
from pairs_lit.analysis.html_tables import format_html
from pairs_lit.analysis.tables import Table, format_decimal, format_p_value
from pairs_lit.inference.run import Run
from pairs_lit.runs.atomic_write import write_text_atomically
from pairs_lit.runs.metrics import METRICS_BY_COLUMN
from pairs_lit.runs.tables import write_csv
from pairs_lit.seeds import format_seeds
from pairs_lit.statistics import format_mean_and_std, summarise
from pairs_lit.sweeps.search_space import build_short_names, format_value
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.trial import Trial, compare_with_best, get_final_scores
from pairs_lit.system.deprecation import RenamedAttribute
from pairs_lit.text import format_count

TRIALS_FILE = "trials.csv"
REPORT_FILE = "report.md"
BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class Confirmation:
    """The runs of winner and baseline on fresh seeds, which were not used to choose the winner.

    Attributes:
        metric: The column of ``rounds.csv`` by which they are compared.
        winner: The run with the winning values.
        baseline: The run of the unchanged config, or None if the config already has the winning values.
    """

    metric: str
    winner: Run
    baseline: Run | None

    @cached_property
    def comparison(self) -> Comparison | None:
        """The comparison of winner and baseline, or None without a baseline or with fewer than two rounds of either."""
        if self.baseline is None:
            return None
        runs = [replace(self.winner, label="the selected trial"), replace(self.baseline, label="the baseline")]
        return compare_pairs(runs, self.metric) if all(len(run.values(self.metric)) > 1 for run in runs) else None

    @property
    def decision(self) -> Decision | None:
        """The decision about winner minus baseline, or None if they are not compared."""
        return None if self.comparison is None else self.comparison.pairs[0].decision

    @property
    def difference(self) -> MeasuredDifference | None:
        """The difference of winner minus baseline, or None if they are not compared."""
        return None if self.decision is None else self.decision.difference


@dataclass(frozen=True)
class Sweep:
    """A finished sweep; printing it shows its report, as does a notebook.

    Attributes:
        folder: The sweep's folder.
        spec: The content of the sweep file.
        trials: The trials, the best first; trials with failed rounds come last.
        confirmed: The runs on fresh seeds, or None if the sweep file has no ``confirm``.
        notes: Further sentences of the report: how the sweep was extended, and which trials could not be trained.
    """

    folder: Path
    spec: Spec
    trials: Sequence[Trial]
    confirmed: Confirmation | None
    notes: Sequence[str] = ()

    behind = RenamedAttribute("gaps_to_best")
    plateau = RenamedAttribute("tied_with_best")

    @property
    def best(self) -> Trial:
        """The selected trial; its mean is optimistically biased, since it was chosen as the best."""
        return self.trials[0]

    @cached_property
    def gaps_to_best(self) -> Mapping[int, Decision]:
        """The decision about each other trial minus the best one, by trial number."""
        return compare_with_best(self.best, self.trials)

    @property
    def tied(self) -> list[Trial]:
        """The other trials that do not differ significantly from the best."""
        significant = {number for number, decision in self.gaps_to_best.items() if decision.sign}
        return [trial for trial in self.trials[1:] if trial.number not in significant]

    @property
    def tied_with_best(self) -> list[Trial]:
        """The best trial, then those without failed rounds that do not differ significantly from it."""
        return [self.best, *(trial for trial in self.tied if not trial.failed)]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self._build_blocks()))

    def _repr_html_(self) -> str:
        """Return the report as HTML, which notebooks display."""
        return format_html(self._build_blocks())

    def _build_blocks(self) -> list[Table | str]:
        """Return the tables and paragraphs of the report."""
        best, spec, seeds = self.best, self.spec, self.spec.rounds.list_seeds()
        direction = "lower" if spec.deciding_metric.is_loss else "higher"
        title = (
            f"{format_count(len(self.trials), 'trial')} ({spec.sampler}) × {format_count(len(seeds), 'round')} "
            f"({format_seeds(seeds)}); {spec.metric} after the last epoch, {direction} is better; "
            f"data: {best.data['source']}"
        )
        bias = "It was chosen as the best trial on these seeds, so the estimate is optimistically biased."
        selected = f"Selected: {best.label}. {spec.metric} {format_mean_and_std(best.summary)}. {bias}"
        trials = build_trials_table(self)
        return [title, *self.notes, trials, _describe_ties(self), selected, *_describe_confirmation(self)]


def build_trials_table(sweep: Sweep) -> Table:
    """Return the table of trials, the best first; failures have columns only if there are any."""
    options = list(sweep.spec.space)
    has_failed = any(trial.failed for trial in sweep.trials)
    at_chance = {trial.number: len(trial.at_chance) for trial in sweep.trials}
    has_at_chance = any(at_chance.values())
    failure_header = [*(["failed"] if has_failed else []), *(["at chance"] if has_at_chance else [])]
    header = ["trial", *build_short_names(options).values(), "n", "mean", "std", *failure_header]
    header += ["difference to best", "p (Holm)"]
    rows = []
    for trial in sweep.trials:
        summary, decision = trial.summary, sweep.gaps_to_best.get(trial.number)
        values = [format_value(trial.values[option]) for option in options]
        statistics = [summary.n, format_decimal(summary.mean), format_decimal(summary.std)]
        failures = [len(trial.failed) or ""] if has_failed else []
        failures += [at_chance[trial.number] or ""] if has_at_chance else []
        difference = ["", ""]
        if decision is not None:
            difference = [f"{decision.difference.estimate:+.4f}", format_p_value(decision.p_holm)]
        rows.append([trial.number, *values, *statistics, *failures, *difference])
    return Table(header, rows)


def _describe_ties(sweep: Sweep) -> str:
    """Return which trials do not differ significantly from the best."""
    others, tied = sweep.trials[1:], sweep.tied
    if not others:
        return "There is no other trial to compare with."
    data = {json.dumps(trial.data, sort_keys=True) for trial in sweep.trials}
    pairing = "paired by seed" if len(data) == 1 else "paired by seed, or unpaired if the data differ"
    test = f"{pairing}; Holm's correction; level 5 %"
    if not tied:
        subject = "The other trial differs" if len(others) == 1 else "All other trials differ"
        return f"{subject} significantly from the best one ({test})."
    text = f"{_count_ties(len(tied), len(others))} not differ significantly from the best one ({test}): "
    return f"{text}{_format_trials(tied)}.{_describe_limit(sweep)}{_describe_disagreements(sweep)}"


def _count_ties(tied: int, others: int) -> str:
    """Return how many of the other trials are tied with the best, as a subject with "does" or "do"."""
    if others == 1:
        return "The other trial does"
    return f"{tied} of {others} other trials {'does' if tied == 1 else 'do'}"


def _format_trials(trials: Sequence[Trial]) -> str:
    labels = [trial.label + (" (rounds failed)" if trial.failed else "") for trial in trials[:10]]
    return "; ".join(labels) + ("; …" if len(trials) > 10 else "")


def _describe_limit(sweep: Sweep) -> str:
    """Return why no trial can differ significantly, or an empty text if one can."""
    decisions = sweep.gaps_to_best.values()
    if not decisions or any(decision.outcome != "too few rounds" for decision in decisions):
        return ""
    closest = min(decisions, key=lambda decision: decision.smallest_p)
    return f" No trial can differ significantly: {closest.limit}."


def _describe_disagreements(sweep: Sweep) -> str:
    """Return one line for each of the first three trials whose tests disagree, or an empty text if there are none."""
    pairs = [(trial, sweep.gaps_to_best[trial.number]) for trial in sweep.trials if trial.number in sweep.gaps_to_best]
    disagreeing = [(trial, decision) for trial, decision in pairs if decision.outcome == "tests disagree"][:3]
    best = ComparedRun("the best one", sweep.best.at_chance)
    sentences = [
        describe_difference(ComparedRun(trial.label, trial.at_chance), best, decision, sweep.spec.deciding_metric)
        for trial, decision in disagreeing
    ]
    return "".join(f"\n{sentence}" for sentence in sentences)


def _describe_confirmation(sweep: Sweep) -> list[Table | str]:
    """Return the table of the confirmation with a title, and the result in a sentence."""
    confirmed = sweep.confirmed
    if confirmed is None:
        return ["Not confirmed on fresh seeds. To do so, add confirm: {count: 20, seed: 1000} to the sweep file."]
    runs = {"selected trial": confirmed.winner, "baseline": confirmed.baseline}
    seeds = [result.seed for result in confirmed.winner.rounds]
    rows = [
        [name, metric, summary.n, format_decimal(summary.mean), format_decimal(summary.std), len(run.failed)]
        for name, run in runs.items()
        if run is not None
        for metric, summary in {
            sweep.spec.metric: summarise(list(get_final_scores(run, sweep.spec.deciding_metric).values())),
            METRICS_BY_COLUMN[confirmed.metric].label: run.summary[confirmed.metric],
        }.items()
    ]
    header = ["run", "metric", "n", "mean", "std", "failed"]
    title = f"Confirmed on {len(seeds)} fresh seeds, {seeds[0]} to {seeds[-1]}:"
    return [title, Table(header, rows), _describe_confirmed_difference(confirmed)]


def _describe_confirmed_difference(confirmed: Confirmation) -> str:
    if confirmed.baseline is None:
        return "The config already has the best values, so there is no baseline to compare with."
    comparison = confirmed.comparison
    if comparison is None:
        return "Too many rounds failed to compare the selected trial with the baseline."
    failures = zip(comparison.runs, comparison.failures, strict=True)
    lines = [*comparison.sentences, *(f"{run.label}: {description}." for run, description in failures)]
    return "\n".join(line[0].upper() + line[1:] for line in lines)


def write_report(sweep: Sweep, best: str) -> None:
    """Write ``trials.csv``, ``report.md`` and ``best.yaml``."""
    options = list(sweep.spec.space)
    header = ["trial", *options, "n", "failed", "mean", "std", "minus_best", "p_holm", "run", "outcome", "at_chance"]
    rows = []
    for trial in sweep.trials:
        summary, decision = trial.summary, sweep.gaps_to_best.get(trial.number)
        trial_values = [trial.values[option] for option in options]
        values = [value if isinstance(value, str | int | float) else format_value(value) for value in trial_values]
        statistics = [summary.n, len(trial.failed), summary.mean, summary.std]
        difference = ["", ""] if decision is None else [decision.difference.estimate, decision.p_holm]
        outcome = "" if decision is None else decision.outcome
        rows.append([trial.number, *values, *statistics, *difference, trial.folder.name, outcome, len(trial.at_chance)])
    write_csv(sweep.folder / TRIALS_FILE, header, rows)
    write_text_atomically(sweep.folder / BEST_FILE, best)
    write_text_atomically(sweep.folder / REPORT_FILE, f"```\n{sweep}\n```\n")
