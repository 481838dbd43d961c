"""Loading of a run's trained networks, built from its configuration and checkpoint."""

from pathlib import Path
from typing import cast

from lightning.pytorch.cli import LightningArgumentParser

from pairs_lit.checkpoints.files import IMAGE_FORMAT_KEY, METADATA_KEY, read_checkpoint
from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command
from pairs_lit.configuration.python_calls import python_api_context
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.image_format import parse_format
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.trained_rounds import TrainedRounds
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_folder import CONFIG_FILE, LAST_CHECKPOINT
from pairs_lit.runs.run_metadata import UNRECORDED_SETTINGS
from pairs_lit.training.module import PairModule

_ALLOW_CHANGED_CODE_OPTION = "--allow-changed-code (in Python: allow_changed_code=True)"


class _OpeningCLI(ParseOnlyCLI):
    """CLI that builds a run's module and data without a trainer; the data may be missing."""

    def link_classes(self, parser: LightningArgumentParser) -> None:
        """Do nothing: the number of classes is read from the checkpoint, not from the data."""

    def before_instantiate_classes(self) -> None:
        """Set the number of classes from the checkpoint; earlier releases did not record it and had ten."""
        super().before_instantiate_classes()
        config = self.config[self.subcommand]
        classes = read_checkpoint(Path(config.ckpt_path))[METADATA_KEY].get("classes", UNRECORDED_SETTINGS["classes"])
        if not isinstance(classes, int) or classes < 1:
            raise PairsLitError(
                f"{config.ckpt_path} is damaged: its number of classes must be 1 or more, got {classes!r}."
            )
        config.model.classes = classes

    def instantiate_classes(self) -> None:
        """Build the module and the data."""
        objects = self.parser.instantiate_classes(self.config)[self.subcommand]
        self.module, self.data = cast(PairModule, objects.model), cast(PairDataModule, objects.data)
        self.data.rounds = self.module.rounds


def open_run(
    folder: str | Path, checkpoint: str | Path | None = None, *, allow_changed_code: bool = False
) -> TrainedRounds:
    """Return the trained networks of a run.

    Args:
        folder: The run folder.
        checkpoint: One of its checkpoints, of a run that may be unfinished; the default is the last one of a finished
            run.
        allow_changed_code: Only print a notice if the code of the networks has changed since the fit.

    Raises:
        PairsLitError: It is not a finished run with a checkpoint, its networks can no longer be built, or their code
            has changed since the fit.
    """
    run = FinishedRun.load(folder).folder if checkpoint is None else Path(folder)
    chosen = run / LAST_CHECKPOINT if checkpoint is None else Path(checkpoint)
    if not chosen.is_file():
        raise PairsLitError(f"{folder} has no {LAST_CHECKPOINT}, the file of the trained weights. Train it again.")
    with python_api_context():
        cli = run_lightning_command(
            "test", ["test", f"--config={run / CONFIG_FILE}", f"--ckpt_path={chosen}"], kind=_OpeningCLI
        )
    opened = cast(_OpeningCLI, cli)
    opened.module.code.is_change_allowed, opened.module.code.option = allow_changed_code, _ALLOW_CHANGED_CODE_OPTION
    content = read_checkpoint(chosen)
    opened.module.load_weights(content)
    return TrainedRounds(opened.module, opened.data, parse_format(content[METADATA_KEY].get(IMAGE_FORMAT_KEY)))
