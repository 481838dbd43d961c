"""Paths given by users, with ``~`` for a home folder."""

import re
from pathlib import Path

from pairs_lit.errors import PairsLitError


def expand_user_path(text: str | Path) -> Path:
    """Return a path with ``~``, ``~/…`` or ``~name/…`` expanded, as a shell does.

    Raises:
        PairsLitError: The home folder does not exist.
    """
    if not has_home_prefix(str(text)):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise PairsLitError(f"{text}: there is no such home folder. Give the full path.") from error


def has_home_prefix(text: str) -> bool:
    """Return whether a text is ``~`` or starts with ``~/`` or ``~name/``."""
    return re.match(r"~(/|$|[\w.-]+/)", text) is not None
