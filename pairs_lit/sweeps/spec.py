"""The file of a sweep: what is varied, how it is searched, on which seeds, and what decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.runs.reading import made, read
from pairs_lit.seeds import round_seeds
from pairs_lit.sweeps.space import MOST_TRIALS, Dimension, Values, drawn, grid, read_space

Sampler = Literal["grid", "random", "tpe"]
METRICS = ("accuracy", "digit_accuracy", "loss", "target_loss", "digit_loss", "all_accuracy", "all_digit_accuracy")

_TAKEN = {
    "rounds": "the sweep's own rounds say how many and which seeds",
    "config": "it is no option of one trial",
    "name": "all trials belong to one sweep",
    "ckpt_path": "each trial starts anew",
    "print_stack": "nothing would be trained",
    "seed_everything": "every random number follows from the seeds of the rounds",
    "data.watch_test": "the search leaves the test pairs alone",
    "trainer.default_root_dir": "all runs of a sweep lie in its folder",
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

    space: Mapping[str, Dimension]
    metric: str = "val/accuracy"
    sampler: Sampler = "grid"
    rounds: Seeds = field(default_factory=lambda: Seeds(10))
    confirm: Seeds | None = None
    trials: int | None = None
    seed: int = 0
    at_once: int | None = None

    def __post_init__(self) -> None:
        """Check what a sweep's file says, but for the values themselves."""
        split, _, name = self.metric.partition("/")
        if split == "test":
            raise PairsLitError(f"metric is {self.metric}, but nothing is selected on the test set: use val/accuracy.")
        if split != "val" or name not in METRICS:
            known = ", ".join(f"val/{each}" for each in METRICS)
            raise PairsLitError(f"metric is {self.metric}: use one of {known}.")
        for option in self.space:
            taken = next((name for name in _TAKEN if option == name or option.startswith(f"{name}.")), None)
            if taken is not None:
                raise PairsLitError(f"space.{option} cannot be varied: {_TAKEN[taken]}.")
        self._check_counts()
        self.points()  # a grid needs to know which
        both = set(self.rounds.all()) & set(self.confirm.all() if self.confirm else [])
        if both:
            raise PairsLitError(
                f"rounds and confirm share the seeds {min(both)} to {max(both)}: a winner is confirmed on seeds that "
                f"did not choose it; set confirm.seed to {max(self.rounds.all()) + 1} or more."
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
    def is_loss(self) -> bool:
        """Whether less is better."""
        return self.metric.endswith("loss")

    def points(self) -> list[Values] | None:
        """Return all values that will be tried; None: the sampler chooses them as it goes."""
        if self.sampler == "tpe":
            return None
        points = grid(self.space) if self.sampler == "grid" else drawn(self.space, self.trials or 0, self.seed)
        return list({repr(values): values for values in points}.values())  # few choices may be drawn twice

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


@dataclass(frozen=True)
class _File:
    """A sweep's file, before its space is read."""

    space: Any
    metric: str = "val/accuracy"
    sampler: Sampler = "grid"
    rounds: Seeds = Seeds(10)
    confirm: Seeds | None = None
    trials: int | None = None
    seed: int = 0
    at_once: int | None = None


def read_spec(given: str | Path | Mapping[str, Any]) -> Spec:
    """Read a sweep's file, or what one would hold.

    Raises:
        PairsLitError: It cannot be read, or something in it is not allowed.
    """
    file = made(_File, dict(given), "sweep") if isinstance(given, Mapping) else read(Path(given), _File)
    name = "sweep" if isinstance(given, Mapping) else str(given)
    try:
        return Spec(**{**vars(file), "space": read_space(file.space, name)})
    except PairsLitError as error:
        raise PairsLitError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error
