"""Checks that optimizers and schedules keep rounds independent."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import optim
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import derive_seed

PER_ELEMENT_OPTIMIZERS = (optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.RMSprop, optim.Adagrad)
"""Optimizers whose update of an element depends only on the history of that element."""

_COUPLING_SCHEDULERS = (lr_scheduler.ReduceLROnPlateau, lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)


_REJECTION_REASONS = {
    "Muon": "it orthogonalises whole matrices, and those of all rounds lie in one tensor",
    "Adafactor": "it scales its steps by norms of whole tensors, which hold all rounds",
    "LBFGS": "it searches along one direction for the parameters of all rounds",
    "SparseAdam": "it is for sparse gradients, which no network has here",
}
"""The reasons why optimizers cannot train rounds side by side, by the optimizer's name."""


def check_optimizer(optimizer: optim.Optimizer) -> None:
    """Raise PairsLitError if the optimizer is not one of :data:`PER_ELEMENT_OPTIMIZERS`.

    Others may combine several elements in an update, and so couple rounds.
    """
    name = type(optimizer).__name__
    if type(optimizer) not in PER_ELEMENT_OPTIMIZERS:
        reason = _REJECTION_REASONS.get(name, "it is not known to update each element by itself")
        allowed = ", ".join(kind.__name__ for kind in PER_ELEMENT_OPTIMIZERS)
        raise PairsLitError(f"model.optimizer is {name}, which may couple rounds ({reason}). Use one of {allowed}.")


def check_scheduler(scheduler: object) -> None:
    """Raise PairsLitError if a scheduler monitors a metric of all rounds or counts the steps of all stacks."""
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, _COUPLING_SCHEDULERS):
        raise PairsLitError(
            f"model.lr_scheduler is {type(scheduler).__name__}, which would couple rounds (it monitors a metric or "
            "counts steps). Use one that steps once per epoch, such as StepLR or CosineAnnealingLR, or with each step "
            "of a round, such as pairs_lit.training.schedules.WarmupCosine."
        )


@contextmanager
def name_option_in_errors(option: str) -> Iterator[None]:
    """Turn torch's errors about the settings of an optimizer or scheduler into errors that name the option."""
    try:
        yield
    except PairsLitError:
        raise
    except Exception as error:  # a schedule may be any function of the user, and raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise PairsLitError(f"model.{option}: {reason}.") from error


def get_group_settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of one parameter group of an optimizer."""
    return {name: value for name, value in group.items() if name != "params"}


def derive_schedule_seed(epoch: int) -> int:
    """Derive the seed for random numbers of a schedule, which all rounds share and so cannot depend on their seeds."""
    return derive_seed(0, "lr_scheduler", epoch)


def prefer_fused(optimizer: optim.Optimizer) -> None:
    """Use the optimizer's fused kernel if it has one and the user made no choice.

    The fused kernel needs one call per tensor instead of ten.
    """
    for group in optimizer.param_groups:
        is_undecided = [group.get(choice, False) for choice in ("fused", "foreach")] == [None, None]
        devices = {parameter.device.type for parameter in group["params"]}
        supported = {"cpu"} if isinstance(optimizer, optim.Adagrad) else {"cpu", "cuda"}  # not in every torch release
        if is_undecided and not group["differentiable"] and devices <= supported:
            group["fused"] = True
