"""Shared Optuna study of a sweep: its trials, the processes that own them, and their results."""

import itertools
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import remove_temp_files, translate_os_errors, write_text_atomically
from pairs_lit.runs.run_folder import LOCK_FILE
from pairs_lit.seeds import derive_seed
from pairs_lit.sweeps.parameters import ParameterCodec, are_compatible, build_distribution, has_few_choices
from pairs_lit.sweeps.process_locks import ProcessLock, has_ended, is_locked
from pairs_lit.sweeps.records import (
    EXTENTS_KEY,
    FINISHED_STATES,
    ID_FILE,
    ID_KEY,
    SETTINGS_KEY,
    VALUES_KEY,
    build_extent,
    build_settings,
    build_trial,
    describe_changes,
    format_changes,
    get_study_id,
    get_trial_key,
    get_values,
)
from pairs_lit.sweeps.search_space import TrialValues, get_key
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.storage import JOURNAL_FILE, SweepStorage
from pairs_lit.sweeps.trial import Trial
from pairs_lit.system.console import print_notice
from pairs_lit.system.files import try_delete_file, try_delete_folder
from pairs_lit.system.paths import parse_stored_path
from pairs_lit.system.tracebacks import format_reason
from pairs_lit.text import format_count

FITS_FOLDER = ".fits"
"""The folder of the checkpoints from which interrupted fits are resumed."""

_WORKING_FOLDER = ".working"  # the folder of the lock files
_FINISHING_LOCK = "finishing.lock"
_HEARTBEAT_TIMEOUT = 300.0  # a process on another machine counts as dead after this time without a heartbeat
_HEARTBEAT_INTERVAL = 20.0
_OWNER_TIMEOUT = 10.0  # a running trial that has had no owner for this time counts as abandoned

# keys of the study's user attributes
_LAST_SEEN_KEY = "seen"
# keys of the trials' user attributes
_EXTENT_KEY = "extent"
_BATCH_KEY = "batch"
_OWNER_FILE_KEY = "owner_file"
_OWNER_KEY = "owner"
_REASON_KEY = "reason"
_NO_OWNER = ""
"""The owner of a trial that its process has released."""


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process has claimed.

    Attributes:
        number: The number of the trial.
        values: The option values to try.
    """

    number: int
    values: TrialValues


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
        self._distributions = {option: build_distribution(dimension) for option, dimension in spec.space.items()}
        self._codecs = {option: ParameterCodec(dimension) for option, dimension in spec.space.items()}
        self._keys = dict[int, str]()
        self._last_heartbeat = 0.0
        self._sweep_storage: SweepStorage | None = None
        if storage is None and not (folder / JOURNAL_FILE).exists():
            self._check_folder(None)
        with translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK_FILE)
        with self._lock:
            self._worker = ProcessLock(folder / _WORKING_FOLDER)
            try:
                self._study = self._open_study()
                self._extent = self._join_sweep(options)
                self._wanted_keys = self._add_missing_trials()
            except BaseException:
                self._close_storage()
                self._worker.release(is_released=True)
                _remove_if_empty(folder / _WORKING_FOLDER)
                raise

    def _open_study(self) -> optuna.Study:
        """Create or load Optuna's study; raise PairsLitError if the folder belongs to another study."""
        with self._translate_storage_errors():
            self._sweep_storage = SweepStorage(self._folder, self._lock, self._storage)
            storage = self._sweep_storage.optuna
            is_new = self._name not in optuna.get_all_study_names(storage)
        self._check_folder(None if is_new else get_study_id(optuna.load_study(study_name=self._name, storage=storage)))
        with self._translate_storage_errors():
            study = optuna.create_study(
                storage=storage,
                study_name=self._name,
                direction="minimize" if self._spec.deciding_metric.is_loss else "maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(0),
            )
            study.set_metric_names([self._spec.metric])
        if get_study_id(study) is None:
            study.set_user_attr(ID_KEY, uuid4().hex)
        write_text_atomically(self._folder / ID_FILE, f"{get_study_id(study)}\n")
        return study

    def _close_storage(self) -> None:
        if self._sweep_storage is not None:
            self._sweep_storage.close()

    def _write_together(self) -> AbstractContextManager[None]:
        """Write all attributes of trials that a block sets at once."""
        return nullcontext() if self._sweep_storage is None else self._sweep_storage.write_together()

    @contextmanager
    def _translate_storage_errors(self) -> Iterator[None]:
        """Raise a PairsLitError if the storage raises any error."""
        try:
            with warnings.catch_warnings(action="ignore"):  # Optuna warns that some settings are experimental
                yield
        except Exception as error:  # each database has its own exception classes
            place = f"--storage {self._storage}" if self._storage else f"{self._folder / JOURNAL_FILE}"
            raise PairsLitError(f"{place} cannot be used as the sweep's storage: {format_reason(error)}.") from error

    def _check_folder(self, study: str | None) -> None:
        """Raise PairsLitError if the folder holds sweep files that the study with this ID did not write.

        Args:
            study: The study's ID, or None for a new study.
        """
        mark = self._folder / ID_FILE
        if study is not None and mark.is_file() and mark.read_text(encoding="utf-8").strip() == study:
            return
        names = sorted(path.name for pattern in self._products for path in self._folder.glob(pattern))
        if names:
            listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise PairsLitError(
                f"{self._folder} must be empty or hold this sweep, got a folder with {listed}, which this sweep's "
                "study did not write. Give --name for a new sweep, or the --storage that was used before."
            )

    def _join_sweep(self, options: Mapping[str, object]) -> int:
        """Record the settings and return how often the sweep was extended.

        Raises:
            PairsLitError: The study belongs to a sweep with other settings, or values or trials were removed.
        """
        now = build_settings(options, self._spec)
        extents = self._study.user_attrs.get(EXTENTS_KEY, [])
        changed = describe_changes(self._study.user_attrs.get(SETTINGS_KEY, now), now)
        changed += self._spec.find_removed(extents[-1]) if extents and not changed else []
        if changed:
            raise PairsLitError(
                f"the study {self._name} belongs to a sweep with other settings: {format_changes(changed)}. Only "
                "values and "
                "trials can be added to a sweep. Undo the change, or give --name for a new sweep."
            )
        extent = build_extent(self._spec)
        if not extents or extents[-1] != extent:
            extents = [*extents, extent]
            self._study.set_user_attr(SETTINGS_KEY, now)
            self._study.set_user_attr(EXTENTS_KEY, extents)
        return len(extents) - 1

    def _add_missing_trials(self) -> set[str] | None:
        """Add waiting trials for values that have none or whose trial could not be trained.

        Returns:
            The keys of all trials of this sweep, or None if the sampler chooses the values during the search.
        """
        trials = self._get_trials()
        points = self._spec.list_points([get_values(trial) for trial in trials])
        existing = {self._get_key(trial) for trial in trials if trial.state != TrialState.FAIL}
        failed = {self._get_key(trial): get_values(trial) for trial in trials if trial.state == TrialState.FAIL}
        required = failed if points is None else {get_key(values): values for values in points}
        self._add_waiting_trials([values for key, values in required.items() if key not in existing])
        return None if points is None else set(required)

    def _add_waiting_trials(self, points: Sequence[TrialValues]) -> None:
        """Add waiting trials for these values.

        Optuna rejects a parameter whose distribution is incompatible with that of earlier trials, and stores all
        choices with each trial. Such a parameter, or one with many choices, is left out; the trial's values are always
        stored in its user attributes.
        """
        stored = self._get_stored_distributions()
        compatible = {
            option: distribution
            for option, distribution in self._distributions.items()
            if has_few_choices(distribution) and (option not in stored or are_compatible(stored[option], distribution))
        }
        for values in points:
            parameters = {option: self._codecs[option].encode(values[option]) for option in compatible}
            attributes = {VALUES_KEY: dict(values), _EXTENT_KEY: self._extent}
            trial = create_trial(
                state=TrialState.WAITING, params=parameters, distributions=compatible, user_attrs=attributes
            )
            self._study.add_trial(trial)

    def _get_stored_distributions(self) -> dict[str, BaseDistribution]:
        distributions = dict[str, BaseDistribution]()
        for trial in reversed(self._get_trials()):
            distributions |= trial.distributions
        return distributions

    def _get_trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def claim_trials(self) -> list[ClaimedTrial]:
        """Claim some trials: those abandoned by an ended process, else waiting ones, else new ones from the sampler."""
        self.send_heartbeat()
        with self._lock:
            return self._claim_abandoned_trials() or self._claim_waiting_trials() or self._claim_proposed_trials()

    def _claim_abandoned_trials(self) -> list[ClaimedTrial]:
        """Claim the trials of one batch whose process has ended; together they can resume from its checkpoint."""
        running = self._get_trials(TrialState.RUNNING)
        abandoned = [trial for trial in running if self._is_in_space(trial) and self._is_abandoned(trial)]
        batch = abandoned[0].user_attrs.get(_BATCH_KEY) if abandoned else None
        return self._assign_to_process(
            [trial for trial in abandoned if trial.user_attrs.get(_BATCH_KEY) == batch], batch
        )

    def _get_key(self, trial: FrozenTrial) -> str:
        """Return a key that trials with the same values share, computed once, since a trial's values never change."""
        if trial.number not in self._keys:
            self._keys[trial.number] = get_trial_key(trial)
        return self._keys[trial.number]

    def _is_in_space(self, trial: FrozenTrial) -> bool:
        """Return whether a trial belongs to this process's space, which another process may have extended meanwhile."""
        return self._wanted_keys is None or self._get_key(trial) in self._wanted_keys

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        """Return whether a running trial was released, or its process has ended."""
        owner = trial.user_attrs.get(_OWNER_KEY)
        if owner is None:  # just claimed by a process that uses another folder, or that was killed while claiming it
            start = trial.datetime_start
            return self._storage is None or start is None or time.time() - start.timestamp() > _OWNER_TIMEOUT
        if owner in (_NO_OWNER, self._worker.name):
            return bool(owner == _NO_OWNER)
        ended = has_ended(owner, Path(trial.user_attrs[_OWNER_FILE_KEY]))
        seen = float(self._study.user_attrs.get(f"{_LAST_SEEN_KEY} {owner}", 0))
        return time.time() - seen > _HEARTBEAT_TIMEOUT if ended is None else ended

    def _claim_waiting_trials(self) -> list[ClaimedTrial]:
        claimed = list[FrozenTrial]()
        for trial in filter(self._is_in_space, self._get_trials(TrialState.WAITING)):
            if len(claimed) < self._spec.batch_size and self._try_to_claim(trial):
                claimed.append(trial)
        return self._assign_to_process(claimed, None)

    def _try_to_claim(self, trial: FrozenTrial) -> bool:
        """Return whether this process could claim the waiting trial; a process with another folder may be faster."""
        try:
            return bool(self._study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING))
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _assign_to_process(self, trials: Sequence[FrozenTrial], batch: str | None) -> list[ClaimedTrial]:
        """Record this process as the owner of the trials, which form one batch."""
        batch = batch or uuid4().hex
        attributes = {_BATCH_KEY: batch, _OWNER_FILE_KEY: str(self._worker.file), _OWNER_KEY: self._worker.name}
        with self._write_together():
            for trial, (name, value) in itertools.product(trials, attributes.items()):
                self._study._storage.set_trial_user_attr(trial._trial_id, name, value)
        return [ClaimedTrial(trial.number, get_values(trial)) for trial in trials]

    def _claim_proposed_trials(self) -> list[ClaimedTrial]:
        """Ask the sampler to propose some of the missing trials, and claim them."""
        missing = self._spec.num_trials - self._num_trials if self._wanted_keys is None else 0
        if missing < 1:
            return []
        self._add_waiting_trials(self._propose_values(min(self._spec.batch_size, missing)))
        return self._claim_waiting_trials()

    @property
    def _num_trials(self) -> int:
        """The number of trials; a failed trial that was added again counts once."""
        trials = self._get_trials()
        not_failed = [self._get_key(trial) for trial in trials if trial.state != TrialState.FAIL]
        return len(not_failed) + len({self._get_key(trial) for trial in trials} - set(not_failed))

    def _propose_values(self, count: int) -> list[TrialValues]:
        """Return values that Optuna's TPE sampler proposes, given all trials so far in the present space."""
        with warnings.catch_warnings(
            action="ignore"
        ):  # Optuna warns that two of the sampler's options are experimental
            # the seed depends on the count, since each call starts a new sampler, which must not repeat its first draws
            seed = derive_seed(self._spec.seed, "sampler", self._num_trials) % 2**32
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
            copy = self._build_memory_copy(self._get_trials(), sampler)
            proposals = [copy.ask(self._distributions).params for _ in range(count)]
        return [{option: self._codecs[option].decode(params[option]) for option in params} for params in proposals]

    def _build_memory_copy(self, trials: Sequence[FrozenTrial], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
        """Return an in-memory study of the trials that lie in the present space, with its distributions."""
        copy = optuna.create_study(direction=self._study.direction, sampler=sampler)
        for trial in trials:
            with suppress(ValueError):  # another process may have added values outside this process's space
                copy.add_trial(self._convert_to_present_space(trial))
        return copy

    def _convert_to_present_space(self, trial: FrozenTrial) -> FrozenTrial:
        values = get_values(trial)
        parameters = {option: codec.encode(values[option]) for option, codec in self._codecs.items()}
        state = TrialState.RUNNING if trial.state == TrialState.WAITING else trial.state
        distributions = dict(self._distributions)
        return create_trial(state=state, value=trial.value, params=parameters, distributions=distributions)

    def send_heartbeat(self) -> None:
        """Write a heartbeat every 20 seconds, since other machines cannot see whether this process is alive."""
        if time.monotonic() - self._last_heartbeat > _HEARTBEAT_INTERVAL:
            self._last_heartbeat = time.monotonic()
            self._study.set_user_attr(f"{_LAST_SEEN_KEY} {self._worker.name}", time.time())

    def report_result(self, trial: Trial) -> None:
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
        self._save_result(trial.number, attributes, state, None if trial.failed else summary.mean)

    def report_failure(self, trial: ClaimedTrial, reason: str) -> None:
        """Store the reason why a trial cannot be trained; rerunning the command tries it again."""
        self._save_result(trial.number, {_REASON_KEY: reason}, TrialState.FAIL, None)

    def _save_result(self, number: int, attributes: Mapping[str, Any], state: TrialState, value: float | None) -> None:
        storage = self._study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        if storage.get_trial(trial_id).state.is_finished():  # another process took it over and finished it
            return
        with self._write_together():
            for name, content in attributes.items():
                storage.set_trial_user_attr(trial_id, name, None if content != content else content)
        self._study.tell(number, value, state=state, skip_if_finished=True)

    def list_finished_trials(self) -> list[Trial]:
        """Return the finished trials, one for each set of values."""
        return [build_trial(trial, self._folder) for trial in self._find_finished_trials().values()]

    def _find_finished_trials(self) -> dict[str, FrozenTrial]:
        trials = dict[str, FrozenTrial]()
        for trial in filter(self._is_in_space, self._get_trials(*FINISHED_STATES)):
            trials.setdefault(self._get_key(trial), trial)
        return trials

    def describe_history(self) -> list[str]:
        """Return sentences for the report: how the sweep was extended, and why some trials could not be trained."""
        done, failed = self._find_finished_trials(), self._get_trials(TrialState.FAIL)
        new = sum(trial.user_attrs[_EXTENT_KEY] == self._extent for trial in done.values())
        extended = f"The sweep was extended: {format_count(len(done) - new, 'trial')} from before, {new or 'none'} new."
        last = {self._get_key(trial): trial for trial in failed if self._get_key(trial) not in done}.values()
        reasons = [f"Trial {trial.number} could not be trained: {trial.user_attrs[_REASON_KEY]}" for trial in last]
        return [*([extended] if self._extent else []), *reasons]

    @property
    def is_over(self) -> bool:
        """Whether all trials are finished."""
        unfinished = self._get_trials(TrialState.RUNNING, TrialState.WAITING)
        if self._wanted_keys is None:
            return self._num_trials >= self._spec.num_trials and not unfinished
        failed = {self._get_key(trial) for trial in self._get_trials(TrialState.FAIL)} - set(
            map(self._get_key, unfinished)
        )
        return self._wanted_keys <= {self._get_key(trial) for trial in self._get_trials(*FINISHED_STATES)} | failed

    @property
    def is_latest(self) -> bool:
        """Whether no other process has extended the sweep since this one began."""
        return len(self._study.user_attrs[EXTENTS_KEY]) == self._extent + 1

    def copy_trials(self, trials: Sequence[Trial]) -> optuna.Study:
        """Return an in-memory Optuna study of these finished trials, from which Optuna can draw figures."""
        numbers = {trial.number for trial in trials}
        chosen = [trial for trial in self._find_finished_trials().values() if trial.number in numbers]
        return self._build_memory_copy(chosen, optuna.samplers.RandomSampler(0))

    def write_file(self, name: str, text: str) -> None:
        """Write a file to the sweep's folder; the lock keeps other processes from removing its temporary file."""
        with self._lock:
            write_text_atomically(self._folder / name, text)

    @contextmanager
    def lock_report(self) -> Iterator[None]:
        """Hold the lock under which one process at a time confirms the winner and writes the report."""
        lock = FileLock(self._folder / _WORKING_FOLDER / _FINISHING_LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print_notice("waiting for another process that is confirming the winner or writing the report.")
            lock.acquire()
        try:
            with self._lock:
                remove_temp_files(self._folder, below=False)
            yield
        finally:
            lock.release()

    def __enter__(self) -> "Study":
        """Return the study."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release this process's unfinished trials, so that no other process waits for them."""
        try:
            self._release_trials()
        except Exception:  # a full disk or a lost database must not hide the error that ended the work
            self._worker.release(is_released=False)
        else:
            with suppress(OSError), self._lock:
                self._worker.release(is_released=True)
                self._remove_unused_files()
        finally:
            self._close_storage()

    def _release_trials(self) -> None:
        for trial in self._get_trials(TrialState.RUNNING):
            if trial.user_attrs.get(_OWNER_KEY) == self._worker.name:
                self._study._storage.set_trial_user_attr(trial._trial_id, _OWNER_KEY, _NO_OWNER)

    def _remove_unused_files(self) -> None:
        """Remove lock files of ended processes and, if no process is at work, the files that only running ones need."""
        working = self._folder / _WORKING_FOLDER
        needed = {
            parse_stored_path(trial.user_attrs.get(_OWNER_FILE_KEY, "")).name
            for trial in self._get_trials(TrialState.RUNNING)
        }
        for file in set(working.glob("*.lock")) - {working / _FINISHING_LOCK}:
            if file.name not in needed and not is_locked(file):
                try_delete_file(file)
        if {path.name for path in working.glob("*")} - {_FINISHING_LOCK}:
            return
        try_delete_file(working / _FINISHING_LOCK)
        _remove_if_empty(working)
        if self.is_over:
            try_delete_folder(self._folder / FITS_FOLDER)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # other processes are at work, or were killed and left their lock files
        folder.rmdir()
