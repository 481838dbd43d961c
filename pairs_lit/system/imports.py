"""Imports of large libraries without garbage collection."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Pause garbage collection, which takes a sixth of the time of large imports and finds nothing there."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def load_libraries() -> Iterator[None]:
    """Pause garbage collection for the imports of a command, and exempt torch's objects from later collections.

    At the end of the process, the interpreter would visit the million objects of torch and Lightning several times,
    which takes a second. Only a command does this, because garbage that a script has left until now stays in memory.
    """
    had_torch = "torch" in sys.modules
    with pause_garbage_collection():
        yield
    if not had_torch and "torch" in sys.modules:
        gc.freeze()
