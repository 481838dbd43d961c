"""Progress bars for one fit, or for many fits together."""

import io
import sys
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from pairs_lit.data.loaders import StackBatch, StackLoader
from pairs_lit.runs.metrics import Metric
from pairs_lit.statistics import format_mean_and_std, summarise
from pairs_lit.system.lightning_hooks import skip_batch_hooks
from pairs_lit.system.notebook import is_in_notebook
from pairs_lit.text import format_count
from pairs_lit.training.round_runner import RoundRunner


def choose_bar_class() -> "type[tqdm[Any]]":
    """Return tqdm's widget in a notebook where ipywidgets is installed, otherwise its text bar."""
    if is_in_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook_bar  # without ipywidgets, it would warn and fail

        return notebook_bar
    return tqdm


def can_show_bar() -> bool:
    """Return whether the user would see a bar on stderr: on a terminal or in a notebook."""
    return is_in_notebook() or (isinstance(sys.stderr, io.TextIOBase) and sys.stderr.isatty())


@skip_batch_hooks
class RoundProgressBar(ProgressBar):
    """Shows the epochs of all rounds with the latest accuracy, on a terminal's stderr or in a notebook.

    Args:
        runner: The callback that collects the metrics.
    """

    def __init__(self, runner: RoundRunner) -> None:
        super().__init__()
        self._runner = runner
        self._enabled = True
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Hide the bar, at Lightning's request."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar, at Lightning's request."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the first epoch that this fit trains."""
        rounds = len(self._runner.seeds)
        self._bar = choose_bar_class()(
            total=trainer.max_epochs,
            initial=trainer.current_epoch,
            desc=format_count(rounds, "round"),
            unit="epoch",
            disable=not self._is_visible(trainer),
            dynamic_ncols=True,
        )

    def _is_visible(self, trainer: Trainer) -> bool:
        return self._enabled and can_show_bar() and trainer.is_global_zero

    def track_batches(self, trainer: Trainer, loader: StackLoader) -> "tqdm[StackBatch]":
        """Return this worker's batches of a final evaluation, wrapped in a progress bar on terminals.

        A notebook shows one bar for each fit, that of the epochs.
        """
        splits, is_hidden = " and ".join(loader.splits), is_in_notebook() or not self._is_visible(trainer)
        return tqdm(loader, f"evaluating ({splits})", unit="batch", disable=is_hidden, dynamic_ncols=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Advance by one epoch."""
        if self._bar is None or self._bar.disable:
            return
        candidates = (Metric("test", "accuracy"), Metric("val", "accuracy"))
        metric = next(candidate for candidate in candidates if candidate.tag in self._runner.latest)
        summary = summarise(self._runner.latest[metric.tag])
        self._bar.set_postfix_str(f"{metric.words} {format_mean_and_std(summary)}", refresh=False)
        self._bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the finished bar, which stays visible."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, which stays visible where it stopped."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@skip_batch_hooks
class EpochCounter(Callback):
    """Advances the common progress bar of many fits by the epochs of this fit, counted for each round.

    Args:
        bar: The progress bar.
        rounds: The number of rounds in this fit.
    """

    def __init__(self, bar: "tqdm[Any]", rounds: int) -> None:
        self._bar = bar
        self._rounds = rounds

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        """Become a callback that does nothing in a worker that is a new process; worker 0 shows the bar."""
        return Callback, ()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epochs that an earlier call has trained."""
        self._advance(trainer, self._rounds * trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add one epoch of each round."""
        self._advance(trainer, self._rounds)

    def _advance(self, trainer: Trainer, epochs: int) -> None:
        if trainer.is_global_zero:  # a forked worker has a copy of the bar, which would be a second one in a notebook
            self._bar.update(epochs)
