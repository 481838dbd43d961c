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
from pairs_lit.analysis.tables import (
    describe_classes,
    describe_failures,
    describe_rounds_at_chance,
    drop_digit_metrics,
    format_evaluation_table,
    format_summary_table,
)
from pairs_lit.checkpoints.files import choose_run_folder
from pairs_lit.data.datamodule import get_data_module
from pairs_lit.data.pair_store import Split
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.metrics import ROUND_METRICS, Metric
from pairs_lit.runs.run_folder import CURVES_FILE, ROUNDS_FILE, SUMMARY_FILE, TEST_FILE, VALIDATE_FILE
from pairs_lit.runs.run_metadata import DETERMINISTIC_KEY
from pairs_lit.runs.tables import (
    Curves,
    Evaluation,
    RoundResult,
    add_note_column,
    summarise_rounds,
    write_csv,
    write_curves,
    write_rounds,
    write_summary,
)
from pairs_lit.seeds import format_seeds
from pairs_lit.statistics import Summary
from pairs_lit.system.lightning_hooks import skip_batch_hooks
from pairs_lit.text import format_count, format_sentence
from pairs_lit.training.collection import collect_metrics
from pairs_lit.training.final_evaluation import (
    AllPairs,
    count_all_pairs,
    describe_all_pairs,
    evaluate_all_pairs,
    evaluate_drawn_pairs,
)
from pairs_lit.training.module import PairModule
from pairs_lit.training.round_runner import RoundRunner


@skip_batch_hooks
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
        self._all_pairs: dict[Split, AllPairs] = {}

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
        final = evaluate_drawn_pairs(trainer, module) | self._evaluate_all_pairs(trainer, module, "fit")
        self.rounds = build_round_results(self._runner.curves, {name: values.numpy() for name, values in final.items()})
        folder = Path(str(trainer.log_dir))
        if trainer.is_global_zero:
            self.write(trainer, module, folder)
        trainer.strategy.barrier()
        self.text = f"{self.render_table(trainer, module)}\n\nrun: {folder}"

    def _evaluate_all_pairs(self, trainer: Trainer, module: PairModule, stage: str) -> dict[str, Tensor]:
        """Evaluate the splits that are evaluated over all pairs in this stage, and store their numbers of pairs."""
        data = get_data_module(trainer)
        splits = data.whole_splits[stage]
        self._all_pairs = {split: count_all_pairs(module, data, split) for split in splits}
        return evaluate_all_pairs(trainer, module, splits)

    def write(self, trainer: Trainer, module: PairModule, folder: Path) -> None:
        """Write the results of the rounds into the run folder; only rank 0 calls this."""
        write_tables(folder, self._runner.curves, self.rounds)
        write_summary(folder / SUMMARY_FILE, self.build_summary(trainer, module, self.rounds))

    def build_summary(self, trainer: Trainer, module: PairModule, rounds: Sequence[RoundResult]) -> dict[str, Any]:
        """Return the content of ``summary.json`` for some of the rounds, with their share of the time."""
        runner, seconds = self._runner, self._runner.seconds / len(self._runner.seeds)
        bank = get_data_module(trainer).bank
        chance = dict(zip(runner.seeds, bank.compute_majority_accuracy("train").tolist(), strict=True))
        return {
            "rounds": {
                "count": len(rounds),
                "failed": [result.seed for result in rounds if result.status == "failed"],
                "at_chance": find_seeds_at_chance(rounds, [chance[result.seed] for result in rounds]),
                "stack_size": module.rounds.single_variant.stack_size,
            },
            "metrics": {name: asdict(summary) for name, summary in summarise_rounds(rounds).items()},
            **(
                {"all_pairs": {split: asdict(counts) for split, counts in self._all_pairs.items()}}
                if self._all_pairs
                else {}
            ),
            "data": asdict(bank.settings),
            "digits_trained": module.trains_digits,
            "class_names": list(bank.class_names),
            "image_format": bank.image_format.to_record(),
            DETERMINISTIC_KEY: bank.deterministic,
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

    def get_shown_summaries(self, module: PairModule) -> dict[str, Summary]:
        """Return the summaries for the tables, with metrics of digits only if recognising digits is trained."""
        by_metric = summarise_rounds(self.rounds)
        return by_metric if module.trains_digits else drop_digit_metrics(by_metric)

    def render_table(self, trainer: Trainer, module: PairModule, *, style: str = "simple") -> str:
        """Return a table of the results of all rounds, with a title and remarks."""
        bank, seeds = get_data_module(trainer).bank, self._runner.seeds
        settings = bank.settings
        title = (
            f"{format_count(len(seeds), 'round')} ({format_seeds(seeds)}), "
            f"{format_count(self._runner.epochs, 'epoch')}, "
            f"{module.parameters_per_round:,} parameters per round{module.mean_of}; data: {settings.source}, "
            f"{format_count(settings.train_pairs, 'training pair')}, relation {settings.relation}"
        )
        class_note = describe_classes(settings.relation, bank.class_names, settings.classes)
        failed = [result.seed for result in self.rounds if result.status == "failed"]
        seeds_at_chance = find_seeds_at_chance(self.rounds, bank.compute_majority_accuracy("train").tolist())
        parts = [title, class_note, format_summary_table(self.get_shown_summaries(module), style=style)]
        parts += [
            self._describe_all_pairs(),
            describe_failures(failed, len(seeds)),
            describe_rounds_at_chance(seeds_at_chance, len(seeds)),
            format_sentence(module.code.note),
            *bank.warnings,
        ]
        return "\n\n".join(part for part in parts if part)

    def _describe_all_pairs(self) -> str:
        """Return a sentence about the evaluation over all pairs, or "" if there was none."""
        parts = [f"{split}, {describe_all_pairs(counts)}" for split, counts in self._all_pairs.items()]
        return f"All pairs: {'; '.join(parts)}." if parts else ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results of ``pairs-lit validate``."""
        if trainer.state.fn == "validate":
            self._write_evaluation(trainer, cast(PairModule, pl_module), VALIDATE_FILE)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results of ``pairs-lit test``."""
        self._write_evaluation(trainer, cast(PairModule, pl_module), TEST_FILE)

    def _write_evaluation(self, trainer: Trainer, module: PairModule, name: str) -> None:
        """Write the results of an evaluation into the table with this name, and set :attr:`text`."""
        metrics = collect_metrics(trainer, module)
        failed = ~torch.stack(list(metrics.values())).isfinite().all(0)
        over_all_pairs = self._evaluate_all_pairs(trainer, module, cast(Any, trainer.state.fn).value)
        metrics |= {metric: values.masked_fill(failed, torch.nan) for metric, values in over_all_pairs.items()}
        evaluation = Evaluation(self._runner.seeds, {metric: values.numpy() for metric, values in metrics.items()})
        parts = [
            f"data: {get_data_module(trainer).settings.source}",
            format_evaluation_table(evaluation, with_digits=module.trains_digits),
            self._describe_all_pairs(),
            format_sentence(module.code.note),
        ]
        parts += get_data_module(trainer).bank.warnings
        self.text = "\n\n".join(part for part in parts if part)
        if trainer.ckpt_path is not None and trainer.is_global_zero:
            path = choose_run_folder(trainer, self._name) / name
            write_csv(path, *add_note_column(evaluation.header, evaluation.rows, module.code.note))
            self.text += f"\n\ntable: {path}"


def write_tables(folder: Path, curves: Curves, rounds: Sequence[RoundResult]) -> None:
    """Write ``curves.csv`` and ``rounds.csv``."""
    write_curves(folder / CURVES_FILE, curves)
    write_rounds(folder / ROUNDS_FILE, rounds)


def build_round_results(curves: Curves, final: Mapping[str, NDArray[np.float64]]) -> list[RoundResult]:
    """Collect the final metrics of every round.

    Args:
        curves: The metrics of all epochs.
        final: The metrics that only the final networks have, arrays (R,) by name, such as ``train/accuracy``.
    """
    last = {name: value[-1] for name, value in curves.values.items()} | dict(final)
    failed = curves.find_failed_rounds() | ~np.isfinite(list(final.values())).all(axis=0)
    return [_build_round_result(curves, last, r, failed=bool(failed[r])) for r in range(len(curves.seeds))]


def _build_round_result(
    curves: Curves, last: Mapping[str, NDArray[np.float64]], r: int, *, failed: bool
) -> RoundResult:
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


def find_seeds_at_chance(results: Sequence[RoundResult], majority_accuracies: Sequence[float]) -> list[int]:
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
