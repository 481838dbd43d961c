"""Recipes: the optimizer and the schedule of a variant."""

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
from pairs_lit.seeds import seeded
from pairs_lit.stacking.parameter_slices import plain_parameter
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.optimizers import check_optimizer, check_scheduler, named, prefer_fused, schedule_seed

Decay = Literal["all", "weights"]
"""Which parameters decay: all, or only those of two dimensions or more, and no norm's."""

_NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Those whose scales and shifts may have several dimensions."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How rounds are trained.

    Attributes:
        optimizer: Makes the optimizer.
        scheduler: Makes the schedule of the optimizer's learning rate; None: there is none.
        decay: Which parameters the optimizer's weight decay is for.
    """

    optimizer: OptimizerCallable
    scheduler: LRSchedulerCallable | None
    decay: Decay = "all"

    @property
    def makers(self) -> list[OptimizerCallable]:
        """What makes the optimizer of each group of parameters: of all; or of those that decay and of the others."""
        groups: list[dict[str, float] | None] = [None] if self.decay == "all" else [{}, {"weight_decay": 0.0}]
        return [partial(self._make, changes=changes) for changes in groups]

    def _make(self, parameters: Iterable[Tensor], changes: dict[str, float] | None) -> Optimizer:
        """Make the optimizer of one group; one that would mix rounds is refused."""
        with named("optimizer"):
            check_optimizer(self.optimizer([nn.Parameter(torch.zeros(2, 2))]))  # before it objects to stacked shapes
            optimizer = self.optimizer(
                parameters if changes is None else [{"params": list(parameters), **changes}]  # there may be none
            )
        prefer_fused(optimizer)
        return optimizer

    def group_of(self, stack: nn.Module, name: str) -> int:
        """Return which of the groups a parameter of a stack belongs to."""
        if self.decay == "all":
            return 0
        dimensions, layer = plain_parameter(stack, name)
        return 0 if dimensions >= 2 and not issubclass(layer, _NORMS) else 1

    def schedule(self, optimizer: Optimizer) -> LRScheduler | None:
        """Make the schedule of an optimizer; one that would mix rounds is refused."""
        if self.scheduler is None:
            return None
        with named("lr_scheduler"), seeded(schedule_seed(0)):
            scheduler = self.scheduler(optimizer)
        check_scheduler(scheduler)
        return scheduler


@dataclass(frozen=True)
class Variant:
    """One set of values of what a sweep varies; a fit has one.

    Attributes:
        architecture: The plain network of a round.
        loss: What it is trained on.
        recipe: How. Variants that share one share a group of the optimizer.
        views: The warps of the images that trained networks are shown; none: images as they are.
    """

    architecture: Architecture
    loss: PairLoss
    recipe: Recipe
    views: tuple[Warp, ...] = ()
