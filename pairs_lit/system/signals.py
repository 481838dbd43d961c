"""Signal handling: SIGINT and SIGTERM stop a command; SIGUSR1 announces the end of a Slurm job.

A fit stops between two steps after SIGINT or SIGTERM, and saves and stops at the end of an epoch after SIGUSR1. Windows
has no SIGUSR1, and only Ctrl+C sends SIGINT there; a process that is ended in another way gets no signal.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from pairs_lit.errors import Stopped

if sys.platform == "win32":
    _ANNOUNCEMENT_SIGNALS: tuple[signal.Signals, ...] = ()
else:
    _ANNOUNCEMENT_SIGNALS = (signal.SIGUSR1,)

_HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, *_ANNOUNCEMENT_SIGNALS)
_is_deferring = threading.Event()
_has_announcement = threading.Event()
_deferred_signals: list[int] = []
"""The first SIGINT or SIGTERM that arrived while signals were deferred; empty if none has."""

_worker_failures: queue.SimpleQueue[Exception] = queue.SimpleQueue()
"""The errors of other workers."""


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn signals into :class:`~pairs_lit.errors.Stopped`; restore the former handlers at the end of the context.

    Only the main thread can handle signals. In any other thread, such as a notebook's worker, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread() or is_handling_signals():
        yield
        return
    _has_announcement.clear()
    _deferred_signals.clear()
    before = {number: signal.signal(number, _handle_stop_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    before |= {number: signal.signal(number, _handle_announcement_signal) for number in _ANNOUNCEMENT_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_handling_signals() -> bool:
    """Return whether a command is already handling signals."""
    return signal.getsignal(signal.SIGINT) is _handle_stop_signal


def _handle_stop_signal(number: int, _frame: FrameType | None) -> None:
    if _is_deferring.is_set() and not _deferred_signals:
        _deferred_signals.append(number)
        return
    _raise_stopped(number)


def _raise_stopped(number: int) -> NoReturn:
    for handled_signal in _HANDLED_SIGNALS:
        signal.signal(handled_signal, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    raise Stopped(number)


def _handle_announcement_signal(number: int, _frame: FrameType | None) -> None:
    _has_announcement.set()
    if not _is_deferring.is_set():
        _raise_stopped(number)


@contextmanager
def block_signals() -> Iterator[None]:
    """Block signals while a worker starts: until it has set its handlers, it would use those of this process.

    Windows cannot block signals: there, Ctrl+C also interrupts workers that are still starting.
    """
    if sys.platform == "win32":
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def handle_signals_in_worker() -> None:
    """Ignore signals in a worker, which worker 0 ends, except SIGTERM, which ends it at once."""
    for number in _HANDLED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED_SIGNALS)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer signals to the next safe point: a call of :func:`raise_if_stopped` or :func:`raise_if_end_announced`.

    An exception raised at an arbitrary moment may be lost in a destructor, or leave another thread's queue locked. A
    second SIGINT or SIGTERM is not deferred, but stops the command at once.
    """
    _is_deferring.set()
    try:
        yield
    finally:
        _is_deferring.clear()


def report_worker_failure(failure: Exception) -> None:
    """Report that another worker has failed, so that the next :func:`raise_if_stopped` raises its error here."""
    _worker_failures.put(failure)


def clear_worker_failures() -> None:
    """Discard the errors of workers of an earlier fit."""
    while not _worker_failures.empty():
        _worker_failures.get()


def raise_if_stopped(patience: float = 0.0) -> None:
    """Raise if a stop signal was deferred or another worker has failed.

    Args:
        patience: How many seconds to wait for a report that another worker has failed.

    Raises:
        Stopped: SIGINT or SIGTERM has arrived.
        Exception: The error of another worker.
    """
    if _deferred_signals:
        _raise_stopped(_deferred_signals[0])
    with suppress(queue.Empty):
        raise _worker_failures.get(block=patience > 0, timeout=patience)


def mark_end_announced() -> None:
    """Record that the end of the job was announced to another worker."""
    _has_announcement.set()


def is_end_announced() -> bool:
    """Return whether the end of the job was announced, to this worker or to another one."""
    return _has_announcement.is_set()


def raise_if_end_announced(resume_command: str | None = None) -> None:
    """Raise if the end of the job was announced.

    Args:
        resume_command: The command that resumes the work from here, or None if it is unknown.

    Raises:
        Stopped: The end was announced.
    """
    if is_end_announced():
        raise Stopped(_ANNOUNCEMENT_SIGNALS[0], resume_command)
