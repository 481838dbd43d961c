"""Threads: a fit computes on one thread unless the user asks for more.

More threads inside an operator gain little. Torch's threads spin while they wait for each other, so beside other busy
processes a fit with two threads takes many times as long as with one.
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

    That is the number given to ``torch.set_num_threads``, unless it equals torch's own default, which cannot be told
    from not asking; else the environment variable OMP_NUM_THREADS.
    """
    now = torch.get_num_threads()
    if _settled.get() or now not in _UNASKED:
        return now
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is by level of nesting
    return int(said) if said.isdecimal() and int(said) > 0 else 1


def check_threads(count: int) -> None:
    """Refuse a number of threads at which torch would crash.

    Raises:
        PairsLitError: These are too many.
    """
    if count > _MOST:
        raise PairsLitError(
            f"{count} threads are asked for, by rounds.threads or OMP_NUM_THREADS: take at most {_CORES}, one a core."
        )


@contextmanager
def computing_on(count: int) -> Iterator[None]:
    """Compute on ``count`` threads; restore the former number on leaving. A number set inside counts as asked for.

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
