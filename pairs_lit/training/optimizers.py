"""Optimizers and schedules that keep rounds separate."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import optim
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import derive

PER_ELEMENT_OPTIMIZERS = (optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.RMSprop, optim.Adagrad)
"""Optimizers whose update of an element depends on that element's own history alone."""

_OTHER_SCHEDULERS = (lr_scheduler.ReduceLROnPlateau, lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)


_WHOLE_TENSORS = {
    "Muon": "it orthogonalises whole matrices, and those of all rounds lie in one tensor",
    "Adafactor": "it scales its steps by norms of whole tensors, which hold all rounds",
    "LBFGS": "it searches along one direction for the parameters of all rounds",
    "SparseAdam": "it is for sparse gradients, which no network has here",
}
"""By the name of an optimizer, why it cannot train rounds side by side."""


def check_optimizer(optimizer: optim.Optimizer) -> None:
    """Raise PairsLitError if the optimizer is not one of :data:`PER_ELEMENT_OPTIMIZERS`.

    Others may look at more than one element at a time.
    """
    name = type(optimizer).__name__
    if type(optimizer) not in PER_ELEMENT_OPTIMIZERS:
        reason = _WHOLE_TENSORS.get(name, "it is not known to update each element by itself")
        allowed = ", ".join(kind.__name__ for kind in PER_ELEMENT_OPTIMIZERS)
        raise PairsLitError(f"model.optimizer is {name}, which may mix rounds ({reason}): use one of {allowed}.")


def check_scheduler(scheduler: object) -> None:
    """Refuse schedulers that watch a metric of all rounds or count steps of all stacks.

    Raises:
        PairsLitError: The scheduler is one of those.
    """
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, _OTHER_SCHEDULERS):
        raise PairsLitError(
            f"model.lr_scheduler is {type(scheduler).__name__}, which would mix rounds (it watches a metric or counts "
            "steps): use one that steps once an epoch, such as StepLR or CosineAnnealingLR, or goes on with each step "
            "of a round, such as pairs_lit.training.schedules.WarmupCosine."
        )


@contextmanager
def named(option: str) -> Iterator[None]:
    """Report torch's errors about the settings of an optimizer or scheduler with the option's name."""
    try:
        yield
    except PairsLitError:
        raise
    except Exception as error:  # a schedule may be any function that the user wrote
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise PairsLitError(f"model.{option}: {reason}.") from error


def hyperparameters(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of one group of an optimizer's parameters."""
    return {name: value for name, value in group.items() if name != "params"}


def schedule_seed(epoch: int) -> int:
    """All rounds share one schedule, so its random numbers, if any, cannot follow from a round's seed."""
    return derive(0, "lr_scheduler", epoch)


def prefer_fused(optimizer: optim.Optimizer) -> None:
    """Use the optimizer's fused kernel, one call instead of ten per tensor, if it has one and the user chose none."""
    for group in optimizer.param_groups:
        undecided = [group.get(choice, False) for choice in ("fused", "foreach")] == [None, None]
        where = {parameter.device.type for parameter in group["params"]}
        if undecided and not group["differentiable"] and where <= {"cpu", "cuda"}:
            group["fused"] = True
