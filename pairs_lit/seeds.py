"""Seeds: every random number of a round comes from the round's own seed, by name.

``derive(seed, "shuffle", epoch)`` is the same number whenever it is computed, so no state needs to be passed from one
epoch, round or process to the next.
"""

import pickle
import random
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.text import counted

SEED_LIMIT = 2**32
MOST_ROUNDS = 10_000


def round_seeds(count: int, seed: int) -> list[int]:
    """Return the seeds of ``count`` rounds: seed, seed + 1 and so on.

    Raises:
        PairsLitError: The count is below 1 or too large, or a seed lies outside 0 … 2**32 - 1.
    """
    check_positive("rounds.count", count)
    if count > MOST_ROUNDS:
        raise PairsLitError(f"rounds.count is {count}: at most {MOST_ROUNDS} rounds fit into one command.")
    if seed < 0 or seed + count > SEED_LIMIT:
        raise PairsLitError(
            f"rounds.seed is {seed} for {counted(count, 'round')}: seeds must lie in 0 … {SEED_LIMIT - 1}."
        )
    return list(range(seed, seed + count))


def range_of(seeds: Sequence[int]) -> str:
    """Name the seeds of rounds in short: "seeds 0 to 9"."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def derive(seed: int, purpose: str, *indices: int) -> int:
    """Return the 63-bit seed of one purpose of a round, for instance ``derive(7, "shuffle", epoch)``."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), len(indices), *indices])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """Return a generator of its own, seeded with :func:`derive`."""
    return torch.Generator().manual_seed(derive(seed, purpose, *indices))


@contextmanager
def generators_kept(device: torch.device | None = None) -> Iterator[None]:
    """Restore the global generators of torch, NumPy and Python (and of ``device``, if it is a GPU) on leaving."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(_gpus(device)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seed the generators that :func:`generators_kept` names."""
    torch.default_generator.manual_seed(seed)
    np.random.seed([seed % SEED_LIMIT, seed // SEED_LIMIT])
    random.seed(seed)
    if _gpus(device):
        torch.cuda.manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the generators that :func:`generators_kept` names, and restore them on leaving."""
    with generators_kept(device):
        seed_generators(seed, device)
        yield


def generators_state(device: torch.device | None = None) -> list[bytes]:
    """Return the state of the generators that :func:`generators_kept` names; it changes when something draws."""
    states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, _gpus(device))]
    others = pickle.dumps((np.random.get_state(), random.getstate()))
    return [others, *(state.numpy().tobytes() for state in states)]


def _gpus(device: torch.device | None) -> list[torch.device]:
    return [device] if device is not None and device.type == "cuda" else []
