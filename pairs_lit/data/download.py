"""Downloads into a temporary folder, one process at a time, so that partial files are never taken for complete ones."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from pairs_lit.system.files import try_delete_folder

STALL_SECONDS = 20.0


@contextmanager
def download_folder(root: Path) -> Iterator[Path]:
    """Yield an empty folder in ``root`` to download into, and remove it at the end.

    This waits for downloads of other processes, so the caller should check again whether files are missing. A download
    that stalls for :data:`STALL_SECONDS` fails; torchvision sets no timeout itself.
    """
    folder = root / ".download"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):  # also protects the timeout, which all threads share
        previous_timeout = socket.getdefaulttimeout()
        try_delete_folder(folder)  # left by a killed process
        folder.mkdir()
        socket.setdefaulttimeout(STALL_SECONDS)
        try:
            yield folder
        finally:
            socket.setdefaulttimeout(previous_timeout)
            try_delete_folder(folder)
