"""What would mix rounds is refused: a round is a pure function of (config, seed)."""

from lightning.pytorch import Trainer, callbacks
from torch import optim
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from pairs_lit.errors import PairsLitError

PER_ELEMENT_OPTIMIZERS = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Adagrad,
)
"""Optimizers whose update of an element depends on that element's own history alone."""

_OTHER_SCHEDULERS = (lr_scheduler.ReduceLROnPlateau, lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)

_MIXING_CALLBACKS: tuple[type[callbacks.Callback], ...] = (
    callbacks.EarlyStopping,
    callbacks.StochasticWeightAveraging,
    callbacks.WeightAveraging,
    callbacks.GradientAccumulationScheduler,
    callbacks.BatchSizeFinder,
    callbacks.LearningRateFinder,
    callbacks.ModelPruning,
    callbacks.Timer,
)


def check_optimizer(optimizer: optim.Optimizer) -> None:
    """Refuse optimizers that look at more than one element at a time.

    Raises:
        PairsLitError: The optimizer is not one of :data:`PER_ELEMENT_OPTIMIZERS`.
    """
    if type(optimizer) not in PER_ELEMENT_OPTIMIZERS:
        allowed = ", ".join(kind.__name__ for kind in PER_ELEMENT_OPTIMIZERS)
        raise PairsLitError(
            f"model.optimizer is {type(optimizer).__name__}, which may mix rounds: use one that updates each element "
            f"by itself ({allowed})."
        )


def check_scheduler(scheduler: object) -> None:
    """Refuse schedulers that watch a metric of all rounds or count steps of all stacks.

    Raises:
        PairsLitError: The scheduler is one of those.
    """
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, _OTHER_SCHEDULERS):
        raise PairsLitError(
            f"model.lr_scheduler is {type(scheduler).__name__}, which would mix rounds (it watches a metric or counts "
            "steps): use one that steps once an epoch, such as StepLR or CosineAnnealingLR."
        )


def check_one_process(strategy: object, num_nodes: object) -> None:
    """Refuse what makes Lightning start, or wait for, other processes; a trainer must not even be built with it.

    Args:
        strategy: As given to the trainer.
        num_nodes: As given to the trainer.

    Raises:
        PairsLitError: It is not the default.
    """
    for name, value, allowed in (("strategy", strategy, "auto"), ("num_nodes", num_nodes, 1)):
        if value != allowed:
            raise PairsLitError(
                f"trainer.{name} is {value}: it must be {allowed}, since all rounds train in one process."
            )


def check_trainer(trainer: Trainer) -> None:
    """Refuse trainer settings under which one round would change another, or rounds would not train alike.

    Raises:
        PairsLitError: A setting is one of those; the message names it.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by a connector
        if isinstance(callback, _MIXING_CALLBACKS):
            raise PairsLitError(f"{_callback_name(callback)} would mix rounds or end them early: remove it.")
    _check_clipping(trainer)
    for name, (value, allowed, reason) in _fixed_settings(trainer).items():
        if value != allowed:
            raise PairsLitError(f"trainer.{name} is {value}: it must be {allowed}, since otherwise {reason}.")
    if trainer.precision == "16-mixed":
        raise PairsLitError(
            "trainer.precision is 16-mixed: one round's overflow would make all skip a step; use bf16-mixed."
        )
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise PairsLitError(f"trainer.max_epochs is {trainer.max_epochs}: it must be 1 or more.")


def _callback_name(callback: callbacks.Callback) -> str:
    return "trainer.max_time" if isinstance(callback, callbacks.Timer) else f"the callback {type(callback).__name__}"


def _check_clipping(trainer: Trainer) -> None:
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value":
        raise PairsLitError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}: clipping by the norm of all rounds' gradients "
            "would mix rounds. Set trainer.gradient_clip_algorithm to value, or do not clip."
        )


def _fixed_settings(trainer: Trainer) -> dict[str, tuple[object, object, str]]:
    """By name: what is set, what it must be, and what would happen otherwise."""
    part = "some stacks would see less than others"
    epochs = "the curves would have gaps"
    return {
        "devices": (trainer.num_devices, 1, "rounds would be spread by batch, not by seed"),
        "accumulate_grad_batches": (trainer.accumulate_grad_batches, 1, "gradients of several stacks would be mixed"),
        "fast_dev_run": (trainer.fast_dev_run, False, part),  # type: ignore[attr-defined] # set elsewhere
        "overfit_batches": (trainer.overfit_batches, 0.0, part),  # type: ignore[attr-defined] # set elsewhere
        "limit_train_batches": (trainer.limit_train_batches, 1.0, part),
        "limit_val_batches": (trainer.limit_val_batches, 1.0, part),
        "limit_test_batches": (trainer.limit_test_batches, 1.0, part),
        "limit_predict_batches": (trainer.limit_predict_batches, 1.0, part),
        "max_steps": (trainer.max_steps, -1, part),
        "min_steps": (trainer.min_steps, None, part),
        "num_sanity_val_steps": (trainer.num_sanity_val_steps, 0, part),
        "val_check_interval": (trainer.val_check_interval, 1.0, epochs),
        "detect_anomaly": (trainer._detect_anomaly, False, "one round's NaN would end all"),
        "check_val_every_n_epoch": (trainer.check_val_every_n_epoch, 1, epochs),
    }
