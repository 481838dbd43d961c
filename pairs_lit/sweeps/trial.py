"""Trials: what was measured, which is best, and which differ significantly from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairs_lit.analysis.decision import Decision, MeasuredDifference, Rounds, compare_many, decide
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_folder import SUMMARY
from pairs_lit.runs.run_metadata import Settings, read_at_chance, unlike
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
    scores: Rounds
    failed: Sequence[int]
    folder: Path
    data: Settings

    @property
    def summary(self) -> Summary:
        """The metric over the rounds that did not fail."""
        return summarise(list(self.scores.values()))

    @property
    def at_chance(self) -> list[int]:
        """The seeds of the rounds that learned nothing; empty where the run folder is not on this machine."""
        recorded = read_at_chance(self.folder) if (self.folder / SUMMARY).is_file() else None
        return [seed for seed in self.scores if seed in (recorded or ())]

    @property
    def label(self) -> str:
        """The values in words."""
        names = short_names(self.values)
        return ", ".join(f"{names[option]} {shown(value)}" for option, value in self.values.items())


def scores_of(run: FinishedRun, metric: str) -> Rounds:
    """Return a metric after the last epoch, of each round that did not fail: of ``curves.csv``, or of all pairs."""
    if "/all_" in metric:
        return run.values(metric.replace("/", "_"))
    last = zip(run.curves.seeds, map(float, run.curves.values[metric][-1]), strict=True)
    return {seed: value for seed, value in last if seed not in run.failed}


def ranked(trials: Sequence[Trial], *, is_loss: bool) -> list[Trial]:
    """Sort trials, the best first; those with failed rounds come last, however good the others of theirs are."""
    sign = 1 if is_loss else -1

    def key(trial: Trial) -> tuple[int, float, int]:
        return len(trial.failed), sign * trial.summary.mean if trial.scores else float("inf"), trial.number

    return sorted(trials, key=key)


@dataclass(frozen=True)
class Behind:
    """How far a trial is behind the best one.

    Attributes:
        decision: What may be claimed of trial minus best, among all trials.
    """

    decision: Decision

    @property
    def difference(self) -> MeasuredDifference:
        """Trial minus best, seed by seed where both have the same data."""
        return self.decision.difference

    @property
    def p_holm(self) -> float:
        """Its p value, corrected for all trials."""
        return self.decision.p_holm

    @property
    def can_be_told_apart(self) -> bool:
        """Whether the trial differs significantly from the best."""
        return self.decision.sign != 0


def behind(best: Trial, others: Sequence[Trial]) -> Mapping[int, Behind]:
    """Compare trials with the best one, seed by seed where both have the same data, if two or more rounds can be."""
    tested = [trial for trial in others if trial is not best and len(trial.scores.keys() & best.scores.keys()) > 1]
    cases = [(trial.scores, best.scores, not unlike(trial.data, best.data)) for trial in tested]
    decisions = decide(compare_many(cases))
    return {trial.number: Behind(decision) for trial, decision in zip(tested, decisions, strict=True)}
