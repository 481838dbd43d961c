"""The study: which trials there are, who works on them, what came of them; kept by Optuna, shared by processes."""

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pairs_lit.errors import PairsLitError, reason_of
from pairs_lit.seeds import derive
from pairs_lit.sweeps.space import Choices, Dimension, Range, Values
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.trial import Trial

JOURNAL = "study.log"
_ADDING = ".adding.lock"
_SILENT_SECONDS = 300.0
_BEAT_SECONDS = 20.0
_UNSIGNED_SECONDS = 10.0
_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
_SPEC, _OWNER, _BATCH, _SEEN = "sweep", "owner", "batch", "seen"


@dataclass(frozen=True)
class Taken:
    """A trial that this process works on.

    Attributes:
        number: Its number.
        values: What it tries.
    """

    number: int
    values: Values


class Study:
    """A study of Optuna's.

    Args:
        folder: The sweep's folder; it holds the journal, unless the study is kept elsewhere.
        name: The study's name.
        spec: What the sweep's file says.
        digest: What must be the same for all processes that work on the study.
        storage: A URL of Optuna's; None: a journal in the folder.

    Raises:
        PairsLitError: The storage cannot be used, or holds another sweep of this name.
    """

    def __init__(self, folder: Path, name: str, spec: Spec, digest: str, storage: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec, self._folder = spec, folder
        self._distributions = {option: _distribution(each) for option, each in spec.space.items()}
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._alive = FileLock(self._file_of(self._owner))
        self._alive.acquire()
        self._seen = 0.0
        with FileLock(folder / _ADDING), _reported(storage):  # two at once would both make the tables of a database
            kept: str | BaseStorage = storage or JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
            self._study = optuna.create_study(
                storage=kept,
                study_name=name,
                direction="minimize" if spec.is_loss else "maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(0),
            )
        with FileLock(folder / _ADDING):
            known = self._study.user_attrs.setdefault(_SPEC, digest)
            if known != digest:
                raise PairsLitError(
                    f"the study {name} is that of another sweep: its config or its file was changed; give --name."
                )
            self._study.set_user_attr(_SPEC, digest)
            with warnings.catch_warnings(action="ignore"):  # Optuna calls it experimental
                self._study.set_metric_names([spec.metric])
            self._add_points()

    def _file_of(self, owner: str) -> Path:
        folder = self._folder / ".working"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{owner.replace(':', '-')}.lock"

    def _add_points(self) -> None:
        """Add the trials that are known from the start, unless another process has."""
        points = self._spec.points()
        if points is None:
            return
        there = {trial.user_attrs.get("point") for trial in self._trials(*_COUNTED)}
        for number, values in enumerate(points):
            if number not in there:
                coded = {option: _coded(value) for option, value in values.items()}
                self._study.enqueue_trial(coded, user_attrs={"point": number})

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def take(self) -> list[Taken]:
        """Take some trials that wait, that a process which has ended left, or that the sampler proposes."""
        self.beat()
        return self._left_behind() or self._waiting() or self._proposed()

    def _left_behind(self) -> list[Taken]:
        """Return the trials of one batch whose process has ended."""
        running = self._trials(TrialState.RUNNING)
        left = [trial for trial in running if not self._is_worked_on(trial)]
        if not left:
            return []
        batch = left[0].user_attrs.get(_BATCH)
        return self._signed([trial._trial_id for trial in left if trial.user_attrs.get(_BATCH) == batch], batch)

    def _is_worked_on(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(_OWNER)
        if owner is None:  # taken a moment ago, or by a process that was killed in that moment
            start = trial.datetime_start
            return start is not None and time.time() - start.timestamp() < _UNSIGNED_SECONDS
        if owner == self._owner:
            return True
        file = self._file_of(owner)
        if owner.split(":")[0] == socket.gethostname() and file.exists():
            with suppress(Timeout), FileLock(file, timeout=0):
                return False  # the file stays: it says that this owner has ended
            return True
        return time.time() - float(self._study.user_attrs.get(f"{_SEEN} {owner}", 0)) < _SILENT_SECONDS

    def _waiting(self) -> list[Taken]:
        found: list[int] = []
        while len(found) < self._spec.batch:
            number = self._study._pop_waiting_trial_id()  # another process gets another one
            if number is None:
                break
            found.append(number)
        return self._signed(found, uuid4().hex)

    def _proposed(self) -> list[Taken]:
        """Let the sampler propose trials, as many as are still wanted."""
        if self._spec.points() is not None:
            return []
        with FileLock(self._folder / _ADDING):
            there = len(self._trials(*_COUNTED))
            with warnings.catch_warnings(action="ignore"):  # Optuna calls both settings experimental
                # a sampler that starts anew must not repeat its first draws
                seed = derive(self._spec.seed, "sampler", there) % 2**32
                self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
            count = min(self._spec.batch, self._spec.count - there)
            asked = [self._study.ask(self._distributions)._trial_id for _ in range(count)]
        return self._signed(asked, uuid4().hex)

    def _signed(self, trial_ids: Sequence[int], batch: str | None) -> list[Taken]:
        found = []
        for trial_id in trial_ids:
            trial = optuna.trial.Trial(self._study, trial_id)
            trial.set_user_attr(_OWNER, self._owner)
            trial.set_user_attr(_BATCH, batch)
            values = {name: trial._suggest(name, each) for name, each in self._distributions.items()}
            found.append(Taken(trial.number, {name: _decoded(value) for name, value in values.items()}))
        return found

    def beat(self) -> None:
        """Say that this process is at work, now and then: other machines cannot see it."""
        if time.monotonic() - self._seen > _BEAT_SECONDS:
            self._seen = time.monotonic()
            self._study.set_user_attr(f"{_SEEN} {self._owner}", time.time())

    def tell(self, trial: Trial) -> None:
        """Write down what came of a trial; one with failed rounds counts as worse than all others."""
        storage, summary = self._study._storage, trial.summary
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, trial.number)
        if storage.get_trial(trial_id).state.is_finished():  # another process took it up meanwhile
            return
        told = {
            "mean": summary.mean,
            "std": summary.std,
            "n": summary.n,
            "scores": {str(seed): value for seed, value in trial.scores.items()},
            "failed": list(trial.failed),
            "run": str(trial.folder.absolute()),
            "data": dict(trial.data),
        }
        for name, value in told.items():
            storage.set_trial_user_attr(trial_id, name, None if value != value else value)
        state = TrialState.PRUNED if trial.failed else TrialState.COMPLETE
        self._study.tell(trial.number, None if trial.failed else summary.mean, state=state, skip_if_finished=True)

    def finished(self) -> list[Trial]:
        """Return the trials that are finished, one for each set of values."""
        found = dict[str, Trial]()
        for each in self._trials(TrialState.COMPLETE, TrialState.PRUNED):
            attributes = each.user_attrs
            scores = {int(seed): value for seed, value in attributes["scores"].items()}
            values = {option: _decoded(each.params[option]) for option in self._spec.space}
            came_of = scores, attributes["failed"], Path(attributes["run"]), attributes["data"]
            trial = Trial(each.number, values, *came_of)
            found.setdefault(json.dumps(values, sort_keys=True), trial)
        return list(found.values())

    @property
    def is_over(self) -> bool:
        """Whether all trials are finished."""
        done = len(self._trials(TrialState.COMPLETE, TrialState.PRUNED))
        return done >= self._spec.count and not self._trials(TrialState.RUNNING, TrialState.WAITING)

    @property
    def optuna(self) -> optuna.Study:
        """Optuna's own study, for its figures."""
        return self._study

    def close(self) -> None:
        """Work on it no longer."""
        self._alive.release()
        file = self._file_of(self._owner)
        file.unlink(missing_ok=True)
        with suppress(OSError):  # others are at work, or were killed
            file.parent.rmdir()


@contextmanager
def _reported(storage: str | None) -> Iterator[None]:
    """Report in one line that a storage cannot be used."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what Optuna calls experimental
            yield
    except Exception as error:  # whatever a database raises
        raise PairsLitError(f"--storage {storage}: {reason_of(error)}.") from error


def _distribution(dimension: Dimension) -> BaseDistribution:
    match dimension:
        case Choices(values):
            return CategoricalDistribution([_coded(value) for value in values])
        case Range() if dimension.is_whole:
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


_CODE = "yaml: "


def _coded(value: Any) -> Any:  # noqa: ANN401 - any value
    """Return a value as Optuna keeps it: lists and mappings as text."""
    return value if isinstance(value, str | int | float | None) else _CODE + json.dumps(value)


def _decoded(value: Any) -> Any:  # noqa: ANN401 - any value
    if isinstance(value, str) and value.startswith(_CODE):
        return json.loads(value.removeprefix(_CODE))
    return value
