"""Shared Optuna study of a sweep: its trials, the processes that own them, and their results."""

import json
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import clear_leftovers, named, write_text_durably
from pairs_lit.runs.run_folder import LOCK
from pairs_lit.seeds import derive
from pairs_lit.sweeps.journal import open_journal
from pairs_lit.sweeps.parameters import can_stand_together, decode, distribution_of, encode
from pairs_lit.sweeps.search_space import Values, key_of
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.trial import Trial
from pairs_lit.sweeps.workers import Worker, has_ended, is_held
from pairs_lit.system.console import notice
from pairs_lit.system.tracebacks import reason_of
from pairs_lit.text import counted

JOURNAL = "study.log"
WORK = ".fits"
"""The folder of the checkpoints from which interrupted fits are resumed."""

_WORKING = ".working"  # the folder of the lock files
_FINISHING = "finishing.lock"
_MARK = ".study"  # the file that holds the ID of the study to which the folder belongs
_SILENT_SECONDS = 300.0  # a process on another machine counts as dead after this time without a heartbeat
_BEAT_SECONDS = 20.0
_UNSIGNED_SECONDS = 10.0  # a running trial that has had no owner for this time counts as abandoned
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)

# keys of the study's user attributes
_SETTINGS = "sweep"
_EXTENTS = "extents"
_ID = "id"
_SEEN = "seen"
# keys of the trials' user attributes
_VALUES = "values"
_EXTENT = "extent"
_BATCH = "batch"
_FILE = "owner_file"
_OWNER = "owner"
_REASON = "reason"
_NOBODY = ""
"""The owner of a trial that its process has released."""


@dataclass(frozen=True)
class Taken:
    """A trial that this process has claimed.

    Attributes:
        number: The number of the trial.
        values: The option values to try.
    """

    number: int
    values: Values


class Study:
    """The trials of a sweep, shared by all processes that work on it.

    Use it in a ``with`` statement, which releases unfinished trials at its end.

    Args:
        folder: The sweep's folder; it holds the journal, unless a storage is given.
        name: The study's name.
        spec: The content of the sweep file.
        options: The config's options that influence the results.
        products: Name patterns of the files that the sweep writes to its folder.
        storage: An Optuna storage URL, or None for a journal in the folder.

    Raises:
        PairsLitError: The storage cannot be used or holds another sweep of this name, or the folder holds files of
            another sweep.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        spec: Spec,
        options: Mapping[str, object],
        products: Sequence[str],
        storage: str | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder, self._name, self._spec, self._storage, self._products = folder, name, spec, storage, products
        self._distributions = {option: distribution_of(dimension) for option, dimension in spec.space.items()}
        self._seen = 0.0
        if storage is None and not (folder / JOURNAL).exists():
            self._check_folder(None)
        with named(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        with self._lock:
            self._worker = Worker(folder / _WORKING)
            try:
                self._study = self._open()
                self._extent = self._join(options)
                self._wanted = self._add_points()
            except BaseException:
                self._worker.leave(is_released=True)
                _remove_if_empty(folder / _WORKING)
                raise

    def _open(self) -> optuna.Study:
        """Create or load Optuna's study; raise PairsLitError if the folder belongs to another study."""
        with self._reported():
            storage = optuna.storages.get_storage(self._storage) if self._storage else self._journal()
            is_new = self._name not in optuna.get_all_study_names(storage)
        self._check_folder(None if is_new else _id_of(optuna.load_study(study_name=self._name, storage=storage)))
        with self._reported():
            study = optuna.create_study(
                storage=storage,
                study_name=self._name,
                direction="minimize" if self._spec.decided_by.is_loss else "maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(0),
            )
            study.set_metric_names([self._spec.metric])
        if _id_of(study) is None:
            study.set_user_attr(_ID, uuid4().hex)
        write_text_durably(self._folder / _MARK, f"{_id_of(study)}\n")
        return study

    def _journal(self) -> BaseStorage:
        return JournalStorage(open_journal(self._folder / JOURNAL, self._lock))

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise a PairsLitError if the storage raises any error."""
        try:
            with warnings.catch_warnings(action="ignore"):  # Optuna warns that some settings are experimental
                yield
        except Exception as error:  # each database has its own exception classes
            place = f"--storage {self._storage}" if self._storage else f"{self._folder / JOURNAL}"
            raise PairsLitError(f"{place} cannot be used as the sweep's storage: {reason_of(error)}.") from error

    def _check_folder(self, study: str | None) -> None:
        """Raise PairsLitError if the folder holds sweep files that the study with this ID did not write.

        Args:
            study: The study's ID, or None for a new study.
        """
        mark = self._folder / _MARK
        if study is not None and mark.is_file() and mark.read_text(encoding="utf-8").strip() == study:
            return
        names = sorted(path.name for pattern in self._products for path in self._folder.glob(pattern))
        if names:
            listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise PairsLitError(
                f"{self._folder} must be empty or hold this sweep, got a folder with {listed}, which this sweep's "
                "study did not write. Give --name for a new sweep, or the --storage that was used before."
            )

    def _join(self, options: Mapping[str, object]) -> int:
        """Record the settings and return how often the sweep was extended.

        Raises:
            PairsLitError: The study belongs to a sweep with other settings, or values or trials were removed.
        """
        now = json.loads(json.dumps({**options, **self._spec.settings}))
        extents = self._study.user_attrs.get(_EXTENTS, [])
        changed = _find_changes(self._study.user_attrs.get(_SETTINGS, now), now)
        changed += self._spec.find_removed(extents[-1]) if extents and not changed else []
        if changed:
            raise PairsLitError(
                f"the study {self._name} belongs to a sweep with other settings: {_list(changed)}. Only values and "
                "trials can be added to a sweep. Undo the change, or give --name for a new sweep."
            )
        extent = json.loads(json.dumps(self._spec.extent))
        if not extents or extents[-1] != extent:
            extents = [*extents, extent]
            self._study.set_user_attr(_SETTINGS, now)
            self._study.set_user_attr(_EXTENTS, extents)
        return len(extents) - 1

    def _add_points(self) -> set[str] | None:
        """Add waiting trials for values that have none or whose trial could not be trained.

        Returns:
            The keys of all trials of this sweep, or None if the sampler chooses the values during the search.
        """
        trials = self._trials()
        points = self._spec.points([_values(trial) for trial in trials])
        existing = {_key(trial) for trial in trials if trial.state != TrialState.FAIL}
        failed = {_key(trial): _values(trial) for trial in trials if trial.state == TrialState.FAIL}
        required = failed if points is None else {key_of(values): values for values in points}
        self._add([values for key, values in required.items() if key not in existing])
        return None if points is None else set(required)

    def _add(self, points: Sequence[Values]) -> None:
        """Add waiting trials for these values.

        Optuna rejects a parameter whose distribution is incompatible with that of earlier trials. Such a parameter is
        left out; the trial's values are always stored in its user attributes.
        """
        space, stored = self._spec.space, self._kept_distributions()
        compatible = {
            option: distribution
            for option, distribution in self._distributions.items()
            if option not in stored or can_stand_together(stored[option], distribution)
        }
        for values in points:
            parameters = {option: encode(space[option], values[option]) for option in compatible}
            attributes = {_VALUES: dict(values), _EXTENT: self._extent}
            trial = create_trial(
                state=TrialState.WAITING, params=parameters, distributions=compatible, user_attrs=attributes
            )
            self._study.add_trial(trial)

    def _kept_distributions(self) -> dict[str, BaseDistribution]:
        distributions = dict[str, BaseDistribution]()
        for trial in reversed(self._trials()):
            distributions |= trial.distributions
        return distributions

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def take(self) -> list[Taken]:
        """Claim some trials: those abandoned by an ended process, else waiting ones, else new ones from the sampler."""
        self.beat()
        with self._lock:
            return self._left_behind() or self._waiting() or self._proposed()

    def _left_behind(self) -> list[Taken]:
        """Claim the trials of one batch whose process has ended; together they can resume from its checkpoint."""
        running = self._trials(TrialState.RUNNING)
        abandoned = [trial for trial in running if self._is_wanted(trial) and self._is_left(trial)]
        batch = abandoned[0].user_attrs.get(_BATCH) if abandoned else None
        return self._sign([trial for trial in abandoned if trial.user_attrs.get(_BATCH) == batch], batch)

    def _is_wanted(self, trial: FrozenTrial) -> bool:
        """Return whether a trial belongs to this process's space, which another process may have extended meanwhile."""
        return self._wanted is None or _key(trial) in self._wanted

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Return whether a running trial was released, or its process has ended."""
        owner = trial.user_attrs.get(_OWNER)
        if owner is None:  # just claimed by a process that uses another folder, or that was killed while claiming it
            start = trial.datetime_start
            return self._storage is None or start is None or time.time() - start.timestamp() > _UNSIGNED_SECONDS
        if owner in (_NOBODY, self._worker.name):
            return bool(owner == _NOBODY)
        ended = has_ended(owner, Path(trial.user_attrs[_FILE]))
        seen = float(self._study.user_attrs.get(f"{_SEEN} {owner}", 0))
        return time.time() - seen > _SILENT_SECONDS if ended is None else ended

    def _waiting(self) -> list[Taken]:
        claimed = list[FrozenTrial]()
        for trial in filter(self._is_wanted, self._trials(TrialState.WAITING)):
            if len(claimed) < self._spec.batch and self._claim(trial):
                claimed.append(trial)
        return self._sign(claimed, None)

    def _claim(self, trial: FrozenTrial) -> bool:
        """Return whether this process could claim the waiting trial; a process with another folder may be faster."""
        try:
            return bool(self._study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING))
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _sign(self, trials: Sequence[FrozenTrial], batch: str | None) -> list[Taken]:
        """Record this process as the owner of the trials, which form one batch."""
        batch = batch or uuid4().hex
        for trial in trials:
            attributes = {_BATCH: batch, _FILE: str(self._worker.file), _OWNER: self._worker.name}
            for name, value in attributes.items():
                self._study._storage.set_trial_user_attr(trial._trial_id, name, value)
        return [Taken(trial.number, _values(trial)) for trial in trials]

    def _proposed(self) -> list[Taken]:
        """Let the sampler propose some of the missing trials, and claim them."""
        missing = self._spec.count - self._count if self._wanted is None else 0
        if missing < 1:
            return []
        self._add(self._propose(min(self._spec.batch, missing)))
        return self._waiting()

    @property
    def _count(self) -> int:
        """The number of trials; a failed trial that was added again counts once."""
        trials = self._trials()
        not_failed = [_key(trial) for trial in trials if trial.state != TrialState.FAIL]
        return len(not_failed) + len({_key(trial) for trial in trials} - set(not_failed))

    def _propose(self, count: int) -> list[Values]:
        """Return values that Optuna's TPE sampler proposes, given all trials so far in the present space."""
        space = self._spec.space
        with warnings.catch_warnings(
            action="ignore"
        ):  # Optuna warns that two of the sampler's options are experimental
            # the seed depends on the count, since each call starts a new sampler, which must not repeat its first draws
            seed = derive(self._spec.seed, "sampler", self._count) % 2**32
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
            copy = self._copy(self._trials(), sampler)
            proposals = [copy.ask(self._distributions).params for _ in range(count)]
        return [{option: decode(space[option], params[option]) for option in space} for params in proposals]

    def _copy(self, trials: Sequence[FrozenTrial], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
        """Return an in-memory study of the trials that lie in the present space, with its distributions."""
        copy = optuna.create_study(direction=self._study.direction, sampler=sampler)
        for trial in trials:
            with suppress(ValueError):  # another process may have added values outside this process's space
                copy.add_trial(self._in_present_space(trial))
        return copy

    def _in_present_space(self, trial: FrozenTrial) -> FrozenTrial:
        values, space = _values(trial), self._spec.space
        parameters = {option: encode(space[option], values[option]) for option in space}
        state = TrialState.RUNNING if trial.state == TrialState.WAITING else trial.state
        distributions = dict(self._distributions)
        return create_trial(state=state, value=trial.value, params=parameters, distributions=distributions)

    def beat(self) -> None:
        """Write a heartbeat every 20 seconds, since other machines cannot see whether this process is alive."""
        if time.monotonic() - self._seen > _BEAT_SECONDS:
            self._seen = time.monotonic()
            self._study.set_user_attr(f"{_SEEN} {self._worker.name}", time.time())

    def tell(self, trial: Trial) -> None:
        """Store the result of a trial; a trial with failed rounds is pruned, so that samplers rank it last."""
        summary = trial.summary
        attributes = {
            "mean": summary.mean,
            "std": summary.std,
            "n": summary.n,
            "scores": {str(seed): value for seed, value in trial.scores.items()},
            "failed": list(trial.failed),
            "run": str(trial.folder.absolute()),
            "data": dict(trial.data),
        }
        state = TrialState.PRUNED if trial.failed else TrialState.COMPLETE
        self._tell(trial.number, attributes, state, None if trial.failed else summary.mean)

    def give_up(self, trial: Taken, reason: str) -> None:
        """Store the reason why a trial cannot be trained; rerunning the command tries it again."""
        self._tell(trial.number, {_REASON: reason}, TrialState.FAIL, None)

    def _tell(self, number: int, attributes: Mapping[str, Any], state: TrialState, value: float | None) -> None:
        storage = self._study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        if storage.get_trial(trial_id).state.is_finished():  # another process took it over and finished it
            return
        for name, content in attributes.items():
            storage.set_trial_user_attr(trial_id, name, None if content != content else content)
        self._study.tell(number, value, state=state, skip_if_finished=True)

    def finished(self) -> list[Trial]:
        """Return the finished trials, one for each set of values."""
        return [_trial_of(trial) for trial in self._finished().values()]

    def _finished(self) -> dict[str, FrozenTrial]:
        trials = dict[str, FrozenTrial]()
        for trial in filter(self._is_wanted, self._trials(*_DONE)):
            trials.setdefault(_key(trial), trial)
        return trials

    def notes(self) -> list[str]:
        """Return sentences for the report: how the sweep was extended, and why some trials could not be trained."""
        done, failed = self._finished(), self._trials(TrialState.FAIL)
        new = sum(trial.user_attrs[_EXTENT] == self._extent for trial in done.values())
        extended = f"The sweep was extended: {counted(len(done) - new, 'trial')} from before, {new or 'none'} new."
        last = {_key(trial): trial for trial in failed if _key(trial) not in done}.values()
        reasons = [f"Trial {trial.number} could not be trained: {trial.user_attrs[_REASON]}" for trial in last]
        return [*([extended] if self._extent else []), *reasons]

    @property
    def is_over(self) -> bool:
        """Whether all trials are finished."""
        unfinished = self._trials(TrialState.RUNNING, TrialState.WAITING)
        if self._wanted is None:
            return self._count >= self._spec.count and not unfinished
        failed = {_key(trial) for trial in self._trials(TrialState.FAIL)} - set(map(_key, unfinished))
        return self._wanted <= {_key(trial) for trial in self._trials(*_DONE)} | failed

    @property
    def is_latest(self) -> bool:
        """Whether no other process has extended the sweep since this one began."""
        return len(self._study.user_attrs[_EXTENTS]) == self._extent + 1

    def copy_of(self, trials: Sequence[Trial]) -> optuna.Study:
        """Return an in-memory Optuna study of these finished trials, from which Optuna can draw figures."""
        numbers = {trial.number for trial in trials}
        chosen = [trial for trial in self._finished().values() if trial.number in numbers]
        return self._copy(chosen, optuna.samplers.RandomSampler(0))

    def write(self, name: str, text: str) -> None:
        """Write a file to the sweep's folder; the lock keeps other processes from removing its temporary file."""
        with self._lock:
            write_text_durably(self._folder / name, text)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Hold the lock under which one process at a time confirms the winner and writes the report."""
        lock = FileLock(self._folder / _WORKING / _FINISHING)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            notice("waiting for another process that is confirming the winner or writing the report.")
            lock.acquire()
        try:
            with self._lock:
                clear_leftovers(self._folder, below=False)
            yield
        finally:
            lock.release()

    def __enter__(self) -> "Study":
        """Return the study."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release this process's unfinished trials, so that no other process waits for them."""
        try:
            self._release()
        except Exception:  # a full disk or a lost database must not hide the error that ended the work
            self._worker.leave(is_released=False)
        else:
            with suppress(OSError), self._lock:
                self._worker.leave(is_released=True)
                self._clear()

    def _release(self) -> None:
        for trial in self._trials(TrialState.RUNNING):
            if trial.user_attrs.get(_OWNER) == self._worker.name:
                self._study._storage.set_trial_user_attr(trial._trial_id, _OWNER, _NOBODY)

    def _clear(self) -> None:
        """Remove lock files of ended processes and, if no process is at work, the files that only running ones need."""
        working = self._folder / _WORKING
        needed = {Path(trial.user_attrs.get(_FILE, "")).name for trial in self._trials(TrialState.RUNNING)}
        for file in set(working.glob("*.lock")) - {working / _FINISHING}:
            if file.name not in needed and not is_held(file):
                file.unlink(missing_ok=True)
        if {path.name for path in working.glob("*")} - {_FINISHING}:
            return
        (working / _FINISHING).unlink(missing_ok=True)
        _remove_if_empty(working)
        if self.is_over:
            shutil.rmtree(self._folder / WORK, ignore_errors=True)


def _id_of(study: optuna.Study) -> str | None:
    study_id = study.user_attrs.get(_ID)
    return study_id if isinstance(study_id, str) else None


def _values(trial: FrozenTrial) -> Values:
    values: Values = trial.user_attrs[_VALUES]
    return values


def _key(trial: FrozenTrial) -> str:
    return key_of(_values(trial))


def _trial_of(trial: FrozenTrial) -> Trial:
    attributes = trial.user_attrs
    scores = {int(seed): value for seed, value in attributes["scores"].items()}
    folder = Path(attributes["run"])
    return Trial(trial.number, _values(trial), scores, attributes["failed"], folder, attributes["data"])


def _find_changes(before: object, now: Mapping[str, object]) -> list[str]:
    """Return a text for each setting that differs."""
    if not isinstance(before, dict):
        return ["it was started by an earlier release, which did not record its settings"]
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [f"{name} was {before.get(name, 'missing')} and is {now.get(name, 'missing')}" for name in names]


def _list(changes: Sequence[str]) -> str:
    return "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # other processes are at work, or were killed and left their lock files
        folder.rmdir()
