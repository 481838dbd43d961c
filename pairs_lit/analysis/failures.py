"""Failed rounds of a run: rounds whose loss was not finite, and rounds that learned nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from scipy import special

from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_metadata import UNRECORDED_SETTINGS, read_at_chance
from pairs_lit.statistics import SIGNIFICANCE_LEVEL

_CONFIDENCE_TEXT = f"at {100 * (1 - SIGNIFICANCE_LEVEL):.0f} % confidence"
_MAX_NAMED_SEEDS = 8


def format_seed_list(seeds: Sequence[int]) -> str:
    """Return a text such as "seed 17" or "seeds 3 and 17"; a long list ends with the number of further seeds."""
    *names, last = map(str, seeds if len(seeds) <= _MAX_NAMED_SEEDS else seeds[: _MAX_NAMED_SEEDS - 1])
    if len(seeds) > _MAX_NAMED_SEEDS:
        names, last = [*names, last], f"{len(seeds) - _MAX_NAMED_SEEDS + 1} more"
    return f"seeds {', '.join(names)} and {last}" if names else f"seed {last}"


@dataclass(frozen=True)
class Failures:
    """The failed rounds of a run.

    Attributes:
        num_rounds: The number of all rounds, failed ones included.
        not_finite: The seeds of the rounds whose loss was not finite; comparisons leave them out.
        at_chance: The seeds of the rounds that are no better on their training pairs than the majority-class baseline;
            comparisons keep them.
    """

    num_rounds: int
    not_finite: Sequence[int]
    at_chance: Sequence[int]

    @property
    def num_failed(self) -> int:
        """The number of failed rounds of both kinds."""
        return len({*self.not_finite, *self.at_chance})

    @property
    def failure_rate_bound(self) -> float:
        """The upper end of the failure rate's one-sided 95 % interval (Clopper and Pearson 1934)."""
        k, n = self.num_failed, self.num_rounds
        return 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - SIGNIFICANCE_LEVEL))

    def __str__(self) -> str:
        kinds = {"not finite": self.not_finite, "at chance": self.at_chance}
        details = "; ".join(f"{format_seed_list(seeds)} {kind}" for kind, seeds in kinds.items() if seeds)
        text = f"{self.num_failed} of {self.num_rounds} failed" + (f" ({details})" if details else "")
        if self.num_failed == self.num_rounds:
            return text
        return f"{text}: failure rate below {100 * self.failure_rate_bound:.1f} % {_CONFIDENCE_TEXT}"


def find_failures(run: FinishedRun) -> Failures:
    """Return the failed rounds of a run."""
    return Failures(len(run.rounds), run.failed, read_at_chance_seeds(run))


def read_at_chance_seeds(run: FinishedRun) -> list[int]:
    """Return the seeds of the rounds that learned nothing.

    The fit records these seeds in ``summary.json``. Earlier releases did not; a round of theirs counts if its training,
    validation or test accuracy is at most two standard errors above the majority-class accuracy of equally frequent
    classes.
    """
    recorded = read_at_chance(run.folder)
    finite = [result for result in run.rounds if result.status == "ok"]
    if recorded is not None:
        return [result.seed for result in finite if result.seed in recorded]
    return [result.seed for result in finite if _is_probably_at_chance(vars(result), run)]


def _is_probably_at_chance(metrics: dict[str, Any], run: FinishedRun) -> bool:
    """Return whether an accuracy in the round's row of ``rounds.csv`` is close to the majority-class accuracy."""
    data = {**UNRECORDED_SETTINGS, **run.data}
    classes = int(data["classes"] or 10)
    # the share of the more frequent target among all ordered pairs of K classes; it is the same for every relation
    share = (classes + 1) / (2 * classes)
    for split in ("train", "val", "test"):
        accuracy, pairs = metrics[Metric(split, "accuracy").column], data.get(f"{split}_pairs")
        margin = 2 * sqrt(share * (1 - share) / float(pairs)) if isinstance(pairs, int | float) and pairs > 0 else 0.0
        if accuracy is not None and accuracy <= share + margin:
            return True
    return False
