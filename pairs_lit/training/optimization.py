"""The one optimizer of all stacks: its parameter groups, their settings and the learning rate of each step."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.checkpoints.schema import ParameterGroup
from pairs_lit.rounds import Rounds
from pairs_lit.seeds import use_seed
from pairs_lit.stacking.parameter_slices import ParameterSlice, build_slices
from pairs_lit.training.optimizers import derive_schedule_seed, get_group_settings
from pairs_lit.training.recipes import Recipe
from pairs_lit.training.schedules import Stepwise


class Optimization:
    """The one optimizer of all stacks, of which each step trains one stack.

    The optimizer skips parameters without gradients. So the gradients of the previously trained stack are cleared
    before each step.

    Args:
        stacks: The stacks.
        rounds: The rounds in the stacks.
        recipes: The recipe of each round.

    Attributes:
        recipes: The different recipes.
        groups: The parameters, or slices of them, in each parameter group of the optimizer, recipe after recipe.
    """

    def __init__(self, stacks: nn.ModuleList, rounds: Rounds, recipes: Sequence[Recipe]) -> None:
        self.recipes = list(dict.fromkeys(recipes))
        self._recipe_numbers = [[self.recipes.index(recipe) for recipe in recipes[part]] for part in rounds.stacks]
        self._stacks = stacks
        self.groups: list[list[ParameterSlice]] = []
        self._parameters = [list(stack.parameters()) for stack in stacks]
        self._slices: list[list[ParameterSlice]] = [[] for _ in stacks]
        self._optimizer: Optimizer | None = None
        self._scheduler: LRScheduler | CombinedSchedule | None = None
        self._settings: list[dict[str, Any]] = []
        self._current_stack = 0

    def build(self) -> OptimizerLRSchedulerConfig | Optimizer:
        """Build the optimizer and, if there is one, the schedule."""
        self._optimizer = optimizer = build_optimizer(self.build_parameter_groups())
        self._settings = [get_group_settings(group) for group in optimizer.param_groups]
        self._scheduler = build_schedule(optimizer, self.recipes)
        if self._scheduler is None:
            return optimizer
        config: Any = {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._scheduler, "interval": "epoch"}}
        return cast(OptimizerLRSchedulerConfig, config)  # Lightning accepts any object with a step method

    def build_parameter_groups(self) -> list[ParameterGroup]:
        """Divide the module's present parameters into the optimizer's groups."""
        makers = [make for recipe in self.recipes for make in recipe.optimizer_factories]
        self.groups = [[] for _ in makers]
        for stack in range(len(self._stacks)):
            self._divide_stack(stack)
        return [(make, [view.value for view in group]) for make, group in zip(makers, self.groups, strict=True)]

    def _divide_stack(self, stack: int) -> None:
        """Divide the parameters of a stack; rounds with different recipes get slices of the same parameter."""
        module, self._slices[stack] = self._stacks[stack], []
        for name, value in module.named_parameters():
            for recipe, view in build_slices(module, name, value, self._recipe_numbers[stack]):
                group = self.get_group_numbers(recipe)[self.recipes[recipe].get_group(module, name)]
                self.groups[group].append(replace(view, name=f"stacks.{stack}.{name}"))
                if view.value is not value:
                    self._slices[stack].append(view)
        self._parameters[stack] = [*module.parameters(), *(view.value for view in self._slices[stack])]

    def get_group_numbers(self, recipe: int) -> range:
        """Return the numbers of the optimizer's groups that belong to a recipe."""
        first = sum(len(preceding.optimizer_factories) for preceding in self.recipes[:recipe])
        return range(first, first + len(self.recipes[recipe].optimizer_factories))

    def restart(self, epoch: int) -> None:
        """Reset the optimizer and the schedule to the recipes' settings at an epoch, whatever a checkpoint held."""
        optimizer = cast(Optimizer, self._optimizer)
        for group, settings in zip(optimizer.param_groups, self._settings, strict=True):
            group.pop("initial_lr", None)
            group.update(settings)
        new_schedule = build_schedule(optimizer, self.recipes)
        if self._scheduler is not None and new_schedule is not None:
            self._scheduler.load_state_dict(replay_schedule(new_schedule, epoch))

    def begin_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch of the schedules that step with each step of a round.

        Args:
            epoch: The number of the epoch, from 0.
            epochs: The number of epochs of the fit.
            steps: The number of steps of a round in each epoch.
        """
        if isinstance(self._scheduler, Stepwise | CombinedSchedule) and epoch < epochs:
            self._scheduler.begin_epoch(epoch, epochs, steps)

    def begin_step(self, stack: int, step: int) -> None:
        """Clear the gradients of the previously trained stack and set the learning rates for a step of a stack."""
        for parameter in self._parameters[self._current_stack]:
            parameter.grad = None
        self._current_stack = stack
        if isinstance(self._scheduler, Stepwise | CombinedSchedule):
            self._scheduler.set_step(step)

    def share_gradients(self) -> None:
        """Pass the gradients of shared parameters on to the slices that different recipes train."""
        for view in self._slices[self._current_stack]:
            view.copy_gradient()


def build_optimizer(groups: Iterable[ParameterGroup]) -> Optimizer:
    """Build one optimizer with several parameter groups, each with the settings of its factory."""
    optimizer, *others = [make(parameters) for make, parameters in groups]
    for other in others:
        for group in other.param_groups:
            optimizer.add_param_group(group)
    return optimizer


class CombinedSchedule:
    """The schedules of several recipes, each for its own parameter groups of one optimizer, stepped together.

    torch's schedules act on all groups of an optimizer. So each schedule gets an optimizer that serves only as a
    container for the groups of its recipe.

    Args:
        optimizer: The optimizer with the parameter groups of all recipes.
        recipes: The recipes.
    """

    def __init__(self, optimizer: Optimizer, recipes: Sequence[Recipe]) -> None:
        self.optimizer = optimizer
        groups = iter(optimizer.param_groups)
        self._group_optimizers = [
            build_optimizer([(make, next(groups)["params"]) for make in recipe.optimizer_factories])
            for recipe in recipes
        ]
        self._attach_groups()
        self._schedules = [
            recipe.build_schedule(shell) for recipe, shell in zip(recipes, self._group_optimizers, strict=True)
        ]
        self._stepwise = [part for part in self._schedules if isinstance(part, Stepwise)]

    def _attach_groups(self) -> None:
        """Point each schedule to its groups again, since loading a checkpoint replaces the groups."""
        groups = iter(self.optimizer.param_groups)
        for shell in self._group_optimizers:
            shell.param_groups = list(islice(groups, len(shell.param_groups)))

    def step(self) -> None:
        """Step each schedule, with the random numbers that it would draw if it were the only one."""
        self._attach_groups()
        for part in self._schedules:
            if part is not None:
                # torch warns that the schedule's optimizer, a mere container, never took a step
                with use_seed(derive_schedule_seed(part.last_epoch + 1)), warnings.catch_warnings(action="ignore"):
                    part.step()

    def begin_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch of the schedules that step with each step of a round, as in :meth:`Stepwise.begin`."""
        self._attach_groups()
        for part in self._stepwise:
            part.begin_epoch(epoch, epochs, steps)

    def set_step(self, step: int) -> None:
        """Set the learning rates for a step of the present epoch."""
        for part in self._stepwise:
            part.set_step(step)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each schedule."""
        return {"parts": [None if part is None else part.state_dict() for part in self._schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of each schedule."""
        for part, state in zip(self._schedules, state_dict["parts"], strict=True):
            if part is not None:
                part.load_state_dict(state)


def build_schedule(optimizer: Optimizer, recipes: Sequence[Recipe]) -> LRScheduler | CombinedSchedule | None:
    """Build the schedule of an optimizer with the groups of all recipes, or return None if no recipe has one."""
    if all(recipe.scheduler is None for recipe in recipes):
        return None
    return recipes[0].build_schedule(optimizer) if len(recipes) == 1 else CombinedSchedule(optimizer, recipes)


def step_schedule(scheduler: LRScheduler | CombinedSchedule, epoch: int) -> None:
    """Step a schedule into an epoch, with random numbers that depend only on the epoch."""
    with use_seed(derive_schedule_seed(epoch)):
        scheduler.step()


def replay_schedule(scheduler: LRScheduler | CombinedSchedule, epochs: int) -> dict[str, Any]:
    """Step a new scheduler through the epochs that a resumed fit has already trained, and return its state."""
    with warnings.catch_warnings(action="ignore"):  # torch warns that the optimizer has not taken these steps
        for epoch in range(epochs):
            step_schedule(scheduler, epoch + 1)
    return scheduler.state_dict()
