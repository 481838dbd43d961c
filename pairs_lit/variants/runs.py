"""Run folders of variants that trained side by side, each as a fit of the variant alone would have written it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Trainer

from pairs_lit.analysis.tables import drop_digit_metrics, format_summary_table
from pairs_lit.checkpoints.files import DurableCheckpointIO, read_checkpoint
from pairs_lit.runs.atomic_write import remove_temp_files, translate_os_errors, write_text_atomically
from pairs_lit.runs.run_folder import (
    CONFIG_FILE,
    EVENTS_PREFIX,
    LAST_CHECKPOINT,
    SUMMARY_FILE,
    mark_run,
    read_run_identity,
)
from pairs_lit.runs.tables import Curves, RoundResult, summarise_rounds, write_summary
from pairs_lit.system.files import delete_file
from pairs_lit.training.module import PairModule
from pairs_lit.training.recipes import Variant
from pairs_lit.training.results import Results, write_tables
from pairs_lit.training.round_runner import RoundRunner, summarise_metrics
from pairs_lit.training.tensorboard import RunLogger
from pairs_lit.variants.checkpoint import CheckpointSplitter


@dataclass(frozen=True)
class RunTarget:
    """The run of a variant that is to be written.

    Attributes:
        folder: The run folder.
        config: The text of ``config.yaml``.
        hyperparameters: The hyperparameters to log with the final metrics.
        variant: The variant.
    """

    folder: Path
    config: str
    hyperparameters: Mapping[str, Any]
    variant: Variant


class VariantRunWriter(Results):
    """Writes a run folder for each of V variants.

    Args:
        runner: The runner of the rounds of all variants.
        places: The runs to write, in the order of the variants.
    """

    def __init__(self, runner: RoundRunner, places: Sequence[RunTarget]) -> None:
        super().__init__(runner)
        self._targets = places

    def write(self, trainer: Trainer, module: PairModule, folder: Path) -> None:
        """Write the run folder of each variant; ``folder`` holds the common checkpoint of all variants."""
        seeds, all_curves = module.rounds.single_variant.seeds, self._runner.curves
        splitter = CheckpointSplitter(module, read_checkpoint(folder / LAST_CHECKPOINT))
        architectures = [place.variant.architecture for place in self._targets]
        distinct = {id(architecture): architecture for architecture in architectures}  # most variants share theirs
        networks = {key: each.describe(each.build(seeds[0])) for key, each in distinct.items()}
        for number, place in enumerate(self._targets):
            rounds = module.rounds.get_variant_slice(number)
            _create_run_folder(place)
            recipe = module.optimization.recipes.index(place.variant.recipe)
            network = networks[id(place.variant.architecture)]
            checkpoint = splitter.build_checkpoint(number, recipe, network, read_run_identity(place.folder))
            DurableCheckpointIO().save_checkpoint(checkpoint, place.folder / LAST_CHECKPOINT)
            del checkpoint  # frees its memory before the next one is built
            curves = Curves(seeds, {name: values[:, rounds] for name, values in all_curves.values.items()})
            write_tables(place.folder, curves, self.rounds[rounds])
            summary = self.build_summary(trainer, module, self.rounds[rounds])
            _write_events(place, curves, self.rounds[rounds], summary)
            write_summary(place.folder / SUMMARY_FILE, summary | {"slices": len(module.rounds.seeds)})


def _create_run_folder(place: RunTarget) -> None:
    """Create a run folder and its config, and remove the files that a killed process left there."""
    place.folder.mkdir(parents=True, exist_ok=True)
    remove_temp_files(place.folder)
    for events in place.folder.glob(f"{EVENTS_PREFIX}*"):
        with translate_os_errors(events):
            delete_file(events)
    mark_run(place.folder)
    write_text_atomically(place.folder / CONFIG_FILE, place.config)


def _write_events(place: RunTarget, curves: Curves, rounds: Sequence[RoundResult], summary: Mapping[str, Any]) -> None:
    """Write the TensorBoard files of a run."""
    logger = RunLogger(place.folder)
    logger.log_layout(list(curves.values))
    for epoch in range(curves.epochs):
        until_epoch = Curves(curves.seeds, {name: values[: epoch + 1] for name, values in curves.values.items()})
        has_not_failed = ~until_epoch.find_failed_rounds()
        latest = {name: values[epoch][has_not_failed].tolist() for name, values in curves.values.items()}
        logger.log_metrics(summarise_metrics(latest, several=len(curves.seeds) > 1), step=epoch + 1)
    by_metric = summarise_rounds(rounds) if summary["digits_trained"] else drop_digit_metrics(summarise_rounds(rounds))
    data, parameters = cast(Mapping[str, Any], summary["data"]), summary["parameters_per_round"]
    extra = {"data.source found": data["source"], "parameters per round": parameters}
    final = {f"final/{name}": metric.mean for name, metric in by_metric.items()}
    logger.log_hyperparams(dict(place.hyperparameters) | extra, final)
    logger.log_text("summary", format_summary_table(by_metric, style="github"))
    logger.finalize("success")
