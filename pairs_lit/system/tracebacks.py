"""Errors from elsewhere: what they say, and where in the code of the user they arose."""

import sysconfig
import traceback
from pathlib import Path


def reason_of(error: BaseException) -> str:
    """Return kind and message of an error from elsewhere, in one short line."""
    text = " ".join(str(error).split())
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return reason.rstrip(".") if len(reason) <= 300 else f"{reason[:299]}…"


def place_of(error: BaseException) -> str:
    """Return where in the user's own code an error arose, ``my_nets.py:12``; elsewhere, the innermost place."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name}:{error.lineno}"
    return own_place_of(error) or "".join(_places(error)[-1:])


def own_place_of(error: BaseException) -> str:
    """Return where in the user's own code an error arose, ``my_nets.py:12``; empty: it did not arise there."""
    return "".join(_places(error, own=True)[-1:])


def _places(error: BaseException, *, own: bool = False) -> list[str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    found = [frame for frame in frames if not own or is_user_file(frame.filename)]
    return [f"{Path(frame.filename).name}:{frame.lineno}" for frame in found]


def is_user_file(filename: str) -> bool:
    """Return whether a Python file is the user's own: not Python's, not of an installed package, not of this one."""
    others = (
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
        str(Path(__file__).parent.parent),
    )
    return not filename.startswith(others)
