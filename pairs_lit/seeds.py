"""Seeds and random generators: every random number of a round is derived from the round's seed and a purpose.

``derive_seed(seed, "shuffle", epoch)`` returns the same number whenever it is called, so no generator state has to be
from one epoch, round or process to the next.
"""

import pickle
import random
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.text import format_count

SEED_LIMIT = 2**32
MAX_ROUNDS = 10_000


def list_round_seeds(count: int, seed: int) -> list[int]:
    """Return the consecutive seeds of ``count`` rounds, starting at ``seed``.

    Raises:
        PairsLitError: The count is below 1 or above the limit, or a seed lies outside 0 … 2**32 - 1.
    """
    check_positive("rounds.count", count)
    if count > MAX_ROUNDS:
        raise PairsLitError(f"rounds.count must be at most {MAX_ROUNDS}, got {count}. Split them among several runs.")
    if seed < 0 or seed + count > SEED_LIMIT:
        raise PairsLitError(
            f"rounds.seed must be between 0 and {SEED_LIMIT - count} for {format_count(count, 'round')}, got {seed}."
        )
    return list(range(seed, seed + count))


def format_seeds(seeds: Sequence[int]) -> str:
    """Return the seeds as short text, such as "seeds 0 to 9" or "seeds 1, 4"."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """Return the 63-bit seed that a round uses for one purpose, such as ``derive_seed(7, "shuffle", epoch)``.

    Args:
        seed: The seed of the round.
        purpose: What the random numbers are used for.
        indices: Numbers that distinguish repetitions, such as the epoch and the step.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), len(indices), *indices])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def build_generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """Return a new torch generator, seeded with :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))


@contextmanager
def preserve_rng_state(device: torch.device | None = None) -> Iterator[None]:
    """Restore the global generators of torch, NumPy and Python (and of ``device``, if it is a GPU) on exit."""
    python, numpy = random.getstate(), np.random.get_state()
    metal = torch.mps.get_rng_state() if _is_metal(device) else None
    with torch.random.fork_rng(_list_cuda_gpus(device)):
        try:
            yield
        finally:
            if metal is not None:
                torch.mps.set_rng_state(metal)
            random.setstate(python)
            np.random.set_state(numpy)


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seed the same global generators that :func:`preserve_rng_state` restores."""
    torch.default_generator.manual_seed(seed)
    np.random.seed([seed % SEED_LIMIT, seed // SEED_LIMIT])
    random.seed(seed)
    if _list_cuda_gpus(device):
        torch.cuda.manual_seed(seed)
    if _is_metal(device):
        torch.mps.manual_seed(seed)


@contextmanager
def use_seed(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the same global generators that :func:`preserve_rng_state` restores, and restore them on exit."""
    with preserve_rng_state(device):
        seed_generators(seed, device)
        yield


def get_rng_state(device: torch.device | None = None) -> list[bytes]:
    """Return the state of the global generators, which changes whenever a random number is drawn from any of them."""
    states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, _list_cuda_gpus(device))]
    states += [torch.mps.get_rng_state()] if _is_metal(device) else []
    others = pickle.dumps((np.random.get_state(), random.getstate()))
    return [others, *(state.numpy().tobytes() for state in states)]


def _list_cuda_gpus(device: torch.device | None) -> list[torch.device]:
    return [device] if device is not None and device.type == "cuda" else []


def _is_metal(device: torch.device | None) -> bool:
    """Return whether a device is the GPU of a Mac, which ``torch.random.fork_rng`` does not support."""
    return device is not None and device.type == "mps"
