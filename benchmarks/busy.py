"""Busy processes of the same priority, one a core: how a machine is that somebody else uses, too."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pairs_lit.workers.cluster import usable_cores


def _spin(parent: int) -> None:
    number = 1
    while os.getppid() == parent:  # never without the benchmark, however that ends
        for _ in range(1_000_000):
            number = number * 6364136223846793005 % 2**64


@contextmanager
def busy(wanted: bool = True) -> Iterator[None]:
    """Keep every core busy meanwhile, if that is wanted."""
    context = multiprocessing.get_context("spawn")
    count, own = usable_cores() if wanted else 0, (os.getpid(),)
    spinning = [context.Process(target=_spin, args=own, daemon=True) for _ in range(count)]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.join()
