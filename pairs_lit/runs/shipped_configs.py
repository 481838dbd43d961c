"""The configs that come with the package: where they lie, their names, and what a name stands for."""

from pathlib import Path

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_folder import CONFIG
from pairs_lit.system.paths import user_path
from pairs_lit.text import meant

_PACKAGE = Path(__file__).parent.parent

SHIPPED = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
"""In an installation a folder of the package, in a clone the one at the top of the repository."""

COURSE = SHIPPED / "reports"
"""Holds, beside the configs of each report, what the reports publish and claim."""


def shipped_configs() -> dict[str, Path]:
    """Return the shipped configs by name, as one gives it to ``--config``."""
    files = [path for path in SHIPPED.rglob("*.yaml") if path.parent != COURSE]
    return dict(sorted((path.relative_to(SHIPPED).with_suffix("").as_posix(), path) for path in files))


def find_config(given: str) -> str:
    """Return the file that ``--config`` means: the user's own, with or without its ending, else the shipped one.

    A run folder means the run's configuration. A text in place of a file, or ``-``, stays as it is; a name
    that stands for nothing is refused.
    """
    if given in ("", "-") or any(mark in given for mark in ":{[\n"):
        return given
    name = given.removesuffix(".yaml")
    files = dict.fromkeys([given, f"{name}.yaml"])
    places = (*files, f"{given}/{CONFIG}")
    try:
        own = [file for file in places if user_path(file).exists() and not user_path(file).is_dir()]
    except OSError:  # what cannot be looked at is left to the parser, which says why
        own = [given]
    if own:
        return own[0]
    shipped = shipped_configs()
    if name not in shipped:
        raise PairsLitError(
            f"--config {given}: there is no file {' or '.join(files)} in {Path.cwd()}, and no shipped config of that "
            f"name{meant(name, shipped)} (pairs-lit configs lists the shipped ones)."
        )
    return str(shipped[name])
