"""RoundRunner, the callback that owns the rounds."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pairs_lit.checkpoints.schema import check_form, check_progress
from pairs_lit.data.datamodule import data_of
from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.runs.commit import commit
from pairs_lit.runs.metrics import TOTAL_LOSSES
from pairs_lit.runs.tables import Curves
from pairs_lit.seeds import derive, generators_kept, range_of, round_seeds, seed_generators
from pairs_lit.statistics import summarise
from pairs_lit.system.gpus import no_search_for_gpus
from pairs_lit.system.lightning_hooks import spares_batches
from pairs_lit.system.memory import keep_freed_memory
from pairs_lit.system.threads import asked_threads, computing_on
from pairs_lit.training.all_pairs import places
from pairs_lit.training.batch_checks import check_shown
from pairs_lit.training.collection import collected
from pairs_lit.training.module import PairModule
from pairs_lit.training.trainer_checks import check_checkpoint_callbacks, check_trainer

_FIGURES = ("mean", "low", "high")


@spares_batches
class RoundRunner(Callback):
    """Says which rounds run side by side, and collects what is measured of them.

    Round i is an independent training with the seed ``seed + i``, from which its pairs, first weights, shuffles and
    dropout masks follow; there is no other seed that matters.

    Args:
        count: How many rounds.
        seed: The seed of the first round.
        stack_size: How many rounds train as one stack; null: a fixed function of the network and the number of
            rounds, or what a checkpoint says. It changes speed and the last float bits, nothing else.
        threads: How many threads compute; null: as many as the environment variable OMP_NUM_THREADS says, else 1. More
            seldom help, and do harm on a busy machine. It changes the last float bits, nothing else.

    Attributes:
        seeds: The seeds of the rounds.
        commits: The commits that trained them; more than one where the fit was interrupted.

    Raises:
        PairsLitError: A value is out of range.
    """

    def __init__(
        self, *, count: int = 10, seed: int = 0, stack_size: int | None = None, threads: int | None = None
    ) -> None:
        for option, value in {"stack_size": stack_size, "threads": threads}.items():
            if value is not None:
                check_positive(f"rounds.{option}", value)
        self.threads = threads
        self._computing = ExitStack()
        self.seeds = round_seeds(count, seed)
        self.stack_size = stack_size
        self._epochs: dict[str, list[Tensor]] = {}
        self._good = torch.tensor(True)  # (R,) from the first epoch on
        self._seconds = 0.0
        self._started = time.monotonic()
        self.commits: list[str | None] = [commit()]

    @property
    def curves(self) -> Curves:
        """What was measured so far, all epochs."""
        return Curves(self.seeds, {name: torch.stack(values).numpy() for name, values in self._epochs.items()})

    @property
    def epochs(self) -> int:
        """How many epochs have been measured."""
        return len(next(iter(self._epochs.values()), ()))

    @property
    def latest(self) -> dict[str, list[float]]:
        """The last epoch's figures of the rounds that have not failed, by metric."""
        return {name: values[-1][self._good].tolist() for name, values in self._epochs.items()}

    def _keep(self, measured: Mapping[str, Tensor]) -> None:
        """Add an epoch; a loss that is not finite marks its round as failed for good."""
        for name, values in measured.items():
            self._epochs.setdefault(name, []).append(values)
            if name in TOTAL_LOSSES:
                self._good = self._good & values.isfinite()

    def state_dict(self) -> dict[str, Any]:
        """Keep the curves in the checkpoint."""
        curves = {name: torch.stack(values) for name, values in self._epochs.items()}
        return {"curves": curves, "seconds": self.seconds, "commits": self.commits}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse curves that are not those of this network's rounds up to the checkpoint's epoch."""
        check_form("epoch is", checkpoint["epoch"], 0)
        curve = torch.empty(checkpoint["epoch"] + 1, len(self.seeds), dtype=torch.float64, device="meta")
        names = [f"{split}/{metric}" for split in data_of(trainer).fit_splits for metric in _module(pl_module).measured]
        check_progress(checkpoint["callbacks"].get(self.state_key), dict.fromkeys(names, curve))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of the checkpoint."""
        curves, self._epochs = state_dict["curves"], {}
        for epoch in range(len(next(iter(curves.values()), ()))):
            self._keep({name: values[epoch] for name, values in curves.items()})
        self._seconds = state_dict["seconds"]
        self.commits = list(dict.fromkeys([*state_dict["commits"], *self.commits]))

    @property
    def seconds(self) -> float:
        """How long the fit has taken so far, parts before an interruption included."""
        return self._seconds + time.monotonic() - self._started

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse whatever would mix rounds, before anything is written; settle threads and random generators."""
        keep_freed_memory()
        check_trainer(trainer)
        module = _module(pl_module)
        data = data_of(trainer)
        for name, rounds in {"PairModule": module.rounds, "PairDataModule": data.rounds}.items():
            if rounds.seeds != self.seeds:
                raise PairsLitError(
                    f"{name} has {range_of(rounds.seeds)}, but RoundRunner has {range_of(self.seeds)}: set "
                    f"{name}(seeds=runner.seeds)."
                )
        data.rounds = module.rounds  # the module knows how many rounds make a stack
        selectable = [f"{split}/{name}" for split in ("val", "train") for name in module.measured]
        figures = _FIGURES if len(self.seeds) > 1 else _FIGURES[:1]
        check_checkpoint_callbacks(trainer, [f"{name}/{figure}" for name in selectable for figure in figures])
        if trainer.is_global_zero:  # which says it for all
            whole = [len(places(module, data.bank.count_of(split))) for split in data.whole_splits.get(stage, ())]
            check_shown(module.probe.find_batch_error, data, training=stage == "fit", more=whole)
        self._computing.enter_context(computing_on(self.threads or asked_threads()))
        self._computing.enter_context(generators_kept())
        self._computing.enter_context(no_search_for_gpus())
        self._seed_callbacks(stage, 0)

    def _seed_callbacks(self, stage: str, epoch: int) -> None:
        """Let callbacks that draw random numbers draw the same ones each time; networks have seeds of their own."""
        seed_generators(derive(self.seeds[0], f"callbacks {stage}", epoch))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed what callbacks draw from, also where a fit goes on from a checkpoint."""
        self._seed_callbacks("fit", trainer.current_epoch)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave threads and random generators as they were."""
        self._computing.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave threads and random generators as they were."""
        self._computing.close()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what was measured in this epoch; but for test figures, it is in ``trainer.callback_metrics``."""
        self._keep(collected(trainer, _module(pl_module)))
        shown = {name: value for name, value in self.scalars().items() if not name.startswith("test/")}
        # the module's own log would take its time
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in shown.items()})

    def scalars(self) -> dict[str, float]:
        """Return mean, mean − std and mean + std of the last epoch's figures, over the rounds that have not failed.

        The names are ``val/accuracy/mean``, ``val/accuracy/low``, ``val/accuracy/high`` and so on; of a single round
        there is only the mean. What cannot be said of the rounds that are left is NaN.
        """
        return figures_of(self.latest, several=len(self.seeds) > 1)


def figures_of(latest: Mapping[str, Sequence[float]], *, several: bool) -> dict[str, float]:
    """Return ``val/accuracy/mean``, ``low`` and ``high`` of the values of some rounds; of one round, the mean only."""
    found: dict[str, float] = {}
    for name, values in latest.items():
        summary = summarise(values)
        figures = (summary.mean, summary.mean - summary.std, summary.mean + summary.std)
        shown = zip(_FIGURES if several else _FIGURES[:1], figures, strict=False)
        found |= {f"{name}/{figure}": value for figure, value in shown}
    return found


def _module(module: LightningModule) -> PairModule:
    return cast(PairModule, module)
