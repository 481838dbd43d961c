"""Processes that work on a sweep: each holds the lock of a file of its own for as long as it lives."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Worker:
    """This process, as the others see it.

    Args:
        folder: Where the lock files of all processes lie that share a sweep's folder.

    Attributes:
        name: A name that no other process has: machine, boot, process and a random part.
        file: The file whose lock this process holds until it ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = ":".join([socket.gethostname(), _boot(), str(os.getpid()), uuid4().hex[:8]])
        self.file = (folder / f"{self.name.replace(':', '_')}.lock").absolute()
        self._lock = FileLock(self.file)
        self._lock.acquire()

    def leave(self, *, is_released: bool) -> None:
        """Release the lock; keep the file, which says that its holder has ended, unless no trial is left with it."""
        self._lock.release()
        if is_released:
            self.file.unlink(missing_ok=True)


def has_ended(name: str, file: Path) -> bool | None:
    """Return whether another process has ended, or None if that cannot be seen from this machine.

    Args:
        name: Its :attr:`Worker.name`.
        file: Its :attr:`Worker.file`.
    """
    machine, boot, *_ = name.split(":")
    is_here = machine == socket.gethostname() or (bool(boot) and boot == _boot())
    if not is_here or not file.is_file():
        return None
    try:
        return not is_held(file)
    except PermissionError:  # another user's
        return None


def is_held(file: Path) -> bool:
    """Return whether a process holds the lock of a file."""
    with suppress(Timeout), FileLock(file, timeout=0):
        return False
    return True


def _boot() -> str:
    """Return what identifies this run of the machine's kernel, also in a container; empty where nothing does."""
    with suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip().replace("-", "")
    return ""
