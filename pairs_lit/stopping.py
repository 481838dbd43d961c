"""Signals: SIGINT and SIGTERM stop a command at once; SIGUSR1, which announces the end of a cluster's job, waits."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pairs_lit.errors import Stopped

_ANNOUNCING: tuple[signal.Signals, ...] = () if sys.platform == "win32" else (signal.SIGUSR1,)
_postponing = threading.Event()
_announced = threading.Event()


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn signals into :class:`~pairs_lit.errors.Stopped`; put the former handlers back on leaving.

    Only a main thread can: elsewhere, in a notebook's worker for instance, signals are left to who owns it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _announced.clear()
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    before |= {number: signal.signal(number, _announce) for number in _ANNOUNCING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, *_ANNOUNCING):
        signal.signal(each, signal.SIG_IGN)  # stopping is under way: a second signal must not break it
    raise Stopped(number)


def _announce(number: int, frame: FrameType | None) -> None:
    _announced.set()
    if not _postponing.is_set():
        _stop(number, frame)


@contextmanager
def postponed() -> Iterator[None]:
    """Only note an announcement, for :func:`check_announced` to find where work can go on from."""
    _postponing.set()
    try:
        yield
    finally:
        _postponing.clear()


def announced() -> bool:
    """Say whether the end of the job was announced."""
    return _announced.is_set()


def check_announced(going_on: str | None = None) -> None:
    """Stop here, if the end of the job was announced.

    Args:
        going_on: What goes on from here, where that is known.

    Raises:
        Stopped: It was.
    """
    if announced():
        raise Stopped(_ANNOUNCING[0], going_on)
