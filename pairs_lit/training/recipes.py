"""Recipes: the optimizer and the schedule of a variant, and the one optimizer of variants side by side."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal

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
from pairs_lit.training.schedules import Stepwise

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


def made(recipes: Sequence[Recipe], groups: Iterable[Iterable[Tensor]]) -> Optimizer:
    """Return the one optimizer of several recipes, with the groups of each, which have settings of their own."""
    makers = [make for recipe in recipes for make in recipe.makers]
    whole, *others = [make(group) for make, group in zip(makers, groups, strict=True)]
    for other in others:
        for group in other.param_groups:
            whole.add_param_group(group)
    return whole


class Schedules:
    """The schedules of several recipes, each of its own group of one optimizer, stepped together.

    Args:
        optimizer: The optimizer, with the groups of each recipe.
        recipes: The recipes.
    """

    def __init__(self, optimizer: Optimizer, recipes: Sequence[Recipe]) -> None:
        self.optimizer = optimizer
        groups = iter(optimizer.param_groups)
        self._shells = [
            made([recipe], [group["params"] for group in islice(groups, len(recipe.makers))]) for recipe in recipes
        ]
        self._attach()
        self._parts = [recipe.schedule(shell) for recipe, shell in zip(recipes, self._shells, strict=True)]
        self._stepwise = [part for part in self._parts if isinstance(part, Stepwise)]

    def _attach(self) -> None:
        """Let each schedule act on its own groups; loading a checkpoint replaces the groups."""
        groups = iter(self.optimizer.param_groups)
        for shell in self._shells:
            shell.param_groups = list(islice(groups, len(shell.param_groups)))

    def step(self) -> None:
        """Step each schedule; those that draw random numbers draw what they draw alone."""
        self._attach()
        for part in self._parts:
            if part is not None:
                # it looks for the steps of an optimizer that only stands for its settings
                with seeded(schedule_seed(part.last_epoch + 1)), warnings.catch_warnings(action="ignore"):
                    part.step()

    def begin(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch with those that go on with each step."""
        self._attach()
        for part in self._stepwise:
            part.begin(epoch, epochs, steps)

    def at(self, step: int) -> None:
        """Set the learning rates of a step of this epoch."""
        for part in self._stepwise:
            part.at(step)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each schedule."""
        return {"parts": [None if part is None else part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            if part is not None:
                part.load_state_dict(state)


def schedule_of(optimizer: Optimizer, recipes: Sequence[Recipe]) -> LRScheduler | Schedules | None:
    """Return the schedule of an optimizer that has the groups of each recipe; None: there is none."""
    if all(recipe.scheduler is None for recipe in recipes):
        return None
    return recipes[0].schedule(optimizer) if len(recipes) == 1 else Schedules(optimizer, recipes)
