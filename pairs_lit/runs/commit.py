"""The git commit of the package's code."""

import re
import subprocess
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).parent.parent


def get_commit(package: Path = PACKAGE_FOLDER) -> str | None:
    """Return the commit of the package's files, or None without git; ``+changes`` is appended if files differ."""
    if _run_git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _run_git(package, "rev-parse", "--short=10", "HEAD")
    changed = _run_git(package, "status", "--porcelain", "--untracked-files=no", ".", "../configs")
    return None if head is None else head + ("+changes" if changed else "")


def is_commit(name: object) -> bool:
    """Return whether a value from a file is a commit as :func:`commit` returns it."""
    return isinstance(name, str) and re.fullmatch(r"[0-9a-f]{7,40}(\+changes)?", name) is not None


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(folder), *arguments]
        process = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except OSError:  # git is not installed
        return None
    return process.stdout.strip() if process.returncode == 0 else None
