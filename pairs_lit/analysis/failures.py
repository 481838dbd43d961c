"""Rounds that failed: those whose loss was not finite, and those that learned nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from scipy import special

from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_metadata import UNRECORDED, read_at_chance
from pairs_lit.statistics import LEVEL

_CONFIDENCE = f"at {100 * (1 - LEVEL):.0f} % confidence"
_MOST_NAMED = 8


def name_seeds(seeds: Sequence[int]) -> str:
    """Return "seed 17", "seeds 3 and 17" and the like; of many, the first ones and how many more there are."""
    *names, last = map(str, seeds if len(seeds) <= _MOST_NAMED else seeds[: _MOST_NAMED - 1])
    if len(seeds) > _MOST_NAMED:
        names, last = [*names, last], f"{len(seeds) - _MOST_NAMED + 1} more"
    return f"seeds {', '.join(names)} and {last}" if names else f"seed {last}"


@dataclass(frozen=True)
class Failures:
    """The failed rounds of a run.

    Attributes:
        count: How many rounds there are, failed ones included.
        not_finite: The seeds of those whose loss was not finite; comparisons leave them out.
        at_chance: The seeds of those that do no better on their training pairs than always giving the more frequent
            answer; comparisons keep them.
    """

    count: int
    not_finite: Sequence[int]
    at_chance: Sequence[int]

    @property
    def failed(self) -> int:
        """How many rounds failed, of either kind."""
        return len({*self.not_finite, *self.at_chance})

    @property
    def bound(self) -> float:
        """The upper end of the one-sided 95 % interval of the failure rate (Clopper and Pearson 1934)."""
        k, n = self.failed, self.count
        return 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - LEVEL))

    def __str__(self) -> str:
        kinds = {"not finite": self.not_finite, "at chance": self.at_chance}
        which = "; ".join(f"{name_seeds(seeds)} {kind}" for kind, seeds in kinds.items() if seeds)
        text = f"{self.failed} of {self.count} failed" + (f" ({which})" if which else "")
        if self.failed == self.count:
            return text
        return f"{text}: failure rate below {100 * self.bound:.1f} % {_CONFIDENCE}"


def failures_of(run: FinishedRun) -> Failures:
    """Return the failed rounds of a run."""
    return Failures(len(run.rounds), run.failed, at_chance_seeds(run))


def at_chance_seeds(run: FinishedRun) -> list[int]:
    """Return the seeds of the rounds that learned nothing.

    They are those that the fit recorded in ``summary.json``. For a run of an earlier release, which recorded none, they
    are those with an accuracy that is at most two standard errors above that of the more frequent answer, if all
    classes are equally frequent.
    """
    recorded = read_at_chance(run.folder)
    if recorded is not None:
        return [each.seed for each in run.rounds if each.seed in recorded and each.status == "ok"]
    return [each.seed for each in run.rounds if each.status == "ok" and _is_at_chance(vars(each), run)]


def _is_at_chance(figures: dict[str, Any], run: FinishedRun) -> bool:
    data = {**UNRECORDED, **run.data}
    classes = int(data["classes"] or 10)
    share = (classes + 1) / (2 * classes)  # of all ordered pairs of K classes, for any of the relations
    for split in ("train", "val", "test"):
        accuracy, pairs = figures[Metric(split, "accuracy").column], data.get(f"{split}_pairs")
        margin = 2 * sqrt(share * (1 - share) / float(pairs)) if isinstance(pairs, int | float) and pairs > 0 else 0.0
        if accuracy is not None and accuracy <= share + margin:
            return True
    return False
