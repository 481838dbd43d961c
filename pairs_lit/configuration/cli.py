"""LightningCLI with one-line errors, rounds and run folders."""

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from pairs_lit.checkpoints.files import RECORD, read_checkpoint
from pairs_lit.checkpoints.last_checkpoint import LastCheckpoint
from pairs_lit.configuration.factory_options import with_built_arguments
from pairs_lit.configuration.given_texts import MODE
from pairs_lit.configuration.option_checks import (
    check_schedule,
    reject_global_seed,
    replace_parts_by_network,
    report_main_classes,
)
from pairs_lit.configuration.option_text import flatten
from pairs_lit.configuration.parser import PairsParser, check_nulls, with_homes
from pairs_lit.configuration.run_name import name_run
from pairs_lit.configuration.saved_config import RunConfig
from pairs_lit.configuration.trainer_parts import TRAINER_DEFAULTS, add_checkpoint_plugin, as_list, build_loggers
from pairs_lit.data.datamodule import PairDataModule, default_root
from pairs_lit.errors import PairsLitError, Stopped, check_positive
from pairs_lit.runs.run_folder import CONFIG, LAST, check_name, run_of_job
from pairs_lit.seeds import seeded
from pairs_lit.system.console import notice
from pairs_lit.system.libraries import silence_libraries
from pairs_lit.system.lightning_hooks import NoProfiler
from pairs_lit.system.paths import user_path
from pairs_lit.system.threads import asked_threads, check_threads, computing_on
from pairs_lit.system.user_modules import import_from_here
from pairs_lit.training.module import PairModule
from pairs_lit.training.predictions import PredictionWriter
from pairs_lit.training.progress import Progress
from pairs_lit.training.results import Results
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.training.tensorboard import Tracking, quiet_writers
from pairs_lit.training.trainer_checks import check_given, check_trainer
from pairs_lit.workers.cluster import environment, job, outside_slurm, spread, was_requeued
from pairs_lit.workers.strategy import StackStrategy

_CHECKPOINT_HELP = (
    "A checkpoint, RUN/checkpoints/last.ckpt of a run with this configuration: fit resumes from it in RUN, the other "
    "commands need one. A local file; nothing in it is executed."
)


_NAME_HELP = "The run's name (default: the config file's, and the class of another backbone, head or network)."
_CHANGED_CODE_HELP = (
    "Continue although the network's code has changed since the checkpoint was saved, and say so in what is written "
    "(default: false)."
)


_PRINT_HELP = "Show how the rounds' networks are computed side by side, or why they are not, and end."


class PairsCLI(LightningCLI):
    """LightningCLI for ``fit``, ``validate``, ``test`` and ``predict`` with a section ``rounds``."""

    more_callbacks: Sequence[Callback] = ()
    outcome: Results | PredictionWriter
    """The callback that writes the results of the command."""

    stack_size: object = None
    """The stack size that the checkpoint was saved with; it may differ from today's default."""

    job: str | None = None
    """Key of the Slurm job and of the fit within it, or None outside Slurm."""

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Hide Lightning's global seed, since ``rounds.seed`` is the only seed that has an effect."""
        parser.add_argument("--seed_everything", type=reject_global_seed, default=False, help=argparse.SUPPRESS)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the section ``rounds`` and the run's options, and link rounds and data to the model."""
        parser.add_lightning_class_args(RoundRunner, "rounds")
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help=_NAME_HELP,
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=_CHECKPOINT_HELP)
        parser.add_argument("--allow_changed_code", type=bool, default=False, help=_CHANGED_CODE_HELP)
        parser.add_argument("--print_stack", type=bool, default=False, help=_PRINT_HELP)
        parser.set_defaults({"data.root": default_root()})
        for part in ("data", "model"):
            parser.link_arguments("rounds.seeds", f"{part}.seeds", apply_on="instantiate")
        for part in ("data", "model"):
            parser.link_arguments("rounds.stack_size", f"{part}.stack_size")
        parser.link_arguments("data.image_size", "model.image_size")
        parser.link_arguments("data.relation", "model.relation")
        self.link_classes(parser)

    def link_classes(self, parser: LightningArgumentParser) -> None:
        """Link the number of classes in the data to the model."""
        parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the options, choose the run's name and read the checkpoint's metadata."""
        self.given = args if isinstance(args, list) else []
        super().parse_arguments(parser, with_built_arguments(args) if isinstance(args, list) else args)
        config = with_homes(self.config[self.config.subcommand])
        self.prints_stack = config.pop("print_stack")
        self.allows_changed_code = config.pop("allow_changed_code")
        self.replaced = replace_parts_by_network(config.model)
        for section, part in {"rounds": RoundRunner, "data": PairDataModule, "model": PairModule}.items():
            check_nulls(config[section], part, section)
        check_schedule(config.model)
        config.name = check_name(name_run(config, self.given))
        self._go_on_with_job(config)
        if config.ckpt_path is not None:
            self.stack_size = read_checkpoint(Path(config.ckpt_path))[RECORD].get("stack_size")
        elif self.config.subcommand != "fit":
            command = self.config.subcommand
            raise PairsLitError(
                f"{command} needs a trained network. Name a run folder, as in pairs-lit {command} RUN, or add "
                "--ckpt_path RUN/checkpoints/last.ckpt."
            )

    def _go_on_with_job(self, config: Namespace) -> None:
        """Build the key of the fit in a Slurm job, and resume the fit if Slurm requeued the job."""
        number = job()
        if number is None:
            return
        text = json.dumps(flatten(config.as_dict()), sort_keys=True)
        self.job = f"{number} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if config.ckpt_path is None and was_requeued():
            run = run_of_job(Path(config.trainer.default_root_dir or "."), config.name, self.job)
            if self.config.subcommand == "fit" and run is not None:
                config.ckpt_path = str(run / LAST)
                notice(f"this job was requeued; the fit is resumed in {run}.")

    def before_instantiate_classes(self) -> None:
        """Set the number of threads before any data or weights are computed, and reuse the checkpoint's stack size."""
        config = self.config[self.config.subcommand]
        if config.rounds.stack_size is not None or not isinstance(self.stack_size, int) or self.stack_size < 1:
            self.stack_size = None
        else:
            config.model.stack_size = self.stack_size
        threads = config.rounds.threads
        if threads is not None:
            check_positive("rounds.threads", threads)
            check_threads(threads)
            torch.set_num_threads(threads)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
        """Build the trainer with the callbacks, loggers and workers of every run."""
        config, objects = self.config[self.subcommand], self.config_init[self.subcommand]
        runner: RoundRunner = objects.rounds
        check_given(objects.trainer)
        results = self.make_results(runner)
        hyperparameters = flatten(config.as_dict())
        tracking = Tracking(runner, results, name=config.name, hyperparameters=hyperparameters, job=self.job)
        callbacks: list[Callback] = [results, tracking, LastCheckpoint(), *self.more_callbacks]
        self.outcome = results
        if self.subcommand == "predict":
            self.outcome = PredictionWriter(runner, config.name)
            callbacks.append(self.outcome)
        has_progress_bar = any(isinstance(callback, ProgressBar) for callback in as_list(objects.trainer.callbacks))
        if objects.trainer.enable_progress_bar is not False and not has_progress_bar:
            callbacks.append(Progress(runner))
        self.trainer_defaults["callbacks"] = callbacks
        objects.trainer.logger = build_loggers(objects.trainer.logger)
        objects.trainer.profiler = objects.trainer.profiler or NoProfiler()
        self._spread(objects)
        try:
            return super().instantiate_trainer(
                plugins=add_checkpoint_plugin(as_list(objects.trainer.plugins)), **kwargs
            )
        except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
            raise PairsLitError(f"trainer: {' '.join(str(error).split())}") from error

    def make_results(self, runner: RoundRunner) -> Results:
        """Build the callback that writes the results of the rounds."""
        return Results(runner, self.config[self.subcommand].name)

    def _spread(self, objects: Namespace) -> None:
        """Configure the worker processes: as many as the user requested, otherwise as many as can run in parallel."""
        settings, threads = objects.trainer, objects.rounds.threads or asked_threads()
        settings.devices, settings.num_nodes = spread(
            settings.devices,
            settings.num_nodes,
            on_cpu=settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available()),
            stacks=len(objects.model.stacks),
            threads=threads,
        )
        run_again = partial(_again, str(self.subcommand), self.given)
        settings.strategy = StackStrategy(cluster_environment=environment(), again=run_again)

    def after_instantiate_classes(self) -> None:
        """Check the trainer before any worker process or training starts, and tell it which checkpoint to load."""
        if self.stack_size is not None:
            self.config[self.subcommand].model.stack_size = None  # config.yaml must contain the user's setting
        check_trainer(self.trainer)
        if self.subcommand == "fit":
            report_main_classes(flatten(self.config.fit.as_dict()))
        if self.replaced:
            notice(f"model.network replaces these settings: {', '.join(f'model.{name}' for name in self.replaced)}.")
        if self.prints_stack:
            print(self.model.described())
            raise SystemExit(0)
        runner: RoundRunner = self.config_init[self.subcommand].rounds
        trainer: Any = self.trainer  # mypy does not know that the trainer has callbacks
        # the runner must come first, since it seeds the generators that the other callbacks may use
        trainer.callbacks.sort(key=lambda callback: callback is not runner)
        trainer.ckpt_path = self.config[self.subcommand].ckpt_path
        self.model.code.may_change = self.allows_changed_code
        if trainer.world_size > 1:
            self.datamodule.setup("fit")  # load the data once, before the workers that share this memory are forked


class ParseOnlyCLI(PairsCLI):
    """Parser of a command line that neither builds objects nor runs the command."""

    def instantiate_classes(self) -> None:
        """Skip building the objects."""

    def after_instantiate_classes(self) -> None:
        """Skip setting up the trainer, which was not built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Skip running the command."""


def _again(command: str, args: list[str], rank: int, port: int) -> None:
    """Run the same command in this process, as the worker with the given rank."""
    os.environ.update(LOCAL_RANK=str(rank), MASTER_PORT=str(port))
    import_from_here()
    train(command, args)


def train(
    command: str, args: list[str], callbacks: Sequence[Callback] = (), kind: type[PairsCLI] = PairsCLI
) -> PairsCLI:
    """Run a command of the LightningCLI.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        args: The arguments of the command line; the first one is the command.
        callbacks: Additional callbacks for the trainer.
        kind: The class of the CLI.

    Returns:
        The CLI, with the trainer and the results of the command.

    Raises:
        PairsLitError: An option is invalid, or the command fails because of the user's settings.
        Stopped: SIGTERM arrived.
    """
    expanded_args = _with_run(args)
    silence_libraries()

    class OneCommand(kind):  # type: ignore[valid-type, misc] # a class, but mypy sees a value
        """CLI without the parsers of the other commands, each of which takes a fifth of a second to build."""

        more_callbacks = callbacks

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """Hide ``weights_only``, since only weights are ever loaded, and Lightning's own ``ckpt_path``."""
            return {command: LightningCLI.subcommands()[command] | {"weights_only", "ckpt_path"}}

    try:
        with quiet_writers(), outside_slurm(), computing_on(asked_threads()), seeded(0):
            return OneCommand(
                PairModule,
                PairDataModule,
                save_config_callback=RunConfig,
                trainer_defaults=dict(TRAINER_DEFAULTS),
                seed_everything_default=False,
                parser_class=PairsParser,
                parser_kwargs={"parser_mode": MODE},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=expanded_args,
            )
    except MisconfigurationException as error:
        raise PairsLitError(" ".join(str(error).split())) from error
    except SIGTERMException as error:  # Lightning also handles SIGTERM, and may react before this package does
        raise Stopped(SIGTERM) from error


def _with_run(args: list[str]) -> list[str]:
    """Replace a run folder as the first argument of a command by its configuration and its last checkpoint."""
    command, *others = args
    if not others or others[0].startswith("-"):
        return args
    run = user_path(others[0])
    if not (run / CONFIG).is_file():
        raise PairsLitError(f"{others[0]} is not a run folder. To use a config, add --config {others[0]}.")
    return [command, f"--config={run / CONFIG}", f"--ckpt_path={run / LAST}", *others[1:]]
