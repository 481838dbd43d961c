"""Optuna journal storage that survives killed processes: its lock is released, and half-written lines are removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock


class JournalLock(BaseJournalFileLock):
    """A journal lock that the operating system releases when a process dies; Optuna's own lock would last 30 seconds.

    Args:
        journal: The journal file.
        lock: The file lock that all writers share.
    """

    def __init__(self, journal: Path, lock: BaseFileLock) -> None:
        self._journal = journal
        self._lock = lock

    def acquire(self) -> bool:
        """Wait for the lock, then remove an unfinished last line, which a full disk or a killed process may leave."""
        self._lock.acquire()
        try:
            _cut_unfinished_line(self._journal)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


class SweepJournal(JournalFileBackend):
    """Journal backend for :class:`optuna.storages.JournalStorage` that can write several records at once.

    Args:
        path: The journal file.
        lock: The file lock that all writers share.
    """

    def __init__(self, path: Path, lock: BaseFileLock) -> None:
        super().__init__(str(path), lock_obj=JournalLock(path, lock))
        self._batch: list[dict[str, Any]] | None = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records, or keep them for the end of the batch."""
        if self._batch is None:
            super().append_logs(logs)
        else:
            self._batch += logs

    @contextmanager
    def write_together(self) -> Iterator[None]:
        """Write all records of the block at its end, since each write waits for the disk; none if an error is raised.

        Until then, the storage does not see them.
        """
        records = self._batch = list[dict[str, Any]]()
        try:
            yield
        finally:
            self._batch = None
        if records:
            self.append_logs(records)


def _cut_unfinished_line(path: Path) -> None:
    """Truncate the file after its last line break, because a line appended to an unfinished one would be unreadable."""
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
