"""Starting and ending processes: what each operating system can do, and how a process ended."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

StartMethod = Literal["fork", "spawn"]
"""How a process starts: as a copy of this one, or as a new one that imports everything again."""

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_PR_SET_PDEATHSIG = 1  # PR_SET_PDEATHSIG in Linux's sys/prctl.h


def can_fork() -> bool:
    """Return whether a process that uses PyTorch can be forked: on Linux.

    Windows cannot fork; on macOS, system libraries may crash in a forked process.
    """
    return sys.platform == "linux"


@contextmanager
def allow_fork_with_threads() -> Iterator[None]:
    """Silence the warning of Python 3.12 and later that a process with threads is forked.

    A fork copies only the thread that forks, so a lock that another thread holds is never released in the new process.
    The forked workers use no such lock: Python renews its own ones, and OpenMP and numba compute in a new thread.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        yield


def end_with_parent(parent: int) -> None:
    """Make this process end when its parent does, for whatever reason; exit now if the parent has already ended.

    On Linux the kernel kills it. Elsewhere a thread waits for the end of the parent, which multiprocessing must have
    started this process from.

    Args:
        parent: The process ID of the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    else:
        threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    """Wait until the parent has ended, and exit without any clean-up."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def describe_exit(code: int) -> str:
    """Describe how a process ended, as a clause without its subject, by its exit code or minus a signal's number."""
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def get_boot_id() -> str:
    """Return the kernel's boot ID, which is the same in all containers of a machine, or an empty text outside Linux."""
    with suppress(OSError):
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip().replace("-", "")
    return ""
