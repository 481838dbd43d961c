"""Results of a fit or evaluation: the final metrics of every round, as tables in the run folder and as text."""

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
    """Evaluates the final networks and writes the results of the rounds into the run folder.

    Args:
        runner: The runner of the rounds.
        name: The name of a new run folder, if one is needed.

    Attributes:
        rounds: The result of each round, after a fit has ended.
        text: The text to show when the command has finished.
    """

    def __init__(self, runner: RoundRunner, name: str = "run") -> None:
        self._runner = runner
        self._name = name
        self.rounds: list[RoundResult] = []
        self.text = ""
        self._whole: dict[Split, AllPairs] = {}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the final networks and write the tables.

        This is not done in ``on_train_end``, which Lightning skips if a run is resumed after its last epoch.
        """
        if trainer.should_stop and self._runner.epochs < (trainer.max_epochs or 0):
            raise PairsLitError(
                f"a callback set trainer.should_stop after epoch {self._runner.epochs}, which would end all rounds "
                "early. Remove that callback."
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
        """Evaluate the splits that are evaluated over all pairs in this stage, and store their numbers of pairs."""
        data = data_of(trainer)
        splits = data.whole_splits[stage]
        self._whole = {split: whole_of(module, data, split) for split in splits}
        return whole_figures(trainer, module, splits)

    def write(self, trainer: Trainer, module: PairModule, folder: Path) -> None:
        """Write the results of the rounds into the run folder; only rank 0 calls this."""
        write_tables(folder, self._runner.curves, self.rounds)
        write_summary(folder / SUMMARY, self.summary(trainer, module, self.rounds))

    def summary(self, trainer: Trainer, module: PairModule, rounds: Sequence[RoundResult]) -> dict[str, Any]:
        """Return the content of ``summary.json`` for some of the rounds, with their share of the time."""
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
            **({"all_pairs": {split: asdict(counts) for split, counts in self._whole.items()}} if self._whole else {}),
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
        """Return the summaries for the tables, with metrics of digits only if recognising digits is trained."""
        by_metric = summaries(self.rounds)
        return by_metric if module.trains_digits else without_digits(by_metric)

    def table(self, trainer: Trainer, module: PairModule, *, style: str = "simple") -> str:
        """Return a table of the results of all rounds, with a title and remarks."""
        bank, seeds = data_of(trainer).bank, self._runner.seeds
        settings = bank.settings
        title = (
            f"{counted(len(seeds), 'round')} ({range_of(seeds)}), {counted(self._runner.epochs, 'epoch')}, "
            f"{module.parameters_per_round:,} parameters per round{module.mean_of}; data: {settings.source}, "
            f"{counted(settings.train_pairs, 'training pair')}, relation {settings.relation}"
        )
        class_note = classes(settings.relation, bank.class_names, settings.classes)
        failed = [result.seed for result in self.rounds if result.status == "failed"]
        seeds_at_chance = at_chance_seeds(self.rounds, bank.commoner("train").tolist())
        parts = [title, class_note, summary_table(self.shown(module), style=style)]
        parts += [
            self._said_of_whole(),
            failures(failed, len(seeds)),
            at_chance(seeds_at_chance, len(seeds)),
            sentence(module.code.note),
            *bank.warnings,
        ]
        return "\n\n".join(part for part in parts if part)

    def _said_of_whole(self) -> str:
        """Return a sentence about the evaluation over all pairs, or "" if there was none."""
        parts = [f"{split}, {in_words(counts)}" for split, counts in self._whole.items()]
        return f"All pairs: {'; '.join(parts)}." if parts else ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results of ``pairs-lit validate``."""
        if trainer.state.fn == "validate":
            self._evaluated(trainer, cast(PairModule, pl_module), VALIDATE)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results of ``pairs-lit test``."""
        self._evaluated(trainer, cast(PairModule, pl_module), TEST)

    def _evaluated(self, trainer: Trainer, module: PairModule, name: str) -> None:
        """Write the results of an evaluation into the table with this name, and set :attr:`text`."""
        metrics = collected(trainer, module)
        failed = ~torch.stack(list(metrics.values())).isfinite().all(0)
        over_all_pairs = self._measure_whole(trainer, module, cast(Any, trainer.state.fn).value)
        metrics |= {metric: values.masked_fill(failed, torch.nan) for metric, values in over_all_pairs.items()}
        evaluation = Evaluation(self._runner.seeds, {metric: values.numpy() for metric, values in metrics.items()})
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
    """Collect the final metrics of every round.

    Args:
        curves: The metrics of all epochs.
        final: The metrics that only the final networks have, arrays (R,) by name, such as ``train/accuracy``.
    """
    last = {name: value[-1] for name, value in curves.values.items()} | dict(final)
    failed = curves.failed() | ~np.isfinite(list(final.values())).all(axis=0)
    return [_round_result(curves, last, r, failed=bool(failed[r])) for r in range(len(curves.seeds))]


def _round_result(curves: Curves, last: Mapping[str, NDArray[np.float64]], r: int, *, failed: bool) -> RoundResult:
    """Build the result of round r from the curves and the metrics of the last epoch and the final networks."""

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


def at_chance_seeds(results: Sequence[RoundResult], majority_accuracies: Sequence[float]) -> list[int]:
    """Return the seeds of the rounds that did not fail but are no better than the majority-class baseline.

    Args:
        results: The results of all rounds.
        majority_accuracies: The majority-class accuracy of each round on its training pairs.
    """
    return [
        result.seed
        for result, baseline in zip(results, majority_accuracies, strict=True)
        if result.status == "ok" and result.train_accuracy is not None and result.train_accuracy <= baseline + 1e-9
    ]
