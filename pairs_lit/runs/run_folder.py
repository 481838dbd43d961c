"""Run folders, ``lightning_logs/<config name>/<UTC time>-<n>/``: names, identities, locks."""

import re
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import translate_os_errors, write_text_atomically
from pairs_lit.system.console import print_notice
from pairs_lit.system.file_names import avoid_device_name, check_output_path, find_case_variant, is_device_name
from pairs_lit.system.files import explain_write_error
from pairs_lit.text import replace_control_characters

CONFIG_FILE = "config.yaml"
ROUNDS_FILE = "rounds.csv"
CURVES_FILE = "curves.csv"
SUMMARY_FILE = "summary.json"
"""The file that is written last: a run without it is not finished."""

TEST_FILE = "test.csv"
VALIDATE_FILE = "validate.csv"
PREDICTIONS_FILE = "predictions.csv"
EVENTS_PREFIX = "events.out.tfevents"
CHECKPOINTS_FOLDER = "checkpoints"
LAST_CHECKPOINT = f"{CHECKPOINTS_FOLDER}/last.ckpt"
LOCK_FILE = ".lock"
_MARK = ".run"
_JOB_FILE = ".job"
_MAX_NAME_LENGTH = 100
_PLAIN_NAME = re.compile(rf"(?!\.)[A-Za-z0-9._-]{{1,{_MAX_NAME_LENGTH}}}(?<!\.)")


def check_run_name(name: str) -> str:
    """Return a run name; raise PairsLitError for other characters than letters, digits, ``.``, ``_`` and ``-``.

    A name has 100 characters or fewer, neither begins nor ends with a dot, and is no device of Windows such as ``aux``.
    """
    if not _PLAIN_NAME.fullmatch(name):
        raise PairsLitError(
            f"--name must have 1 to {_MAX_NAME_LENGTH} letters, digits, '.', '_' and '-', and not begin or end with "
            f"'.', got {name!r}. By default it is the config file's name."
        )
    if is_device_name(name):
        raise PairsLitError(
            f"--name must not be the name of a device on Windows, got {name!r}. Use another one, such as "
            f"{avoid_device_name(name)}."
        )
    return name


def to_run_name(text: str) -> str:
    """Return a valid run name for a file name: drop accents, and replace other special characters by ``_``."""
    if not _PLAIN_NAME.fullmatch(text):
        letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        text = re.sub(r"[^A-Za-z0-9.-]+", "_", letters).strip("._")
    return avoid_device_name(text)[:_MAX_NAME_LENGTH].rstrip(".") or "run"


def check_new_folder(folder: Path) -> None:
    """Raise PairsLitError if a folder of another run or sweep has the name of this new one in another case.

    Windows and macOS would take both for the same folder.
    """
    variant = find_case_variant(folder)
    if variant is not None:
        raise PairsLitError(
            f"--name must differ from other names in more than upper and lower case, got {folder.name} next to "
            f"{variant}. Set --name to {variant.name}, or to another name."
        )


def create_run_folder(root: Path, name: str) -> Path:
    """Create a new run folder; raise PairsLitError if the root is not writable, or not readable in this locale."""
    check_output_path("--trainer.default_root_dir", root)
    parent, n = root / "lightning_logs" / check_run_name(name), 0
    time = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    try:
        str(root.absolute()).encode()  # fail now, not when TensorBoard writes
        check_new_folder(parent)
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            n += 1
            with suppress(FileExistsError):
                (parent / f"{time}-{n}").mkdir()
                return parent / f"{time}-{n}"
    except UnicodeEncodeError as error:
        raise PairsLitError(
            f"the name of {replace_control_characters(str(root))} cannot be read in this locale. Set "
            "PYTHONUTF8=1, or a UTF-8 locale."
        ) from error
    except OSError as error:
        reason, _ = explain_write_error(error, parent)
        raise PairsLitError(
            f"no run folder can be created in {parent} ({reason}). Set --trainer.default_root_dir to another folder, "
            "which you can write to."
        ) from error


def is_finished(run: Path) -> bool:
    """Return whether the folder holds a finished run."""
    return (run / ROUNDS_FILE).is_file() and (run / SUMMARY_FILE).is_file()


def save_config(run: Path, text: str, epoch: int, before: Path | None = None) -> None:
    """Write ``config.yaml`` of a run; save a different earlier one as ``config-until-epoch-N.yaml``.

    Args:
        run: The run folder.
        text: The configuration.
        epoch: The number of completed epochs.
        before: The run folder in which these epochs were trained, if it is another one.
    """
    source, former = (before or run) / CONFIG_FILE, run / f"config-until-epoch-{epoch}.yaml"
    previous = source.read_text(encoding="utf-8-sig") if source.is_file() else text
    if previous != text and not former.exists():
        write_text_atomically(former, previous)
        print_notice(
            f"{run} resumes with another config from epoch {epoch + 1}; the previous one is saved as {former.name}."
        )
    write_text_atomically(run / CONFIG_FILE, text)


def mark_run(run: Path) -> None:
    """Write the identity of a run folder, which its checkpoints refer to, unless it has one."""
    if read_run_identity(run) is None:
        write_text_atomically(run / _MARK, f"{uuid4().hex}\n")


def read_run_identity(run: Path) -> str | None:
    """Return the identity of a run folder, or None if it has none."""
    mark = run / _MARK
    text = mark.read_text(encoding="utf-8-sig", errors="replace").strip() if mark.is_file() else ""
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else None


def write_job_id(run: Path, job: str) -> None:
    """Write the ID of the cluster job that trains a run into its folder."""
    write_text_atomically(run / _JOB_FILE, f"{job}\n")


def find_run_of_job(root: Path, name: str, job: str) -> Path | None:
    """Return the latest run with a checkpoint that a cluster job has trained, or None if there is none."""
    notes = sorted((root / "lightning_logs" / name).glob(f"*/{_JOB_FILE}"), reverse=True)
    runs = (note.parent for note in notes if note.read_text(encoding="utf-8", errors="replace").strip() == job)
    return next((run for run in runs if (run / LAST_CHECKPOINT).is_file()), None)


def find_enclosing_run(checkpoint: Path) -> Path | None:
    """Return the parent of the folder ``checkpoints`` that contains a file, or None if there is no such folder."""
    folders = checkpoint.absolute().parents
    return next((folder.parent for folder in folders if folder.name.lower() == CHECKPOINTS_FOLDER), None)


def is_unmarked_run(folder: Path) -> bool:
    """Return whether a folder without identity looks like a run of an earlier release."""
    is_run_path = re.fullmatch(r"\d{8}-\d{6}-\d+", folder.name) and folder.parent.parent.name == "lightning_logs"
    return bool(is_run_path) and (folder / CONFIG_FILE).is_file()


def lock_run(folder: Path) -> FileLock:
    """Lock a run folder for this process; raise PairsLitError if it is locked already, or cannot be written."""
    return _acquire_lock(folder, f"{folder} is being trained by another process. Wait for it, or stop it.")


def lock_runs_folder(folder: Path) -> FileLock:
    """Lock a folder of runs for ``reproduce``, since a second one would train the same rows."""
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return _acquire_lock(
        folder,
        f"another pairs-lit reproduce trains in {folder}. Wait for it, stop it, or set --runs to another folder.",
    )


def _acquire_lock(folder: Path, message: str) -> FileLock:
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    with translate_os_errors(folder / LOCK_FILE):
        try:
            lock.acquire()
        except Timeout as error:  # also an OSError, which would be taken for an error of the file system
            raise PairsLitError(message) from error
    return lock
