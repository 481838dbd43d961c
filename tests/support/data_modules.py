"""Small data modules, and a stand-in for the trainer that sets the epoch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.pair_store import Split

SEEDS = [3, 5, 9]
COUNTS: dict[Split, int] = {"train": 40, "val": 20, "test": 30}


def build_data_module(root: Path, **options: Any) -> PairDataModule:  # noqa: ANN401 - any option
    """Build a small data module; options override the defaults."""
    defaults: dict[str, Any] = {
        "seeds": SEEDS,
        "stack_size": 2,
        "source": "mnist",
        "root": str(root),
        "allow_unverified": True,
        "batch_size": 16,
        "eval_batch_size": 8,
        **{f"{split}_pairs": count for split, count in COUNTS.items()},
    }
    return PairDataModule(**defaults | options)


def set_epoch(data: PairDataModule, epoch: int, fn: str = "fit") -> PairDataModule:
    """Return the data module after attaching a minimal trainer at the given epoch and stage."""
    data.trainer = SimpleNamespace(
        current_epoch=epoch,
        global_rank=0,
        world_size=1,
        state=SimpleNamespace(fn=fn),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data
