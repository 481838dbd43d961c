"""Commands called from Python."""

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
    """Work for a caller in Python: one at a time, with the files beside the caller; Ctrl-C is a KeyboardInterrupt."""
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
            raise KeyboardInterrupt from None  # as Python does; Lightning itself would end the whole process
