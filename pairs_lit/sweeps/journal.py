"""Optuna's journal with a lock that the system releases when its holder dies, and without half-written lines."""

from pathlib import Path

from filelock import BaseFileLock
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock


class JournalLock(BaseJournalFileLock):
    """The lock of a journal; Optuna's own would outlive a killed process by half a minute.

    Args:
        journal: The journal's file.
        lock: The lock that its writers share.
    """

    def __init__(self, journal: Path, lock: BaseFileLock) -> None:
        self._journal = journal
        self._lock = lock

    def acquire(self) -> bool:
        """Wait for the lock, then cut off what a full disk or a killed process left of a line."""
        self._lock.acquire()
        try:
            _cut_unfinished_line(self._journal)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Let another process write."""
        self._lock.release()


def open_journal(path: Path, lock: BaseFileLock) -> JournalFileBackend:
    """Return the backend of a journal, for :class:`optuna.storages.JournalStorage`."""
    return JournalFileBackend(str(path), lock_obj=JournalLock(path, lock))


def _cut_unfinished_line(path: Path) -> None:
    """Truncate a file after its last line break: an appended line would be lost with what stands before it."""
    if not path.is_file() or _ends_with_line_break(path):
        return
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(content.rfind(b"\n") + 1)


def _ends_with_line_break(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 1, 0))
        return file.read(1) in (b"", b"\n")
