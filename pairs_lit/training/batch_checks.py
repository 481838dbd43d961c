"""Checks that the network accepts every batch size; batch norm, for instance, cannot be trained on a single pair."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import islice

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.loaders import bound_batch_size
from pairs_lit.data.pair_store import SPLITS
from pairs_lit.errors import PairsLitError
from pairs_lit.text import format_count

BatchCheck = Callable[[int], str | None]
"""Returns why a network cannot process a batch of this many pairs, or None if it can."""

_MAX_TRIED_SIZES = 50
"""The maximum number of batch sizes that are tried to find one that works."""


def check_batch_sizes(
    objection: Callable[..., str | None], data: PairDataModule, *, training: bool, more: Sequence[int] = ()
) -> None:
    """Raise PairsLitError if the network cannot process one of the batches that the data will be split into.

    Args:
        objection: Tries the network on a batch of a given size, in training or evaluation mode.
        data: The pairs of each split, and the batch sizes.
        training: Whether the network is trained, not only evaluated.
        more: The numbers of further pairs on which the network is evaluated.

    Raises:
        PairsLitError: The network cannot process a batch.
    """
    counts = {split: data.bank.pairs[split].target.shape[1] for split in SPLITS}
    if training:
        tried = partial(objection, training=True)
        check_batches(tried, [counts["train"]], data.batch_size, "data.batch_size", "trained")
    tried = partial(objection, training=False)
    bound = partial(bound_batch_size, image_size=data.image_size)
    check_batches(tried, [*counts.values(), *more], data.eval_batch_size, "data.eval_batch_size", "evaluated", bound)


def check_batches(
    objection: BatchCheck,
    counts: Sequence[int],
    batch_size: int,
    option: str,
    action: str,
    bound: Callable[[int], int] = int,
) -> None:
    """Raise PairsLitError if the network cannot process one of the batches that a batch size leads to.

    Args:
        objection: Tries the network on a batch.
        counts: The number of pairs of a round in each split that is divided into such batches.
        batch_size: The value of the option that sets the pairs per batch.
        option: The name of that option.
        action: What the network is used for, ``trained`` or ``evaluated``.
        bound: Returns the pairs per batch for a value of the option; by default, that value.

    Raises:
        PairsLitError: The network cannot process a batch. The message suggests similar batch sizes that do work.
    """
    find_reason = cache(objection)
    sizes = ((size, count) for count in counts for size in _get_batch_sizes(count, bound(batch_size)))
    tried = ((size, count, find_reason(size)) for size, count in sizes)
    size, count, reason = next((result for result in tried if result[2] is not None), (0, 0, None))
    if reason is None:
        return
    nearest = sorted(range(1, max(counts) + 1), key=lambda candidate: abs(candidate - batch_size))[:_MAX_TRIED_SIZES]
    working = (
        candidate
        for candidate in nearest
        if all(find_reason(size) is None for count in counts for size in _get_batch_sizes(count, bound(candidate)))
    )
    suggestions = [str(candidate) for candidate in sorted(islice(working, 3))]
    if not suggestions and find_reason(2) is not None:
        raise PairsLitError(f"the network cannot be {action} on a batch of {format_count(size, 'pair')}: {reason}.")
    listed = " or ".join(", ".join(suggestions).rsplit(", ", 1))
    advice = f"For instance, set {option} to {listed}." if suggestions else "Use at least 2 pairs."
    raise PairsLitError(
        f"{option} is {batch_size}, so {format_count(count, 'pair')} make a batch of {size}, on which the network "
        "cannot be "
        f"{action}: {reason}. {advice}"
    )


def _get_batch_sizes(count: int, batch_size: int) -> tuple[int, ...]:
    """Return the sizes of the last batch and of the other batches of an epoch."""
    full = min(count, batch_size)
    return count % full or full, full
