"""The commit that a run was made with."""

import re
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def commit(package: Path = PACKAGE) -> str | None:
    """Return the commit of the package's files, with ``+changes`` where they differ; None where git tracks none."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(package, "rev-parse", "--short=10", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", ".", "../configs")
    return None if head is None else head + ("+changes" if changed else "")


def is_commit(name: object) -> bool:
    """Tell whether a value from a file is what :func:`commit` returns for files under git's control."""
    return isinstance(name, str) and re.fullmatch(r"[0-9a-f]{7,40}(\+changes)?", name) is not None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None
