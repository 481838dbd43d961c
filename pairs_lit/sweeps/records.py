"""What a sweep's Optuna study records: settings in the study's user attributes, values in those of its trials."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from pairs_lit.runs.run_folder import LOCK_FILE
from pairs_lit.sweeps.search_space import TrialValues, get_key
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.storage import JOURNAL_FILE, SweepStorage
from pairs_lit.sweeps.trial import Trial
from pairs_lit.system.paths import parse_stored_path

FINISHED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)

ID_FILE = ".study"
"""The file that holds the ID of the study to which a folder belongs."""

# keys of the study's user attributes
SETTINGS_KEY = "sweep"
EXTENTS_KEY = "extents"
ID_KEY = "id"
# key of the trials' user attributes
VALUES_KEY = "values"


def build_settings(options: Mapping[str, object], spec: Spec) -> dict[str, Any]:
    """Return the settings that cannot change when a sweep is resumed, as a study stores them.

    Args:
        options: The config's options that influence the results.
        spec: The content of the sweep file.
    """
    settings: dict[str, Any] = json.loads(json.dumps({**options, **spec.settings}))
    return settings


def build_extent(spec: Spec) -> dict[str, Any]:
    """Return the settings that can be extended, as a study stores them."""
    extent: dict[str, Any] = json.loads(json.dumps(spec.extent))
    return extent


def get_study_id(study: optuna.Study) -> str | None:
    """Return the ID that the sweep gave to a study, or None if it has none."""
    study_id = study.user_attrs.get(ID_KEY)
    return study_id if isinstance(study_id, str) else None


def get_values(trial: FrozenTrial) -> TrialValues:
    """Return the option values of a trial."""
    values: TrialValues = trial.user_attrs[VALUES_KEY]
    return values


def get_trial_key(trial: FrozenTrial) -> str:
    """Return a key that trials with the same values share."""
    return get_key(get_values(trial))


def is_complete(study: optuna.Study, spec: Spec, options: Mapping[str, object]) -> bool:
    """Return whether a study has the result of every trial of a sweep.

    Args:
        study: The study.
        spec: The content of the sweep file.
        options: The config's options that influence the results.
    """
    attributes, trials = study.user_attrs, study.get_trials(deepcopy=False)
    has_settings = attributes.get(SETTINGS_KEY) == build_settings(options, spec)
    if not has_settings or attributes[EXTENTS_KEY][-1] != build_extent(spec):
        return False
    keys = set(map(get_trial_key, trials))
    points = spec.list_points(list(map(get_values, trials)))
    has_all = len(keys) >= spec.num_trials if points is None else keys >= set(map(get_key, points))
    return has_all and all(trial.state in FINISHED_STATES for trial in trials)


def has_all_results(folder: Path, name: str, spec: Spec, options: Mapping[str, object], url: str | None = None) -> bool:
    """Return whether the study of a sweep with these settings exists and has the result of every trial.

    Nothing is written.

    Args:
        folder: The sweep's folder.
        name: The study's name.
        spec: The content of the sweep file.
        options: The config's options that influence the results.
        url: An Optuna storage URL, or None for a journal in the folder.
    """
    if not (folder / ID_FILE).is_file() or (url is None and not (folder / JOURNAL_FILE).is_file()):
        return False
    storage = None
    try:
        storage = SweepStorage(folder, FileLock(folder / LOCK_FILE), url)
        return is_complete(optuna.load_study(study_name=name, storage=storage.optuna), spec, options)
    except Exception:  # opening the study later reports what is wrong
        return False
    finally:
        if storage is not None:
            storage.close()


def build_trial(trial: FrozenTrial, sweep: Path) -> Trial:
    """Return a finished trial of a sweep whose runs are in a folder."""
    attributes = trial.user_attrs
    scores = {int(seed): value for seed, value in attributes["scores"].items()}
    folder = _locate_run(attributes["run"], sweep)
    return Trial(trial.number, get_values(trial), scores, attributes["failed"], folder, attributes["data"])


def _locate_run(stored: str, sweep: Path) -> Path:
    """Return the run folder of a trial; if the sweep's folder was moved, possibly from another system, it is there."""
    folder = Path(stored)
    return folder if folder.is_dir() else sweep / parse_stored_path(stored).name


def describe_changes(before: object, now: Mapping[str, object]) -> list[str]:
    """Return a text for each setting that differs."""
    if not isinstance(before, dict):
        return ["it was started by an earlier release, which did not record its settings"]
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [f"{name} was {before.get(name, 'missing')} and is {now.get(name, 'missing')}" for name in names]


def format_changes(changes: Sequence[str]) -> str:
    """Return the first texts of :func:`describe_changes` as one."""
    return "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
