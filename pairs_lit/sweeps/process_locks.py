"""Locks that show which processes of a sweep are alive: each process holds its own lock file until it ends."""

import os
import re
import socket
from pathlib import Path
from uuid import uuid4

from filelock import BaseFileLock, FileLock, Timeout

from pairs_lit.system.files import try_delete_file
from pairs_lit.system.processes import get_boot_id


class ProcessLock:
    """The lock of this process, by which other processes see that it is alive.

    Args:
        folder: The folder of the lock files of all processes that share a sweep's folder.

    Attributes:
        name: A unique name: host name, boot ID, process ID and a random part.
        file: The lock file. The operating system releases the lock when the process ends, even if it is killed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = ":".join([socket.gethostname(), get_boot_id(), str(os.getpid()), uuid4().hex[:8]])
        self.file = (folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.name)}.lock").absolute()
        self._lock = FileLock(self.file)
        self._lock.acquire()

    def release(self, *, is_released: bool) -> None:
        """Release the lock, and remove its file if all trials of this process are released.

        Otherwise the file stays: other processes see from the unlocked file that the owner of these trials has ended.
        """
        if is_released:
            self._lock.release()
            try_delete_file(self.file)
        else:
            _release_and_keep(self._lock)


def has_ended(name: str, file: Path) -> bool | None:
    """Return whether another process has ended, or None if this machine cannot tell.

    Args:
        name: The process's :attr:`ProcessLock.name`.
        file: The process's :attr:`ProcessLock.file`.
    """
    machine, boot, *_ = name.split(":")
    is_here = machine == socket.gethostname() or (bool(boot) and boot == get_boot_id())
    if not is_here or not file.is_file():
        return None
    try:
        return not is_locked(file)
    except PermissionError:  # the file belongs to another user
        return None


def is_locked(file: Path) -> bool:
    """Return whether a process holds the lock of the file."""
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    _release_and_keep(lock)
    return False


def _release_and_keep(lock: BaseFileLock) -> None:
    """Release a lock and keep its file, which filelock deletes on Windows."""
    lock.release()
    Path(lock.lock_file).touch()
