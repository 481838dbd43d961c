"""Checks of the trainer's settings: a round must depend on nothing but the config and its seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, callbacks
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.profilers import Profiler

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.runs.run_folder import LAST_CHECKPOINT
from pairs_lit.workers.strategy import STRATEGY_NAME, StackStrategy, gather_parts

# callbacks that would couple rounds or end them early
_COUPLING_CALLBACKS: tuple[type[callbacks.Callback], ...] = (
    callbacks.StochasticWeightAveraging,
    callbacks.WeightAveraging,
    callbacks.GradientAccumulationScheduler,
    callbacks.BatchSizeFinder,
    callbacks.LearningRateFinder,
    callbacks.ModelPruning,
    SpikeDetection,
    callbacks.Timer,
)

_LIMIT_OPTIONS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
_FIXED_OPTIONS = {
    "sync_batchnorm": (False, "it would couple rounds"),
    "barebones": (False, "it would leave out tables, curves and checkpoints"),
    "enable_checkpointing": (True, "a run is resumed from its checkpoint, RUN/checkpoints/last.ckpt"),
    "model_registry": (None, "checkpoints stay in the run folder"),
}
"""The only value that a trainer setting may have, and the reason."""


def check_trainer_options(settings: Mapping[str, Any]) -> None:
    """Raise PairsLitError for trainer settings that must be rejected before the trainer is built.

    With these settings, the trainer would start or wait for other processes, or silently ignore them.
    """
    if settings["strategy"] not in ("auto", STRATEGY_NAME):
        raise PairsLitError(
            f"trainer.strategy must be {STRATEGY_NAME}, got {settings['strategy']}: other strategies would couple "
            "rounds."
        )
    for name, (allowed, reason) in _FIXED_OPTIONS.items():
        if settings[name] not in (allowed, None):
            raise PairsLitError(f"trainer.{name} must be {allowed}, got {settings[name]}: {reason}.")
    for name in _LIMIT_OPTIONS:
        if settings[name] == 1:
            raise PairsLitError(f"trainer.{name} is 1, which may mean one batch or all batches. Remove it.")
    interval = settings["val_check_interval"]
    if interval is not None and (not isinstance(interval, float) or interval != 1):
        raise PairsLitError(
            f"trainer.val_check_interval must be 1.0, got {interval}. Otherwise the curves would have gaps."
        )
    if settings["max_time"] is not None:
        raise PairsLitError("trainer.max_time would couple rounds or end them early. Remove it.")
    _check_precision(settings["precision"])
    _check_epochs_and_clipping(settings["min_epochs"], settings["max_epochs"], settings["gradient_clip_val"])
    _check_profiler(settings["profiler"])


def _check_precision(precision: object) -> None:
    """Raise PairsLitError for float16.

    All rounds would share its gradient scaler, and on the CPU Lightning would silently use another precision.
    """
    if str(precision) in ("16", "16-mixed"):
        raise PairsLitError(
            f"trainer.precision is {precision}, with which one round's overflow would make all rounds skip a step. Use "
            "bf16-mixed."
        )


def _check_epochs_and_clipping(min_epochs: int | None, max_epochs: int | None, clip: float | None) -> None:
    if min_epochs is not None:
        check_positive("trainer.min_epochs", min_epochs)
        if max_epochs is not None and min_epochs > max_epochs >= 1:
            raise PairsLitError(
                f"trainer.min_epochs is {min_epochs}, more than trainer.max_epochs, {max_epochs}. Remove it."
            )
    if clip is not None and clip < 0:
        raise PairsLitError(f"trainer.gradient_clip_val must be 0 or more, got {clip}.")


def _check_profiler(profiler: object) -> None:
    """Raise PairsLitError for profilers that would fail, or whose report Lightning would not write."""
    if profiler == "xla":
        raise PairsLitError("trainer.profiler is xla, which needs a TPU. Use simple, advanced or pytorch.")
    if isinstance(profiler, Profiler) and profiler.filename is not None and profiler.dirpath is None:
        raise PairsLitError("trainer.profiler: filename needs dirpath too. Set the folder of the report.")


def check_checkpoint_callbacks(trainer: Trainer, metrics: Sequence[str]) -> None:
    """Raise PairsLitError for a checkpoint callback whose files cannot be resumed, or that monitors another metric.

    Args:
        trainer: The trainer.
        metrics: The names that a callback may monitor.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, callbacks.OnExceptionCheckpoint):
            raise PairsLitError(
                "OnExceptionCheckpoint would save within an epoch, where no run can be resumed. Remove it; every run "
                "can be resumed from RUN/checkpoints/last.ckpt."
            )
        if isinstance(callback, callbacks.ModelCheckpoint):
            _check_save_times(callback)
            _check_monitor(callback.monitor, metrics)


def _check_save_times(callback: callbacks.ModelCheckpoint) -> None:
    """Raise PairsLitError unless a callback saves whole checkpoints, and only at the ends of epochs."""
    reserved = Path(LAST_CHECKPOINT).stem
    if callback.filename == reserved:
        raise PairsLitError(f"ModelCheckpoint: filename {reserved} is reserved for the run. Choose another name.")
    rejected = {
        "every_n_train_steps": callback._every_n_train_steps > 0,
        "train_time_interval": callback._train_time_interval is not None,
        "save_on_train_epoch_end": callback._save_on_train_epoch_end is False,
        "save_on_exception": callback.save_on_exception,
        "save_weights_only": callback.save_weights_only,
        "save_last with dirpath": bool(callback.save_last) and callback.dirpath is not None,
    }
    for name, is_set in rejected.items():
        if is_set:
            raise PairsLitError(
                f"ModelCheckpoint: {name} cannot be set, since a run can only be resumed from a whole checkpoint at "
                "the end of an epoch. Remove it, or use every_n_epochs."
            )


def _check_monitor(monitor: str | None, allowed: Sequence[str]) -> None:
    """Raise PairsLitError if a callback monitors an unknown metric, or one of the test set."""
    if monitor is None or monitor in (*allowed, "epoch", "step"):
        return
    if monitor.startswith("test/"):
        raise PairsLitError(
            f"ModelCheckpoint: monitor is {monitor}, but nothing may be selected on the test set. Use "
            "val/accuracy/mean."
        )
    raise PairsLitError(
        f"ModelCheckpoint: monitor is {monitor}, which is not available. Use one of "
        f"{', '.join(name for name in allowed if name.endswith('/mean'))} (with several rounds also low and high: "
        "mean ∓ std)."
    )


def check_equal_stacks(trainer: Trainer, stack_size: int) -> None:
    """Raise PairsLitError if workers on GPUs have chosen different stack sizes and would train different rounds."""
    if trainer.strategy.root_device.type == "cpu":  # the default does not depend on memory
        return
    sizes = sorted(set(gather_parts(trainer, stack_size)))
    if len(sizes) > 1:
        raise PairsLitError(
            f"rounds.stack_size must be equal in all workers, got {', '.join(map(str, sizes))}: their GPUs differ in "
            f"free memory. Set rounds.stack_size to {sizes[0]}."
        )


def check_trainer(trainer: Trainer) -> None:
    """Raise PairsLitError for settings under which one round would affect another, or rounds would train differently.

    The message names the setting.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by a connector
        if isinstance(callback, callbacks.EarlyStopping):
            raise PairsLitError(
                f"the callback {type(callback).__name__} would couple rounds: the end of each would depend on all of "
                "them. Remove it. Instead, choose trainer.max_epochs by the val/accuracy curves of an earlier run, or "
                "keep the best epoch with a ModelCheckpoint that monitors val/accuracy/mean."
            )
        if isinstance(callback, _COUPLING_CALLBACKS):
            name = type(callback).__name__
            raise PairsLitError(f"the callback {name} would couple rounds or end them early. Remove it.")
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value":
        raise PairsLitError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}, but clipping by the norm of all rounds' "
            "gradients would couple rounds. Set trainer.gradient_clip_algorithm to value, or do not clip."
        )
    for name, (value, allowed, reason) in _list_fixed_settings(trainer).items():
        if value != allowed:
            raise PairsLitError(f"trainer.{name} must be {allowed}, got {value}. Otherwise {reason}.")
    _check_precision(trainer.precision)
    check_positive("trainer.max_epochs", trainer.max_epochs or 0)


def _list_fixed_settings(trainer: Trainer) -> dict[str, tuple[object, object, str]]:
    """Return by name: the present value, the only allowed value, and what would happen with others."""
    part = "some stacks would see fewer pairs than others"
    gaps = "the curves would have gaps"
    return {
        "devices": (
            1 if isinstance(trainer.strategy, StackStrategy) else trainer.num_devices,
            1,
            f"rounds would be distributed by batch, not by seed (or set trainer.strategy to {STRATEGY_NAME})",
        ),
        "accumulate_grad_batches": (trainer.accumulate_grad_batches, 1, "gradients of several stacks would be added"),
        "fast_dev_run": (trainer.fast_dev_run, False, part),  # type: ignore[attr-defined] # set elsewhere
        "overfit_batches": (trainer.overfit_batches, 0.0, part),  # type: ignore[attr-defined] # set elsewhere
        **{name: (getattr(trainer, name), 1.0, part) for name in _LIMIT_OPTIONS},
        "max_steps": (trainer.max_steps, -1, part),
        "min_steps": (trainer.min_steps, None, part),
        "num_sanity_val_steps": (trainer.num_sanity_val_steps, 0, part),
        "val_check_interval": (trainer.val_check_interval, 1.0, gaps),
        "detect_anomaly": (trainer._detect_anomaly, False, "one round's NaN would end all rounds"),
        "check_val_every_n_epoch": (trainer.check_val_every_n_epoch, 1, gaps),
    }
