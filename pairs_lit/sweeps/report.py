"""What came of a sweep: the table of trials, and what fresh seeds say of the winner."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tabulate import tabulate

from pairs_lit.analysis.tables import LABELS, decimal, mean_and_std, p_value
from pairs_lit.errors import counted
from pairs_lit.runs.run import Run
from pairs_lit.runs.tables import write_csv
from pairs_lit.runs.writing import write_text_durably
from pairs_lit.seeds import range_of
from pairs_lit.statistics import Difference, paired_t, summarise
from pairs_lit.sweeps.space import short_names, shown
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.trial import Behind, Trial, behind, scores_of

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

    @property
    def difference(self) -> Difference | None:
        """Winner minus baseline, seed by seed; None without a baseline, or where too few rounds did not fail."""
        if self.baseline is None:
            return None
        first, second = (run.values(self.metric) for run in (self.winner, self.baseline))
        shared = sorted(first.keys() & second.keys())
        both = [[values[seed] for seed in shared] for values in (first, second)]
        return paired_t(*both) if len(shared) > 1 else None


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
    def behind(self) -> Mapping[int, Behind]:
        """By number, how far each other trial is behind the best."""
        return behind(self.best, self.trials)

    @property
    def plateau(self) -> list[Trial]:
        """The trials that cannot be told from the best, which stands first."""
        far = {number for number, each in self.behind.items() if each.can_be_told_apart}
        return [trial for trial in self.trials if trial is self.best or (not trial.failed and trial.number not in far)]

    def __str__(self) -> str:
        best, spec, seeds = self.best, self.spec, self.spec.rounds.all()
        title = (
            f"{counted(len(self.trials), 'trial')} ({spec.sampler}) × {counted(len(seeds), 'round')} "
            f"({range_of(seeds)}); {spec.metric} after the last epoch, {'less' if spec.is_loss else 'more'} is better; "
            f"data: {best.data['source']}"
        )
        flattering = "chosen as the best of many on these seeds, so it flatters itself"
        selected = f"Selected: {best.label}. {spec.metric} {mean_and_std(best.summary)}: {flattering}."
        return "\n\n".join([title, *self.notes, trials_table(self), _plateau(self), selected, *_confirmation(self)])


def trials_table(sweep: Sweep, style: str = "simple") -> str:
    """Show the trials, the best first."""
    options = list(sweep.spec.space)
    failing = any(trial.failed for trial in sweep.trials)
    figures = ["n", "mean", "std", *(["failed"] if failing else []), "− best", "p (Holm)"]
    header = ["trial", *short_names(options).values(), *figures]
    rows = []
    for trial in sweep.trials:
        summary, lag = trial.summary, sweep.behind.get(trial.number)
        values = [shown(trial.values[option]) for option in options]
        failed = [len(trial.failed) or ""] if failing else []
        compared = ["", ""] if lag is None else [f"{lag.difference.estimate:+.4f}", p_value(lag.p_holm)]
        found = [summary.n, decimal(summary.mean), decimal(summary.std)]
        rows.append([trial.number, *values, *found, *failed, *compared])
    return tabulate(rows, header, tablefmt=style, disable_numparse=True)


def _plateau(sweep: Sweep) -> str:
    """Say which values cannot be told from the best."""
    others = [trial for trial in sweep.plateau if trial is not sweep.best]
    data = {json.dumps(trial.data, sort_keys=True) for trial in sweep.trials}
    how = "paired by seed" if len(data) == 1 else "paired by seed, Welch's test where the data differ"
    if not others:
        return f"Every other trial can be told from the best one ({how}, Holm, 5 %)."
    listed = "; ".join(trial.label for trial in others[:10]) + ("; …" if len(others) > 10 else "")
    return (
        f"{len(others)} of {len(sweep.trials) - 1} other trials cannot be told from the best one ({how}, Holm, 5 %): "
        f"{listed}."
    )


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
            sweep.spec.metric: summarise(list(scores_of(run, sweep.spec.metric).values())),
            LABELS[confirmed.metric]: run.summary[confirmed.metric],
        }.items()
    ]
    header = ["", "", "n", "mean", "std", "failed"]
    table = tabulate(rows, header, disable_numparse=True)
    title = f"Confirmed on {len(seeds)} fresh seeds, {seeds[0]} to {seeds[-1]}:"
    return [f"{title}\n\n{table}", _difference(confirmed)]


def _difference(confirmed: Confirmed) -> str:
    if confirmed.baseline is None:
        return "The best values are those of the config as it is: there is nothing to compare."
    found = confirmed.difference
    if found is None:
        return "Too few rounds did not fail: there is nothing to compare."
    return (
        f"Best − config, {LABELS[confirmed.metric]}, {found.method} (n = {found.n[0]}): {found.estimate:+.4f}, 95 % "
        f"interval {found.low:+.4f} to {found.high:+.4f}, p = {p_value(found.p)}; a difference of "
        f"{found.detectable:.4f} would be found with 80 % power."
    )


def write_report(sweep: Sweep, best: str) -> None:
    """Write ``trials.csv``, ``report.md`` and ``best.yaml``."""
    options = list(sweep.spec.space)
    header = ["trial", *options, "n", "failed", "mean", "std", "minus_best", "p_holm", "run"]
    rows = []
    for trial in sweep.trials:
        summary, lag = trial.summary, sweep.behind.get(trial.number)
        tried = [trial.values[option] for option in options]
        values = [value if isinstance(value, str | int | float) else shown(value) for value in tried]
        found = [summary.n, len(trial.failed), summary.mean, summary.std]
        compared = ["", ""] if lag is None else [lag.difference.estimate, lag.p_holm]
        rows.append([trial.number, *values, *found, *compared, trial.folder.name])
    write_csv(sweep.folder / TRIALS, header, rows)
    write_text_durably(sweep.folder / BEST, best)
    write_text_durably(sweep.folder / REPORT, f"```\n{sweep}\n```\n")
