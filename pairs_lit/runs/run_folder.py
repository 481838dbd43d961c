"""Run folders, ``lightning_logs/<config name>/<UTC time>-<n>/``: names, identities, locks."""

import re
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import named, write_text_durably
from pairs_lit.system.console import notice
from pairs_lit.text import printable

CONFIG = "config.yaml"
ROUNDS = "rounds.csv"
CURVES = "curves.csv"
SUMMARY = "summary.json"
"""Written last: a run without it is not finished."""

TEST = "test.csv"
VALIDATE = "validate.csv"
PREDICTIONS = "predictions.csv"
EVENTS = "events.out.tfevents"
CHECKPOINTS = "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"
LOCK = ".lock"
_MARK = ".run"
_JOB = ".job"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """Return a run name; refuse one of more than letters, digits, ``.``, ``_`` and ``-``, or that begins with a dot."""
    if not _PLAIN_NAME.fullmatch(name):
        raise PairsLitError(
            f"--name {name!r}: use letters, digits, '.', '_' and '-' (the config file's name is the default)."
        )
    return name


def name_from(text: str) -> str:
    """Return a run name made from a file's name: accents are dropped, and other special characters become ``_``."""
    if _PLAIN_NAME.fullmatch(text):
        return text
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9.-]+", "_", letters).strip("._")[:100] or "run"


def new_run_folder(root: Path, name: str) -> Path:
    """Make a run folder that did not exist before; refuse a root that cannot be written or read in this locale."""
    parent, n = root / "lightning_logs" / check_name(name), 0
    time = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    try:
        str(root.absolute()).encode()  # TensorBoard could not write it
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            n += 1
            with suppress(FileExistsError):
                (parent / f"{time}-{n}").mkdir()
                return parent / f"{time}-{n}"
    except UnicodeEncodeError as error:
        raise PairsLitError(
            f"{printable(str(root))}: its name cannot be read in this locale; set PYTHONUTF8=1, or a UTF-8 locale."
        ) from error
    except OSError as error:
        raise PairsLitError(
            f"no run folder can be made in {parent} ({error.strerror}): set --trainer.default_root_dir to a folder "
            "that you may write to."
        ) from error


def is_finished(run: Path) -> bool:
    """Say whether a folder holds a finished run."""
    return (run / ROUNDS).is_file() and (run / SUMMARY).is_file()


def keep_config(run: Path, text: str, epoch: int, before: Path | None = None) -> None:
    """Write ``config.yaml`` of a run; keep the one that it replaces as ``config-until-epoch-N.yaml``.

    Args:
        run: The run folder.
        text: The configuration.
        epoch: How many epochs are over.
        before: The run folder in which these epochs were trained, if it is another one.
    """
    source, former = (before or run) / CONFIG, run / f"config-until-epoch-{epoch}.yaml"
    theirs = source.read_text(encoding="utf-8") if source.is_file() else text
    if theirs != text and not former.exists():
        write_text_durably(former, theirs)
        notice(f"{run} goes on with another config from epoch {epoch + 1} on; the former one is {former.name}.")
    write_text_durably(run / CONFIG, text)


def mark_run(run: Path) -> None:
    """Give a run folder the identity that its checkpoints name, unless it has one."""
    if identity_of(run) is None:
        write_text_durably(run / _MARK, f"{uuid4().hex}\n")


def identity_of(run: Path) -> str | None:
    """Return the identity of a run folder, or None if it has none."""
    mark = run / _MARK
    text = mark.read_text(encoding="utf-8", errors="replace").strip() if mark.is_file() else ""
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else None


def note_job(run: Path, job: str) -> None:
    """Note which job of a cluster trains a run."""
    write_text_durably(run / _JOB, f"{job}\n")


def run_of_job(root: Path, name: str, job: str) -> Path | None:
    """Return the latest run that a job of a cluster has trained and left a checkpoint of; None: there is none."""
    notes = sorted((root / "lightning_logs" / name).glob(f"*/{_JOB}"), reverse=True)
    own = (note.parent for note in notes if note.read_text(encoding="utf-8", errors="replace").strip() == job)
    return next((run for run in own if (run / LAST).is_file()), None)


def enclosing_run(checkpoint: Path) -> Path | None:
    """Return the folder that holds the folder ``checkpoints`` in which a file lies, if it lies in one."""
    return next((folder.parent for folder in checkpoint.absolute().parents if folder.name == CHECKPOINTS), None)


def looks_like_a_run(folder: Path) -> bool:
    """Say whether a folder without identity looks like a run of an earlier release."""
    made = re.fullmatch(r"\d{8}-\d{6}-\d+", folder.name) and folder.parent.parent.name == "lightning_logs"
    return bool(made) and (folder / CONFIG).is_file()


def lock_run(folder: Path) -> FileLock:
    """Lock a run folder for this process; refuse one that another process has, or that cannot be written."""
    return _take(folder, f"{folder} is being trained by another process: wait for it, or stop it.")


def lock_runs(folder: Path) -> FileLock:
    """Lock a folder of runs likewise for ``reproduce``: a second one would train the same rows."""
    with named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return _take(
        folder, f"another pairs-lit reproduce trains in {folder}: wait for it, stop it, or give --runs another folder."
    )


def _take(folder: Path, taken: str) -> FileLock:
    lock = FileLock(folder / LOCK, timeout=0)
    with named(folder / LOCK):
        try:
            lock.acquire()
        except Timeout as error:  # an OSError too, but not of the file system's making
            raise PairsLitError(taken) from error
    return lock
