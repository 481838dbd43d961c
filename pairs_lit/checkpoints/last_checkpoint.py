"""The callback that saves a run's last checkpoint."""

import math
import shlex
import time
from contextlib import ExitStack
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from pairs_lit.runs.run_folder import LAST
from pairs_lit.system.lightning_hooks import spares_batches
from pairs_lit.system.signals import announce, announced, check_announced, check_asked, postponed
from pairs_lit.workers.cluster import requeue

SAVE_SECONDS = 30.0


@spares_batches
class LastCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` in the run folder.

    The file is saved after the first and the last epoch, and in between at most every 30 seconds. A cluster announces
    the end of a job with SIGUSR1; the file is then saved at the end of the epoch, and the fit ends there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._saved_at = -math.inf  # saves after the first epoch, so that a value that cannot be saved is found early
        self._postponed = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defer signals that announce the end of a job to :meth:`on_train_epoch_end`."""
        self._postponed.enter_context(postponed())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """End the fit between two steps if a signal has requested it."""
        check_asked()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End the fit between two batches if a signal has requested it."""
        check_asked()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a checkpoint if one is due, or if the end of the job was announced to any of the workers."""
        strategy, last = trainer.strategy, trainer.current_epoch + 1 == trainer.max_epochs
        due = trainer.is_global_zero and (last or time.monotonic() - self._saved_at > SAVE_SECONDS)
        if not strategy.reduce_boolean_decision(due or announced(), all=False):
            return
        run = Path(str(trainer.log_dir))
        trainer.save_checkpoint(run / LAST)
        self._saved_at = time.monotonic()
        if strategy.reduce_boolean_decision(announced(), all=False) and not last:
            announce()
            if trainer.is_global_zero:
                requeue()
            check_announced(shlex.join(["pairs-lit", "fit", str(run)]))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop deferring signals."""
        self._postponed.close()
        check_asked()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop deferring signals."""
        self._postponed.close()
