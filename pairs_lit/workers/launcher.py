"""Launcher that starts the other workers of a fit on this machine, watches them, and ends them with this process."""

import contextvars
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cloudpickle
from lightning.pytorch.strategies.launchers.launcher import _Launcher

from pairs_lit.errors import PairsLitError, Stopped, WorkerError
from pairs_lit.system.processes import StartMethod, allow_fork_with_threads, describe_exit, end_with_parent
from pairs_lit.system.signals import (
    block_signals,
    clear_worker_failures,
    handle_signals_in_worker,
    raise_if_stopped,
    report_worker_failure,
)
from pairs_lit.system.tracebacks import format_reason, locate_error
from pairs_lit.workers.communication import RESUME_HINT
from pairs_lit.workers.pipes import PipeChannel


class NewWorker:
    """Function that a new process runs as a worker, in a form that can be sent to it with classes of scripts and cells.

    Args:
        run: The function. Its argument is the worker's channel.

    Raises:
        PairsLitError: The function refers to an object that cannot be sent to another process.
    """

    def __init__(self, run: Callable[[PipeChannel], None]) -> None:
        try:
            self._data: bytes = cloudpickle.dumps(run)
        except Exception as error:  # objects of users may raise anything
            raise PairsLitError(
                f"workers cannot be started as new processes, because an object cannot be sent to them "
                f"({format_reason(error)}). Set trainer.devices to 1, or make the object picklable by cloudpickle."
            ) from error

    def __call__(self, channel: PipeChannel) -> None:
        """Run the function."""
        cloudpickle.loads(self._data)(channel)


class Launcher(_Launcher):
    """Launcher of workers 1, 2 and so on, which train like this process, worker 0.

    Forked workers share the memory of this process, and continue as this process does. Workers that are new processes
    run the command again.

    Args:
        count: The number of workers, including this one.
        method: How workers start.
        set_channel: Called in this process and in each forked worker with its channel; in this process, called with
            None at the end.
        rerun: Runs the command again in a new process, as the worker with the given channel; None if workers are
            forked.
    """

    def __init__(
        self,
        count: int,
        method: StartMethod,
        set_channel: Callable[[PipeChannel | None], None],
        rerun: Callable[[PipeChannel], None] | None,
    ) -> None:
        self._worker_count = count
        self._method = method
        self._set_channel = set_channel
        self._rerun_as_worker = rerun
        self._other_workers: list[BaseProcess] = []

    @property
    def _guard_hint(self) -> str:
        """A hint for a worker that fails before it can run, or an empty text if it does not import a user's script."""
        return f" {_GUARD_HINT}" if self._method == "spawn" and _is_user_script() else ""

    @property
    def is_interactive_compatible(self) -> bool:
        """Whether the launcher works in a notebook."""
        return True

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401 - Lightning's
        """Run a function in all workers, and return its result in this one."""
        if self._worker_count == 1:
            return function(*args, **kwargs)

        def run_forked(channel: PipeChannel) -> None:
            self._other_workers = []  # in a forked worker, the other workers are siblings, not children
            self._set_channel(channel)
            function(*args, **kwargs)

        rerun = self._rerun_as_worker
        with self._run_with_workers(run_forked if rerun is None else NewWorker(rerun)) as channel:
            self._set_channel(channel)
            return function(*args, **kwargs)

    @contextmanager
    def _run_with_workers(self, run: Callable[[PipeChannel], None]) -> Iterator[PipeChannel]:
        """Run the other workers during the context; at its end, wait for them, or kill them if this worker failed."""
        pipes, receivers = list[Connection](), list[Connection]()
        watch = threading.Thread(target=self._watch_workers, args=(receivers,), daemon=True)
        try:
            for rank in range(1, self._worker_count):
                self._start_worker(rank, run, pipes, receivers)
            watch.start()
            yield PipeChannel(0, pipes)
            watch.join()
            raise_if_stopped()
        except BaseException:  # such as a signal between two starts
            self._kill_workers()
            raise
        finally:
            if watch.ident is not None:
                watch.join()
            for connection in (*pipes, *receivers):
                connection.close()
            self._other_workers = []
            self._set_channel(None)
            clear_worker_failures()

    def _start_worker(
        self, rank: int, run: Callable[[PipeChannel], None], pipes: list[Connection], receivers: list[Connection]
    ) -> None:
        """Start a worker, and append the connections to it: its pipe, and the receiver of the error that ends it."""
        context: Any = multiprocessing.get_context(self._method)
        pipe, worker_pipe = context.Pipe()
        receiver, sender = context.Pipe(duplex=False)
        pipes.append(pipe)
        receivers.append(receiver)
        process = context.Process(target=_worker_main, args=(rank, os.getpid(), run, worker_pipe, sender))
        with block_signals(), allow_fork_with_threads(), _explain_failed_start(rank, self._guard_hint):
            process.start()
            self._other_workers.append(process)
        worker_pipe.close()  # so that this process, and workers forked later, do not keep the worker's ends open
        sender.close()

    def _watch_workers(self, receivers: Sequence[Connection]) -> None:
        """Wait until all other workers have ended, and report those that failed so that this worker stops."""
        running: dict[Any, tuple[int, BaseProcess]] = {
            process.sentinel: (rank, process) for rank, process in enumerate(self._other_workers, 1)
        }
        while running:
            for sentinel in wait(list(running)):
                rank, process = running.pop(sentinel)
                process.join()
                if process.exitcode != 0:
                    failure = _receive_failure(rank, process, receivers[rank - 1], self._guard_hint)
                    report_worker_failure(failure)

    def kill(self, signum: Any) -> None:  # noqa: ANN401 - Lightning's
        """End the other workers: ask them to stop with SIGTERM, or kill them with any other signal."""
        if signum != signal.SIGTERM:
            self._kill_workers()
            return
        for process in self._other_workers:
            process.terminate()

    def _kill_workers(self) -> None:
        """Kill the other workers."""
        for process in self._other_workers:
            process.kill()


@contextmanager
def _explain_failed_start(rank: int, guard_hint: str) -> Iterator[None]:
    """Replace the error of a process that could not be started, or ended while it was being started."""
    try:
        yield
    except OSError as error:
        raise PairsLitError(f"worker {rank} could not be started ({format_reason(error)}){guard_hint}.") from error


_GUARD_HINT = '(does the script call pairs_lit.fit outside if __name__ == "__main__"?). Put it under this condition'
"""Hint if a worker that imports the user's script exits with 1 and sends no error, or cannot be started."""


def _is_user_script() -> bool:
    """Return whether this process runs a script of the user, which a new process imports."""
    file = getattr(sys.modules["__main__"], "__file__", None)  # a notebook has none
    return file is not None and sys.modules["__main__"].__spec__ is None and Path(file).stem != "pairs-lit"


def _receive_failure(rank: int, process: BaseProcess, receiver: Connection, guard_hint: str) -> Exception:
    """Return the error that a worker has sent, or one that states its exit code or the signal that killed it."""
    with suppress(EOFError, OSError):  # the worker was killed before it could send its error; OSError: on Windows
        if receiver.poll():
            error: Exception = receiver.recv()
            return error
    code = process.exitcode or 0
    hint = guard_hint if code == 1 and guard_hint else f". {RESUME_HINT}"
    return PairsLitError(f"worker {rank} (process {process.pid}) {describe_exit(code)}{hint}.")


def _worker_main(
    rank: int, parent: int, run: Callable[[PipeChannel], None], pipe: Connection, sender: Connection
) -> None:
    """Run as a non-zero rank: without output, and no longer than the parent process, which is rank 0."""
    end_with_parent(parent)
    handle_signals_in_worker()
    silence = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
    os.dup2(silence.fileno(), 1)
    os.dup2(silence.fileno(), 2)
    sys.stdout = sys.stderr = silence  # a notebook's streams do not write to these descriptors
    errors: list[BaseException] = []
    # OpenMP's threads do not survive a fork, and the main thread would wait for them forever. A new thread does not.
    task = (_capture_error, run, PipeChannel(rank, [pipe]), errors)
    thread = threading.Thread(target=contextvars.copy_context().run, args=task)
    thread.start()
    thread.join()
    if errors:
        sender.send(_to_portable_error(errors[0]))
        os._exit(1)


def _capture_error(run: Callable[[PipeChannel], None], channel: PipeChannel, errors: list[BaseException]) -> None:
    """Run a worker's function, and append the error that it raises to a list."""
    try:
        run(channel)
    except BaseException as error:  # user code may raise anything
        errors.append(error)


def _to_portable_error(error: BaseException) -> Exception:
    """Return an equivalent error that can be sent to another process; classes of users may not be picklable."""
    if isinstance(error, PairsLitError):
        return PairsLitError(str(error))
    if isinstance(error, Stopped):
        return PairsLitError(f"a worker was stopped by {error}. {RESUME_HINT}.")
    return WorkerError(f"{format_reason(error)} ({locate_error(error)})")
