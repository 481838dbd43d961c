"""Recipes: the optimizer and the schedule of a variant, and the one optimizer of variants side by side."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.data.warps import Warp
from pairs_lit.nn.architecture import Architecture
from pairs_lit.seeds import seeded
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.optimizers import check_optimizer, check_scheduler, named, prefer_fused, schedule_seed


@dataclass(frozen=True, eq=False)
class Recipe:
    """How rounds are trained.

    Attributes:
        optimizer: Makes the optimizer.
        scheduler: Makes the schedule of the optimizer's learning rate; None: there is none.
    """

    optimizer: OptimizerCallable
    scheduler: LRSchedulerCallable | None

    def make(self, parameters: Iterable[Tensor]) -> Optimizer:
        """Make the optimizer of some parameters; one that would mix rounds is refused."""
        with named("optimizer"):
            optimizer = self.optimizer(parameters)
        check_optimizer(optimizer)
        prefer_fused(optimizer)
        return optimizer

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


def joined(optimizers: Sequence[Optimizer]) -> Optimizer:
    """Return one optimizer with the groups of several of the same class, each with settings of its own."""
    whole, *others = optimizers
    for other in others:
        for group in other.param_groups:
            whole.add_param_group(group)
    return whole


class Schedules:
    """The schedules of several recipes, each of its own group of one optimizer, stepped together.

    Args:
        optimizer: The optimizer, with one group for each recipe.
        recipes: The recipes.
    """

    def __init__(self, optimizer: Optimizer, recipes: Sequence[Recipe]) -> None:
        self.optimizer = optimizer
        self._shells = [
            recipe.make(group["params"]) for recipe, group in zip(recipes, optimizer.param_groups, strict=True)
        ]
        self._attach()
        self._parts = [recipe.schedule(shell) for recipe, shell in zip(recipes, self._shells, strict=True)]

    def _attach(self) -> None:
        """Let each schedule act on its own group; loading a checkpoint replaces the groups."""
        for shell, group in zip(self._shells, self.optimizer.param_groups, strict=True):
            shell.param_groups = [group]

    def step(self) -> None:
        """Step each schedule; those that draw random numbers draw what they draw alone."""
        self._attach()
        for part in self._parts:
            if part is not None:
                # it looks for the steps of an optimizer that only stands for its settings
                with seeded(schedule_seed(part.last_epoch + 1)), warnings.catch_warnings(action="ignore"):
                    part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each schedule."""
        return {"parts": [None if part is None else part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            if part is not None:
                part.load_state_dict(state)


def schedule_of(optimizer: Optimizer, recipes: Sequence[Recipe]) -> LRScheduler | Schedules | None:
    """Return the schedule of an optimizer that has one group for each recipe; None: there is none."""
    if all(recipe.scheduler is None for recipe in recipes):
        return None
    return recipes[0].schedule(optimizer) if len(recipes) == 1 else Schedules(optimizer, recipes)
