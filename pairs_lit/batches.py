"""The sizes of training batches that a network can be trained on: batch norm, for one, cannot do with a single pair."""

from collections.abc import Callable

from pairs_lit.errors import PairsLitError

Objection = Callable[[int], str | None]
"""Says why a network cannot be trained on a batch of so many pairs; None: it can."""


def check_batches(objection: Objection, pairs: int, batch_size: int) -> None:
    """Refuse an epoch whose last, smallest batch cannot be trained on.

    Args:
        objection: Tries the network on a batch.
        pairs: Training pairs a round, swapped ones included.
        batch_size: Pairs a batch.

    Raises:
        PairsLitError: The last batch cannot be trained on; names batch sizes near by that would work.
    """
    last = pairs % batch_size or min(pairs, batch_size)
    reason = objection(last)
    if reason is None:
        return
    if last == min(pairs, batch_size) and objection(max(2, 2 * last)) is not None:
        raise PairsLitError(f"the network cannot be trained on a batch of {_counted(last)}: {reason}.")
    least = next((size for size in (2, 3, 4) if objection(size) is None), batch_size)
    works = [size for size in range(least, pairs + 1) if pairs % size == 0 or pairs % size >= least]
    near = sorted(sorted(works, key=lambda size: abs(size - batch_size))[:3])
    advice = f"set data.batch_size to {_listed(near)}" if near else f"give {least} training pairs or more"
    raise PairsLitError(
        f"the last training batch has {_counted(last)} ({_counted(pairs)} in batches of {batch_size}), on which the "
        f"network cannot be trained: {reason}. For instance, {advice}."
    )


def _counted(pairs: int) -> str:
    return "1 pair" if pairs == 1 else f"{pairs} pairs"


def _listed(sizes: list[int]) -> str:
    *first, last = map(str, sizes)
    return f"{', '.join(first)} or {last}" if first else last
