"""Modules of the user's in the current folder."""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


def import_from_here() -> None:
    """Let classes of the user's be imported from the current folder, beside which they lie."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def import_path(path: str) -> Any:  # noqa: ANN401 - anything can be imported
    """Import ``module``, ``module.name`` or ``module.Class.method``.

    Unlike ``pkgutil.resolve_name``, it reports what a module itself lacks, not that its package has no such attribute.

    Raises:
        ImportError: There is no such module, or it cannot be imported; a user's file may raise anything else, too.
        AttributeError: It defines no such name.
    """
    module, _, name = path.rpartition(".")
    if not module:
        return import_module(path)
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module or "." not in module:
            raise
        return getattr(import_path(module), name)


class _OwnModules(MetaPathFinder):
    """Finds modules in the current folder that have the name of one of Python's, or of an installed package."""

    def __init__(self) -> None:
        self.names = set[str]()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where such a module lies, or None for all others."""
        return PathFinder.find_spec(fullname, [str(Path.cwd())]) if fullname in self.names else None


_OWN_MODULES = _OwnModules()


def prefer_own_modules(text: str) -> None:
    """Let class paths such as ``test.Net`` in a text mean the user's file where it defines them: it is found first."""
    for module, name in re.findall(r"(?<![\w.])([A-Za-z_]\w*)\.([A-Za-z_]\w*)", text):
        if module not in sys.modules and _defines(_own_file(module), name):
            _OWN_MODULES.names.add(module)
    if _OWN_MODULES.names and _OWN_MODULES not in sys.meta_path:
        sys.meta_path.insert(0, _OWN_MODULES)


def hidden_file(path: str) -> str:
    """Return ": ..." where a class path means another module than the file of this name here; else nothing."""
    module = path.partition(".")[0]
    if module == "__main__":
        return ": the script that trained it defined it: put it in a file of its own, and import it from there"
    own, found = _own_file(module), sys.modules.get(module)
    if own is None or found is None or Path(getattr(found, "__file__", None) or "").resolve() == own.resolve():
        return ""
    whose = "Python's own module" if module in sys.stdlib_module_names else "an installed module"
    return f": {whose} of this name was imported, not {own.relative_to(Path.cwd())}: give the file another name"


def _own_file(module: str) -> Path | None:
    here = Path.cwd()
    return next((file for file in (here / f"{module}.py", here / module / "__init__.py") if file.is_file()), None)


def _defines(file: Path | None, name: str) -> bool:
    """Return whether a module's file defines a name, or its folder holds a module of this name."""
    if file is None:
        return False
    if file.name == "__init__.py" and any((file.parent / each).exists() for each in (f"{name}.py", name)):
        return True
    defining = rf"^(class|def)\s+{name}\b|^{name}\s*[:=]|^from\s.*\bimport\b.*\b{name}\b"
    return re.search(defining, file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None
