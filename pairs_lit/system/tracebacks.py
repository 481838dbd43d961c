"""One-line reasons and source locations of errors that other code raises, such as the user's."""

import os
import site
import sysconfig
import traceback
from pathlib import Path


def format_reason(error: BaseException) -> str:
    """Format the type and message of an error as one short line."""
    text = " ".join(str(error).split())
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return reason.rstrip(".") if len(reason) <= 300 else f"{reason[:299]}…"


def locate_error(error: BaseException) -> str:
    """Return the file and line in the user's code where an error arose, as ``my_nets.py:12``.

    If the error did not pass through the user's code, return the innermost location instead.
    """
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name}:{error.lineno}"
    return locate_user_error(error) or "".join(_list_locations(error)[-1:])


def locate_user_error(error: BaseException) -> str:
    """Return the file and line in the user's code where an error arose, or an empty string if it arose elsewhere."""
    return "".join(_list_locations(error, only_user_code=True)[-1:])


def _list_locations(error: BaseException, *, only_user_code: bool = False) -> list[str]:
    """Return the file and line of each frame of an error's traceback, the innermost last."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    selected = [frame for frame in frames if not only_user_code or is_user_file(frame.filename)]
    return [f"{Path(frame.filename).name}:{frame.lineno}" for frame in selected]


def is_user_file(filename: str) -> bool:
    """Return whether a Python file belongs to neither Python, nor an installed package, nor this package."""
    other_folders = {
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
        site.getusersitepackages(),
        str(Path(__file__).parent.parent),
    }
    # Windows ignores case, and a frame's file name may have another case than the folder
    parents = {os.path.normcase(folder) for folder in Path(filename).parents}
    return parents.isdisjoint(map(os.path.normcase, other_folders))
