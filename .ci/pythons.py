"""Print the other CPython versions on this machine, and their interpreters; report those that are missing.

Each line of standard output holds one minor version and the path of its newest interpreter, such as
``3.13 /usr/bin/python3.13``. Interpreters are looked for on PATH and among those that pyenv has installed. A version is
missing if ``pyproject.toml`` has a classifier for it, but this machine does not have it.
"""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)  # the oldest that pyproject.toml allows
DESCRIBE = """
import sys, sysconfig
stable = sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
if stable and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print(*sys.version_info[:3])
"""


def find_candidates() -> Iterator[Path]:
    """Yield all files that may be interpreters; the shims of pyenv are among them, and may not run."""
    for folder in os.environ["PATH"].split(os.pathsep):
        yield from (path for path in Path(folder).glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from pyenv.glob("versions/*/bin/python")


def read_version(interpreter: Path) -> tuple[int, ...]:
    """Return major, minor and micro version, or () if this is no stable CPython with the usual lock (GIL)."""
    try:
        done = subprocess.run([interpreter, "-c", DESCRIBE], capture_output=True, text=True, check=False, timeout=60)
    except OSError:  # it cannot be executed
        return ()
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()


def find_interpreters() -> dict[tuple[int, ...], Path]:
    """Return the newest interpreter of each minor version except the one that runs this script, sorted by version."""
    found = sorted((read_version(path), path) for path in find_candidates())
    newest = {version[:2]: path for version, path in found}
    return {version: path for version, path in newest.items() if version >= OLDEST and version != sys.version_info[:2]}


def list_declared_versions() -> list[tuple[int, ...]]:
    """Return the minor versions that the classifiers in ``pyproject.toml`` name."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    classifiers = tomllib.loads(text)["project"]["classifiers"]
    found = [re.search(r"Python :: (3)\.(\d+)$", classifier) for classifier in classifiers]
    return [(int(match[1]), int(match[2])) for match in found if match]


interpreters = find_interpreters()
for version, interpreter in interpreters.items():
    print(f"{version[0]}.{version[1]} {interpreter}")
for version in list_declared_versions():
    if version not in interpreters and version != sys.version_info[:2]:
        print(f"Python {version[0]}.{version[1]} is not on this machine: its tests are left out.", file=sys.stderr)
