"""Collection of the metrics of all rounds from all workers."""

from typing import cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from pairs_lit.training.module import PairModule


def collect_metrics(trainer: Trainer, module: PairModule) -> dict[str, Tensor]:
    """Return the metrics that all workers measured since the last call, such as ``test/accuracy``, (R,) float64."""
    return merge_worker_metrics(trainer, module, module.collect())


def merge_worker_metrics(trainer: Trainer, module: PairModule, measured: dict[str, Tensor]) -> dict[str, Tensor]:
    """Merge the metrics of all workers, each of which measured the rounds of its stacks.

    Returns:
        The metrics by name, (R,) float64 on the CPU.
    """
    if trainer.world_size == 1 or not measured:
        return measured
    values = torch.stack(list(measured.values()))
    worker_values = torch.zeros_like(values)
    for rounds in module.rounds.get_worker_stacks(trainer.global_rank, trainer.world_size).values():
        worker_values[:, rounds] = values[:, rounds]
    # the sum is exact, since each element is non-zero on one worker only
    total = trainer.strategy.reduce(worker_values, reduce_op="sum")
    return dict(zip(measured, cast(Tensor, total), strict=True))
