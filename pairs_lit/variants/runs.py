"""Run folders of variants that trained side by side, each as a fit of the variant alone would have written it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Trainer

from pairs_lit.analysis.tables import summary_table, without_digits
from pairs_lit.checkpoints.files import DurableCheckpointIO, read_checkpoint
from pairs_lit.runs.atomic_write import clear_leftovers, write_text_durably
from pairs_lit.runs.run_folder import CONFIG, EVENTS, LAST, SUMMARY, identity_of, mark_run
from pairs_lit.runs.tables import Curves, RoundResult, summaries, write_summary
from pairs_lit.training.module import PairModule
from pairs_lit.training.recipes import Variant
from pairs_lit.training.results import Results, write_tables
from pairs_lit.training.round_runner import RoundRunner, figures_of
from pairs_lit.training.tensorboard import RunLogger
from pairs_lit.variants.checkpoint import Splitter


@dataclass(frozen=True)
class Place:
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


class TrialWriter(Results):
    """Writes a run folder for each of V variants.

    Args:
        runner: The runner of the rounds of all variants.
        places: The runs to write, in the order of the variants.
    """

    def __init__(self, runner: RoundRunner, places: Sequence[Place]) -> None:
        super().__init__(runner)
        self._places = places

    def write(self, trainer: Trainer, module: PairModule, folder: Path) -> None:
        """Write the run folder of each variant; ``folder`` holds the common checkpoint of all variants."""
        seeds, all_curves = module.rounds.of_one_variant.seeds, self._runner.curves
        splitter = Splitter(module, read_checkpoint(folder / LAST))
        for number, place in enumerate(self._places):
            rounds = module.rounds.of_variant(number)
            _open(place)
            architecture, recipe = place.variant.architecture, module.optimization.recipes.index(place.variant.recipe)
            network = architecture.description(architecture.build(seeds[0]))
            checkpoint = splitter.checkpoint(number, recipe, network, identity_of(place.folder))
            DurableCheckpointIO().save_checkpoint(checkpoint, place.folder / LAST)
            del checkpoint  # frees its memory before the next one is built
            curves = Curves(seeds, {name: values[:, rounds] for name, values in all_curves.values.items()})
            write_tables(place.folder, curves, self.rounds[rounds])
            summary = self.summary(trainer, module, self.rounds[rounds])
            _track(place, curves, self.rounds[rounds], summary)
            write_summary(place.folder / SUMMARY, summary | {"slices": len(module.rounds.seeds)})


def _open(place: Place) -> None:
    """Create a run folder and its config, and remove the files that a killed process left there."""
    place.folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(place.folder)
    for events in place.folder.glob(f"{EVENTS}*"):
        events.unlink()
    mark_run(place.folder)
    write_text_durably(place.folder / CONFIG, place.config)


def _track(place: Place, curves: Curves, rounds: Sequence[RoundResult], summary: Mapping[str, Any]) -> None:
    """Write the TensorBoard files of a run."""
    logger = RunLogger(place.folder)
    logger.log_layout(list(curves.values))
    for epoch in range(curves.epochs):
        until_epoch = Curves(curves.seeds, {name: values[: epoch + 1] for name, values in curves.values.items()})
        has_not_failed = ~until_epoch.failed()
        latest = {name: values[epoch][has_not_failed].tolist() for name, values in curves.values.items()}
        logger.log_metrics(figures_of(latest, several=len(curves.seeds) > 1), step=epoch + 1)
    by_metric = summaries(rounds) if summary["digits_trained"] else without_digits(summaries(rounds))
    data, parameters = cast(Mapping[str, Any], summary["data"]), summary["parameters_per_round"]
    extra = {"data.source found": data["source"], "parameters per round": parameters}
    final = {f"final/{name}": metric.mean for name, metric in by_metric.items()}
    logger.log_hyperparams(dict(place.hyperparameters) | extra, final)
    logger.log_text("summary", summary_table(by_metric, style="github"))
    logger.finalize("success")
