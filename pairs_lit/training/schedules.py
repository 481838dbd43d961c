"""Schedules that go on with each step of a round, as a pure function of how far the round has got.

The steps of a fit are those of all its stacks, one stack after the other, so torch's own schedules that count steps
(OneCycleLR) would give each stack another part of the schedule. These do not count: they are told where a round is.
"""

import math
from abc import abstractmethod
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import seeded
from pairs_lit.training.optimizers import named, schedule_seed


class Stepwise(LRScheduler):
    """A schedule of the learning rate for each step of a round; one of your own has a :meth:`factor`.

    A constructor of your own sets what ``factor`` needs, then calls this one's.

    Args:
        optimizer: Whose learning rates it sets.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._factors, self._place = [self._checked(0.0)], 0
        super().__init__(optimizer)

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Return by what the optimizer's learning rate is multiplied.

        Args:
            progress: The middle of the step, as a share of all steps of the round: in (0, 1), (step + ½) / steps, so
                that neither the first step nor the last one is at an end of the schedule, where there is often a zero.
        """

    def _checked(self, progress: float) -> float:
        factor = float(self.factor(progress))
        if not 0 <= factor < math.inf:
            raise PairsLitError(
                f"model.lr_scheduler: {type(self).__name__}.factor({progress:g}) is {factor}: it must be finite, 0 or "
                "more."
            )
        return factor

    def begin(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch, at its first step.

        Args:
            epoch: Which one.
            epochs: How many there are.
            steps: The steps of a round in each of them.
        """
        with named("lr_scheduler"), seeded(schedule_seed(epoch)):
            places = range(epoch * steps, (epoch + 1) * steps)
            self._factors = [self._checked((place + 0.5) / (epochs * steps)) for place in places]
        self.at(0)

    def at(self, step: int) -> None:
        """Set the learning rates of a step of this epoch."""
        self._place = step
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each group of the optimizer."""
        return [float(rate) * self._factors[self._place] for rate in self.base_lrs]


class WarmupCosine(Stepwise):
    """Linear warm-up from 0 to the optimizer's learning rate, then half a cosine down to a share of it.

    Goyal et al. 2017 (warm-up), Loshchilov and Hutter 2017 (cosine). A fit that goes on with another
    ``trainer.max_epochs`` goes on at the place that it then has: the epochs that are over were trained on the former
    schedule.

    Args:
        optimizer: Whose learning rates it sets.
        warmup: The share of all steps that warm up, in [0, 1).
        final: The share of the learning rate that is left at the end, in [0, 1].

    Raises:
        PairsLitError: A share is not in its range.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.15, final: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise PairsLitError(f"WarmupCosine: warmup is {warmup}: it must be 0 or more and below 1.")
        if not 0 <= final <= 1:
            raise PairsLitError(f"WarmupCosine: final is {final}: it must be from 0 to 1.")
        self._warmup, self._final = warmup, final
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """Return the factor at a place of the round: 0 → 1 → ``final``."""
        if progress < self._warmup:
            return progress / self._warmup
        turn = math.pi * (progress - self._warmup) / (1 - self._warmup)
        return self._final + (1 - self._final) * (1 + math.cos(turn)) / 2
