"""Imports of the user's modules from the current folder."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


def enable_local_imports() -> None:
    """Add the current folder to the import path, so that the user's classes can be imported from files in it."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)


def import_path(path: str) -> Any:  # noqa: ANN401 - anything can be imported
    """Import ``module``, ``module.name`` or ``module.Class.method``, and return it.

    If a module fails to import another one, the error names that other module. ``pkgutil.resolve_name`` would report
    that the package lacks an attribute instead.

    Raises:
        ImportError: The module does not exist or cannot be imported; a user's file may also raise any other error.
        AttributeError: The module does not define the name.
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


def find_main_objects(texts: Iterable[str]) -> dict[str, object]:
    """Return the classes and functions of the user's script or notebook that texts name as ``__main__.name``."""
    main = sys.modules["__main__"]
    names = {name for text in texts for name in re.findall(r"__main__\.(\w+)", text)}
    return {name: value for name, value in vars(main).items() if name in names}


def define_main_objects(objects: Mapping[str, object]) -> None:
    """Define names in this process's main module, unless it defines them itself."""
    main = vars(sys.modules["__main__"])
    for name, value in objects.items():
        main.setdefault(name, value)


class _LocalModuleFinder(MetaPathFinder):
    """Import finder for modules in the current folder whose name Python or an installed package uses as well."""

    def __init__(self) -> None:
        self.module_names = set[str]()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of such a module, or None for all other modules."""
        return PathFinder.find_spec(fullname, [str(Path.cwd())]) if fullname in self.module_names else None


_LOCAL_MODULE_FINDER = _LocalModuleFinder()


def prefer_local_modules(text: str) -> None:
    """Make class paths such as ``test.Net`` in a text refer to the user's file if that file defines the name.

    The user's file then takes precedence over Python's module or an installed module of the same name.
    """
    for module, name in re.findall(r"(?<![\w.])([A-Za-z_]\w*)\.([A-Za-z_]\w*)", text):
        if module not in sys.modules and _has_definition(_find_local_file(module), name):
            _LOCAL_MODULE_FINDER.module_names.add(module)
    if _LOCAL_MODULE_FINDER.module_names and _LOCAL_MODULE_FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _LOCAL_MODULE_FINDER)


def describe_hidden_file(path: str) -> str:
    """Return a hint, which continues an error message, if a class path does not refer to the file of this name here.

    The hint starts with a colon. It is empty if the class path refers to this file, or if there is no such file.
    """
    module = path.partition(".")[0]
    if module == "__main__":
        return ": it was defined in the training script. Move it to a separate file, and import it from there"
    local_file, imported = _find_local_file(module), sys.modules.get(module)
    if local_file is None or imported is None:
        return ""
    if Path(getattr(imported, "__file__", None) or "").resolve() == local_file.resolve():
        return ""
    kind = "Python's own module" if module in sys.stdlib_module_names else "an installed module"
    return f": {kind} of this name was imported, not {local_file.relative_to(Path.cwd())}. Rename the file"


def _find_local_file(module: str) -> Path | None:
    """Return the file of a module or package in the current folder, or None if there is none."""
    folder = Path.cwd()
    return next((file for file in (folder / f"{module}.py", folder / module / "__init__.py") if file.is_file()), None)


def _has_definition(file: Path | None, name: str) -> bool:
    """Return whether a module's file defines or imports a name, or a package contains a module of this name."""
    if file is None:
        return False
    if file.name == "__init__.py" and any((file.parent / module).exists() for module in (f"{name}.py", name)):
        return True
    pattern = rf"^(class|def)\s+{name}\b|^{name}\s*[:=]|^from\s.*\bimport\b.*\b{name}\b"
    return re.search(pattern, file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None
