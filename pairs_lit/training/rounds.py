"""RoundRunner, the callback that owns the rounds."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from pairs_lit import __version__
from pairs_lit.analysis.tables import at_chance, evaluation_table, failures, summary_table
from pairs_lit.data.bank import SPLITS
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.environment import keep_freed_memory
from pairs_lit.errors import PairsLitError, check_positive, notice
from pairs_lit.runs.folder import new_run_folder
from pairs_lit.runs.summary import commit
from pairs_lit.runs.tables import (
    Curves,
    Evaluation,
    RoundResult,
    summaries,
    write_csv,
    write_curves,
    write_rounds,
    write_summary,
)
from pairs_lit.seeds import derive, generators_kept, round_seeds, seed_generators
from pairs_lit.statistics import summarise
from pairs_lit.threads import asked_threads, computing_on
from pairs_lit.training.checkpoints import check_form, check_progress, is_behind, own_run
from pairs_lit.training.guards import check_checkpoint_callbacks, check_trainer
from pairs_lit.training.module import PairModule
from pairs_lit.training.results import at_chance_seeds, round_results


class RoundRunner(Callback):
    """Runs rounds side by side and says mean ± std: which rounds, in which stacks, and what came of them.

    Round i is an independent training with the seed ``seed + i``, from which its pairs, first weights, shuffles and
    dropout masks follow; there is no other seed that matters.

    Args:
        count: How many rounds.
        seed: The seed of the first round.
        stack_size: How many rounds train as one stack; null: a fixed function of the network. It changes speed and the
            last float bits, nothing else.
        threads: How many threads compute; null: as many as the environment variable OMP_NUM_THREADS says, else 1. More
            seldom help, and do harm on a busy machine. It changes the last float bits, nothing else.

    Attributes:
        name: What new run folders are called after; the command line sets it.

    Raises:
        PairsLitError: A value is out of range.
    """

    def __init__(
        self, *, count: int = 10, seed: int = 0, stack_size: int | None = None, threads: int | None = None
    ) -> None:
        for option, value in {"stack_size": stack_size, "threads": threads}.items():
            if value is not None:
                check_positive(f"rounds.{option}", value)
        self.name = "run"
        self.threads = threads
        self._computing = ExitStack()
        self.seeds = round_seeds(count, seed)
        self.stack_size = stack_size
        self.results: list[RoundResult] = []
        self.at_chance: list[int] = []
        self._epochs: dict[str, list[Tensor]] = {}
        self._good = torch.ones(count, dtype=torch.bool)
        self._seconds = 0.0
        self._started = time.monotonic()
        self._commits: list[str | None] = [commit()]

    @property
    def curves(self) -> Curves:
        """What was measured so far, all epochs."""
        return Curves(self.seeds, {name: torch.stack(values).numpy() for name, values in self._epochs.items()})

    @property
    def _figures(self) -> tuple[str, ...]:
        return ("mean", "low", "high") if len(self.seeds) > 1 else ("mean",)

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
            if name.endswith("/loss"):
                self._good &= values.isfinite()

    def state_dict(self) -> dict[str, Any]:
        """Keep the curves in the checkpoint."""
        curves = {name: torch.stack(values) for name, values in self._epochs.items()}
        return {"curves": curves, "seconds": self._elapsed(), "commits": self._commits}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse curves that are not those of this network's rounds up to the checkpoint's epoch."""
        check_form("epoch is", checkpoint["epoch"], 0)
        curve = torch.empty(checkpoint["epoch"] + 1, len(self.seeds), dtype=torch.float64, device="meta")
        names = [f"{split}/{metric}" for split in SPLITS for metric in _module(pl_module).measured]
        check_progress(checkpoint["callbacks"].get(self.state_key), dict.fromkeys(names, curve))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of the checkpoint."""
        curves, self._epochs = state_dict["curves"], {}
        for epoch in range(len(next(iter(curves.values()), ()))):
            self._keep({name: values[epoch] for name, values in curves.items()})
        self._seconds = state_dict["seconds"]
        self._commits = list(dict.fromkeys([*state_dict["commits"], *self._commits]))

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._started

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse whatever would mix rounds, before anything is written; settle threads and random generators."""
        keep_freed_memory()
        check_trainer(trainer)
        module = _module(pl_module)
        if module.seeds != self.seeds:
            raise PairsLitError("the module's seeds are not those of RoundRunner: give both the same.")
        selectable = [f"{split}/{name}" for split in ("val", "train") for name in module.measured]
        check_checkpoint_callbacks(trainer, [f"{name}/{figure}" for name in selectable for figure in self._figures])
        self._computing.enter_context(computing_on(self.threads or asked_threads()))
        self._computing.enter_context(generators_kept())
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

    def own_folder(self, trainer: Trainer) -> Path | None:
        """Return the run folder that the trainer's checkpoint belongs to, if the command may write into it.

        A fit may not, where the run has got further already: what it holds would be lost.
        """
        if trainer.ckpt_path is None:
            return None
        given = Path(str(trainer.ckpt_path))
        own = own_run(given)
        return None if own is None or (trainer.state.fn == "fit" and is_behind(given, own)) else own

    def folder(self, trainer: Trainer) -> Path:
        """Return :meth:`own_folder`, else a new run folder, and a notice says so where there is a checkpoint."""
        own = self.own_folder(trainer)
        if own is not None:
            return own
        new = new_run_folder(Path(trainer.default_root_dir), self.name)
        if trainer.ckpt_path is not None:
            given = Path(str(trainer.ckpt_path))
            other = "does not lie in the run folder of its own run"
            reason = other if own_run(given) is None else "is not the latest of its run"
            notice(f"{given} {reason}, so this writes into a new one: {new}")
        return new

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what was measured in this epoch; a ModelCheckpoint may monitor it, but for the test set."""
        self._keep(_module(pl_module).collect())
        if any(isinstance(each, ModelCheckpoint) for each in trainer.checkpoint_callbacks):  # logging takes its time
            shown = {name: value for name, value in self.scalars().items() if not name.startswith("test/")}
            pl_module.log_dict(shown, logger=False)

    def scalars(self) -> dict[str, float]:
        """Return mean, mean − std and mean + std of the last epoch's figures, over the rounds that have not failed.

        The names are ``val/accuracy/mean``, ``val/accuracy/low``, ``val/accuracy/high`` and so on; of a single round
        there is only the mean. What cannot be said of the rounds that are left is NaN.
        """
        found: dict[str, float] = {}
        for name, values in self.latest.items():
            summary = summarise(values)
            figures = (summary.mean, summary.mean - summary.std, summary.mean + summary.std)
            found |= {f"{name}/{figure}": value for figure, value in zip(self._figures, figures, strict=False)}
        return found

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the training pairs once more, write the tables and show them.

        Not in ``on_train_end``: Lightning leaves that out where a run that was stopped after its last epoch goes on.
        """
        if trainer.should_stop and self.epochs < (trainer.max_epochs or 0):
            raise PairsLitError(
                f"a callback set trainer.should_stop after epoch {self.epochs}, which would end all rounds early: "
                "remove it."
            )
        module = _module(pl_module)
        _evaluate_train(trainer, module)
        train = {name: values.numpy() for name, values in module.collect().items()}
        self.results = round_results(self.curves, train)
        self.at_chance = at_chance_seeds(self.results, _data(trainer).bank.commoner("train").tolist())
        self._write(trainer, module)
        print(f"\n{self.table(trainer, module)}\n\nrun: {Path(str(trainer.log_dir))}")

    def _write(self, trainer: Trainer, module: PairModule) -> None:
        folder = Path(str(trainer.log_dir))
        write_curves(folder / "curves.csv", self.curves)
        write_rounds(folder / "rounds.csv", self.results)
        write_summary(folder / "summary.json", self._summary(trainer, module))

    def _summary(self, trainer: Trainer, module: PairModule) -> dict[str, Any]:
        seconds = self._elapsed()
        return {
            "rounds": {
                "count": len(self.seeds),
                "failed": self.failed,
                "at_chance": self.at_chance,
                "stack_size": module.stack_size,
            },
            "metrics": {name: asdict(summary) for name, summary in summaries(self.results).items()},
            "data": asdict(_data(trainer).settings),
            "parameters_per_round": module.parameters_per_round,
            "epochs": self.curves.epochs,
            "times": {"seconds": seconds, "seconds_per_round": seconds / len(self.seeds)},
            "threads": torch.get_num_threads(),
            "versions": {"pairs_lit": __version__, "torch": torch.__version__, "commits": self._commits},
        }

    @property
    def failed(self) -> list[int]:
        """The seeds of the rounds that failed."""
        return [result.seed for result in self.results if result.status == "failed"]

    def table(self, trainer: Trainer, module: PairModule, *, style: str = "simple") -> str:
        """Show the results of all rounds, with n and the data source."""
        settings = _data(trainer).settings
        title = (
            f"{len(self.seeds)} rounds (seeds {self.seeds[0]} to {self.seeds[-1]}), {self.curves.epochs} epochs, "
            f"{module.parameters_per_round:,} parameters a round; data: {settings.source}, "
            f"{settings.train_pairs} training pairs, relation {settings.relation}"
        )
        count = len(self.seeds)
        parts = [title, summary_table(summaries(self.results), style=style)]
        parts += [failures(self.failed, count), at_chance(self.at_chance, count)]
        return "\n\n".join(part for part in parts if part)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the figures of ``pairs-lit validate``."""
        if trainer.state.fn == "validate":
            self._show_evaluation(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the figures of ``pairs-lit test``."""
        self._show_evaluation(trainer, pl_module)

    def _show_evaluation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        measured = {name: values.numpy() for name, values in _module(pl_module).collect().items()}
        evaluation = Evaluation(self.seeds, measured)
        print(f"\ndata: {_data(trainer).settings.source}\n\n{evaluation_table(evaluation)}")
        if trainer.ckpt_path is not None:
            name = "test.csv" if trainer.testing else "validate.csv"
            path = self.folder(trainer) / name
            write_csv(path, evaluation.header, evaluation.rows)
            print(f"\ntable: {path}")


def _evaluate_train(trainer: Trainer, module: PairModule) -> None:
    """Pass all training pairs through the final networks, in evaluation mode."""
    module.eval()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for batch in _data(trainer).loader("train"):
            module.shared_step(trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch)))
    module.train()


def _module(module: LightningModule) -> PairModule:
    return cast(PairModule, module)


def _data(trainer: Trainer) -> PairDataModule:
    return cast(PairDataModule, cast(Any, trainer).datamodule)
