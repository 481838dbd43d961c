"""Replacing and deleting files that other programs may have open, and reasons why a file cannot be written.

Linux and macOS replace and delete an open file at once; programs that have it open keep the former content. Windows
raises PermissionError while any program has it open: a virus scanner or search index for a moment, a spreadsheet or
TensorBoard for as long as it shows the file. On Windows only, the functions therefore try again for two seconds.

The folder of a new file is not flushed to disk, since Windows cannot do this. After a power failure, the former file
may be back, but never a half-written one.
"""

import errno
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

IS_WINDOWS = sys.platform == "win32"
IN_USE_SECONDS = 2.0
"""How long to wait on Windows for another program to close a file."""

_RETRY_SECONDS = 0.05
_MAX_WINDOWS_PATH = 260
"""The number of characters from which Windows rejects a path, unless long paths are enabled."""

_MAX_ADDED_CHARACTERS = 50
"""The number of characters by which the path of a temporary file or of a file in a folder may be longer."""


def replace_file(source: Path, target: Path) -> None:
    """Rename a file, over the target if it exists.

    Raises:
        OSError: It is not possible; on Windows, PermissionError if another program keeps one of the files open.
    """
    _retry_while_in_use(lambda: source.replace(target))


def delete_file(path: Path) -> None:
    """Delete a file if it exists.

    Raises:
        OSError: It is not possible; on Windows, PermissionError if another program keeps it open.
    """
    _retry_while_in_use(lambda: path.unlink(missing_ok=True))


def try_delete_file(path: Path) -> None:
    """Delete a file if it exists and no other program keeps it open."""
    with suppress(PermissionError):
        delete_file(path)


def try_delete_folder(folder: Path) -> None:
    """Delete a folder and its contents if it exists; files that cannot be deleted stay."""
    with suppress(OSError):
        _retry_while_in_use(lambda: shutil.rmtree(folder))
    shutil.rmtree(folder, ignore_errors=True)  # deletes the other files if one cannot be deleted


def _retry_while_in_use(action: Callable[[], object]) -> None:
    deadline = time.monotonic() + IN_USE_SECONDS
    while True:
        try:
            action()
            return
        except PermissionError:
            if not IS_WINDOWS or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_SECONDS)


def explain_write_error(error: OSError, path: Path) -> tuple[str, str]:
    """Return why a file or folder cannot be written, as a clause, and what to do, as a sentence."""
    reason = error.strerror or str(error)
    if _is_too_long(error, path):
        length = len(str(path.absolute()))
        return f"its path of {length} characters is too long for this system", "Use a folder with a shorter path."
    if IS_WINDOWS and isinstance(error, PermissionError):
        return reason, "Close the program that has it open, such as Excel or TensorBoard, or change the permissions."
    return reason, "Free some space or change the permissions."


def _is_too_long(error: OSError, path: Path) -> bool:
    """Return whether a path is too long; Windows reports that the file does not exist (winerror 3 or 206)."""
    is_long = len(str(path.absolute())) > _MAX_WINDOWS_PATH - _MAX_ADDED_CHARACTERS
    return error.errno == errno.ENAMETOOLONG or (IS_WINDOWS and error.errno == errno.ENOENT and is_long)
