"""Surroundings that must not break a command: encodings, names of modules, matplotlib's backend, home folders."""

import codecs
import ctypes
import io
import locale
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from pairs_lit.errors import PairsLitError

_SPELT = {"−": "-", "–": "-", "×": "x", "±": "+/-", "…": "...", "≤": "<=", "≥": ">=", "→": "->", "·": "."}

ONE_AT_A_TIME = threading.RLock()
"""Held by a command: random generators, threads and encodings belong to the whole process."""


def import_from_here() -> None:
    """Let classes of the user's be imported from the current folder, beside which they lie."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


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


def _spelt(error: UnicodeError) -> tuple[str, int]:
    """Write characters that an output stream cannot show in plain letters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELT.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error("pairs_lit.spelt", _spelt)


@contextmanager
def any_encoding() -> Iterator[None]:
    """Read every file and the input as UTF-8, and replace characters that the output streams cannot show."""
    with ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="pairs_lit.spelt")
        if locale.getencoding().lower() != "utf-8":  # the locale's is that of files that libraries open
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8")
            stack.callback(locale.setlocale, locale.LC_CTYPE, locale.setlocale(locale.LC_CTYPE))
            for name in ("C.UTF-8", "UTF-8", "en_US.UTF-8"):  # Linux, macOS, elsewhere
                with suppress(locale.Error):
                    locale.setlocale(locale.LC_CTYPE, name)
                    break
        yield


def quiet_other_packages() -> None:
    """Keep matplotlib and onnxruntime from writing about a home folder that they cannot write to, before they load."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def drop_missing_backend() -> None:
    """Ignore a matplotlib backend that is not installed, such as one set by a notebook; matplotlib would not load."""
    backend = os.environ.get("MPLBACKEND", "")
    if not backend or "matplotlib" in sys.modules:
        return
    exists = False
    if backend.startswith("module://"):
        with suppress(ImportError, ValueError):
            exists = find_spec(backend.removeprefix("module://")) is not None
    else:
        found = find_spec("matplotlib")  # not that of the backend: it would load matplotlib
        folders = found.submodule_search_locations or () if found else ()
        own = any((Path(folder) / "backends" / f"backend_{backend.lower()}.py").is_file() for folder in folders)
        exists = own or bool(entry_points(group="matplotlib.backend", name=backend))
    if not exists:
        del os.environ["MPLBACKEND"]


def user_path(text: str | Path) -> Path:
    """Return a path with ``~``, ``~/…`` and ``~name/…`` replaced, as a shell does; refuse a home that is none."""
    if not is_in_home(str(text)):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise PairsLitError(f"{text}: there is no such home folder; give the path in full.") from error


def is_in_home(text: str) -> bool:
    """Say whether a text is such a path."""
    return re.match(r"~(/|$|[\w.-]+/)", text) is not None


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them, from glibc's malloc.h
_LARGEST_BLOCK, _KEPT = 2**30, 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to reuse freed blocks of up to 1 GiB, and to keep up to 2 GiB of them, in the whole process.

    Steps allocate and free the same tens of megabytes; the kernel maps and zeroes them more slowly than we compute.

    Returns:
        Whether the C library accepted it; without Linux and glibc, nothing is done.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT))


@contextmanager
def no_search_for_gpus() -> Iterator[None]:
    """Where there is no GPU, keep torch's optimizers from looking for one in every step.

    Lightning has torch ask NVIDIA's management library, which fails anew each time.
    """
    import torch

    before = os.environ.get(_ASK_LIBRARY)
    if before != "1" or torch.cuda.is_available():
        yield
        return
    os.environ[_ASK_LIBRARY] = "0"
    try:
        yield
    finally:
        os.environ[_ASK_LIBRARY] = before


_ASK_LIBRARY = "PYTORCH_NVML_BASED_CUDA_CHECK"
