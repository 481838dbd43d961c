"""Downloads: one process at a time, into a folder of their own, so that no part of a file looks whole."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

STALL_SECONDS = 20.0


@contextmanager
def download_folder(root: Path) -> Iterator[Path]:
    """Yield an empty folder in ``root`` to download into; it is removed at the end.

    Waits for the downloads of other processes, so look afterwards whether the files are still missing. A download that
    stalls for :data:`STALL_SECONDS` fails: those of torchvision have no timeout of their own.
    """
    folder = root / ".download"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):  # also since the timeout is one for all threads
        before = socket.getdefaulttimeout()
        shutil.rmtree(folder, ignore_errors=True)  # a killed process may have left one
        folder.mkdir()
        socket.setdefaulttimeout(STALL_SECONDS)
        try:
            yield folder
        finally:
            socket.setdefaulttimeout(before)
            shutil.rmtree(folder, ignore_errors=True)
