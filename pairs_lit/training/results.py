"""What came of a fit or an evaluation: the final figures of every round, written as tables and shown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from pairs_lit import __version__
from pairs_lit.analysis.tables import at_chance, classes, evaluation_table, failures, summary_table, without_digits
from pairs_lit.checkpoints.files import folder_of
from pairs_lit.data.datamodule import data_of
from pairs_lit.data.pair_store import Split
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.metrics import ROUND_METRICS, Metric
from pairs_lit.runs.run_folder import CURVES, ROUNDS, SUMMARY, TEST, VALIDATE
from pairs_lit.runs.run_metadata import DETERMINISTIC
from pairs_lit.runs.tables import (
    Curves,
    Evaluation,
    RoundResult,
    summaries,
    with_note,
    write_csv,
    write_curves,
    write_rounds,
    write_summary,
)
from pairs_lit.seeds import range_of
from pairs_lit.statistics import Summary
from pairs_lit.system.lightning_hooks import spares_batches
from pairs_lit.text import counted, sentence
from pairs_lit.training.collection import collected
from pairs_lit.training.final_evaluation import AllPairs, drawn_figures, in_words, whole_figures, whole_of
from pairs_lit.training.module import PairModule
from pairs_lit.training.round_runner import RoundRunner


@spares_batches
class Results(Callback):
    """Evaluates the final networks, and writes what came of the rounds into the run folder.

    Args:
        runner: Whose rounds they are.
        name: What a new run folder is called after.

    Attributes:
        rounds: What came of each round, once a fit has ended.
        text: What to show at the end.
    """

    def __init__(self, runner: RoundRunner, name: str = "run") -> None:
        self._runner = runner
        self._name = name
        self.rounds: list[RoundResult] = []
        self.text = ""
        self._whole: dict[Split, AllPairs] = {}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the training pairs once more, and what is measured at the end only; write the tables.

        Not in ``on_train_end``: Lightning leaves that out where a run that was stopped after its last epoch goes on.
        """
        if trainer.should_stop and self._runner.epochs < (trainer.max_epochs or 0):
            raise PairsLitError(
                f"a callback set trainer.should_stop after epoch {self._runner.epochs}, which would end all rounds "
                "early: remove it."
            )
        module = cast(PairModule, pl_module)
        final = drawn_figures(trainer, module) | self._measure_whole(trainer, module, "fit")
        self.rounds = round_results(self._runner.curves, {name: values.numpy() for name, values in final.items()})
        folder = Path(str(trainer.log_dir))
        if trainer.is_global_zero:
            self.write(trainer, module, folder)
        trainer.strategy.barrier()
        self.text = f"{self.table(trainer, module)}\n\nrun: {folder}"

    def _measure_whole(self, trainer: Trainer, module: PairModule, stage: str) -> dict[str, Tensor]:
        """Measure all pairs, where that is asked for; note over what."""
        data = data_of(trainer)
        splits = data.whole_splits[stage]
        self._whole = {split: whole_of(module, data, split) for split in splits}
        return whole_figures(trainer, module, splits)

    def write(self, trainer: Trainer, module: PairModule, folder: Path) -> None:
        """Write what came of the rounds into the run folder; the first worker alone does."""
        write_tables(folder, self._runner.curves, self.rounds)
        write_summary(folder / SUMMARY, self.summary(trainer, module, self.rounds))

    def summary(self, trainer: Trainer, module: PairModule, rounds: Sequence[RoundResult]) -> dict[str, Any]:
        """Return what ``summary.json`` says of some of the rounds; they get their share of the time."""
        runner, seconds = self._runner, self._runner.seconds / len(self._runner.seeds)
        bank = data_of(trainer).bank
        chance = dict(zip(runner.seeds, bank.commoner("train").tolist(), strict=True))
        return {
            "rounds": {
                "count": len(rounds),
                "failed": [result.seed for result in rounds if result.status == "failed"],
                "at_chance": at_chance_seeds(rounds, [chance[result.seed] for result in rounds]),
                "stack_size": module.rounds.of_one_variant.stack_size,
            },
            "metrics": {name: asdict(summary) for name, summary in summaries(rounds).items()},
            **({"all_pairs": {split: asdict(each) for split, each in self._whole.items()}} if self._whole else {}),
            "data": asdict(bank.settings),
            "digits_trained": module.trains_digits,
            "class_names": list(bank.class_names),
            "image_format": bank.image_format.to_record(),
            DETERMINISTIC: bank.deterministic,
            "duplicates": asdict(bank.duplicates),
            "data_notes": list(bank.notes),
            "parameters_per_round": module.parameters_per_round,
            "epochs": runner.epochs,
            "times": {"seconds": seconds * len(rounds), "seconds_per_round": seconds},
            "threads": torch.get_num_threads(),
            "workers": trainer.world_size,
            "nodes": trainer.num_nodes,
            **({"code_changed_after_epochs": module.code.changes} if module.code.changes else {}),
            "versions": {"pairs_lit": __version__, "torch": torch.__version__, "commits": runner.commits},
        }

    def shown(self, module: PairModule) -> dict[str, Summary]:
        """Return what the tables show: all summaries, but how digits are named only where that is trained."""
        found = summaries(self.rounds)
        return found if module.trains_digits else without_digits(found)

    def table(self, trainer: Trainer, module: PairModule, *, style: str = "simple") -> str:
        """Show the results of all rounds, with n and the data source."""
        bank, seeds = data_of(trainer).bank, self._runner.seeds
        settings = bank.settings
        title = (
            f"{counted(len(seeds), 'round')} ({range_of(seeds)}), {counted(self._runner.epochs, 'epoch')}, "
            f"{module.parameters_per_round:,} parameters a round{module.mean_of}; data: {settings.source}, "
            f"{counted(settings.train_pairs, 'training pair')}, relation {settings.relation}"
        )
        compared = classes(settings.relation, bank.class_names, settings.classes)
        failed = [result.seed for result in self.rounds if result.status == "failed"]
        learned_nothing = at_chance_seeds(self.rounds, bank.commoner("train").tolist())
        parts = [title, compared, summary_table(self.shown(module), style=style)]
        parts += [
            self._said_of_whole(),
            failures(failed, len(seeds)),
            at_chance(learned_nothing, len(seeds)),
            sentence(module.code.note),
            *bank.warnings,
        ]
        return "\n\n".join(part for part in parts if part)

    def _said_of_whole(self) -> str:
        """Say over what all pairs were measured; nothing where they were not."""
        said = [f"{split}, {in_words(each)}" for split, each in self._whole.items()]
        return f"All pairs: {'; '.join(said)}." if said else ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the figures of ``pairs-lit validate``."""
        if trainer.state.fn == "validate":
            self._evaluated(trainer, cast(PairModule, pl_module), VALIDATE)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the figures of ``pairs-lit test``."""
        self._evaluated(trainer, cast(PairModule, pl_module), TEST)

    def _evaluated(self, trainer: Trainer, module: PairModule, name: str) -> None:
        drawn = collected(trainer, module)
        failed = ~torch.stack(list(drawn.values())).isfinite().all(0)
        whole = self._measure_whole(trainer, module, cast(Any, trainer.state.fn).value)
        measured = drawn | {metric: values.masked_fill(failed, torch.nan) for metric, values in whole.items()}
        evaluation = Evaluation(self._runner.seeds, {metric: values.numpy() for metric, values in measured.items()})
        parts = [
            f"data: {data_of(trainer).settings.source}",
            evaluation_table(evaluation, with_digits=module.trains_digits),
            self._said_of_whole(),
            sentence(module.code.note),
        ]
        parts += data_of(trainer).bank.warnings
        self.text = "\n\n".join(part for part in parts if part)
        if trainer.ckpt_path is not None and trainer.is_global_zero:
            path = folder_of(trainer, self._name) / name
            write_csv(path, *with_note(evaluation.header, evaluation.rows, module.code.note))
            self.text += f"\n\ntable: {path}"


def write_tables(folder: Path, curves: Curves, rounds: Sequence[RoundResult]) -> None:
    """Write ``curves.csv`` and ``rounds.csv``."""
    write_curves(folder / CURVES, curves)
    write_rounds(folder / ROUNDS, rounds)


def round_results(curves: Curves, final: Mapping[str, NDArray[np.float64]]) -> list[RoundResult]:
    """Collect the final figures of every round.

    Args:
        curves: All epochs.
        final: What was measured of the final networks only: by metric (``train/accuracy``), an array (R,).
    """
    last = {name: value[-1] for name, value in curves.values.items()} | dict(final)
    failed = curves.failed() | ~np.isfinite(list(final.values())).all(axis=0)
    return [_round_result(curves, last, r, failed=bool(failed[r])) for r in range(len(curves.seeds))]


def _round_result(curves: Curves, last: Mapping[str, NDArray[np.float64]], r: int, *, failed: bool) -> RoundResult:
    def final(metric: Metric) -> float | None:
        if metric.tag not in last:
            return None
        return math.nan if failed and metric.is_over_all_pairs else float(last[metric.tag][r])

    test = curves.values["test/accuracy"][:, r] if "test/accuracy" in curves.values else None
    best = None if failed or test is None else int(test.argmax())
    return RoundResult(
        seed=curves.seeds[r],
        status="failed" if failed else "ok",
        best_test_accuracy=None if test is None else math.nan if best is None else float(test[best]),
        best_test_epoch=None if best is None else best + 1,
        **{metric.column: final(metric) for metric in ROUND_METRICS if not metric.is_best},
    )


def at_chance_seeds(results: Sequence[RoundResult], commoner: Sequence[float]) -> list[int]:
    """Return the seeds of the rounds that have learned nothing, though they did not fail.

    Args:
        results: All rounds.
        commoner: For each round, the share of the more frequent answer among its training pairs.
    """
    return [
        result.seed
        for result, share in zip(results, commoner, strict=True)
        if result.status == "ok" and result.train_accuracy is not None and result.train_accuracy <= share + 1e-9
    ]
