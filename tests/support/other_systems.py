"""Runs pairs-lit on Linux without what another operating system lacks.

``python -m tests.support.other_systems win32 fit --config fc_aux + test RUN`` runs two commands as on Windows. Other
packages are imported first, because they adapt to the real system. Spawned workers import this file, too.
"""

import multiprocessing.popen_fork
import multiprocessing.resource_tracker
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import torch.distributed
from lightning.pytorch.trainer.connectors import signal_connector

for package in (
    *("filelock", "fsspec", "jsonargparse", "lightning.pytorch.cli", "matplotlib.pyplot", "numba", "optuna"),
    "multiprocessing.popen_spawn_posix",
    *("scipy.stats", "sklearn.datasets", "sqlalchemy.dialects.sqlite", "torch._dynamo", "torch.utils.tensorboard"),
    *("torchmetrics", "torchvision"),
):
    import_module(package)

_SIGNALS: Any = signal
_WINDOWS_SIGNALS = {"SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV"}
_MISSING_ON_WINDOWS = (
    *("fork", "forkpty", "sched_getaffinity", "sched_setaffinity", "killpg", "getpgid", "setsid", "getuid", "uname"),
    *("chown", "mkfifo", "wait3", "wait4", "sysconf", "register_at_fork"),
)


def imitate_windows() -> None:
    """Remove what Windows lacks: POSIX signals, fork, CPU affinity, fcntl, and gloo in many builds of torch."""
    present = {name for name in dir(signal) if name.startswith("SIG") and name[3:].isalnum()}
    windows_signals = {getattr(signal, name) for name in _WINDOWS_SIGNALS}
    _SIGNALS.valid_signals = lambda: windows_signals
    connector: Any = signal_connector
    connector._IS_WINDOWS = True
    tracker: Any = multiprocessing.resource_tracker
    tracker._HAVE_SIGMASK = False
    popen: Any = multiprocessing.popen_fork.Popen
    popen.kill = lambda self: self._send_signal(9)  # its real code needs SIGKILL
    for name in (*(present - _WINDOWS_SIGNALS), "pthread_sigmask"):
        delattr(signal, name)
    for name in _MISSING_ON_WINDOWS:
        delattr(os, name)
    finder: Any = shutil
    finder._winapi = SimpleNamespace(NeedCurrentDirectoryForExePath=lambda name: False)  # for shutil.which
    modules: Any = sys.modules
    modules["fcntl"] = modules["resource"] = None
    del torch.distributed.ProcessGroupGloo


def imitate_macos() -> None:
    """Remove what macOS lacks: CPU affinity, and fork, which is unsafe there."""
    for name in ("sched_getaffinity", "sched_setaffinity", "fork"):
        delattr(os, name)


def split_commands(words: Sequence[str]) -> list[list[str]]:
    """Split the words of several commands at each ``+``."""
    return [list(group) for is_separator, group in groupby(words, lambda word: word == "+") if not is_separator]


SYSTEMS = {"win32": imitate_windows, "darwin": imitate_macos}
SYSTEMS[sys.argv[1]]()
sys.platform = sys.argv[1]

if __name__ == "__main__":
    from pairs_lit.cli import main

    sys.exit(next((code for command in split_commands(sys.argv[2:]) if (code := main(command))), 0))
