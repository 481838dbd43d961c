"""One progress bar for the whole work: one fit, or many."""

import io
import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from pairs_lit.analysis.tables import mean_and_std
from pairs_lit.data.loaders import StackBatch, StackLoader
from pairs_lit.runs.metrics import Metric
from pairs_lit.statistics import summarise
from pairs_lit.system.lightning_hooks import spares_batches
from pairs_lit.text import counted
from pairs_lit.training.round_runner import RoundRunner


@spares_batches
class Progress(ProgressBar):
    """Shows the epochs of all rounds on the error stream, with the accuracy so far; silent without a terminal.

    Args:
        runner: The callback that collects the figures.
    """

    def __init__(self, runner: RoundRunner) -> None:
        super().__init__()
        self._runner = runner
        self._enabled = True
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Show nothing (Lightning's own switch)."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar (Lightning's own switch)."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start at the epoch that training starts at."""
        rounds = len(self._runner.seeds)
        self._bar = tqdm(
            total=trainer.max_epochs,
            initial=trainer.current_epoch,
            desc=counted(rounds, "round"),
            unit="epoch",
            disable=not self._is_seen(trainer),
            dynamic_ncols=True,
        )

    def _is_seen(self, trainer: Trainer) -> bool:
        on_terminal = isinstance(sys.stderr, io.TextIOBase) and sys.stderr.isatty()
        return self._enabled and on_terminal and trainer.is_global_zero

    def over(self, trainer: Trainer, loader: StackLoader) -> "tqdm[StackBatch]":
        """Return the batches of a final pass, and show how many are done of this worker's."""
        said = " and ".join(loader.splits)
        return tqdm(
            loader, f"evaluating ({said})", unit="batch", disable=not self._is_seen(trainer), dynamic_ncols=True
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Advance by one epoch."""
        if self._bar is None or self._bar.disable:
            return
        measured = (Metric("test", "accuracy"), Metric("val", "accuracy"))
        shown = next(metric for metric in measured if metric.tag in self._runner.latest)
        summary = summarise(self._runner.latest[shown.tag])
        self._bar.set_postfix_str(f"{shown.words} {mean_and_std(summary)}", refresh=False)
        self._bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the bar where it stopped."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@spares_batches
class EpochsDone(Callback):
    """Advances a bar over many fits by the epochs of all rounds of this one.

    Args:
        bar: The bar.
        rounds: How many rounds this fit trains.
    """

    def __init__(self, bar: "tqdm[Any]", rounds: int) -> None:
        self._bar = bar
        self._rounds = rounds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epochs that an earlier call trained."""
        self._bar.update(self._rounds * trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count one epoch."""
        self._bar.update(self._rounds)
