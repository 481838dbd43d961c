"""Trials of a sweep: their scores, their ranking, and their significance tests against the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pairs_lit.analysis.comparison_tests import Decision, ScoresBySeed, compare_many, make_decisions
from pairs_lit.analysis.failures import read_at_chance_seeds
from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_folder import is_finished
from pairs_lit.runs.run_metadata import Settings, find_differing_settings
from pairs_lit.statistics import Summary, summarise
from pairs_lit.sweeps.search_space import TrialValues, build_short_names, format_value


@dataclass(frozen=True)
class Trial:
    """A finished trial: one set of option values and the results of its rounds.

    Attributes:
        number: The number of the trial in the sweep.
        values: The tried value of each option.
        scores: The metric of each round that did not fail, by seed.
        failed: The seeds of the rounds that failed.
        folder: The run folder, on the machine that trained the trial.
        data: The run's data settings: source, relation, numbers of pairs and so on.
    """

    number: int
    values: TrialValues
    scores: ScoresBySeed
    failed: Sequence[int]
    folder: Path
    data: Settings

    @property
    def summary(self) -> Summary:
        """The metric, summarised over the rounds that did not fail."""
        return summarise(list(self.scores.values()))

    @cached_property
    def at_chance(self) -> list[int]:
        """The seeds of the rounds that learned nothing; empty if the run folder is not on this machine."""
        return read_at_chance_seeds(FinishedRun.load(self.folder)) if is_finished(self.folder) else []

    @property
    def label(self) -> str:
        """The option values in words, such as ``aux_weight 0.1, lr 0.001``."""
        names = build_short_names(self.values)
        return ", ".join(f"{names[option]} {format_value(value)}" for option, value in self.values.items())


def get_final_scores(run: FinishedRun, metric: Metric) -> ScoresBySeed:
    """Return the metric of each round that did not fail, by seed.

    It is the value after the last epoch in ``curves.csv``; a metric over all pairs is read from ``rounds.csv``.
    """
    if metric.is_over_all_pairs:
        return run.values(metric.column)
    return {seed: value for seed, value in run.curves.get_last_values(metric.tag).items() if seed not in run.failed}


def rank_trials(trials: Sequence[Trial], metric: Metric) -> list[Trial]:
    """Return the trials sorted by their mean, the best first; trials with failed rounds always come last."""

    def get_sort_key(trial: Trial) -> tuple[int, float, int]:
        loss = -metric.better_sign * trial.summary.mean if trial.scores else float("inf")
        return len(trial.failed), loss, trial.number

    return sorted(trials, key=get_sort_key)


def compare_with_best(best: Trial, others: Sequence[Trial]) -> Mapping[int, Decision]:
    """Return the decision about each trial minus the best one, by trial number.

    Only trials that share at least two seeds with the best trial are compared; Holm's method corrects for all of them.
    """
    tested = [trial for trial in others if trial is not best and len(trial.scores.keys() & best.scores.keys()) > 1]
    cases = [(trial.scores, best.scores, not find_differing_settings(trial.data, best.data)) for trial in tested]
    decisions = make_decisions(compare_many(cases))
    return {trial.number: decision for trial, decision in zip(tested, decisions, strict=True)}
