"""Training recipes: the optimizer, learning-rate schedule and weight decay of a variant."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.data.warps import Warp
from pairs_lit.nn.architecture import Architecture
from pairs_lit.seeds import use_seed
from pairs_lit.stacking.parameter_slices import get_plain_parameter
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.optimizers import (
    check_optimizer,
    check_scheduler,
    derive_schedule_seed,
    name_option_in_errors,
    prefer_fused,
)

Decay = Literal["all", "weights"]
"""The parameters that weight decay applies to: all, or only those with two dimensions or more outside norms."""

_NORM_LAYERS = (nn.LayerNorm, nn.RMSNorm)
"""Normalisation layers whose parameters may have several dimensions."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """The optimizer, schedule and weight decay with which rounds are trained.

    Attributes:
        optimizer: The factory of the optimizer.
        scheduler: The factory of the optimizer's learning-rate schedule, or None for a constant learning rate.
        decay: The parameters that the optimizer's weight decay applies to.
    """

    optimizer: OptimizerCallable
    scheduler: LRSchedulerCallable | None
    decay: Decay = "all"

    @property
    def optimizer_factories(self) -> list[OptimizerCallable]:
        """The optimizer factory of each parameter group: one for all parameters, or one with and one without decay."""
        groups: list[dict[str, float] | None] = [None] if self.decay == "all" else [{}, {"weight_decay": 0.0}]
        return [partial(self._build_optimizer, changes=changes) for changes in groups]

    def _build_optimizer(self, parameters: Iterable[Tensor], changes: dict[str, float] | None) -> Optimizer:
        """Build the optimizer of one group; raise PairsLitError if it would couple rounds."""
        with name_option_in_errors("optimizer"):
            # on a small parameter first, since some optimizers would raise an error about the stacked shapes
            check_optimizer(self.optimizer([nn.Parameter(torch.zeros(2, 2))]))
            # a group, unlike a list of parameters, may be empty
            optimizer = self.optimizer(parameters if changes is None else [{"params": list(parameters), **changes}])
        prefer_fused(optimizer)
        return optimizer

    def get_group(self, stack: nn.Module, name: str) -> int:
        """Return the index of the parameter group that a parameter of a stack belongs to."""
        if self.decay == "all":
            return 0
        dimensions, layer = get_plain_parameter(stack, name)
        return 0 if dimensions >= 2 and not issubclass(layer, _NORM_LAYERS) else 1

    def build_schedule(self, optimizer: Optimizer) -> LRScheduler | None:
        """Build the schedule of an optimizer, if any; raise PairsLitError if it would couple rounds."""
        if self.scheduler is None:
            return None
        with name_option_in_errors("lr_scheduler"), use_seed(derive_schedule_seed(0)):
            scheduler = self.scheduler(optimizer)
        check_scheduler(scheduler)
        return scheduler


@dataclass(frozen=True)
class Variant:
    """One configuration of network, loss and training; a fit has one, fits of a sweep may have several.

    Attributes:
        architecture: The architecture of a round's network.
        loss: The loss.
        recipe: The training recipe. Variants with the same recipe share parameter groups of the optimizer.
        views: The warps for test-time augmentation; empty for none.
    """

    architecture: Architecture
    loss: PairLoss
    recipe: Recipe
    views: tuple[Warp, ...] = ()
