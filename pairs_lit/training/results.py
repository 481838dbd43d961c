"""The results of a fit: the final figures of every round."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pairs_lit.runs.tables import Curves, RoundResult


def round_results(curves: Curves, train: Mapping[str, NDArray[np.float64]]) -> list[RoundResult]:
    """Collect the final figures of every round.

    Args:
        curves: All epochs.
        train: The final evaluation of the training pairs: by metric (``train/accuracy``), an array (R,).
    """
    last = {name: value[-1] for name, value in curves.values.items()} | dict(train)
    failed = curves.failed()
    return [_round_result(curves, last, r, failed=bool(failed[r])) for r in range(len(curves.seeds))]


def _round_result(curves: Curves, last: Mapping[str, NDArray[np.float64]], r: int, *, failed: bool) -> RoundResult:
    def final(name: str) -> float | None:
        return float(last[name][r]) if name in last else None

    test = curves.values["test/accuracy"][:, r]
    best = None if failed else int(test.argmax())
    return RoundResult(
        seed=curves.seeds[r],
        status="failed" if failed else "ok",
        train_accuracy=final("train/accuracy"),
        train_digit_accuracy=final("train/digit_accuracy"),
        val_accuracy=final("val/accuracy"),
        val_digit_accuracy=final("val/digit_accuracy"),
        test_accuracy=final("test/accuracy"),
        test_digit_accuracy=final("test/digit_accuracy"),
        best_test_accuracy=math.nan if best is None else float(test[best]),
        best_test_epoch=None if best is None else best + 1,
    )


def at_chance_seeds(results: Sequence[RoundResult], commoner: Sequence[float]) -> list[int]:
    """Return the seeds of the rounds that have learned nothing, though they did not fail.

    Args:
        results: All rounds.
        commoner: For each round, the share of the more frequent answer among its training pairs.
    """
    return [
        result.seed
        for result, share in zip(results, commoner, strict=True)
        if result.status == "ok" and result.train_accuracy is not None and result.train_accuracy <= share + 1e-9
    ]
