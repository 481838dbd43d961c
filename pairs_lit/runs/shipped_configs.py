"""Bundled configs: their folder, their names, and the lookup of ``--config``."""

from pathlib import Path

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_folder import CONFIG
from pairs_lit.system.paths import user_path
from pairs_lit.text import meant

_PACKAGE = Path(__file__).parent.parent

SHIPPED = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
"""The folder of bundled configs: in the package if it is installed, at the top of the repository in a clone."""

COURSE = SHIPPED / "reports"
"""The folder of the configs of each report, and of the published results and claims."""


def shipped_configs() -> dict[str, Path]:
    """Return the bundled configs by the name that ``--config`` takes."""
    files = [path for path in SHIPPED.rglob("*.yaml") if path.parent != COURSE]
    return dict(sorted((path.relative_to(SHIPPED).with_suffix("").as_posix(), path) for path in files))


def find_config(given: str) -> str:
    """Return the file that ``--config`` refers to: a user's file, with or without its ending, or a bundled config.

    A run folder refers to the run's configuration. YAML text, or ``-``, is returned unchanged.

    Raises:
        PairsLitError: There is neither such a file nor a bundled config of this name.
    """
    if given in ("", "-") or any(mark in given for mark in ":{[\n"):
        return given
    name = given.removesuffix(".yaml")
    files = dict.fromkeys([given, f"{name}.yaml"])
    places = (*files, f"{given}/{CONFIG}")
    try:
        existing = [file for file in places if user_path(file).exists() and not user_path(file).is_dir()]
    except OSError:  # the parser opens the file, and reports why it cannot
        existing = [given]
    if existing:
        return existing[0]
    shipped = shipped_configs()
    if name not in shipped:
        raise PairsLitError(
            f"--config {given}: there is no file {' or '.join(files)} in {Path.cwd()}, and no bundled config of that "
            f"name{meant(name, shipped)} (list them with pairs-lit configs)."
        )
    return str(shipped[name])
