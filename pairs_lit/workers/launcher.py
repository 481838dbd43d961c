"""Launcher that starts the other workers of a fit on this machine, watches them, and ends them with this process."""

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
from pairs_lit.system.signals import clear_worker_failures, raise_if_stopped, report_worker_failure
from pairs_lit.system.tracebacks import format_reason, locate_error
from pairs_lit.workers.communication import RESUME_HINT

_PR_SET_PDEATHSIG = 1  # PR_SET_PDEATHSIG in Linux's sys/prctl.h


def can_fork(device: torch.device) -> bool:
    """Return whether workers can be forked: on Linux, if no GPU is in use, because CUDA does not survive a fork."""
    return sys.platform == "linux" and device.type == "cpu" and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch's


class Launcher(_Launcher):
    """Launcher of workers 1, 2 and so on, which run the same function as this process, worker 0.

    Workers are forked, so that they share the memory of this process. If that is not safe, each worker is a new process
    that runs the command again.

    Args:
        count: The number of workers, including this one.
        meeting: A context manager that reserves the port at which the workers meet.
        become: Called in each forked worker with its rank.
        again: Called in each worker that is a new process, with its rank and the port; None if workers are forked.
    """

    def __init__(
        self,
        count: int,
        meeting: Callable[[], AbstractContextManager[int]],
        become: Callable[[int], None],
        again: Callable[[int, int], None] | None,
    ) -> None:
        self._worker_count = count
        self._open_meeting = meeting
        self._become_worker = become
        self._rerun_as_worker = again
        self._other_workers: list[BaseProcess] = []

    @property
    def is_interactive_compatible(self) -> bool:
        """Whether the launcher works in a notebook."""
        return self._rerun_as_worker is None or self._worker_count == 1

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401 - Lightning's
        """Run a function in all workers, and return its result in this one."""
        if self._worker_count == 1:
            return function(*args, **kwargs)

        def run_forked(rank: int) -> None:
            self._other_workers = []  # in a forked worker, the other workers are siblings, not children
            self._become_worker(rank)
            function(*args, **kwargs)

        again = self._rerun_as_worker
        with (
            self._open_meeting() as port,
            self._run_with_workers(run_forked if again is None else partial(_rerun_at_port, again, port)),
        ):
            return function(*args, **kwargs)

    @contextmanager
    def _run_with_workers(self, run: Callable[[int], None]) -> Iterator[None]:
        """Run the other workers during the context; at its end, wait for them, or kill them if this worker failed."""
        context: Any = multiprocessing.get_context("fork" if self._rerun_as_worker is None else "spawn")
        receivers = []
        try:
            for rank in range(1, self._worker_count):
                receiver, sender = context.Pipe(duplex=False)
                receivers.append(receiver)
                process = context.Process(target=_worker_main, args=(rank, os.getpid(), run, sender))
                with _block_signals():
                    process.start()
                    self._other_workers.append(process)
        except BaseException:  # such as a signal between two starts
            self.kill(signal.SIGKILL)
            raise
        watch = threading.Thread(target=self._watch_workers, args=(receivers,), daemon=True)
        watch.start()
        try:
            yield
            watch.join()
            raise_if_stopped()
        except BaseException:
            self.kill(signal.SIGKILL)
            raise
        finally:
            watch.join()
            self._other_workers = []
            clear_worker_failures()

    def _watch_workers(self, receivers: list[Connection]) -> None:
        """Wait until all other workers have ended, and report those that failed so that this worker stops."""
        running: dict[Any, tuple[int, BaseProcess]] = {
            process.sentinel: (rank, process) for rank, process in enumerate(self._other_workers, 1)
        }
        while running:
            for sentinel in wait(list(running)):
                rank, process = running.pop(sentinel)
                process.join()
                if process.exitcode != 0:
                    report_worker_failure(_receive_failure(rank, process, receivers[rank - 1]))

    def kill(self, signum: Any) -> None:  # noqa: ANN401 - Lightning's
        """Send the other workers a signal."""
        for process in self._other_workers:
            if process.is_alive() and process.pid is not None:
                with suppress(ProcessLookupError):  # the process may have ended in the meantime
                    os.kill(process.pid, signum)


_HANDLED_SIGNALS = () if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def _block_signals() -> Iterator[None]:
    """Block signals while a worker starts: until it has set its handlers, it would use those of this process."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _rerun_at_port(again: Callable[[int, int], None], port: int, rank: int) -> None:
    """Call ``again`` with the port as its second argument, which ``partial`` cannot fix by position."""
    again(rank, port)


_EXIT_CODE_HINTS = {
    -signal.SIGKILL: " (out of memory?)",
    # A worker that exits with 1 and sends no error failed before it could run, when it imported the user's script.
    1: ' (does the script call pairs_lit.fit outside if __name__ == "__main__"?)',
}


def _receive_failure(rank: int, process: BaseProcess, receiver: Connection) -> Exception:
    """Return the error that a worker has sent, or one that states its exit code or the signal that killed it."""
    with suppress(EOFError):  # the worker was killed before it could send its error
        if receiver.poll():
            error: Exception = receiver.recv()
            return error
    code = process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    hint = _EXIT_CODE_HINTS.get(code, "")
    return PairsLitError(f"worker {rank} (process {process.pid}) {how}{hint}. {RESUME_HINT}.")


def _worker_main(rank: int, parent: int, run: Callable[[int], None], sender: Connection) -> None:
    """Run as a non-zero rank: without output, and no longer than the parent process, which is rank 0."""
    _end_with_parent(parent)
    for number in _HANDLED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED_SIGNALS)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    errors: list[BaseException] = []
    # OpenMP's threads do not survive a fork, and the main thread would wait for them forever. A new thread does not.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(_capture_error, run, rank, errors))
    thread.start()
    thread.join()
    if errors:
        sender.send(_to_portable_error(errors[0]))
        os._exit(1)


def _capture_error(run: Callable[[int], None], rank: int, errors: list[BaseException]) -> None:
    """Run a worker's function, and append the error that it raises to a list."""
    try:
        run(rank)
    except BaseException as error:  # user code may raise anything
        errors.append(error)


def _to_portable_error(error: BaseException) -> Exception:
    """Return an equivalent error that can be sent to another process; classes of users may not be picklable."""
    if isinstance(error, PairsLitError):
        return PairsLitError(str(error))
    if isinstance(error, Stopped):
        return PairsLitError(f"a worker was stopped by {error}. {RESUME_HINT}.")
    return WorkerError(f"{format_reason(error)} ({locate_error(error)})")


def _end_with_parent(parent: int) -> None:
    """Make Linux kill this process when its parent ends for whatever reason; exit now if it has already ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
