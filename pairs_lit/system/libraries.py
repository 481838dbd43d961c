"""Settings of other libraries, and the lock that lets only one command run per process."""

import logging
import os
import sys
import threading
import warnings
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

COMMAND_LOCK = threading.RLock()
"""Lock that a running command holds, because it changes the random generators, threads and encodings of the process."""


def quiet_other_packages() -> None:
    """Silence what matplotlib and onnxruntime print about a read-only home folder; to be called before their import."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def drop_missing_backend() -> None:
    """Unset MPLBACKEND if it names a backend that is not installed, since matplotlib could not be imported then.

    Notebooks, for example, set this variable for their own environment.
    """
    backend = os.environ.get("MPLBACKEND", "")
    if not backend or "matplotlib" in sys.modules:
        return
    exists = False
    if backend.startswith("module://"):
        with suppress(ImportError, ValueError):
            exists = find_spec(backend.removeprefix("module://")) is not None
    else:
        spec = find_spec("matplotlib")  # find_spec of the backend itself would import matplotlib
        folders = spec.submodule_search_locations or () if spec else ()
        is_builtin = any((Path(folder) / "backends" / f"backend_{backend.lower()}.py").is_file() for folder in folders)
        exists = is_builtin or bool(entry_points(group="matplotlib.backend", name=backend))
    if not exists:
        del os.environ["MPLBACKEND"]


_IMPORT_WARNING_PATTERN = r"\s*(Importing '[\w.]+' is not allowed|By default only one JsonargparseDeprecationWarning)"


def silence_libraries() -> None:
    """Silence messages that the user can do nothing about, but not requested output: profiles and layer summaries."""
    for package in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    for module in ("profilers.profiler", "callbacks.model_summary"):
        logging.getLogger(f"lightning.pytorch.{module}").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="lightning")
    # jsonargparse warns about a list of module names. A user's file may have one of these names, and the code that a
    # config names is trusted anyway.
    warnings.filterwarnings("ignore", _IMPORT_WARNING_PATTERN, DeprecationWarning)
