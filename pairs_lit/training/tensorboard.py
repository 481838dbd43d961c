"""Creation of the run folder, and logging to TensorBoard and other loggers."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, cast

from filelock import BaseFileLock
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from pairs_lit.checkpoints.files import choose_run_folder, find_writable_run
from pairs_lit.data.datamodule import get_data_module
from pairs_lit.runs.atomic_write import remove_temp_files, translate_os_errors
from pairs_lit.runs.metrics import METRICS_BY_TAG
from pairs_lit.runs.run_folder import CHECKPOINTS_FOLDER, EVENTS_PREFIX, lock_run, mark_run, write_job_id
from pairs_lit.system.lightning_hooks import skip_batch_hooks
from pairs_lit.system.paths import parse_stored_path
from pairs_lit.training.module import PairModule
from pairs_lit.training.results import Results
from pairs_lit.training.round_runner import RoundRunner


@contextmanager
def silence_writer_threads() -> Iterator[None]:
    """Keep TensorBoard's writer thread from printing the traceback of a failed write.

    The next call of the writer raises the same error, and it is reported then.
    """
    original_hook = threading.excepthook

    def hook(exception: threading.ExceptHookArgs) -> None:
        if not issubclass(exception.exc_type, OSError):
            original_hook(exception)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = original_hook


class RunLogger(TensorBoardLogger):
    """Logger that writes TensorBoard files directly into the run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False)
        self._events_path = folder / EVENTS_PREFIX

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars in one event, since one event for each would take as long as a training step."""
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        with translate_os_errors(self._events_path):
            self.experiment.file_writer.add_summary(Summary(value=values), step)

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:  # noqa: ANN401 - Lightning's signature
        """Write the hyperparameters and the final metrics."""
        with translate_os_errors(self._events_path):
            super().log_hyperparams(params, metrics, step)

    def finalize(self, status: str) -> None:
        """Close the files."""
        with translate_os_errors(self._events_path):
            super().finalize(status)

    def save(self) -> None:
        """Write no ``hparams.yaml``, since ``config.yaml`` contains the same settings and can be run."""

    def log_layout(self, names: list[str]) -> None:
        """Define charts of mean ± std over rounds for metrics such as ``test/accuracy``."""
        charts: dict[str, dict[str, list[Any]]] = {}
        for name in names:
            metric, tags = METRICS_BY_TAG[name], [f"{name}/mean", f"{name}/low", f"{name}/high"]
            charts.setdefault(metric.title, {})[metric.split] = ["Margin", tags]
        with translate_os_errors(self._events_path):
            self.experiment.add_custom_scalars(charts)

    def log_text(self, tag: str, text: str) -> None:
        """Write a text in Markdown."""
        with translate_os_errors(self._events_path):
            self.experiment.add_text(tag, text)


@skip_batch_hooks
class RunTracker(Callback):
    """Creates the run folder, or reuses that of the checkpoint, and logs mean, mean − std and mean + std of the rounds.

    The user's own loggers get the same scalars, the hyperparameters and the final metrics.

    Args:
        runner: The callback that collects the metrics.
        results: The callback that computes the final metrics.
        name: The name of a new run folder, if one is needed.
        hyperparameters: The hyperparameters to log with the final metrics.
        job: The ID of the cluster job that trains the run, or None outside a cluster.
    """

    def __init__(
        self,
        runner: RoundRunner,
        results: Results,
        *,
        name: str,
        hyperparameters: Mapping[str, Any],
        job: str | None = None,
    ) -> None:
        self._runner = runner
        self._results = results
        self._name = name
        self._hyperparameters = hyperparameters
        self._job = job
        self._logger: RunLogger | None = None
        self._user_loggers: list[Logger] = []
        self._lock: BaseFileLock | None = None
        self._user_checkpoints: list[ModelCheckpoint] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Point checkpoint callbacks without a ``dirpath`` to the run folder, if it exists already."""
        callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        self._user_checkpoints = [callback for callback in callbacks if callback.dirpath is None]
        run = find_writable_run(trainer)
        if run is not None:
            self._redirect_checkpoints(run)

    def _redirect_checkpoints(self, run: Path) -> None:
        """Point the user's checkpoint callbacks to the run folder."""
        for callback in self._user_checkpoints:
            callback.dirpath = str(run / CHECKPOINTS_FOLDER)
            callback.save_last = False  # the run already has a last.ckpt

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adapt the paths that checkpoint callbacks saved, since the run folder may have been moved."""
        for callback in self._user_checkpoints:
            state = checkpoint["callbacks"].get(callback.state_key)
            if callback.dirpath is not None and isinstance(state, dict) and isinstance(state.get("dirpath"), str):
                checkpoint["callbacks"][callback.state_key] = _move_paths(
                    state, parse_stored_path(state["dirpath"]), Path(callback.dirpath)
                )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create the run folder, after data, settings and checkpoint have passed their checks."""
        folder = Path()
        if trainer.is_global_zero:
            folder = choose_run_folder(trainer, self._name)
            self._lock = lock_run(folder)
            remove_temp_files(folder)
            mark_run(folder)
            if self._job is not None:
                write_job_id(folder, self._job)
        folder = trainer.strategy.broadcast(folder)
        self._redirect_checkpoints(folder)
        self._logger = RunLogger(folder)
        self._user_loggers = [logger for logger in trainer.loggers if not isinstance(logger, DummyLogger)]
        trainer.loggers = [self._logger, *self._user_loggers]
        for logger in self._user_loggers:
            logger.log_hyperparams(self._build_hyperparameters(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics of this epoch, over the rounds that have not failed."""
        epochs = self._runner.epochs
        if epochs == 1 and self._logger is not None:
            self._logger.log_layout(list(self._runner.latest))
        self._log_scalars(trainer.loggers, self._runner.scalars())

    def _log_scalars(self, loggers: Iterable[Logger], scalars: dict[str, float]) -> None:
        for logger in loggers:
            logger.log_metrics(scalars, step=self._runner.epochs)
            logger.save()  # some loggers would write only at the end, which a killed fit does not reach

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the lock of the run folder."""
        self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the hyperparameters, the final metrics and the table, and release the lock of the run folder."""
        if self._logger is None:
            return
        module = cast(PairModule, pl_module)
        final = {f"final/{name}": summary.mean for name, summary in self._results.get_shown_summaries(module).items()}
        self._logger.log_hyperparams(self._build_hyperparameters(trainer, pl_module), final)
        self._log_scalars(self._user_loggers, final)
        table = self._results.render_table(trainer, module, style="github")
        self._logger.log_text("summary", table)
        self._release_lock()

    def _build_hyperparameters(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        source = get_data_module(trainer).settings.source
        count = cast(PairModule, module).parameters_per_round
        return dict(self._hyperparameters) | {"data.source found": source, "parameters per round": count}


def _move_paths(value: Any, before: PurePath, now: Path) -> Any:  # noqa: ANN401 - any state
    """Return a state in which all paths below one folder, of any system, are moved below another."""
    if isinstance(value, dict):
        return {_move_paths(key, before, now): _move_paths(item, before, now) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(str(before)) and type(before)(value).is_relative_to(before):
        return str(now / type(before)(value).relative_to(before).as_posix())
    return value
