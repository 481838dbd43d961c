"""The run folders of variants that trained side by side: each is what its own fit would have left."""

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
    """Where the run of a variant goes.

    Attributes:
        folder: Its run folder.
        config: Its ``config.yaml``.
        hyperparameters: What TensorBoard shows beside the final metrics.
        variant: What it trains.
    """

    folder: Path
    config: str
    hyperparameters: Mapping[str, Any]
    variant: Variant


class TrialWriter(Results):
    """Writes a run folder for each of V variants.

    Args:
        runner: Whose rounds they are.
        places: Where the runs go, in the order of the variants.
    """

    def __init__(self, runner: RoundRunner, places: Sequence[Place]) -> None:
        super().__init__(runner)
        self._places = places

    def write(self, trainer: Trainer, module: PairModule, folder: Path) -> None:
        """Write what came of the rounds of each variant; the fit's own folder holds the checkpoint of all."""
        seeds, every = module.rounds.of_one_variant.seeds, self._runner.curves
        splitter = Splitter(module, read_checkpoint(folder / LAST))
        for number, place in enumerate(self._places):
            own = module.rounds.of_variant(number)
            _open(place)
            architecture, recipe = place.variant.architecture, module.optimization.recipes.index(place.variant.recipe)
            network = architecture.description(architecture.build(seeds[0]))
            checkpoint = splitter.checkpoint(number, recipe, network, identity_of(place.folder))
            DurableCheckpointIO().save_checkpoint(checkpoint, place.folder / LAST)
            del checkpoint  # before the next one is made
            curves = Curves(seeds, {name: values[:, own] for name, values in every.values.items()})
            write_tables(place.folder, curves, self.rounds[own])
            summary = self.summary(trainer, module, self.rounds[own])
            _track(place, curves, self.rounds[own], summary)
            write_summary(place.folder / SUMMARY, summary | {"slices": len(module.rounds.seeds)})


def _open(place: Place) -> None:
    """Make a run folder anew; what a killed process left in it goes."""
    place.folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(place.folder)
    for events in place.folder.glob(f"{EVENTS}*"):
        events.unlink()
    mark_run(place.folder)
    write_text_durably(place.folder / CONFIG, place.config)


def _track(place: Place, curves: Curves, rounds: Sequence[RoundResult], summary: Mapping[str, Any]) -> None:
    """Write the TensorBoard files."""
    logger = RunLogger(place.folder)
    logger.log_layout(list(curves.values))
    for epoch in range(curves.epochs):
        good = ~Curves(curves.seeds, {name: values[: epoch + 1] for name, values in curves.values.items()}).failed()
        latest = {name: values[epoch][good].tolist() for name, values in curves.values.items()}
        logger.log_metrics(figures_of(latest, several=len(curves.seeds) > 1), step=epoch + 1)
    found = summaries(rounds) if summary["digits_trained"] else without_digits(summaries(rounds))
    data, parameters = cast(Mapping[str, Any], summary["data"]), summary["parameters_per_round"]
    extra = {"data.source found": data["source"], "parameters per round": parameters}
    final = {f"final/{name}": each.mean for name, each in found.items()}
    logger.log_hyperparams(dict(place.hyperparameters) | extra, final)
    logger.log_text("summary", summary_table(found, style="github"))
    logger.finalize("success")
