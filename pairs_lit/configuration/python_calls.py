"""Context in which the Python API runs commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT

from pairs_lit.errors import Stopped
from pairs_lit.system.console import any_encoding
from pairs_lit.system.libraries import ONE_AT_A_TIME, quiet_other_packages
from pairs_lit.system.signals import is_stoppable, stoppable
from pairs_lit.system.user_modules import import_from_here


@contextmanager
def python_api_context() -> Iterator[None]:
    """Set up the process for a command that is called from Python.

    Commands of several threads run one after the other, modules in the current folder can be imported, and Ctrl-C
    raises KeyboardInterrupt.
    """
    with ONE_AT_A_TIME, any_encoding():
        within_command = is_stoppable()
        try:
            with stoppable():
                import_from_here()
                quiet_other_packages()
                yield
        except Stopped as stop:
            if within_command or stop.code != 128 + SIGINT:
                raise
            raise KeyboardInterrupt from None  # as usual in Python; Lightning would end the whole process
