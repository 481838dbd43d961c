"""The callback that saves a run's last checkpoint."""

import math
import shlex
import time
from contextlib import ExitStack
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from pairs_lit.runs.run_folder import LAST_CHECKPOINT
from pairs_lit.system.lightning_hooks import skip_batch_hooks
from pairs_lit.system.signals import (
    defer_signals,
    is_end_announced,
    mark_end_announced,
    raise_if_end_announced,
    raise_if_stopped,
)
from pairs_lit.workers.cluster import requeue_slurm_job

SAVE_INTERVAL_SECONDS = 30.0


@skip_batch_hooks
class LastCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` in the run folder.

    The file is saved after the first and the last epoch, and in between at most every 30 seconds. A cluster announces
    the end of a job with SIGUSR1; the file is then saved at the end of the epoch, and the fit ends there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._saved_at = -math.inf  # saves after the first epoch, so that a value that cannot be saved is found early
        self._deferred_signals = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defer signals that announce the end of a job to :meth:`on_train_epoch_end`."""
        self._deferred_signals.enter_context(defer_signals())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """End the fit between two steps if a signal has requested it."""
        raise_if_stopped()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End the fit between two batches if a signal has requested it."""
        raise_if_stopped()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a checkpoint if one is due, or if the end of the job was announced to any of the workers."""
        strategy, last = trainer.strategy, trainer.current_epoch + 1 == trainer.max_epochs
        due = trainer.is_global_zero and (last or time.monotonic() - self._saved_at > SAVE_INTERVAL_SECONDS)
        if not strategy.reduce_boolean_decision(due or is_end_announced(), all=False):
            return
        run = Path(str(trainer.log_dir))
        trainer.save_checkpoint(run / LAST_CHECKPOINT)
        self._saved_at = time.monotonic()
        if strategy.reduce_boolean_decision(is_end_announced(), all=False) and not last:
            mark_end_announced()
            if trainer.is_global_zero:
                requeue_slurm_job()
            raise_if_end_announced(shlex.join(["pairs-lit", "fit", str(run)]))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop deferring signals."""
        self._deferred_signals.close()
        raise_if_stopped()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop deferring signals."""
        self._deferred_signals.close()
