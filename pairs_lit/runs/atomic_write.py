"""Atomic, durable file writes."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from pairs_lit.errors import PairsLitError
from pairs_lit.system.files import delete_file, explain_write_error, replace_file, try_delete_file

_TEMP_FILE_PATTERN = re.compile(r"\..+\.[0-9a-f]{32}")
_MAX_PREFIX_LENGTH = 40
"""How much of a file's name its temporary name contains, so that a long name does not become too long."""


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Translate file system errors into PairsLitError with the file's name."""
    try:
        yield
    except OSError as error:
        reason, fix = explain_write_error(error, path)
        raise PairsLitError(f"{path} cannot be written ({reason}). {fix}") from error


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, then rename it.

    Args:
        path: The file; its folder is created if it is missing.
        write: The function that writes the content to the open file.

    Raises:
        PairsLitError: It cannot be written; an earlier file of this name is unchanged.
    """
    temporary = path.with_name(f".{path.name[:_MAX_PREFIX_LENGTH]}.{uuid4().hex}")
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            replace_file(temporary, path)
        finally:
            try_delete_file(temporary)


def remove_temp_files(folder: Path, *, below: bool = True) -> None:
    """Delete temporary files that a killed process left in a folder and, if ``below``, in its subfolders."""
    with translate_os_errors(folder):
        for path in folder.rglob(".*") if below else folder.glob(".*"):
            if _TEMP_FILE_PATTERN.fullmatch(path.name):
                delete_file(path)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file with :func:`write_atomically`; file names that are not valid text keep their bytes."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))
