"""Signals: SIGINT and SIGTERM end a command, a fit between two steps; SIGUSR1 has a fit save and end at an epoch."""

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
"""The signal that asked for an end while that was postponed."""

_failed: queue.SimpleQueue[Exception] = queue.SimpleQueue()
"""What went wrong in another worker."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn signals into :class:`~pairs_lit.errors.Stopped`; restore the former handlers on leaving.

    Only a main thread can handle signals; in any other thread, a notebook's worker for instance, nothing is changed.
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
    """Say whether a command listens already."""
    return signal.getsignal(signal.SIGINT) is _stop


def _stop(number: int, _frame: FrameType | None) -> None:
    if _postponing.is_set() and not _asked:
        _asked.append(number)
        return
    _end(number)


def _end(number: int) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM, *_ANNOUNCING):
        signal.signal(each, signal.SIG_IGN)  # stopping is under way: a second signal must not break it
    raise Stopped(number)


def _announce(number: int, _frame: FrameType | None) -> None:
    _announced.set()
    if not _postponing.is_set():
        _end(number)


@contextmanager
def postponed() -> Iterator[None]:
    """Only note signals, for :func:`check_asked` and :func:`check_announced` to find where work can go on from.

    An exception out of nowhere may be lost in a destructor, or leave another thread's queue locked. A second SIGINT or
    SIGTERM ends the command at once.
    """
    _postponing.set()
    try:
        yield
    finally:
        _postponing.clear()


def ask_to_end(failure: Exception) -> None:
    """Have this worker end at its next :func:`check_asked`, since another one has failed."""
    _failed.put(failure)


def forget_failures() -> None:
    """Forget what went wrong in workers of an earlier fit."""
    while not _failed.empty():
        _failed.get()


def check_asked(patience: float = 0.0) -> None:
    """Stop here, if a signal or another worker's failure asks for an end.

    Args:
        patience: How many seconds to wait for the news that another worker has failed.

    Raises:
        Stopped: A signal has arrived.
        Exception: What went wrong in another worker.
    """
    if _asked:
        _end(_asked[0])
    with suppress(queue.Empty):
        raise _failed.get(block=patience > 0, timeout=patience)


def announce() -> None:
    """Take note that the end of the job was announced to another worker."""
    _announced.set()


def announced() -> bool:
    """Say whether the end of the job was announced."""
    return _announced.is_set()


def check_announced(going_on: str | None = None) -> None:
    """Stop here, if the end of the job was announced.

    Args:
        going_on: The command that resumes from here, if it is known.

    Raises:
        Stopped: It was.
    """
    if announced():
        raise Stopped(_ANNOUNCING[0], going_on)
