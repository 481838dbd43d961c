"""Signal handling: SIGINT and SIGTERM stop a command; SIGUSR1 announces the end of a Slurm job.

A fit stops between two steps after SIGINT or SIGTERM, and saves and stops at the end of an epoch after SIGUSR1.
"""

import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from pairs_lit.errors import Stopped

_ANNOUNCING: tuple[signal.Signals, ...] = () if sys.platform == "win32" else (signal.SIGUSR1,)
_postponing = threading.Event()
_announced = threading.Event()
_asked: list[int] = []
"""The first SIGINT or SIGTERM that arrived while signals were deferred; empty if none has."""

_failed: queue.SimpleQueue[Exception] = queue.SimpleQueue()
"""The errors of other workers."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn signals into :class:`~pairs_lit.errors.Stopped`; restore the former handlers at the end of the context.

    Only the main thread can handle signals. In any other thread, such as a notebook's worker, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread() or is_stoppable():
        yield
        return
    _announced.clear()
    _asked.clear()
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    before |= {number: signal.signal(number, _announce) for number in _ANNOUNCING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_stoppable() -> bool:
    """Return whether a command is already handling signals."""
    return signal.getsignal(signal.SIGINT) is _stop


def _stop(number: int, _frame: FrameType | None) -> None:
    if _postponing.is_set() and not _asked:
        _asked.append(number)
        return
    _end(number)


def _end(number: int) -> NoReturn:
    for handled_signal in (signal.SIGINT, signal.SIGTERM, *_ANNOUNCING):
        signal.signal(handled_signal, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    raise Stopped(number)


def _announce(number: int, _frame: FrameType | None) -> None:
    _announced.set()
    if not _postponing.is_set():
        _end(number)


@contextmanager
def postponed() -> Iterator[None]:
    """Defer signals until :func:`check_asked` or :func:`check_announced` is called, where work can be resumed from.

    An exception raised at an arbitrary moment may be lost in a destructor, or leave another thread's queue locked. A
    second SIGINT or SIGTERM is not deferred, but stops the command at once.
    """
    _postponing.set()
    try:
        yield
    finally:
        _postponing.clear()


def ask_to_end(failure: Exception) -> None:
    """Report that another worker has failed, so that the next :func:`check_asked` raises its error here."""
    _failed.put(failure)


def forget_failures() -> None:
    """Discard the errors of workers of an earlier fit."""
    while not _failed.empty():
        _failed.get()


def check_asked(patience: float = 0.0) -> None:
    """Raise if a stop signal was deferred or another worker has failed.

    Args:
        patience: How many seconds to wait for a report that another worker has failed.

    Raises:
        Stopped: SIGINT or SIGTERM has arrived.
        Exception: The error of another worker.
    """
    if _asked:
        _end(_asked[0])
    with suppress(queue.Empty):
        raise _failed.get(block=patience > 0, timeout=patience)


def announce() -> None:
    """Record that the end of the job was announced to another worker."""
    _announced.set()


def announced() -> bool:
    """Return whether the end of the job was announced, to this worker or to another one."""
    return _announced.is_set()


def check_announced(going_on: str | None = None) -> None:
    """Raise if the end of the job was announced.

    Args:
        going_on: The command that resumes the work from here, or None if it is unknown.

    Raises:
        Stopped: The end was announced.
    """
    if announced():
        raise Stopped(_ANNOUNCING[0], going_on)
