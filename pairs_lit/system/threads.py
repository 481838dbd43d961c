"""Number of torch threads: a fit uses one thread per worker unless the user requests more.

More threads within an operator gain little. Torch's threads spin while they wait for each other, so next to other busy
processes a fit with two threads takes many times as long as a fit with one.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from pairs_lit.errors import PairsLitError
from pairs_lit.system.cores import count_cores

_CORE_COUNT = count_cores()
_DEFAULT_THREAD_COUNTS = {_CORE_COUNT, _CORE_COUNT // 2}
"""Torch's defaults: one thread per core, or half as many with hyper-threading; on other systems also others."""

if sys.platform != "linux":  # the number of fast cores on a Mac
    _DEFAULT_THREAD_COUNTS.add(torch.get_num_threads())

_MAX_THREADS = 1024  # torch crashes if the operating system cannot start that many threads
_is_count_requested = ContextVar("is_count_requested", default=False)


def get_requested_threads() -> int:
    """Return the number of threads that the user requested, or 1 if none was requested.

    A number passed to ``torch.set_num_threads`` counts, unless it equals torch's default, which looks the same as no
    request; outside Linux, it must be set after the import of this package. Otherwise the environment variable
    OMP_NUM_THREADS counts.
    """
    current = torch.get_num_threads()
    if _is_count_requested.get() or current not in _DEFAULT_THREAD_COUNTS:
        return current
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has one number per nesting level
    return int(requested) if requested.isdecimal() and int(requested) > 0 else 1


def check_threads(count: int) -> None:
    """Raise PairsLitError if torch would crash with this number of threads."""
    if count > _MAX_THREADS:
        raise PairsLitError(
            f"rounds.threads or OMP_NUM_THREADS requests {count} threads. Use at most {_CORE_COUNT}, one per core."
        )


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads, and restore the former number at the end of the context.

    A number that is set inside the context counts as requested by the user.

    Raises:
        PairsLitError: Torch would crash with this number of threads.
    """
    check_threads(count)
    before, token = torch.get_num_threads(), _is_count_requested.set(True)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _is_count_requested.reset(token)
