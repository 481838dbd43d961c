"""Seeds: every random number of a round comes from the round's own seed, by name.

``derive(seed, "shuffle", epoch)`` is the same number wherever and whenever it is asked for, so nothing needs to be
carried from one epoch, round or process to the next.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from pairs_lit.errors import PairsLitError, check_positive

SEED_LIMIT = 2**32
MOST_ROUNDS = 10_000


def round_seeds(count: int, seed: int) -> list[int]:
    """Return the seeds of ``count`` rounds: seed, seed + 1 and so on.

    Raises:
        PairsLitError: No round is asked for, too many are, or a seed lies outside 0 … 2**32 - 1.
    """
    check_positive("rounds.count", count)
    if count > MOST_ROUNDS:
        raise PairsLitError(f"rounds.count is {count}: at most {MOST_ROUNDS} rounds fit into one command.")
    if seed < 0 or seed + count > SEED_LIMIT:
        raise PairsLitError(f"rounds.seed is {seed} for {count} rounds: seeds must lie in 0 … {SEED_LIMIT - 1}.")
    return list(range(seed, seed + count))


def derive(seed: int, purpose: str, *indices: int) -> int:
    """Return the 63-bit seed of one purpose of a round, for instance ``derive(7, "shuffle", epoch)``."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), len(indices), *indices])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """Return a generator of its own, seeded with :func:`derive`."""
    return torch.Generator().manual_seed(derive(seed, purpose, *indices))


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generator (that of ``device`` too, if it is a GPU) and restore it on leaving."""
    on_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
