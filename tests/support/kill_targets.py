"""Commands in separate processes, to kill them at some moment or to read their output.

The processes are forked from a server that has already imported PyTorch, which saves three seconds each. Settings that
Python reads when it starts (locale, OMP_NUM_THREADS) are those of the server, so tests of such settings use
``runs.process`` instead.
"""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(
    [
        "pairs_lit.commands.fit",
        "pairs_lit.commands.reproduce",
        "pairs_lit.reproduction.report_pages",
        "tests.support.kill_targets",
        "tests.support.warm_up",
    ]
)

KILL_STAGES = ("before the sync", "before the rename", "after the rename")


def start_command(arguments: list[str], dies_at: int | None = None) -> BaseProcess:
    """Start ``main(arguments)``; with ``dies_at``, it kills itself at that moment of its atomic writes."""
    process = FORK_SERVER.Process(target=_run_in_process, args=(arguments, dies_at))
    process.start()
    return process


def run_command(arguments: list[str], dies_at: int | None = None) -> int:
    """Run a command to its end and return its exit code, which is −9 if it was killed."""
    process = start_command(arguments, dies_at)
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def run_and_kill(arguments: list[str], after: float) -> int:
    """Kill a command after some seconds, and return its exit code: −9, or 0 if it had already ended."""
    process = start_command(arguments)
    process.join(after)
    process.kill()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


class Command:
    """A running command and its output."""

    def __init__(self, arguments: list[str], **environment: str) -> None:
        self._texts = [Path(tempfile.mkstemp()[1]) for _ in ("out", "err")]
        self.process = FORK_SERVER.Process(target=_run_with_output, args=(arguments, self._texts, environment))
        self.process.start()

    def finish(self, seconds: float = 300) -> int:
        """Wait until the command has ended, and return its exit code."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"the command has not ended within {seconds} seconds"
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    @property
    def out(self) -> str:
        return self._texts[0].read_text()

    @property
    def err(self) -> str:
        return self._texts[1].read_text()


def measure_duration(arguments: list[str]) -> float:
    """Run a command, and return its duration in seconds."""
    start = time.monotonic()
    assert run_command(arguments) == 0
    return time.monotonic() - start


def _run_in_process(arguments: list[str], dies_at: int | None) -> None:
    import torch

    from pairs_lit.checkpoints import last_checkpoint as checkpoints
    from pairs_lit.cli import main

    torch.set_num_threads(1)
    checkpoints.SAVE_INTERVAL_SECONDS = 0.0  # a checkpoint at the end of every epoch
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    if dies_at is not None:
        _kill_at_write(dies_at)
    raise SystemExit(main(arguments))


def _run_with_output(arguments: list[str], texts: list[Path], environment: dict[str, str]) -> None:
    import torch

    from pairs_lit.cli import main

    torch.set_num_threads(1)
    os.environ.update(environment)
    for descriptor, text in enumerate(texts, 1):
        os.dup2(os.open(text, os.O_WRONLY), descriptor)
    raise SystemExit(main(arguments))


def _kill_at_write(dies_at: int) -> None:
    """Make this process kill itself at a moment of its atomic writes; a kill before a sync also loses half the file."""
    moment = -1
    sync, rename = os.fsync, Path.replace

    def reach(lose: Callable[[], None] | None = None) -> None:
        nonlocal moment
        moment += 1
        if moment == dies_at:
            if lose is not None:
                lose()
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_sync(descriptor: int) -> None:
        reach(lambda: os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2))
        sync(descriptor)

    def dying_rename(path: Path, target: Path) -> Path:
        reach()
        renamed = rename(path, target)
        reach()
        return renamed

    os.fsync, Path.replace = dying_sync, dying_rename  # type: ignore[assignment,method-assign]
