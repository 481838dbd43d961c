"""Background load: one busy process per core, with the same priority, as on a machine that others use too."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pairs_lit.system.cores import count_usable_cores


def _spin(parent: int) -> None:
    number = 1
    while os.getppid() == parent:  # ends with the benchmark, even if that is killed
        for _ in range(1_000_000):
            number = number * 6364136223846793005 % 2**64


@contextmanager
def keep_cores_busy(is_enabled: bool = True) -> Iterator[None]:
    """Keep every core busy inside the ``with`` block, if enabled."""
    context = multiprocessing.get_context("spawn")
    count = count_usable_cores() if is_enabled else 0
    spinning = [context.Process(target=_spin, args=(os.getpid(),), daemon=True) for _ in range(count)]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.join()
