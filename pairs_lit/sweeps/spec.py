"""The file of a sweep: what is varied, how it is searched, on which seeds, and what decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.runs.metrics import BY_TAG, SWEEP_METRICS, Metric
from pairs_lit.runs.yaml_dataclasses import READER, made, read
from pairs_lit.seeds import round_seeds
from pairs_lit.sweeps.search_space import (
    MOST_TRIALS,
    Dimension,
    Values,
    describe,
    drawn,
    find_removed,
    grid,
    key_of,
    read_space,
)

Sampler = Literal["grid", "random", "tpe"]

SET_BY_SWEEP = {
    "rounds.count": "the sweep's own rounds say how many and which seeds; change rounds in the sweep's file",
    "rounds.seed": "the sweep's own rounds say how many and which seeds; change rounds in the sweep's file",
    "config": "it is no option of one trial",
    "name": "all trials belong to one sweep, which has its own name",
    "ckpt_path": "each trial starts anew",
    "print_stack": "nothing would be trained; use pairs-lit fit",
    "seed_everything": "every random number follows from the seeds of the rounds",
    "data.watch_test": "the search leaves the test pairs alone, and the confirmed runs do as the config's file says",
}
"""Options that a sweep sets itself, with the reason: neither its space nor its command line may hold them."""

_NOT_VARIED = {
    **SET_BY_SWEEP,
    "rounds": "the sweep's own rounds say how many and which seeds",
    "trainer.default_root_dir": "all runs of a sweep lie in its folder",
    "trainer.devices": "it changes nothing that a trial computes",
    "trainer.num_nodes": "it changes nothing that a trial computes",
    "trainer.enable_progress_bar": "a sweep has one bar for all trials",
    "data": "name an option in it, data.train_pairs for instance",
    "model": "name an option in it, model.loss.aux_weight for instance",
    "trainer": "name an option in it, trainer.max_epochs for instance",
}
_SLICES = 200
"""So many slices a fit trains by default: more gain little, and the work can be shared by several processes."""


@dataclass(frozen=True)
class Seeds:
    """Which rounds are trained.

    Attributes:
        count: How many.
        seed: The seed of the first one.
    """

    count: int
    seed: int = 0

    def all(self) -> list[int]:
        """Return the seeds."""
        return round_seeds(self.count, self.seed)


@dataclass(frozen=True)
class Spec:
    """What a sweep's file says.

    Attributes:
        space: By option, the values or the range.
        metric: What decides: of the validation pairs, after the last epoch, the mean over the rounds.
        sampler: ``grid``: every combination; ``random``; ``tpe``: Optuna's, which learns from what it has seen.
        rounds: The seeds of the search, the same for all trials: they are paired.
        confirm: Fresh seeds on which the winner and the configuration as it is are trained; None: they are not.
        trials: How many values ``random`` and ``tpe`` try.
        seed: Of what ``random`` and ``tpe`` draw.
        at_once: How many trials one process takes at a time; None: as many as make a fit of 200 rounds, for ``tpe``
            of 20.
    """

    space: Mapping[str, Dimension] = field(metadata={READER: read_space})
    metric: str = "val/accuracy"
    sampler: Sampler = "grid"
    rounds: Seeds = Seeds(10)
    confirm: Seeds | None = None
    trials: int | None = None
    seed: int = 0
    at_once: int | None = None

    def __post_init__(self) -> None:
        """Check what a sweep's file says, but for the values themselves."""
        if self.metric.startswith("test/"):
            raise PairsLitError(f"metric is {self.metric}, but nothing is selected on the test set: use val/accuracy.")
        known = [metric.tag for metric in SWEEP_METRICS]
        if self.metric not in known:
            raise PairsLitError(f"metric is {self.metric}: use one of {', '.join(known)}.")
        for option in self.space:
            taken = option if option in _NOT_VARIED or not option.startswith("rounds.") else "rounds"
            if taken in _NOT_VARIED:
                raise PairsLitError(f"space.{option} cannot be varied: {_NOT_VARIED[taken]}.")
        self._check_loss()
        self._check_counts()
        self.points()  # a grid needs to know which
        both = set(self.rounds.all()) & set(self.confirm.all() if self.confirm else [])
        if both:
            raise PairsLitError(
                f"rounds and confirm share the seeds {min(both)} to {max(both)}: a winner is confirmed on seeds that "
                f"did not choose it; set confirm.seed to {max(self.rounds.all()) + 1} or more."
            )

    def _check_loss(self) -> None:
        """Raise PairsLitError if the metric is a loss that does not mean the same in all trials."""
        options = [f"model.loss.{part}" for part in self.decided_by.loss_options]
        varied = next((option for option in [*options, "model.loss"] if options and option in self.space), None)
        if varied is not None:
            raise PairsLitError(
                f"metric is {self.metric}, whose meaning changes with {varied}, which the space varies: its values "
                "cannot be compared. Use val/accuracy, or val/target_loss if only weights vary."
            )

    def _check_counts(self) -> None:
        for name, value in {"trials": self.trials, "at_once": self.at_once}.items():
            if value is not None:
                check_positive(name, value)
        if (self.trials or 0) > MOST_TRIALS:
            raise PairsLitError(f"trials is {self.trials}: at most {MOST_TRIALS} are tried.")
        if self.sampler == "grid" and self.trials is not None:
            raise PairsLitError(f"trials is {self.trials}, but a grid tries every combination: leave it out.")
        if self.sampler != "grid" and self.trials is None:
            raise PairsLitError(f"sampler is {self.sampler}: say how many values it tries, trials: 50 for instance.")
        if self.seed < 0:
            raise PairsLitError(f"seed is {self.seed}: it must be 0 or more.")
        if self.confirm is not None and self.confirm.count < 2:
            raise PairsLitError(f"confirm.count is {self.confirm.count}: a difference needs 2 rounds or more.")

    @property
    def decided_by(self) -> Metric:
        """The metric that decides."""
        return BY_TAG[self.metric]

    def points(self, begun: Sequence[Values] = ()) -> list[Values] | None:
        """Return all values that are tried, or None if the sampler chooses them as it goes.

        Args:
            begun: Values of trials that exist already; ``random`` draws only what is missing to ``trials``.
        """
        if self.sampler == "tpe":
            return None
        if self.sampler == "grid":
            return list({key_of(values): values for values in grid(self.space)}.values())
        points = {key_of(values): values for values in begun}
        for values in drawn(self.space, self.trials or 0, self.seed):  # few choices may be drawn twice
            if len(points) < (self.trials or 0):
                points.setdefault(key_of(values), values)
        return list(points.values())

    @property
    def settings(self) -> dict[str, Any]:
        """What cannot change while a sweep goes on, by the name in its file."""
        rounds = {"rounds.count": self.rounds.count, "rounds.seed": self.rounds.seed}
        return {"metric": self.metric, "sampler": self.sampler, **rounds, "seed": self.seed}

    @property
    def extent(self) -> dict[str, Any]:
        """What can be extended, as it stands in the file: the space and the number of trials."""
        return {"space": {option: describe(each) for option, each in self.space.items()}, "trials": self.trials}

    def find_removed(self, before: Mapping[str, Any]) -> list[str]:
        """Return in words what an earlier :attr:`extent` held and this one does not; empty if it was extended."""
        former = read_space(before["space"], "sweep")
        removed = [f"space.{option} was varied" for option in former.keys() - self.space.keys()]
        removed += [f"space.{option} was not varied" for option in self.space.keys() - former.keys()]
        for option in former.keys() & self.space.keys():
            lost = find_removed(former[option], self.space[option], is_grid=self.sampler == "grid")
            removed += [f"space.{option} held {', '.join(lost)}"] if lost else []
        if (before["trials"] or 0) > (self.trials or 0):
            removed.append(f"trials was {before['trials']}")
        return sorted(removed)

    @property
    def count(self) -> int:
        """How many trials there are."""
        points = self.points()
        return (self.trials or 0) if points is None else len(points)

    @property
    def batch(self) -> int:
        """How many trials one process takes at a time."""
        slices = _SLICES // 10 if self.sampler == "tpe" else _SLICES
        return self.at_once or max(4 if self.sampler == "tpe" else 1, slices // self.rounds.count)


def read_spec(given: str | Path | Mapping[str, Any]) -> Spec:
    """Read a sweep's file, or what one would hold.

    Raises:
        PairsLitError: It cannot be read, or something in it is not allowed.
    """
    name = "sweep" if isinstance(given, Mapping) else str(Path(given))
    try:
        return made(Spec, given, name) if isinstance(given, Mapping) else read(Path(given), Spec)
    except PairsLitError as error:
        raise PairsLitError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error
