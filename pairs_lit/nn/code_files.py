"""The user's own Python files that hold the code of a network, and digests of them."""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from pairs_lit.system.tracebacks import is_user_file


@dataclass(frozen=True)
class CodeFiles:
    """The user's own files that hold some code.

    Attributes:
        named: The modules of the classes and functions themselves.
        paths: By the name of its module, the file of each of these and of the user's modules that they import.
        digests: Likewise, the SHA-256 of each file.
    """

    named: list[str]
    paths: dict[str, Path]
    digests: dict[str, str]

    @classmethod
    def of(cls, parts: Iterable[object]) -> "CodeFiles":
        """Find the files of classes, functions, partial calls, and texts that name such (``my_nets.Small``)."""
        names = dict.fromkeys(name for part in parts for name in _modules_of(part))
        every = _with_imports([name for name in names if name in sys.modules])
        digests = {name: _digest(path) for name, path in every.items()}
        return cls([name for name in names if name in every], every, digests)

    def changed(self, before: Mapping[str, str]) -> str:
        """Return the names of the files whose digests were others before, ``my_nets.py, helpers.py``; or nothing."""
        return self._joined(name for name, digest in self.digests.items() if before.get(name, digest) != digest)

    @property
    def names(self) -> str:
        """The names of the files of the classes and functions themselves; empty if none is the user's own."""
        return self._joined(self.named)

    def _joined(self, names: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(self.paths[name].name for name in names))


def _modules_of(part: object) -> Iterator[str]:
    """Yield the names of the modules in which a class, a function or what it is called with is defined."""
    match part:
        case str():
            name = part
            while "." in name:
                name = name.rpartition(".")[0]
                yield name
        case partial():
            for each in (part.func, *part.args, part.keywords):
                yield from _modules_of(each)
        case Mapping():
            for each in part.values():
                yield from _modules_of(each)
        case list() | tuple():
            for each in part:
                yield from _modules_of(each)
        case _:
            module = getattr(part, "__module__", None)
            yield from [module] if isinstance(module, str) else []


def _with_imports(names: list[str]) -> dict[str, Path]:
    """Return the user's own files by module, with those that they import, directly or not."""
    found: dict[str, Path] = {}
    left = list(names)
    while left:
        name = left.pop(0)
        path = _file_of(sys.modules[name])
        if name not in found and path is not None:
            found[name] = path
            left += [other for other in _imports(path, sys.modules[name]) if other in sys.modules]
    return found


def _file_of(module: ModuleType) -> Path | None:
    """Return a module's source file, or None if it has none or is not the user's own."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or not is_user_file(file):
        return None
    return Path(file)


def _imports(path: Path, module: ModuleType) -> Iterator[str]:
    """Yield the names of what a file imports, wherever in it; some may be no modules."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError):  # it has gone, or changed since it was imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = str(getattr(module, "__package__", None) or "").split(".")
            base = ".".join([*above[: len(above) + 1 - node.level], *filter(None, [node.module])])
            source = base if node.level else str(node.module)
            yield from (source, *(f"{source}.{alias.name}" for alias in node.names))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:  # it has gone since it was imported
        return ""
