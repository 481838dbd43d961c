"""Paths as users write them."""

import re
from pathlib import Path

from pairs_lit.errors import PairsLitError


def user_path(text: str | Path) -> Path:
    """Return a path with ``~``, ``~/…`` and ``~name/…`` replaced, as a shell does; refuse a home that is none."""
    if not is_in_home(str(text)):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise PairsLitError(f"{text}: there is no such home folder; give the path in full.") from error


def is_in_home(text: str) -> bool:
    """Say whether a text is such a path."""
    return re.match(r"~(/|$|[\w.-]+/)", text) is not None
