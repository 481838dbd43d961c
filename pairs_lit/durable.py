"""Durable writes: a file is there whole, or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from pairs_lit.errors import PairsLitError


def write_durably(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name in its own folder, flush it to the disk, then rename it.

    Args:
        path: The file; its folder is made where it is missing.
        write: Writes the content to the open file.

    Raises:
        PairsLitError: The file cannot be written; nothing is left under its name that was not there before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise PairsLitError(f"{path} cannot be written ({error.strerror or error}): make room or permit it.") from error


def write_text_durably(path: Path, text: str) -> None:
    """Write a UTF-8 text file with :func:`write_durably`."""
    write_durably(path, lambda file: file.write(text.encode()))
