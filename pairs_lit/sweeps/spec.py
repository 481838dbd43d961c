"""The sweep file: search space, sampler, seeds and deciding metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.runs.metrics import METRICS_BY_TAG, SWEEP_METRICS, Metric
from pairs_lit.runs.yaml_dataclasses import READER_KEY, parse_dataclass, read_dataclass
from pairs_lit.seeds import list_round_seeds
from pairs_lit.sweeps.search_space import (
    MAX_TRIALS,
    Dimension,
    TrialValues,
    build_grid,
    find_removed_values,
    get_key,
    parse_space,
    sample_points,
    serialise_dimension,
)

Sampler = Literal["grid", "random", "tpe"]

OPTIONS_SET_BY_SWEEP = {
    "rounds.count": "rounds in the sweep file sets the seeds of all trials; change it there",
    "rounds.seed": "rounds in the sweep file sets the seeds of all trials; change it there",
    "config": "it is not an option of a single trial",
    "name": "all trials share the sweep's name",
    "ckpt_path": "each trial starts from scratch",
    "print_stack": "nothing would be trained; use pairs-lit fit",
    "seed_everything": "the seeds of the rounds determine every random number",
    "data.watch_test": "the search never uses the test pairs, and confirmed runs follow the config file",
}
"""Options that a sweep sets itself, with the reason; its space and its command line must not contain them."""

_FIXED_OPTIONS = {
    **OPTIONS_SET_BY_SWEEP,
    "rounds": "rounds in the sweep file sets the seeds of all trials; change it there",
    "trainer.default_root_dir": "all runs of a sweep are saved in its folder",
    "trainer.devices": "it does not change the results of a trial",
    "trainer.num_nodes": "it does not change the results of a trial",
    "trainer.enable_progress_bar": "a sweep has one progress bar for all trials",
    "data": "vary one of its options, such as data.train_pairs",
    "model": "vary one of its options, such as model.loss.aux_weight",
    "trainer": "vary one of its options, such as trainer.max_epochs",
}
_SLICES_PER_FIT = 200
"""The default number of slices per fit; larger fits are hardly faster, and smaller ones can be shared by processes."""


@dataclass(frozen=True)
class Seeds:
    """The seeds of the rounds.

    Attributes:
        count: The number of rounds.
        seed: The seed of the first round; the others follow it.
    """

    count: int
    seed: int = 0

    def list_seeds(self) -> list[int]:
        """Return the seeds of all rounds."""
        return list_round_seeds(self.count, self.seed)


@dataclass(frozen=True)
class Spec:
    """The content of a sweep file.

    Attributes:
        space: The values or the range of each option.
        metric: The validation metric that ranks the trials by its mean over the rounds after the last epoch.
        sampler: ``grid`` for every combination, ``random`` for random ones, or ``tpe`` for Optuna's TPE sampler, which
            learns from earlier trials.
        rounds: The seeds of the search; all trials share them, so that they can be paired.
        confirm: Fresh seeds on which winner and baseline are trained, or None to skip the confirmation.
        trials: The number of trials of ``random`` and ``tpe``.
        seed: The random seed of ``random`` and ``tpe``.
        at_once: How many trials a process claims at a time, or None for as many as give a fit of 200 rounds (20 rounds
            for ``tpe``).
    """

    space: Mapping[str, Dimension] = field(metadata={READER_KEY: parse_space})
    metric: str = "val/accuracy"
    sampler: Sampler = "grid"
    rounds: Seeds = Seeds(10)
    confirm: Seeds | None = None
    trials: int | None = None
    seed: int = 0
    at_once: int | None = None

    def __post_init__(self) -> None:
        """Raise PairsLitError if a setting is not allowed; whether options accept their values is checked later."""
        if self.metric.startswith("test/"):
            raise PairsLitError(
                f"metric must not be measured on the test set, got {self.metric}. Use val/accuracy to select trials."
            )
        known = [metric.tag for metric in SWEEP_METRICS]
        if self.metric not in known:
            raise PairsLitError(f"metric must be one of {', '.join(known)}, got {self.metric}.")
        for option in self.space:
            name = option if option in _FIXED_OPTIONS or not option.startswith("rounds.") else "rounds"
            if name in _FIXED_OPTIONS:
                raise PairsLitError(f"space.{option} cannot be varied: {_FIXED_OPTIONS[name]}.")
        self._check_loss()
        self._check_counts()
        self.list_points()  # raises if a grid has a range without steps or too many combinations
        shared = set(self.rounds.list_seeds()) & set(self.confirm.list_seeds() if self.confirm else [])
        if shared:
            raise PairsLitError(
                f"confirm must use other seeds than rounds, got {min(shared)} to {max(shared)} in both. Set "
                f"confirm.seed to {max(self.rounds.list_seeds()) + 1} or more."
            )

    def _check_loss(self) -> None:
        """Raise PairsLitError if the metric is a loss whose definition varies between trials."""
        options = [f"model.loss.{part}" for part in self.deciding_metric.loss_options]
        varied = next((option for option in [*options, "model.loss"] if options and option in self.space), None)
        if varied is not None:
            raise PairsLitError(
                f"metric is {self.metric}, whose definition depends on {varied}, which the space varies, so its values "
                "cannot be compared. Use val/accuracy, or val/target_loss if only weights vary."
            )

    def _check_counts(self) -> None:
        for name, value in {"trials": self.trials, "at_once": self.at_once}.items():
            if value is not None:
                check_positive(name, value)
        if (self.trials or 0) > MAX_TRIALS:
            raise PairsLitError(f"trials must be at most {MAX_TRIALS}, got {self.trials}.")
        if self.sampler == "grid" and self.trials is not None:
            raise PairsLitError(
                f"trials must not be set for a grid, which tries every combination, got {self.trials}. Remove it."
            )
        if self.sampler != "grid" and self.trials is None:
            raise PairsLitError(f"sampler {self.sampler} needs the number of trials. Add it, such as trials: 50.")
        if self.seed < 0:
            raise PairsLitError(f"seed must be 0 or more, got {self.seed}.")
        if self.confirm is not None and self.confirm.count < 2:
            raise PairsLitError(f"confirm.count must be 2 or more to test a difference, got {self.confirm.count}.")

    @property
    def deciding_metric(self) -> Metric:
        """The metric that ranks the trials."""
        return METRICS_BY_TAG[self.metric]

    def list_points(self, begun: Sequence[TrialValues] = ()) -> list[TrialValues] | None:
        """Return the values of all trials, or None if the sampler chooses them during the search.

        Args:
            begun: Values of existing trials; ``random`` keeps them and draws only the missing ones.
        """
        if self.sampler == "tpe":
            return None
        if self.sampler == "grid":
            return list({get_key(values): values for values in build_grid(self.space)}.values())
        points = {get_key(values): values for values in begun}
        for values in sample_points(self.space, self.trials or 0, self.seed):  # a small space may repeat values
            if len(points) < (self.trials or 0):
                points.setdefault(get_key(values), values)
        return list(points.values())

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that cannot change when a sweep is resumed, by their names in the sweep file."""
        rounds = {"rounds.count": self.rounds.count, "rounds.seed": self.rounds.seed}
        return {"metric": self.metric, "sampler": self.sampler, **rounds, "seed": self.seed}

    @property
    def extent(self) -> dict[str, Any]:
        """The settings that can be extended, in the format of the sweep file: the space and the number of trials."""
        space = {option: serialise_dimension(dimension) for option, dimension in self.space.items()}
        return {"space": space, "trials": self.trials}

    def find_removed(self, before: Mapping[str, Any]) -> list[str]:
        """Return texts for what an earlier :attr:`extent` had and this one lacks; empty if it was only extended."""
        former = parse_space(before["space"], "sweep")
        removed = [f"space.{option} was varied" for option in former.keys() - self.space.keys()]
        removed += [f"space.{option} was not varied" for option in self.space.keys() - former.keys()]
        for option in former.keys() & self.space.keys():
            lost = find_removed_values(former[option], self.space[option], is_grid=self.sampler == "grid")
            removed += [f"space.{option} held {', '.join(lost)}"] if lost else []
        if (before["trials"] or 0) > (self.trials or 0):
            removed.append(f"trials was {before['trials']}")
        return sorted(removed)

    @property
    def num_trials(self) -> int:
        """The number of trials."""
        points = self.list_points()
        return (self.trials or 0) if points is None else len(points)

    @property
    def batch_size(self) -> int:
        """The number of trials that a process claims at a time."""
        slices = _SLICES_PER_FIT // 10 if self.sampler == "tpe" else _SLICES_PER_FIT
        return self.at_once or max(4 if self.sampler == "tpe" else 1, slices // self.rounds.count)


def read_spec(given: str | Path | Mapping[str, Any]) -> Spec:
    """Read a sweep file, or a mapping with the content of one.

    Raises:
        PairsLitError: The file cannot be read, or a setting is not allowed.
    """
    name = "sweep" if isinstance(given, Mapping) else str(Path(given))
    try:
        return parse_dataclass(Spec, given, name) if isinstance(given, Mapping) else read_dataclass(Path(given), Spec)
    except PairsLitError as error:
        raise PairsLitError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error
