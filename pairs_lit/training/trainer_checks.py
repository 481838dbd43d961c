"""Checks that refuse settings which would mix rounds: a round is a pure function of (config, seed)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, callbacks
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.profilers import Profiler

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.runs.run_folder import LAST
from pairs_lit.workers.strategy import NAME, StackStrategy

_MIXING_CALLBACKS: tuple[type[callbacks.Callback], ...] = (
    callbacks.StochasticWeightAveraging,
    callbacks.WeightAveraging,
    callbacks.GradientAccumulationScheduler,
    callbacks.BatchSizeFinder,
    callbacks.LearningRateFinder,
    callbacks.ModelPruning,
    SpikeDetection,
    callbacks.Timer,
)

_LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
_GIVEN = {
    "sync_batchnorm": (False, "rounds share nothing"),
    "barebones": (False, "it would leave out tables, curves and checkpoints"),
    "enable_checkpointing": (True, "a run keeps one checkpoint, RUN/checkpoints/last.ckpt, to go on from"),
    "model_registry": (None, "checkpoints stay in the run folder"),
}


def check_given(settings: Mapping[str, Any]) -> None:
    """Refuse trainer settings before the trainer is built.

    With them it would start or wait for other processes, or silently do something other than what was asked for.

    Raises:
        PairsLitError: A setting is one of those; the message names it.
    """
    if settings["strategy"] not in ("auto", NAME):
        raise PairsLitError(
            f"trainer.strategy is {settings['strategy']}: it must be {NAME}, since others would mix rounds."
        )
    for name, (allowed, reason) in _GIVEN.items():
        if settings[name] not in (allowed, None):
            raise PairsLitError(f"trainer.{name} is {settings[name]}: it must be {allowed}, since {reason}.")
    for name in _LIMITS:
        if settings[name] == 1:
            raise PairsLitError(f"trainer.{name} is 1, which may mean one batch or all of them: leave it out.")
    interval = settings["val_check_interval"]
    if interval is not None and (not isinstance(interval, float) or interval != 1):
        raise PairsLitError(
            f"trainer.val_check_interval is {interval}: it must be 1.0, since otherwise the curves would have gaps."
        )
    if settings["max_time"] is not None:
        raise PairsLitError("trainer.max_time would mix rounds or end them early: remove it.")
    _check_precision(settings["precision"])
    _check_numbers(settings["min_epochs"], settings["max_epochs"], settings["gradient_clip_val"])
    _check_profiler(settings["profiler"])


def _check_precision(precision: object) -> None:
    """Refuse float16, whose gradient scaler all rounds would share; on the CPU, Lightning would silently change it."""
    if str(precision) in ("16", "16-mixed"):
        raise PairsLitError(
            f"trainer.precision is {precision}: one round's overflow would make all skip a step; use bf16-mixed."
        )


def _check_numbers(fewest: int | None, most: int | None, clip: float | None) -> None:
    if fewest is not None:
        check_positive("trainer.min_epochs", fewest)
        if most is not None and fewest > most >= 1:
            raise PairsLitError(f"trainer.min_epochs is {fewest}, more than trainer.max_epochs, {most}: leave it out.")
    if clip is not None and clip < 0:
        raise PairsLitError(f"trainer.gradient_clip_val is {clip}: it must be 0 or more.")


def _check_profiler(profiler: object) -> None:
    """Refuse profilers whose report Lightning would not write, or that would fail."""
    if profiler == "xla":
        raise PairsLitError("trainer.profiler is xla, which needs a TPU: use simple, advanced or pytorch.")
    if isinstance(profiler, Profiler) and profiler.filename is not None and profiler.dirpath is None:
        raise PairsLitError("trainer.profiler: filename is only used together with dirpath: name the folder, too.")


def check_checkpoint_callbacks(trainer: Trainer, figures: Sequence[str]) -> None:
    """Refuse checkpoint callbacks whose files no run could go on from, or that monitor other than these figures.

    Raises:
        PairsLitError: A callback is one of those; the message names its option.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, callbacks.OnExceptionCheckpoint):
            raise PairsLitError(
                "OnExceptionCheckpoint would save within an epoch, where no run can be resumed: remove it; "
                "RUN/checkpoints/last.ckpt is there to resume from."
            )
        if isinstance(callback, callbacks.ModelCheckpoint):
            _check_moments(callback)
            _check_monitor(callback.monitor, figures)


def _check_moments(callback: callbacks.ModelCheckpoint) -> None:
    """Accept only callbacks that save whole checkpoints at the ends of epochs."""
    own = Path(LAST).stem
    if callback.filename == own:
        raise PairsLitError(f"ModelCheckpoint: filename is {own}, the run's own file: take another name.")
    unfit = {
        "every_n_train_steps": callback._every_n_train_steps > 0,
        "train_time_interval": callback._train_time_interval is not None,
        "save_on_train_epoch_end": callback._save_on_train_epoch_end is False,
        "save_on_exception": callback.save_on_exception,
        "save_weights_only": callback.save_weights_only,
        "save_last with dirpath": bool(callback.save_last) and callback.dirpath is not None,
    }
    for name, found in unfit.items():
        if found:
            raise PairsLitError(
                f"ModelCheckpoint: {name} cannot be set: a run can only be resumed from a whole checkpoint of the end "
                "of an epoch. Leave it out, or use every_n_epochs."
            )


def _check_monitor(monitor: str | None, allowed: Sequence[str]) -> None:
    """Accept ``val/accuracy/mean`` and the like: nothing is selected on the test set."""
    if monitor is None or monitor in (*allowed, "epoch", "step"):
        return
    if monitor.startswith("test/"):
        raise PairsLitError(
            f"ModelCheckpoint: monitor is {monitor}, but nothing is selected on the test set: use val/accuracy/mean."
        )
    raise PairsLitError(
        f"ModelCheckpoint: monitor is {monitor}: use {', '.join(name for name in allowed if name.endswith('/mean'))} "
        "(of several rounds also low, high: mean ∓ std)."
    )


def check_trainer(trainer: Trainer) -> None:
    """Refuse trainer settings under which one round would change another, or rounds would not train alike.

    Raises:
        PairsLitError: A setting is one of those; the message names it.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by a connector
        if isinstance(callback, callbacks.EarlyStopping):
            raise PairsLitError(
                f"the callback {type(callback).__name__} would mix rounds: when one ends would depend on all of "
                "them. Remove it: choose trainer.max_epochs by the val/accuracy of an earlier run's curves, or keep "
                "the best epoch by a ModelCheckpoint that monitors val/accuracy/mean."
            )
        if isinstance(callback, _MIXING_CALLBACKS):
            name = type(callback).__name__
            raise PairsLitError(f"the callback {name} would mix rounds or end them early: remove it.")
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value":
        raise PairsLitError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}: clipping by the norm of all rounds' gradients "
            "would mix rounds. Set trainer.gradient_clip_algorithm to value, or do not clip."
        )
    for name, (value, allowed, reason) in _fixed_settings(trainer).items():
        if value != allowed:
            raise PairsLitError(f"trainer.{name} is {value}: it must be {allowed}, since otherwise {reason}.")
    _check_precision(trainer.precision)
    check_positive("trainer.max_epochs", trainer.max_epochs or 0)


def _fixed_settings(trainer: Trainer) -> dict[str, tuple[object, object, str]]:
    """Return by name: what is set, what it must be, and what would happen otherwise."""
    part = "some stacks would see less than others"
    gaps = "the curves would have gaps"
    return {
        "devices": (
            1 if isinstance(trainer.strategy, StackStrategy) else trainer.num_devices,
            1,
            f"rounds would be spread by batch, not by seed (or set trainer.strategy to {NAME})",
        ),
        "accumulate_grad_batches": (trainer.accumulate_grad_batches, 1, "gradients of several stacks would be mixed"),
        "fast_dev_run": (trainer.fast_dev_run, False, part),  # type: ignore[attr-defined] # set elsewhere
        "overfit_batches": (trainer.overfit_batches, 0.0, part),  # type: ignore[attr-defined] # set elsewhere
        **{name: (getattr(trainer, name), 1.0, part) for name in _LIMITS},
        "max_steps": (trainer.max_steps, -1, part),
        "min_steps": (trainer.min_steps, None, part),
        "num_sanity_val_steps": (trainer.num_sanity_val_steps, 0, part),
        "val_check_interval": (trainer.val_check_interval, 1.0, gaps),
        "detect_anomaly": (trainer._detect_anomaly, False, "one round's NaN would end all"),
        "check_val_every_n_epoch": (trainer.check_val_every_n_epoch, 1, gaps),
    }
