"""User files that contain the code of a network, and their digests."""

import ast
import hashlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from pairs_lit.system.tracebacks import is_user_file


@dataclass(frozen=True)
class CodeFiles:
    """User files that define the parts of a network, or that these files import.

    Attributes:
        part_modules: Names of the modules that define the parts themselves.
        paths: File of each module, by the module's name; includes imported modules that are user files.
        digests: Digest of each file, by the module's name: the first 16 hexadecimal digits of its SHA-256.
    """

    part_modules: list[str]
    paths: dict[str, Path]
    digests: dict[str, str]

    @classmethod
    def find(cls, parts: Iterable[object]) -> "CodeFiles":
        """Find the files of parts: classes, functions, partial calls or import paths (``my_nets.Small``)."""
        names = dict.fromkeys(name for part in parts for name in _iterate_modules(part))
        paths = _find_files([name for name in names if name in sys.modules])
        digests = {name: _compute_digest(path) for name, path in paths.items()}
        return cls([name for name in names if name in paths], paths, digests)

    def format_changed(self, before: Mapping[str, str]) -> str:
        """Return the names of the changed files, such as ``my_nets.py, helpers.py``, or an empty string.

        Args:
            before: Earlier digests, by the module's name; modules that are missing there count as unchanged.
        """
        return self._join_file_names(
            name for name, digest in self.digests.items() if before.get(name, digest) != digest
        )

    @property
    def part_file_names(self) -> str:
        """The names of the files that define the parts themselves, or an empty string if none is a user file."""
        return self._join_file_names(self.part_modules)

    def _join_file_names(self, names: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(self.paths[name].name for name in names))


def _iterate_modules(part: object) -> Iterator[str]:
    """Yield the names of the modules that define a part or its arguments; for a text, every possible module name."""
    match part:
        case str():
            name = part
            while "." in name:
                name = name.rpartition(".")[0]
                yield name
        case partial():
            for component in (part.func, *part.args, part.keywords):
                yield from _iterate_modules(component)
        case Mapping():
            for value in part.values():
                yield from _iterate_modules(value)
        case list() | tuple():
            for item in part:
                yield from _iterate_modules(item)
        case _:
            module = getattr(part, "__module__", None)
            yield from [module] if isinstance(module, str) else []


def _find_files(names: list[str]) -> dict[str, Path]:
    """Return the user files of these modules and of all modules that they import, directly or indirectly."""
    paths: dict[str, Path] = {}
    queue = list(names)
    while queue:
        name = queue.pop(0)
        path = _find_user_file(sys.modules[name])
        if name not in paths and path is not None:
            paths[name] = path
            queue += [imported for imported in _parse_imports(path, sys.modules[name]) if imported in sys.modules]
    return paths


def _find_user_file(module: ModuleType) -> Path | None:
    """Return a module's source file, or None if it is no user file."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or not is_user_file(file):
        return None
    return Path(file)


def _parse_imports(path: Path, module: ModuleType) -> Iterator[str]:
    """Yield every name that a file imports, at any level of its code; not every name is a module."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Python has warned of the syntax when it imported the file
            tree = ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError):  # the file was removed or changed after its import
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = str(getattr(module, "__package__", None) or "").split(".")
            base = ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])])
            source = base if node.level else str(node.module)
            yield from (source, *(f"{source}.{alias.name}" for alias in node.names))


def _compute_digest(path: Path) -> str:
    try:
        content = path.read_bytes().replace(b"\r\n", b"\n")  # git may change line ends on Windows
        return hashlib.sha256(content).hexdigest()[:16]
    except OSError:  # the file was removed after its import
        return ""
