"""Optuna's storage of a sweep: a database, or a journal in the sweep's folder."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import optuna
from filelock import BaseFileLock
from optuna.storages import JournalStorage, RDBStorage

from pairs_lit.sweeps.journal import SweepJournal

JOURNAL_FILE = "study.log"


class SweepStorage:
    """Storage of a sweep's study.

    Args:
        folder: The sweep's folder, which holds the journal.
        lock: The lock of the folder.
        url: The URL of a database, or None for the journal.

    Attributes:
        optuna: The storage as Optuna uses it.
    """

    def __init__(self, folder: Path, lock: BaseFileLock, url: str | None) -> None:
        self._database = RDBStorage(url) if url else None
        self._journal = None if url else SweepJournal(folder / JOURNAL_FILE, lock)
        # Optuna adds a cache to a database
        self.optuna = JournalStorage(self._journal) if self._journal else optuna.storages.get_storage(self._database)

    def write_together(self) -> AbstractContextManager[None]:
        """Write all records of a block at once if the storage is a journal."""
        return nullcontext() if self._journal is None else self._journal.write_together()

    def close(self) -> None:
        """Close the connections to the database, which Optuna itself would leave open."""
        if self._database is not None:
            self._database.engine.dispose()
