"""Settings of other libraries, and the lock for what belongs to the whole process."""

import logging
import os
import sys
import threading
import warnings
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

ONE_AT_A_TIME = threading.RLock()
"""Held by a command: random generators, threads and encodings belong to the whole process."""


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


_ABOUT_IMPORTS = r"\s*(Importing '[\w.]+' is not allowed|By default only one JsonargparseDeprecationWarning)"


def silence_libraries() -> None:
    """Silence what a user cannot act on, but not what was asked for: a profile, a summary of the layers."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    for asked_for in ("profilers.profiler", "callbacks.model_summary"):
        logging.getLogger(f"lightning.pytorch.{asked_for}").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="lightning")
    # jsonargparse's own list of modules: a file of the user's may have such a name, and configs name trusted code
    warnings.filterwarnings("ignore", _ABOUT_IMPORTS, DeprecationWarning)
