"""Bundled configs: their folder, their names, and the lookup of ``--config``."""

from pathlib import Path

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_folder import CONFIG_FILE
from pairs_lit.system.paths import expand_user_path, is_windows_path
from pairs_lit.text import suggest_name

_PACKAGE = Path(__file__).parent.parent

CONFIGS_FOLDER = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
"""The folder of bundled configs: in the package if it is installed, at the top of the repository in a clone."""

REPORTS_FOLDER = CONFIGS_FOLDER / "reports"
"""The folder of the configs of each report, and of the published results and claims."""


def list_shipped_configs() -> dict[str, Path]:
    """Return the bundled configs by the name that ``--config`` takes."""
    files = [path for path in CONFIGS_FOLDER.rglob("*.yaml") if path.parent != REPORTS_FOLDER]
    return dict(sorted((path.relative_to(CONFIGS_FOLDER).with_suffix("").as_posix(), path) for path in files))


def find_config(given: str) -> str:
    """Return the file that ``--config`` refers to: a user's file, with or without its ending, or a bundled config.

    A run folder refers to the run's configuration. YAML text, or ``-``, is returned unchanged.

    Raises:
        PairsLitError: There is neither such a file nor a bundled config of this name.
    """
    if given in ("", "-") or (any(mark in given for mark in ":{[\n") and not is_windows_path(given)):
        return given
    name = given.removesuffix(".yaml")
    files = dict.fromkeys([given, f"{name}.yaml"])
    places = (*files, f"{given}/{CONFIG_FILE}")
    try:
        existing = [file for file in places if expand_user_path(file).exists() and not expand_user_path(file).is_dir()]
    except OSError:  # the parser opens the file, and reports why it cannot
        existing = [given]
    if existing:
        return existing[0]
    shipped, name = list_shipped_configs(), name.replace("\\", "/")
    if name not in shipped:
        raise PairsLitError(
            f"--config {given}: there is no file {' or '.join(files)} in {Path.cwd()}, and no bundled config of that "
            f"name{suggest_name(name, shipped)} (list them with pairs-lit configs)."
        )
    return str(shipped[name])
