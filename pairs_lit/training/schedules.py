"""Learning-rate schedules that step with each step of a round.

A fit steps through its stacks one after the other. So torch's schedules that count steps, such as OneCycleLR, would
give each stack a different part of the schedule. The schedules of this module do not count: they are functions of the
progress of a round.
"""

import math
from abc import abstractmethod
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import use_seed
from pairs_lit.training.optimizers import derive_schedule_seed, name_option_in_errors


class Stepwise(LRScheduler):
    """Base class of learning-rate schedules for each step of a round.

    A custom schedule implements :meth:`factor`. If it has a constructor, that first sets the attributes that ``factor``
    needs and then calls ``super().__init__(optimizer)``.

    Args:
        optimizer: The optimizer whose learning rates the schedule sets.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._factors, self._current_step = [self._compute_factor(0.0)], 0
        super().__init__(optimizer)

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Return the factor that the optimizer's learning rate is multiplied by.

        Args:
            progress: The middle of the step as a share of all steps of the round, (step + ½) / steps, in (0, 1). So no
                step lies exactly at an end of the schedule, where the factor is often 0.
        """

    def _compute_factor(self, progress: float) -> float:
        """Return the factor; raise PairsLitError if it is negative or not finite."""
        factor = float(self.factor(progress))
        if not 0 <= factor < math.inf:
            raise PairsLitError(
                f"model.lr_scheduler: {type(self).__name__}.factor({progress:g}) must be finite and 0 or more, got "
                f"{factor}."
            )
        return factor

    def begin_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch, at its first step.

        Args:
            epoch: The number of the epoch, from 0.
            epochs: The number of epochs of the fit.
            steps: The number of steps of a round in each epoch.
        """
        with name_option_in_errors("lr_scheduler"), use_seed(derive_schedule_seed(epoch)):
            round_steps = range(epoch * steps, (epoch + 1) * steps)
            self._factors = [self._compute_factor((step + 0.5) / (epochs * steps)) for step in round_steps]
        self.set_step(0)

    def set_step(self, step: int) -> None:
        """Set the learning rates for a step of the present epoch."""
        self._current_step = step
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each parameter group of the optimizer."""
        return [float(rate) * self._factors[self._current_step] for rate in self.base_lrs]


class WarmupCosine(Stepwise):
    """Linear warm-up from 0 to the optimizer's learning rate, followed by cosine decay to a share of it.

    The warm-up is from Goyal et al. 2017, the cosine from Loshchilov and Hutter 2017. If a fit is resumed with another
    ``trainer.max_epochs``, it continues at the matching point of the new schedule. Earlier epochs followed the old one.

    Args:
        optimizer: The optimizer whose learning rates the schedule sets.
        warmup: The share of all steps used for the warm-up, in [0, 1).
        final: The share of the learning rate that is left at the end, in [0, 1].

    Raises:
        PairsLitError: A share is not in its range.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.15, final: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise PairsLitError(f"WarmupCosine.warmup must be in [0, 1), got {warmup}.")
        if not 0 <= final <= 1:
            raise PairsLitError(f"WarmupCosine.final must be from 0 to 1, got {final}.")
        self._warmup, self._final = warmup, final
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """Return the factor, which rises from 0 to 1 and then falls to ``final``."""
        if progress < self._warmup:
            return progress / self._warmup
        angle = math.pi * (progress - self._warmup) / (1 - self._warmup)
        return self._final + (1 - self._final) * (1 + math.cos(angle)) / 2
