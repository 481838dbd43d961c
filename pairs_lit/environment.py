"""Surroundings that must not break a command: encodings, matplotlib's backend, a cluster's variables."""

import codecs
import ctypes
import io
import locale
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from pairs_lit.errors import PairsLitError

_SPELT = {"−": "-", "–": "-", "×": "x", "±": "+/-", "…": "...", "≤": "<=", "≥": ">=", "→": "->", "·": "."}

ONE_AT_A_TIME = threading.RLock()
"""Held by a command: random generators, threads and encodings belong to the whole process."""


def import_from_here() -> None:
    """Let classes of the user's be imported from the current folder, beside which they lie."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


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
