"""Metrics of all rounds, collected from all workers."""

from typing import cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from pairs_lit.training.module import PairModule


def collected(trainer: Trainer, module: PairModule) -> dict[str, Tensor]:
    """Return what all workers measured since the last call: ``test/accuracy`` and the like, (R,) float64 each."""
    return added_up(trainer, module, module.collect())


def added_up(trainer: Trainer, module: PairModule, measured: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what all workers measured, each of its own stacks' rounds: by name, (R,) float64 on the CPU."""
    if trainer.world_size == 1 or not measured:
        return measured
    every = torch.stack(list(measured.values()))
    part = torch.zeros_like(every)
    for rounds in module.rounds.of_worker(trainer.global_rank, trainer.world_size).values():
        part[:, rounds] = every[:, rounds]
    total = trainer.strategy.reduce(part, reduce_op="sum")  # exact: each element is 0 in all parts but one
    return dict(zip(measured, cast(Tensor, total), strict=True))
