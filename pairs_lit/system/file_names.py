"""File names that Linux, macOS and Windows all accept, so that files can be copied from one to another."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from pairs_lit.errors import PairsLitError

_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(?=\s*(\.|$))", re.IGNORECASE)
"""Names that Windows opens as a device instead of a file, in any folder, case and with any extension."""

_FORBIDDEN_CHARACTER = re.compile(r'[<>:"|?*\\/\x00-\x1f]')


def is_device_name(name: str) -> bool:
    """Return whether Windows takes a file name for a device, such as ``nul``, ``aux.yaml`` or ``COM1.csv``."""
    return _DEVICE_NAME.match(name) is not None


def avoid_device_name(name: str) -> str:
    """Return a file name with ``_`` after a device's name (``aux_.yaml``), and any other name unchanged."""
    return _DEVICE_NAME.sub(r"\1_", name, count=1) if is_device_name(name) else name


def describe_name_problem(name: str) -> str:
    """Return why Windows does not accept a file name, as a relative clause, or an empty text if it does."""
    forbidden = _FORBIDDEN_CHARACTER.search(name)
    if forbidden is not None:
        return f"which contains {forbidden[0]!r}"
    if name.endswith((".", " ")) and name not in (".", ".."):
        return "whose last character Windows drops"
    return "which Windows takes for a device" if is_device_name(name) else ""


def check_output_path(option: str, path: Path | None) -> None:
    """Raise PairsLitError if Windows does not accept the name of an output file or a new folder; accept None.

    Folders that exist are accepted. The check is the same on all systems, except that Windows reads one letter before a
    colon as a drive. Windows itself reports no error: it discards what is written to ``nul.csv``, and hides what is
    written to ``run:b.csv`` in the file ``run``.
    """
    if path is None:
        return
    for name in [place.name for place in (path, *path.parents) if not place.is_dir()]:
        problem = describe_name_problem(name)
        if problem:
            raise PairsLitError(
                f"{option} must be a name that every system accepts, got {name!r}, {problem}. Use another name."
            )


def fold_name(name: str) -> str:
    """Return a key that is equal for names that Windows or macOS takes for the same, such as ``Net`` and ``net``."""
    return unicodedata.normalize("NFC", name).casefold()


def find_case_variant(path: Path) -> Path | None:
    """Return an existing path whose name differs from that of a new one in case only, or None if there is none."""
    names = {entry.name for entry in path.parent.iterdir()} if path.parent.is_dir() else set()
    variants = sorted(name for name in names if fold_name(name) == fold_name(path.name))
    return path.with_name(variants[0]) if variants and path.name not in names else None


def group_case_variants(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of two or more names that differ in case only."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(fold_name(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
