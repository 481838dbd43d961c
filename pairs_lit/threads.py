"""Threads: a fit computes on one, unless the user asks for another number.

More threads inside an operator bring little: those of torch wait for each other by spinning, and beside other busy
processes a fit with two of them takes many times as long as with one.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from pairs_lit.errors import PairsLitError

_CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
_UNASKED = {_CORES, _CORES // 2}  # what torch takes by itself: a thread a core, or half as many where each counts twice
_MOST = 1024  # torch crashes where the system cannot start as many as it is told
_settled = ContextVar("settled", default=False)


def asked_threads() -> int:
    """Return the number of threads that the user asked for, else 1.

    Asked for is what was given to ``torch.set_num_threads``, unless it is the number that torch takes by itself, which
    nobody can tell from not asking; else what the environment variable OMP_NUM_THREADS says.
    """
    now = torch.get_num_threads()
    if _settled.get() or now not in _UNASKED:
        return now
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is by level of nesting
    return int(said) if said.isdecimal() and int(said) > 0 else 1


def check_threads(count: int) -> None:
    """Refuse so many threads that torch would crash.

    Raises:
        PairsLitError: These are too many.
    """
    if count > _MOST:
        raise PairsLitError(
            f"{count} threads are asked for, by rounds.threads or OMP_NUM_THREADS: take at most {_CORES}, one a core."
        )


@contextmanager
def computing_on(count: int) -> Iterator[None]:
    """Compute on so many threads; on leaving, on as many as before. Whatever is set within was asked for.

    Raises:
        PairsLitError: These are too many.
    """
    check_threads(count)
    before, token = torch.get_num_threads(), _settled.set(True)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _settled.reset(token)
