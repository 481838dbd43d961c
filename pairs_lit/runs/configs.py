"""The configs that come with the package: where they lie, their names, and what a name stands for."""

from pathlib import Path

from pairs_lit.environment import user_path
from pairs_lit.errors import PairsLitError

SHIPPED = Path(__file__).parent.parent / "configs"
"""In an installation a folder of the package; in a clone, through a link, the one at the top of the repository."""

COURSE = SHIPPED / "reports"
"""Holds, beside the configs of each report, what the reports publish and claim."""


def shipped_configs() -> dict[str, Path]:
    """Return the shipped configs by name, as one gives it to ``--config``."""
    files = [path for path in SHIPPED.rglob("*.yaml") if path.parent != COURSE]
    return dict(sorted((path.relative_to(SHIPPED).with_suffix("").as_posix(), path) for path in files))


def find_config(given: str) -> str:
    """Return the file that ``--config`` means: the user's own, with or without its ending, else the shipped one.

    Args:
        given: What follows ``--config``; a text in place of a file, or ``-``, stays as it is.

    Raises:
        PairsLitError: It is a name, and there is neither a file nor a shipped config of that name.
    """
    if given in ("", "-") or any(mark in given for mark in ":{[\n"):
        return given
    name = given.removesuffix(".yaml")
    files = dict.fromkeys([given, f"{name}.yaml"])
    own = next((file for file in files if _exists(user_path(file))), None)
    if own is not None:
        return own
    shipped = shipped_configs()
    if name not in shipped:
        raise PairsLitError(
            f"--config {given}: there is no file {' or '.join(files)} in {Path.cwd()}, and no shipped config of that "
            "name (pairs-lit configs lists the shipped ones)."
        )
    return str(shipped[name])


def _exists(path: Path) -> bool:
    """Say whether something of that name is there; what cannot be looked at is left to the parser, which says why."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return True
