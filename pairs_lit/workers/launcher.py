"""Launching: starts the other workers of a fit on this machine, watches over them, and ends them with it."""

import contextvars
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from lightning.pytorch.strategies.launchers.launcher import _Launcher

from pairs_lit.errors import PairsLitError, Stopped, WorkerError
from pairs_lit.system.signals import ask_to_end, check_asked, forget_failures
from pairs_lit.system.tracebacks import place_of, reason_of
from pairs_lit.workers.communication import GOING_ON

_SET_DEATH_SIGNAL = 1  # prctl's name for it, from Linux's sys/prctl.h


def can_fork(device: torch.device) -> bool:
    """Say whether workers may be forked: not where a GPU is in use, whose state does not survive it."""
    return sys.platform == "linux" and device.type == "cpu" and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch's


class Launcher(_Launcher):
    """Starts workers 1, 2 and so on beside this process, which is worker 0; all run the same function.

    Forked workers share this process's memory. Where that is not safe, each starts the command once more.

    Args:
        count: How many workers there are, this one included.
        meeting: Takes a port, at which the workers meet until it is left.
        become: Called in each forked worker with its number.
        again: Called in each worker that is a new process, with its number and the port; None: workers are forked.
    """

    def __init__(
        self,
        count: int,
        meeting: Callable[[], AbstractContextManager[int]],
        become: Callable[[int], None],
        again: Callable[[int, int], None] | None,
    ) -> None:
        self._count = count
        self._meeting = meeting
        self._become = become
        self._again = again
        self._others: list[BaseProcess] = []

    @property
    def is_interactive_compatible(self) -> bool:
        """Whether it works in a notebook."""
        return self._again is None or self._count == 1

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401 - Lightning's
        """Run a function in all workers; return what it returns in this one."""
        if self._count == 1:
            return function(*args, **kwargs)

        def forked(rank: int) -> None:
            self._others = []  # they are siblings now
            self._become(rank)
            function(*args, **kwargs)

        again = self._again
        with self._meeting() as port, self._beside(forked if again is None else partial(_at_port, again, port)):
            return function(*args, **kwargs)

    @contextmanager
    def _beside(self, run: Callable[[int], None]) -> Iterator[None]:
        """Have the others work, too; end them if this one fails, and wait for them if not."""
        context: Any = multiprocessing.get_context("fork" if self._again is None else "spawn")
        ends = []
        try:
            for rank in range(1, self._count):
                end, other_end = context.Pipe(duplex=False)
                ends.append(end)
                process = context.Process(target=_work, args=(rank, os.getpid(), run, other_end))
                with _later():
                    process.start()
                    self._others.append(process)
        except BaseException:  # a signal between two starts
            self.kill(signal.SIGKILL)
            raise
        watch = threading.Thread(target=self._watch, args=(ends,), daemon=True)
        watch.start()
        try:
            yield
            watch.join()
            check_asked()
        except BaseException:
            self.kill(signal.SIGKILL)
            raise
        finally:
            watch.join()
            self._others = []
            forget_failures()

    def _watch(self, ends: list[Connection]) -> None:
        """Ask this worker to end as soon as another one has failed."""
        left: dict[Any, tuple[int, BaseProcess]] = {
            process.sentinel: (rank, process) for rank, process in enumerate(self._others, 1)
        }
        while left:
            for sentinel in wait(list(left)):
                rank, process = left.pop(sentinel)
                process.join()
                if process.exitcode != 0:
                    ask_to_end(_failure(rank, process, ends[rank - 1]))

    def kill(self, signum: Any) -> None:  # noqa: ANN401 - Lightning's
        """Send the other workers a signal."""
        for process in self._others:
            if process.is_alive() and process.pid is not None:
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(process.pid, signum)


_SIGNALS = () if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def _later() -> Iterator[None]:
    """Hold signals back: until a worker has handlers of its own, it would end with a trace of ours."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _at_port(again: Callable[[int, int], None], port: int, rank: int) -> None:
    again(rank, port)


_HINTS = {
    -signal.SIGKILL: " (out of memory?)",
    1: ' (does the script call pairs_lit.fit under if __name__ == "__main__" only?)',  # it could not even begin
}


def _failure(rank: int, process: BaseProcess, end: Connection) -> Exception:
    """Return what ended a worker: its own error, or what the system did to it."""
    with suppress(EOFError):  # it had no time to say anything
        if end.poll():
            failed: Exception = end.recv()
            return failed
    code = process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    hint = _HINTS.get(code, "")
    return PairsLitError(f"worker {rank} (process {process.pid}) was {how}{hint}; {GOING_ON}.")


def _work(rank: int, parent: int, run: Callable[[int], None], end: Connection) -> None:
    """Be another worker: silent, since the first one speaks for all, and never without it."""
    _end_with(parent)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    failed: list[BaseException] = []
    thread = threading.Thread(target=contextvars.copy_context().run, args=(_noted, run, rank, failed))
    thread.start()  # a forked process has none of OpenMP's threads; its main thread would wait for them for ever
    thread.join()
    if failed:
        end.send(_portable(failed[0]))
        os._exit(1)


def _noted(run: Callable[[int], None], rank: int, failed: list[BaseException]) -> None:
    try:
        run(rank)
    except BaseException as error:  # whatever a module of the user's raises
        failed.append(error)


def _portable(error: BaseException) -> Exception:
    """Return an error that another process can show; one of a class of the user's may not survive the way."""
    if isinstance(error, PairsLitError):
        return PairsLitError(str(error))
    if isinstance(error, Stopped):
        return PairsLitError(f"a worker was stopped by {error}; {GOING_ON}.")
    return WorkerError(f"{reason_of(error)} ({place_of(error)})")


def _end_with(parent: int) -> None:
    """Have Linux end this process when its parent ends, however it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)
