"""Batch sizes that a network can take: batch norm, for instance, cannot be trained on a single pair."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import islice

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.pair_store import SPLITS
from pairs_lit.errors import PairsLitError
from pairs_lit.text import counted

Objection = Callable[[int], str | None]
"""Says why a network cannot take a batch of this many pairs, or None if it can."""

_TRIED = 50
"""How many batch sizes are tried at most before giving up."""


def check_shown(
    objection: Callable[..., str | None], data: PairDataModule, *, training: bool, more: Sequence[int] = ()
) -> None:
    """Refuse batches that the network cannot be shown in evaluation or, if there is any, in training.

    Args:
        objection: Tries the network on a batch.
        data: The pairs of each split, and the batch sizes.
        training: Whether it is trained.
        more: Counts of other pairs that it is shown in evaluation.

    Raises:
        PairsLitError: A batch cannot be shown.
    """
    counts = {split: data.bank.pairs[split].target.shape[1] for split in SPLITS}
    if training:
        tried = partial(objection, training=True)
        check_batches(tried, [counts["train"]], data.batch_size, "data.batch_size", "trained")
    tried = partial(objection, training=False)
    check_batches(tried, [*counts.values(), *more], data.eval_batch_size, "data.eval_batch_size", "evaluated")


def check_batches(objection: Objection, counts: Sequence[int], batch_size: int, option: str, deed: str) -> None:
    """Refuse a batch size if the network cannot take one of the batches.

    Args:
        objection: Tries the network on a batch.
        counts: The pairs of a round, for each split that comes in such batches.
        batch_size: Pairs per batch.
        option: The option that sets it.
        deed: What cannot be done, ``trained`` or ``evaluated``.

    Raises:
        PairsLitError: The network cannot take a batch; the message names sizes near by that were tried and work.
    """
    tried = cache(objection)
    found = ((size, count, tried(size)) for count in counts for size in _sizes(count, batch_size))
    size, count, reason = next((each for each in found if each[2] is not None), (0, 0, None))
    if reason is None:
        return
    nearest = sorted(range(1, max(counts) + 1), key=lambda other: abs(other - batch_size))[:_TRIED]
    works = (other for other in nearest if all(tried(each) is None for n in counts for each in _sizes(n, other)))
    near = [str(other) for other in sorted(islice(works, 3))]
    if not near and tried(2) is not None:
        raise PairsLitError(f"the network cannot be {deed} on a batch of {counted(size, 'pair')}: {reason}.")
    listed = " or ".join(", ".join(near).rsplit(", ", 1))
    advice = f"For instance, set {option} to {listed}." if near else "Give 2 pairs or more."
    raise PairsLitError(
        f"{option} is {batch_size}: {counted(count, 'pair')} then come with a batch of {size}, on which the network "
        f"cannot be {deed}: {reason}. {advice}"
    )


def _sizes(count: int, batch_size: int) -> tuple[int, ...]:
    """Return the sizes of an epoch's batches, the last one's first."""
    full = min(count, batch_size)
    return count % full or full, full
