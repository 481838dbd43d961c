"""What came of a sweep: the table of trials, and what fresh seeds say of the winner."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pairs_lit.analysis.comparison import Comparison, compared
from pairs_lit.analysis.comparison_tests import Decision, MeasuredDifference
from pairs_lit.analysis.comparison_text import Side, describe_difference
from pairs_lit.analysis.tables import decimal, mean_and_std, p_value, table
from pairs_lit.inference.run import Run
from pairs_lit.runs.atomic_write import write_text_durably
from pairs_lit.runs.metrics import BY_COLUMN
from pairs_lit.runs.tables import write_csv
from pairs_lit.seeds import range_of
from pairs_lit.statistics import summarise
from pairs_lit.sweeps.search_space import short_names, shown
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.trial import Trial, behind, scores_of
from pairs_lit.text import counted

TRIALS = "trials.csv"
REPORT = "report.md"
BEST = "best.yaml"


@dataclass(frozen=True)
class Confirmed:
    """Winner and baseline on seeds that did not choose the winner.

    Attributes:
        metric: A column of ``rounds.csv``.
        winner: The run with the winning values.
        baseline: The run of the configuration as it is; None: it already has the winning values.
    """

    metric: str
    winner: Run
    baseline: Run | None

    @cached_property
    def comparison(self) -> Comparison | None:
        """Winner and baseline compared, or None if there is no baseline or too few rounds are left."""
        if self.baseline is None:
            return None
        runs = [replace(self.winner, label="the selected trial"), replace(self.baseline, label="the baseline")]
        return compared(runs, self.metric) if all(len(run.values(self.metric)) > 1 for run in runs) else None

    @property
    def decision(self) -> Decision | None:
        """What may be claimed of winner minus baseline, or None if they are not compared."""
        return None if self.comparison is None else self.comparison.pairs[0].decision

    @property
    def difference(self) -> MeasuredDifference | None:
        """Winner minus baseline, or None if they are not compared."""
        return None if self.decision is None else self.decision.difference


@dataclass(frozen=True)
class Sweep:
    """A finished sweep; printed, it shows its tables.

    Attributes:
        folder: Its folder.
        spec: What its file says.
        trials: What was tried, the best first; trials with failed rounds last.
        confirmed: What fresh seeds say; None: nothing was asked.
        notes: What else the report says of the trials: how the sweep was extended, what could not be trained.
    """

    folder: Path
    spec: Spec
    trials: Sequence[Trial]
    confirmed: Confirmed | None
    notes: Sequence[str] = ()

    @property
    def best(self) -> Trial:
        """The selected trial; its figure flatters it."""
        return self.trials[0]

    @cached_property
    def behind(self) -> Mapping[int, Decision]:
        """By number, what may be claimed of each other trial minus the best."""
        return behind(self.best, self.trials)

    @property
    def tied(self) -> list[Trial]:
        """The other trials that do not differ significantly from the best."""
        significant = {number for number, decision in self.behind.items() if decision.sign}
        return [trial for trial in self.trials[1:] if trial.number not in significant]

    @property
    def plateau(self) -> list[Trial]:
        """The best trial, then those without failed rounds that do not differ significantly from it."""
        return [self.best, *(trial for trial in self.tied if not trial.failed)]

    def __str__(self) -> str:
        best, spec, seeds = self.best, self.spec, self.spec.rounds.all()
        direction = "less" if spec.decided_by.is_loss else "more"
        title = (
            f"{counted(len(self.trials), 'trial')} ({spec.sampler}) × {counted(len(seeds), 'round')} "
            f"({range_of(seeds)}); {spec.metric} after the last epoch, {direction} is better; "
            f"data: {best.data['source']}"
        )
        flattering = "chosen as the best of many on these seeds, so it flatters itself"
        selected = f"Selected: {best.label}. {spec.metric} {mean_and_std(best.summary)}: {flattering}."
        return "\n\n".join([title, *self.notes, trials_table(self), _plateau(self), selected, *_confirmation(self)])


def trials_table(sweep: Sweep) -> str:
    """Show the trials, the best first."""
    options = list(sweep.spec.space)
    failing = any(trial.failed for trial in sweep.trials)
    stuck = {trial.number: len(trial.at_chance) for trial in sweep.trials}
    counts = [*(["failed"] if failing else []), *(["at chance"] if any(stuck.values()) else [])]
    figures = ["n", "mean", "std", *counts, "− best", "p (Holm)"]
    header = ["trial", *short_names(options).values(), *figures]
    rows = []
    for trial in sweep.trials:
        summary, lag = trial.summary, sweep.behind.get(trial.number)
        values = [shown(trial.values[option]) for option in options]
        failed = [len(trial.failed) or ""] if failing else []
        failed += [stuck[trial.number] or ""] if any(stuck.values()) else []
        compared = ["", ""] if lag is None else [f"{lag.difference.estimate:+.4f}", p_value(lag.p_holm)]
        found = [summary.n, decimal(summary.mean), decimal(summary.std)]
        rows.append([trial.number, *values, *found, *failed, *compared])
    return table(header, rows)


def _plateau(sweep: Sweep) -> str:
    """Return which trials do not differ significantly from the best."""
    others, tied = sweep.trials[1:], sweep.tied
    if not others:
        return "There is no other trial to compare with."
    data = {json.dumps(trial.data, sort_keys=True) for trial in sweep.trials}
    how = "paired by seed, Holm, 5 %" if len(data) == 1 else "paired by seed, unpaired where the data differ, Holm, 5 %"
    if not tied:
        return f"All other trials differ significantly from the best one ({how})."
    text = f"{len(tied)} of {len(others)} other trials do not differ significantly from the best one ({how}): "
    return f"{text}{_list(tied)}.{_limit(sweep)}{_disagreements(sweep)}"


def _list(trials: Sequence[Trial]) -> str:
    shown = [trial.label + (" (rounds failed)" if trial.failed else "") for trial in trials[:10]]
    return "; ".join(shown) + ("; …" if len(trials) > 10 else "")


def _limit(sweep: Sweep) -> str:
    """Return why no trial can differ significantly; empty where one can."""
    decisions = sweep.behind.values()
    if not decisions or any(decision.outcome != "too few rounds" for decision in decisions):
        return ""
    most = min(decisions, key=lambda decision: decision.smallest_p)
    return f" None can: {most.limit}."


def _disagreements(sweep: Sweep) -> str:
    """Return how the tests disagree; empty where they agree. Of many trials, the first three."""
    pairs = [(trial, sweep.behind[trial.number]) for trial in sweep.trials if trial.number in sweep.behind]
    disagreeing = [(trial, decision) for trial, decision in pairs if decision.outcome == "tests disagree"][:3]
    best = Side("the best one", sweep.best.at_chance)
    said = [
        describe_difference(Side(trial.label, trial.at_chance), best, decision, sweep.spec.decided_by)
        for trial, decision in disagreeing
    ]
    return "".join(f"\n{sentence}" for sentence in said)


def _confirmation(sweep: Sweep) -> list[str]:
    confirmed = sweep.confirmed
    if confirmed is None:
        return ["Not confirmed on fresh seeds: add confirm: {count: 20, seed: 1000} to the sweep's file."]
    runs = {"best values": confirmed.winner, "config as it is": confirmed.baseline}
    seeds = [each.seed for each in confirmed.winner.rounds]
    rows = [
        [name, metric, summary.n, decimal(summary.mean), decimal(summary.std), len(run.failed)]
        for name, run in runs.items()
        if run is not None
        for metric, summary in {
            sweep.spec.metric: summarise(list(scores_of(run, sweep.spec.decided_by).values())),
            BY_COLUMN[confirmed.metric].label: run.summary[confirmed.metric],
        }.items()
    ]
    header = ["", "", "n", "mean", "std", "failed"]
    title = f"Confirmed on {len(seeds)} fresh seeds, {seeds[0]} to {seeds[-1]}:"
    return [f"{title}\n\n{table(header, rows)}", _difference(confirmed)]


def _difference(confirmed: Confirmed) -> str:
    if confirmed.baseline is None:
        return "The best values are those of the config as it is: there is nothing to compare."
    comparison = confirmed.comparison
    if comparison is None:
        return "Too few rounds did not fail: there is nothing to compare."
    lines = [f"{run.label}: {each}." for run, each in zip(comparison.runs, comparison.failures, strict=True)]
    return "\n".join(line[0].upper() + line[1:] for line in (*comparison.sentences, *lines))


def write_report(sweep: Sweep, best: str) -> None:
    """Write ``trials.csv``, ``report.md`` and ``best.yaml``."""
    options = list(sweep.spec.space)
    header = ["trial", *options, "n", "failed", "mean", "std", "minus_best", "p_holm", "run", "outcome", "at_chance"]
    rows = []
    for trial in sweep.trials:
        summary, lag = trial.summary, sweep.behind.get(trial.number)
        tried = [trial.values[option] for option in options]
        values = [value if isinstance(value, str | int | float) else shown(value) for value in tried]
        found = [summary.n, len(trial.failed), summary.mean, summary.std]
        compared = ["", ""] if lag is None else [lag.difference.estimate, lag.p_holm]
        outcome = "" if lag is None else lag.outcome
        rows.append([trial.number, *values, *found, *compared, trial.folder.name, outcome, len(trial.at_chance)])
    write_csv(sweep.folder / TRIALS, header, rows)
    write_text_durably(sweep.folder / BEST, best)
    write_text_durably(sweep.folder / REPORT, f"```\n{sweep}\n```\n")
