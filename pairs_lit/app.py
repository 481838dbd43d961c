"""The LightningCLI of pairs_lit: stock, but for one-line errors, the rounds, and a run folder of its own."""

import argparse
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from pairs_lit.checkpoints import DurableCheckpointIO, LastCheckpoint, read_checkpoint
from pairs_lit.data.datamodule import PairDataModule, default_root
from pairs_lit.errors import PairsLitError
from pairs_lit.independence import check_one_process, check_trainer
from pairs_lit.module import PairModule
from pairs_lit.parser import PairsParser, check_empty_sections, check_nulls
from pairs_lit.predictions import PredictionWriter
from pairs_lit.progress import Progress
from pairs_lit.rounds import RoundRunner
from pairs_lit.runs import check_name, keep_config
from pairs_lit.tracking import Tracking, quiet_writers

_CHECKPOINT_HELP = (
    "A checkpoint, RUN/checkpoints/last.ckpt of a run with this configuration: fit goes on from it in RUN, the other "
    "commands need one. A local file; nothing in it is executed."
)


_TRAINER_DEFAULTS = {
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 25,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "logger": False,
}


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration to the run folder of a fit, once its checkpoint has proved to match."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml`` durably, without the checkpoint that this fit may go on from; keep a former one."""
        config = self.config.clone()
        config.ckpt_path = None
        text = self.parser.dump(config, skip_unset=False)
        keep_config(Path(str(trainer.log_dir)), text, trainer.current_epoch)


class PairsCLI(LightningCLI):
    """``fit``, ``validate``, ``test``, ``predict`` over a section ``rounds`` and the parts it is linked to."""

    more_callbacks: Sequence[Callback] = ()

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Leave out the global seed: ``rounds.seed`` is the only seed that matters."""
        parser.add_argument("--seed_everything", type=Literal[False], default=False, help=argparse.SUPPRESS)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the rounds and link them and the data to the model."""
        parser.add_lightning_class_args(RoundRunner, "rounds")
        parser.add_argument("--name", type=str | None, default=None, help="The run's name; null: the config file's.")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=_CHECKPOINT_HELP)
        parser.set_defaults({"data.root": default_root()})
        for part in ("data", "model"):
            parser.link_arguments("rounds.seeds", f"{part}.seeds", apply_on="instantiate")
        parser.link_arguments("rounds.stack_size", "model.stack_size")
        parser.link_arguments("data.image_size", "model.image_size")
        parser.link_arguments("data.relation", "model.relation")
        parser.link_arguments("model.stack_size", "data.stack_size", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, name the run, and look at the checkpoint before anything else does."""
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        options = [action.dest for action in self._parser(self.config.subcommand)._actions]
        for file in config.config or []:
            check_empty_sections(yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}, options)
        for section, part in {"rounds": RoundRunner, "data": PairDataModule, "model": PairModule}.items():
            check_nulls(config[section], part, section)
        config.name = check_name(_config_name(config) if config.name is None else config.name)
        if config.ckpt_path is not None:
            read_checkpoint(Path(config.ckpt_path))
        elif self.config.subcommand != "fit":
            raise PairsLitError(
                f"{self.config.subcommand} needs a trained network: add --ckpt_path RUN/checkpoints/last.ckpt."
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
        """Add what every run has: tracking, progress, checkpoints."""
        config, made = (each[self.subcommand] for each in (self.config, self.config_init))
        runner: RoundRunner = made.rounds
        tracking = Tracking(runner, name=config.name, hyperparameters=_flat(config.as_dict()))
        callbacks: list[Callback] = [tracking, LastCheckpoint(), *self.more_callbacks]
        callbacks += [PredictionWriter(runner)] if self.subcommand == "predict" else []
        callbacks += [] if made.trainer.enable_progress_bar is False else [Progress(runner)]
        self.trainer_defaults["callbacks"] = callbacks
        check_one_process(made.trainer.strategy, made.trainer.num_nodes)
        made.trainer.logger = _other_loggers(made.trainer.logger)
        theirs = made.trainer.plugins or []
        plugins = [*(theirs if isinstance(theirs, list) else [theirs]), DurableCheckpointIO()]
        try:
            return super().instantiate_trainer(plugins=plugins, **kwargs)
        except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
            raise PairsLitError(f"trainer: {' '.join(str(error).split())}") from error

    def after_instantiate_classes(self) -> None:
        """Refuse what would mix rounds before Lightning starts more processes or any work; set the checkpoint."""
        check_trainer(self.trainer)
        self.trainer.ckpt_path = self.config[self.subcommand].ckpt_path


def _other_loggers(wanted: object) -> object:
    """Return the loggers beside ours: none, unless the user names some; Lightning's own default is not wanted."""
    if wanted is True:
        raise PairsLitError(
            "trainer.logger is true: every run has TensorBoard files of its own; name the class of another logger, or "
            "leave it out."
        )
    return False if wanted is None else wanted


def _config_name(config: Namespace) -> str:
    files = config.config or []
    return Path(str(files[-1])).stem if files else "run"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Flatten a nested configuration to dotted names, without its files; lists and null become text."""
    flat: dict[str, str | int | float | bool] = {}
    for name, value in config.items():
        if name in ("config", "__path__"):
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat


def run(command: str, args: list[str] | None, callbacks: Sequence[Callback] = ()) -> None:
    """Parse the command line and run the command.

    Args:
        command: The first argument.
        args: All arguments; None: those of the process.
        callbacks: More callbacks for the trainer.

    Raises:
        PairsLitError: The user can mend something.
    """
    _be_quiet()

    class OneCommand(PairsCLI):
        """Builds no parsers of other commands, which cost a fifth of a second each."""

        more_callbacks = callbacks

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """Leave out ``weights_only``, since weights are all that is ever loaded, and Lightning's ``ckpt_path``."""
            return {command: LightningCLI.subcommands()[command] | {"weights_only", "ckpt_path"}}

    try:
        with quiet_writers():
            OneCommand(
                PairModule,
                PairDataModule,
                save_config_callback=RunConfig,
                trainer_defaults=dict(_TRAINER_DEFAULTS),
                seed_everything_default=False,
                parser_class=PairsParser,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=args,
            )
    except MisconfigurationException as error:
        raise PairsLitError(" ".join(str(error).split())) from error


def _be_quiet() -> None:
    """Silence what a user cannot act on."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
