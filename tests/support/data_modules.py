"""Small data modules, at an epoch of choice."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.pair_store import Split

SEEDS = [3, 5, 9]
COUNTS: dict[Split, int] = {"train": 40, "val": 20, "test": 30}


def module(root: Path, **options: Any) -> PairDataModule:  # noqa: ANN401 - any option
    usual: dict[str, Any] = {
        "seeds": SEEDS,
        "stack_size": 2,
        "source": "mnist",
        "root": str(root),
        "allow_unverified": True,
        "batch_size": 16,
        "eval_batch_size": 8,
        **{f"{split}_pairs": count for split, count in COUNTS.items()},
    }
    return PairDataModule(**usual | options)


def at_epoch(data: PairDataModule, epoch: int, fn: str = "fit") -> PairDataModule:
    """Put the data module where Lightning's trainer would put it."""
    data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1, state=SimpleNamespace(fn=fn))
    return data
