"""Paths given by users, and paths stored in files, which may come from another system."""

import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from pairs_lit.errors import PairsLitError
from pairs_lit.system.files import IS_WINDOWS


def expand_user_path(text: str | Path) -> Path:
    """Return a path with ``~``, ``~/…`` or ``~name/…`` expanded, as a shell does.

    Raises:
        PairsLitError: The home folder does not exist.
    """
    if not has_home_prefix(str(text)):
        return Path(text)
    try:
        return Path(str(text).replace("\\", "/") if IS_WINDOWS else text).expanduser()
    except RuntimeError as error:
        raise PairsLitError(f"{text}: there is no such home folder. Give the full path.") from error


def has_home_prefix(text: str) -> bool:
    """Return whether a text is ``~`` or starts with ``~/`` or ``~name/``, on Windows also with a backslash."""
    return re.match(r"~[\w.-]*[/\\]|~$" if IS_WINDOWS else r"~[\w.-]*/|~$", text) is not None


def is_windows_path(text: str) -> bool:
    """Return whether a text is an absolute path of Windows: it starts with a drive or a network share."""
    return re.match(r"[A-Za-z]:[/\\]|\\\\", text) is not None


def parse_stored_path(text: str) -> PurePath:
    """Return a path from a file that may have been written on another system; only Windows uses backslashes."""
    return PureWindowsPath(text) if "\\" in text else PurePosixPath(text)


def expand_patterns(texts: Sequence[str]) -> list[str]:
    """Replace patterns such as ``runs/*`` among paths given by a user by the files and folders that match.

    Most shells do this themselves, but those of Windows do not. A text that names an existing file is not a pattern.

    Raises:
        PairsLitError: Nothing matches a pattern, or a home folder does not exist.
    """
    return [path for text in texts for path in _expand_pattern(text)]


def _expand_pattern(text: str) -> list[str]:
    path = expand_user_path(text)
    if not has_magic(text) or path.exists():
        return [text]
    matches = sorted(glob(str(path)))  # noqa: PTH207 - Path.glob also matches hidden files
    if not matches:
        raise PairsLitError(f"{text}: no file or folder matches this pattern. Check the path.")
    return matches
