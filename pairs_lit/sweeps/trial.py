"""Trials: what was measured, which is best, and which differ significantly from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pairs_lit.analysis.comparison_tests import Decision, ScoresBySeed, compare_many, decide
from pairs_lit.analysis.failures import at_chance_seeds
from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_folder import is_finished
from pairs_lit.runs.run_metadata import Settings, unlike
from pairs_lit.statistics import Summary, summarise
from pairs_lit.sweeps.search_space import Values, short_names, shown


@dataclass(frozen=True)
class Trial:
    """One set of values and what came of its rounds.

    Attributes:
        number: Its number in the sweep.
        values: By option, what was tried.
        scores: The metric of each round that did not fail, by seed.
        failed: The seeds of the rounds that failed.
        folder: Its run folder, on the machine that trained it.
        data: What was drawn: source, relation, counts and so on.
    """

    number: int
    values: Values
    scores: ScoresBySeed
    failed: Sequence[int]
    folder: Path
    data: Settings

    @property
    def summary(self) -> Summary:
        """The metric over the rounds that did not fail."""
        return summarise(list(self.scores.values()))

    @cached_property
    def at_chance(self) -> list[int]:
        """The seeds of the rounds that learned nothing; empty where the run folder is not on this machine."""
        return at_chance_seeds(FinishedRun.load(self.folder)) if is_finished(self.folder) else []

    @property
    def label(self) -> str:
        """The values in words."""
        names = short_names(self.values)
        return ", ".join(f"{names[option]} {shown(value)}" for option, value in self.values.items())


def scores_of(run: FinishedRun, metric: Metric) -> ScoresBySeed:
    """Return a metric after the last epoch, of each round that did not fail: of ``curves.csv``, or of all pairs."""
    if metric.is_over_all_pairs:
        return run.values(metric.column)
    return {seed: value for seed, value in run.curves.last(metric.tag).items() if seed not in run.failed}


def ranked(trials: Sequence[Trial], metric: Metric) -> list[Trial]:
    """Sort trials, the best first; those with failed rounds come last, however good the others of theirs are."""

    def key(trial: Trial) -> tuple[int, float, int]:
        lag = -metric.better_sign * trial.summary.mean if trial.scores else float("inf")
        return len(trial.failed), lag, trial.number

    return sorted(trials, key=key)


def behind(best: Trial, others: Sequence[Trial]) -> Mapping[int, Decision]:
    """Return, by number, what may be claimed of trial minus best, among all trials that share two rounds with it."""
    tested = [trial for trial in others if trial is not best and len(trial.scores.keys() & best.scores.keys()) > 1]
    cases = [(trial.scores, best.scores, not unlike(trial.data, best.data)) for trial in tested]
    decisions = decide(compare_many(cases))
    return {trial.number: decision for trial, decision in zip(tested, decisions, strict=True)}
