"""Locks: what two processes must not do at once. The system lets go of them when a process ends, however it ends."""

from pathlib import Path

from filelock import FileLock, Timeout

from pairs_lit.durable import named
from pairs_lit.errors import PairsLitError

_NAME = ".lock"


def lock_run(folder: Path) -> FileLock:
    """Take a run folder for this process.

    Raises:
        PairsLitError: Another process has it, or the folder cannot be written.
    """
    return _take(folder, f"{folder} is being trained by another process: wait for it, or stop it.")


def lock_runs(folder: Path) -> FileLock:
    """Take a folder of runs for this ``reproduce``, which would train the same rows as another one.

    Raises:
        PairsLitError: Another ``reproduce`` has it, or the folder cannot be written.
    """
    with named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return _take(
        folder, f"another pairs-lit reproduce trains in {folder}: wait for it, stop it, or give --runs another folder."
    )


def _take(folder: Path, taken: str) -> FileLock:
    lock = FileLock(folder / _NAME, timeout=0)
    with named(folder / _NAME):
        try:
            lock.acquire()
        except Timeout as error:  # an OSError too, but not of the file system's making
            raise PairsLitError(taken) from error
    return lock


def lock_downloads(root: Path) -> FileLock:
    """Return the lock under which MNIST is downloaded to a folder; who enters it waits for others to finish."""
    return FileLock(root / _NAME)
