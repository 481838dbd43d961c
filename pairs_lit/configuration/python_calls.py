"""Context in which the Python API runs commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT

from pairs_lit.errors import Stopped
from pairs_lit.system.console import use_utf8
from pairs_lit.system.libraries import COMMAND_LOCK, quiet_other_packages
from pairs_lit.system.signals import handle_signals, is_handling_signals
from pairs_lit.system.user_modules import enable_local_imports


@contextmanager
def python_api_context() -> Iterator[None]:
    """Set up the process for a command that is called from Python.

    Commands of several threads run one after the other, modules in the current folder can be imported, and Ctrl-C
    raises KeyboardInterrupt.
    """
    with COMMAND_LOCK, use_utf8():
        within_command = is_handling_signals()
        try:
            with handle_signals():
                enable_local_imports()
                quiet_other_packages()
                yield
        except Stopped as stop:
            if within_command or stop.code != 128 + SIGINT:
                raise
            raise KeyboardInterrupt from None  # as usual in Python; Lightning would end the whole process
