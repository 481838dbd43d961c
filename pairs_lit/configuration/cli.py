"""LightningCLI with one-line errors, rounds and run folders."""

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

from pairs_lit.checkpoints.files import METADATA_KEY, read_checkpoint
from pairs_lit.checkpoints.last_checkpoint import LastCheckpoint
from pairs_lit.configuration.factory_options import wrap_factory_options
from pairs_lit.configuration.given_texts import PARSER_MODE
from pairs_lit.configuration.option_checks import (
    check_schedule,
    reject_global_seed,
    replace_parts_by_network,
    report_main_classes,
)
from pairs_lit.configuration.option_text import flatten_config
from pairs_lit.configuration.parser import PairsParser, check_nulls, expand_home_paths
from pairs_lit.configuration.run_name import choose_run_name
from pairs_lit.configuration.saved_config import RunConfig
from pairs_lit.configuration.trainer_parts import TRAINER_DEFAULTS, add_checkpoint_plugin, as_list, build_loggers
from pairs_lit.data.datamodule import PairDataModule, get_default_root
from pairs_lit.errors import PairsLitError, Stopped, check_positive
from pairs_lit.nn.gpu_stack_size import GpuResources, use_gpu_resources
from pairs_lit.runs.run_folder import CONFIG_FILE, LAST_CHECKPOINT, check_run_name, find_run_of_job
from pairs_lit.seeds import use_seed
from pairs_lit.system.console import print_notice
from pairs_lit.system.gpus import find_device_type, list_gpus, measure_free_memory
from pairs_lit.system.libraries import silence_libraries
from pairs_lit.system.lightning_hooks import NoProfiler
from pairs_lit.system.paths import expand_user_path
from pairs_lit.system.threads import check_threads, get_requested_threads, use_threads
from pairs_lit.system.torch_settings import TorchSettings
from pairs_lit.system.user_modules import define_main_objects, enable_local_imports, find_main_objects
from pairs_lit.training.module import PairModule
from pairs_lit.training.predictions import PredictionWriter
from pairs_lit.training.progress import RoundProgressBar
from pairs_lit.training.results import Results
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.training.tensorboard import RunTracker, silence_writer_threads
from pairs_lit.training.trainer_checks import check_trainer, check_trainer_options
from pairs_lit.workers.cluster import (
    LocalEnvironment,
    choose_num_workers,
    count_started_workers,
    detect_environment,
    get_slurm_job_id,
    hide_slurm,
    is_requeued,
)
from pairs_lit.workers.pipes import PipeChannel
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

    command_class: "type[PairsCLI]"
    """The class that :func:`run_lightning_command` was called with."""

    extra_callbacks: Sequence[Callback] = ()
    result_writer: Results | PredictionWriter
    """The callback that writes the results of the command."""

    checkpoint_stack_size: object = None
    """The stack size that the checkpoint was saved with; it may differ from today's default."""

    channel: PipeChannel | None = None
    """The channel to the other workers if this process is a worker that another one started, or else None."""

    gpu_resources: GpuResources | None = None
    """What the default stack size depends on, or None if it is that of a CPU or of a checkpoint."""

    job_key: str | None = None
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
        parser.set_defaults({"data.root": get_default_root()})
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
        """Parse and complete the options."""
        self.arguments = args if isinstance(args, list) else []
        super().parse_arguments(parser, wrap_factory_options(args) if isinstance(args, list) else args)
        self.complete_config(self.config[self.config.subcommand])

    def complete_config(self, config: Namespace) -> None:
        """Check a parsed configuration beyond its types, choose the run's name and read the checkpoint's metadata."""
        expand_home_paths(config)
        self.should_print_stack = config.pop("print_stack")
        self.can_code_change = config.pop("allow_changed_code")
        self.replaced_parts = replace_parts_by_network(config.model)
        for section, part in {"rounds": RoundRunner, "data": PairDataModule, "model": PairModule}.items():
            check_nulls(config[section], part, section)
        check_schedule(config.model)
        config.name = check_run_name(choose_run_name(config, self.arguments))
        self._resume_slurm_job(config)
        if config.ckpt_path is not None:
            self.checkpoint_stack_size = read_checkpoint(Path(config.ckpt_path))[METADATA_KEY].get("stack_size")
        elif self.config.subcommand != "fit":
            command = self.config.subcommand
            raise PairsLitError(
                f"{command} needs a trained network. Name a run folder, as in pairs-lit {command} RUN, or add "
                "--ckpt_path RUN/checkpoints/last.ckpt."
            )

    def _resume_slurm_job(self, config: Namespace) -> None:
        """Build the key of the fit in a Slurm job, and resume the fit if Slurm requeued the job."""
        number = get_slurm_job_id()
        if number is None:
            return
        text = json.dumps(flatten_config(config.as_dict()), sort_keys=True)
        self.job_key = f"{number} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if config.ckpt_path is None and is_requeued():
            run = find_run_of_job(Path(config.trainer.default_root_dir or "."), config.name, self.job_key)
            if self.config.subcommand == "fit" and run is not None:
                config.ckpt_path = str(run / LAST_CHECKPOINT)
                print_notice(f"this job was requeued; the fit is resumed in {run}.")

    def before_instantiate_classes(self) -> None:
        """Set the number of threads before any data or weights are computed, and reuse the checkpoint's stack size."""
        config = self.config[self.config.subcommand]
        if (
            config.rounds.stack_size is not None
            or not isinstance(self.checkpoint_stack_size, int)
            or self.checkpoint_stack_size < 1
        ):
            self.checkpoint_stack_size = None
        else:
            config.model.stack_size = self.checkpoint_stack_size
        threads = config.rounds.threads
        if threads is not None:
            check_positive("rounds.threads", threads)
            check_threads(threads)
            torch.set_num_threads(threads)

    def instantiate_classes(self) -> None:
        """Build all objects, with default stack sizes for the devices that will train."""
        self.gpu_resources = self._find_gpu_resources()
        with use_gpu_resources(self.gpu_resources):
            self.build_objects()

    def build_objects(self) -> None:
        """Build the module, the data and the trainer."""
        super().instantiate_classes()

    def _find_gpu_resources(self) -> GpuResources | None:
        """Return what the default stack size depends on, or None on a CPU or for the rounds of a checkpoint."""
        config = self.config[self.subcommand]
        device_type = find_device_type(config.trainer.accelerator)
        if config.ckpt_path is not None or device_type not in ("cuda", "mps"):
            return None
        gpus = list_gpus(device_type, config.trainer.devices)
        pairs = max(config.data.batch_size, config.data.eval_batch_size)
        return GpuResources(min(map(measure_free_memory, gpus)), count_started_workers() or len(gpus), pairs)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
        """Build the trainer with the callbacks, loggers and workers of every run."""
        config, objects = self.config[self.subcommand], self.config_init[self.subcommand]
        runner: RoundRunner = objects.rounds
        check_trainer_options(objects.trainer)
        results = self.build_results(runner)
        hyperparameters = flatten_config(config.as_dict())
        tracking = RunTracker(runner, results, name=config.name, hyperparameters=hyperparameters, job=self.job_key)
        callbacks: list[Callback] = [results, tracking, LastCheckpoint(), *self.extra_callbacks]
        self.result_writer = results
        if self.subcommand == "predict":
            self.result_writer = PredictionWriter(runner, config.name)
            callbacks.append(self.result_writer)
        has_progress_bar = any(isinstance(callback, ProgressBar) for callback in as_list(objects.trainer.callbacks))
        if objects.trainer.enable_progress_bar is not False and not has_progress_bar:
            callbacks.append(RoundProgressBar(runner))
        self.trainer_defaults["callbacks"] = callbacks
        objects.trainer.logger = build_loggers(objects.trainer.logger)
        objects.trainer.profiler = objects.trainer.profiler or NoProfiler()
        self._configure_workers(objects)
        try:
            return super().instantiate_trainer(
                plugins=add_checkpoint_plugin(as_list(objects.trainer.plugins)), **kwargs
            )
        except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
            raise PairsLitError(f"trainer: {' '.join(str(error).split())}") from error

    def build_results(self, runner: RoundRunner) -> Results:
        """Build the callback that writes the results of the rounds."""
        return Results(runner, self.config[self.subcommand].name)

    def _configure_workers(self, objects: Namespace) -> None:
        """Configure the worker processes: as many as the user requested, otherwise as many as can run in parallel."""
        settings, threads = objects.trainer, objects.rounds.threads or get_requested_threads()
        settings.devices, settings.num_nodes = choose_num_workers(
            settings.devices,
            settings.num_nodes,
            on_cpu=find_device_type(settings.accelerator) == "cpu",
            stacks=len(objects.model.stacks),
            threads=threads,
        )
        settings.strategy = StackStrategy(
            cluster_environment=LocalEnvironment() if self.channel is not None else detect_environment(),
            start_method=objects.rounds.start_method,
            rerun=self._build_rerun(),
            channel=self.channel,
        )

    def _build_rerun(self) -> Callable[[PipeChannel], None]:
        """Return a function that runs this command as a worker, in a new process that has the user's classes."""
        objects = find_main_objects(map(str, flatten_config(self.config[self.subcommand].as_dict()).values()))
        # by the time that other workers start, their GPUs may have less free memory
        size = [] if self.gpu_resources is None else [f"--rounds.stack_size={self.model.stack_size}"]
        return partial(
            _rerun_as_worker, str(self.subcommand), [*self.arguments, *size], self.extra_callbacks, self.command_class,
            objects, TorchSettings.capture(),
        )  # fmt: skip

    def after_instantiate_classes(self) -> None:
        """Check the trainer before any worker process or training starts, and tell it which checkpoint to load."""
        if self.checkpoint_stack_size is not None:
            self.config[self.subcommand].model.stack_size = None  # config.yaml must contain the user's setting
        check_trainer(self.trainer)
        if self.subcommand == "fit":
            report_main_classes(flatten_config(self.config.fit.as_dict()))
        if self.replaced_parts:
            print_notice(
                f"model.network replaces these settings: {', '.join(f'model.{name}' for name in self.replaced_parts)}."
            )
        if self.should_print_stack:
            print(self.model.describe())
            raise SystemExit(0)
        runner: RoundRunner = self.config_init[self.subcommand].rounds
        trainer: Any = self.trainer  # mypy does not know that the trainer has callbacks
        # the runner must come first, since it seeds the generators that the other callbacks may use
        trainer.callbacks.sort(key=lambda callback: callback is not runner)
        trainer.ckpt_path = self.config[self.subcommand].ckpt_path
        self.model.code.is_change_allowed = self.can_code_change
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


def _rerun_as_worker(
    command: str,
    args: list[str],
    callbacks: Sequence[Callback],
    kind: type[PairsCLI],
    main_objects: Mapping[str, object],
    settings: TorchSettings,
    channel: PipeChannel,
) -> None:
    """Run the same command in this process, as a worker.

    Args:
        command: As in :func:`run_lightning_command`, as are the next three arguments.
        args: The arguments of the command line.
        callbacks: Additional callbacks for the trainer.
        kind: The class of the CLI.
        main_objects: The classes and functions of the user's script or notebook that the configuration names.
        settings: The settings of torch that worker 0 has.
        channel: The channel to the other workers.
    """
    os.environ["LOCAL_RANK"] = str(channel.rank)
    enable_local_imports()
    define_main_objects(main_objects)
    settings.apply()
    with use_threads(settings.threads):
        run_lightning_command(command, args, callbacks, kind, channel)


def run_lightning_command(
    command: str,
    args: list[str],
    callbacks: Sequence[Callback] = (),
    kind: type[PairsCLI] = PairsCLI,
    worker_channel: PipeChannel | None = None,
) -> PairsCLI:
    """Run a command of the LightningCLI.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        args: The arguments of the command line; the first one is the command.
        callbacks: Additional callbacks for the trainer.
        kind: The class of the CLI.
        worker_channel: The channel to the other workers if another worker started this process, or else None.

    Returns:
        The CLI, with the trainer and the results of the command.

    Raises:
        PairsLitError: An option is invalid, or the command fails because of the user's settings.
        Stopped: SIGTERM arrived.
    """
    expanded_args = _expand_run_folder(args)
    silence_libraries()

    class OneCommand(kind):  # type: ignore[valid-type, misc] # a class, but mypy sees a value
        """CLI without the parsers of the other commands, each of which takes a fifth of a second to build."""

        command_class, extra_callbacks = kind, callbacks
        channel = worker_channel

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """Hide ``weights_only``, since only weights are ever loaded, and Lightning's own ``ckpt_path``."""
            return {command: LightningCLI.subcommands()[command] | {"weights_only", "ckpt_path"}}

    with command_context():
        return OneCommand(
            PairModule,
            PairDataModule,
            save_config_callback=RunConfig,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            seed_everything_default=False,
            parser_class=PairsParser,
            parser_kwargs={"parser_mode": PARSER_MODE},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=expanded_args,
        )


@contextmanager
def command_context() -> Iterator[None]:
    """Set up threads, seeds and the environment for a command of the LightningCLI, and translate its errors.

    Raises:
        PairsLitError: The command fails because of the user's settings.
        Stopped: SIGTERM arrived.
    """
    try:
        with silence_writer_threads(), hide_slurm(), use_threads(get_requested_threads()), use_seed(0):
            yield
    except MisconfigurationException as error:
        raise PairsLitError(" ".join(str(error).split())) from error
    except SIGTERMException as error:  # Lightning also handles SIGTERM, and may react before this package does
        raise Stopped(SIGTERM) from error


def _expand_run_folder(args: list[str]) -> list[str]:
    """Replace a run folder as the first argument of a command by its configuration and its last checkpoint."""
    command, *others = args
    if not others or others[0].startswith("-"):
        return args
    run = expand_user_path(others[0])
    if not (run / CONFIG_FILE).is_file():
        raise PairsLitError(f"{others[0]} is not a run folder. To use a config, add --config {others[0]}.")
    return [command, f"--config={run / CONFIG_FILE}", f"--ckpt_path={run / LAST_CHECKPOINT}", *others[1:]]
