"""The callback that defines the rounds and collects their metrics."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pairs_lit.checkpoints.schema import check_progress, check_schema
from pairs_lit.data.datamodule import get_data_module
from pairs_lit.errors import PairsLitError, check_choice, check_positive
from pairs_lit.runs.commit import get_commit
from pairs_lit.runs.metrics import TOTAL_LOSSES
from pairs_lit.runs.tables import Curves
from pairs_lit.seeds import derive_seed, format_seeds, list_round_seeds, preserve_rng_state, seed_generators
from pairs_lit.statistics import summarise_rows
from pairs_lit.system.gpus import skip_gpu_searches
from pairs_lit.system.lightning_hooks import skip_batch_hooks
from pairs_lit.system.memory import tune_malloc
from pairs_lit.system.processes import StartMethod
from pairs_lit.system.threads import get_requested_threads, use_threads
from pairs_lit.training.all_pairs import build_pair_positions
from pairs_lit.training.batch_checks import check_batch_sizes
from pairs_lit.training.collection import collect_metrics
from pairs_lit.training.module import PairModule
from pairs_lit.training.trainer_checks import check_checkpoint_callbacks, check_equal_stacks, check_trainer

_SUMMARY_NAMES = ("mean", "low", "high")


@skip_batch_hooks
class RoundRunner(Callback):
    """Defines the rounds that train side by side, and collects their metrics.

    Round i is an independent training with the seed ``seed + i``. Its pairs, initial weights, shuffles and dropout
    masks depend on this seed only.

    Args:
        count: The number of rounds.
        seed: The seed of the first round.
        stack_size: The number of rounds that train as one stack. null (the default): the value of the checkpoint, or a
            fixed function of the network and the number of rounds; on a GPU, as many rounds as fit its memory. It
            affects only speed and the last bits of floats.
        threads: The number of threads. null (the default): the environment variable OMP_NUM_THREADS, or 1 without it.
            More threads rarely help, and slow down a busy machine. It affects only speed and the last bits of floats.
        start_method: How worker processes start. ``fork``: as copies of this process, at once and with its images in
            shared memory; ``spawn``: as new processes, which run the command again and take some seconds to start.
            null (the default): fork on Linux unless a GPU is used, otherwise spawn. It does not affect results.

    Attributes:
        seeds: The seeds of the rounds.
        commits: The commits that trained the rounds; a resumed fit can have several.

    Raises:
        PairsLitError: A value is out of range.
    """

    def __init__(
        self,
        *,
        count: int = 10,
        seed: int = 0,
        stack_size: int | None = None,
        threads: int | None = None,
        start_method: StartMethod | None = None,
    ) -> None:
        for option, value in {"stack_size": stack_size, "threads": threads}.items():
            if value is not None:
                check_positive(f"rounds.{option}", value)
        if start_method is not None:
            check_choice("rounds.start_method", StartMethod, start_method)
        self.threads = threads
        self.start_method = start_method
        self._process_settings = ExitStack()
        self.seeds = list_round_seeds(count, seed)
        self.stack_size = stack_size
        self._epochs: dict[str, list[Tensor]] = {}
        self._has_not_failed = torch.tensor(True)  # (R,) from the first epoch on
        self._seconds = 0.0
        self._started = time.monotonic()
        self.commits: list[str | None] = [get_commit()]

    @property
    def curves(self) -> Curves:
        """The metrics of all epochs so far."""
        return Curves(self.seeds, {name: torch.stack(values).numpy() for name, values in self._epochs.items()})

    @property
    def epochs(self) -> int:
        """The number of epochs so far."""
        return len(next(iter(self._epochs.values()), ()))

    @property
    def latest(self) -> dict[str, list[float]]:
        """The last epoch's values of the rounds that have not failed, by metric."""
        return {name: values[-1][self._has_not_failed].tolist() for name, values in self._epochs.items()}

    def _add_epoch(self, measured: Mapping[str, Tensor]) -> None:
        """Add the metrics of an epoch; a loss that is not finite marks its round as failed for good."""
        for name, values in measured.items():
            self._epochs.setdefault(name, []).append(values)
            if name in TOTAL_LOSSES:
                self._has_not_failed = self._has_not_failed & values.isfinite()

    def state_dict(self) -> dict[str, Any]:
        """Return the curves, the time and the commits for a checkpoint."""
        curves = {name: torch.stack(values) for name, values in self._epochs.items()}
        return {"curves": curves, "seconds": self.seconds, "commits": self.commits}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raise PairsLitError if a checkpoint's curves do not fit its epoch, the rounds and the network's metrics."""
        check_schema("epoch is", checkpoint["epoch"], 0)
        curve = torch.empty(checkpoint["epoch"] + 1, len(self.seeds), dtype=torch.float64, device="meta")
        names = [
            f"{split}/{metric}"
            for split in get_data_module(trainer).fit_splits
            for metric in _as_pair_module(pl_module).measured
        ]
        check_progress(checkpoint["callbacks"].get(self.state_key), dict.fromkeys(names, curve))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume the curves of a checkpoint."""
        curves, self._epochs = state_dict["curves"], {}
        for epoch in range(len(next(iter(curves.values()), ()))):
            self._add_epoch({name: values[epoch] for name, values in curves.items()})
        self._seconds = state_dict["seconds"]
        self.commits = list(dict.fromkeys([*state_dict["commits"], *self.commits]))

    @property
    def seconds(self) -> float:
        """The duration of the fit so far, including the time before it was resumed."""
        return self._seconds + time.monotonic() - self._started

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check everything that could couple rounds, before anything is written, and set up threads and generators."""
        tune_malloc()
        check_trainer(trainer)
        module = _as_pair_module(pl_module)
        data = get_data_module(trainer)
        for name, rounds in {"PairModule": module.rounds, "PairDataModule": data.rounds}.items():
            if rounds.seeds != self.seeds:
                raise PairsLitError(
                    f"{name} has {format_seeds(rounds.seeds)}, but RoundRunner has {format_seeds(self.seeds)}. Set "
                    f"{name}(seeds=runner.seeds)."
                )
        check_equal_stacks(trainer, module.stack_size)
        data.rounds = module.rounds  # only the module determines the stack size
        monitorable = [f"{split}/{name}" for split in ("val", "train") for name in module.measured]
        suffixes = _SUMMARY_NAMES if len(self.seeds) > 1 else _SUMMARY_NAMES[:1]
        check_checkpoint_callbacks(trainer, [f"{name}/{suffix}" for name in monitorable for suffix in suffixes])
        if trainer.is_global_zero:  # the result would be the same on every rank
            counts = [
                len(build_pair_positions(module, data.bank.count_evaluation_images(split)))
                for split in data.whole_splits.get(stage, ())
            ]
            check_batch_sizes(module.probe.find_batch_error, data, training=stage == "fit", more=counts)
        self._process_settings.enter_context(use_threads(self.threads or get_requested_threads()))
        self._process_settings.enter_context(preserve_rng_state())
        self._process_settings.enter_context(skip_gpu_searches())
        self._seed_callbacks(stage, 0)

    def _seed_callbacks(self, stage: str, epoch: int) -> None:
        """Seed the global generators for callbacks, which then draw the same numbers in each fit.

        The random numbers of the networks depend only on the seeds of the rounds.
        """
        seed_generators(derive_seed(self.seeds[0], f"callbacks {stage}", epoch))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the generators for callbacks again, so that a resumed fit draws the same numbers."""
        self._seed_callbacks("fit", trainer.current_epoch)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the threads and random generators of the process."""
        self._process_settings.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the threads and random generators of the process."""
        self._process_settings.close()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to measure the time."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the metrics of this epoch, and publish those not of the test set in ``trainer.callback_metrics``."""
        self._add_epoch(collect_metrics(trainer, _as_pair_module(pl_module)))
        published = {name: value for name, value in self.scalars().items() if not name.startswith("test/")}
        # set directly, since LightningModule.log is slower
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in published.items()})

    def scalars(self) -> dict[str, float]:
        """Return mean, mean − std and mean + std of the last epoch's metrics, over the rounds that have not failed.

        The names are ``val/accuracy/mean``, ``val/accuracy/low``, ``val/accuracy/high`` and so on. A single round has
        only the mean. A value is NaN if too few rounds are left to compute it.
        """
        return summarise_metrics(self.latest, several=len(self.seeds) > 1)


def summarise_metrics(latest: Mapping[str, Sequence[float]], *, several: bool) -> dict[str, float]:
    """Summarise the values of some rounds.

    Args:
        latest: The values of the rounds, by metric.
        several: Whether the fit has several rounds.

    Returns:
        ``val/accuracy/mean``, ``val/accuracy/low`` and ``val/accuracy/high`` (mean, mean − std and mean + std) and so
        on, or only the means if the fit has a single round.
    """
    mean, std = summarise_rows(np.array([*latest.values()], dtype=np.float64))
    statistics = zip(mean.tolist(), (mean - std).tolist(), (mean + std).tolist(), strict=True)
    suffixes = _SUMMARY_NAMES if several else _SUMMARY_NAMES[:1]
    return {
        f"{name}/{suffix}": value
        for name, values in zip(latest, statistics, strict=True)
        for suffix, value in zip(suffixes, values, strict=False)
    }


def _as_pair_module(module: LightningModule) -> PairModule:
    return cast(PairModule, module)
