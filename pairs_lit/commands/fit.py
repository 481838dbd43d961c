"""The LightningCLI of pairs_lit: stock, but for one-line errors, the rounds, and a run folder of its own."""

import argparse
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from signal import SIGINT, SIGTERM
from types import FunctionType
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from pairs_lit.commands.builders import with_built_arguments
from pairs_lit.commands.given_texts import MODE
from pairs_lit.commands.naming import name_run
from pairs_lit.commands.parsing import PairsParser, check_nulls, with_homes
from pairs_lit.data.datamodule import PairDataModule, default_root
from pairs_lit.environment import ONE_AT_A_TIME, any_encoding, import_from_here, quiet_other_packages, user_path
from pairs_lit.errors import PairsLitError, Stopped, check_positive, notice
from pairs_lit.nn.architecture import INSTEAD_OF_NETWORK
from pairs_lit.runs.folder import CONFIG, LAST, check_name, keep_config, run_of_job
from pairs_lit.runs.run import Run
from pairs_lit.seeds import seeded
from pairs_lit.stopping import is_stoppable, stoppable
from pairs_lit.threads import asked_threads, check_threads, computing_on
from pairs_lit.training.checkpoints import RECORD, DurableCheckpointIO, LastCheckpoint, own_run, read_checkpoint
from pairs_lit.training.clusters import environment, job, outside_slurm, spread, was_requeued
from pairs_lit.training.guards import check_given, check_trainer
from pairs_lit.training.hooks import NoProfiler, spares_batches
from pairs_lit.training.module import PairModule
from pairs_lit.training.predictions import PredictionWriter
from pairs_lit.training.progress import Progress
from pairs_lit.training.results import Results
from pairs_lit.training.rounds import RoundRunner
from pairs_lit.training.tracking import Tracking, quiet_writers
from pairs_lit.training.workers import NAME, StackStrategy

_CHECKPOINT_HELP = (
    "A checkpoint, RUN/checkpoints/last.ckpt of a run with this configuration: fit goes on from it in RUN, the other "
    "commands need one. A local file; nothing in it is executed."
)

_NAME_HELP = "The run's name (default: the config file's, and the class of another backbone, head or network)."

_CHANGED_CODE_HELP = (
    "Continue although the network's code has changed since the checkpoint was saved, and say so in what is written "
    "(default: false)."
)

_PRINT_HELP = "Show how the rounds' networks are computed side by side, or why they are not, and end."

_TRAINER_DEFAULTS = {
    "accelerator": "cpu",
    "devices": "auto",
    "strategy": NAME,
    "max_epochs": 25,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "logger": False,
}


@spares_batches
class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration to the run folder of a fit, once its checkpoint has proved to match."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml`` durably, without the checkpoint that this fit may go on from; keep a former one."""
        config = self.config.clone()
        config.ckpt_path = None
        text = self.parser.dump(config, skip_unset=False, skip_validation=True)
        folder = Path(str(trainer.log_dir))
        if trainer.is_global_zero:
            before = None if trainer.ckpt_path is None else own_run(Path(str(trainer.ckpt_path)))
            keep_config(folder, text, trainer.current_epoch, before)


class PairsCLI(LightningCLI):
    """``fit``, ``validate``, ``test``, ``predict`` over a section ``rounds`` and the parts it is linked to."""

    more_callbacks: Sequence[Callback] = ()
    outcome: Results | PredictionWriter
    """What came of the command."""

    stack_size: object = None
    """That of the checkpoint: the default may have been another when it was made."""

    job: str | None = None
    """Which fit of which Slurm job this is; None: of none."""

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Leave out the global seed: ``rounds.seed`` is the only seed that matters."""
        parser.add_argument("--seed_everything", type=_no_global_seed, default=False, help=argparse.SUPPRESS)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the rounds and link them and the data to the model."""
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
        """Let the data say how many classes the model tells apart."""
        parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, name the run, and look at the checkpoint before anything else does."""
        self.given = args if isinstance(args, list) else []
        super().parse_arguments(parser, with_built_arguments(args) if isinstance(args, list) else args)
        config = with_homes(self.config[self.config.subcommand])
        self.prints_stack = config.pop("print_stack")
        self.allows_changed_code = config.pop("allow_changed_code")
        self.replaced = _put_in_place(config.model)
        for section, part in {"rounds": RoundRunner, "data": PairDataModule, "model": PairModule}.items():
            check_nulls(config[section], part, section)
        _check_schedule(config.model)
        config.name = check_name(name_run(config, self.given))
        self._go_on_with_job(config)
        if config.ckpt_path is not None:
            self.stack_size = read_checkpoint(Path(config.ckpt_path))[RECORD].get("stack_size")
        elif self.config.subcommand != "fit":
            command = self.config.subcommand
            raise PairsLitError(
                f"{command} needs a trained network: name a run folder, pairs-lit {command} RUN, or add --ckpt_path "
                "RUN/checkpoints/last.ckpt."
            )

    def _go_on_with_job(self, config: Namespace) -> None:
        """Name the fit of a Slurm job, and go on from the checkpoint that it left when it ran before."""
        number = job()
        if number is None:
            return
        text = json.dumps(flat(config.as_dict()), sort_keys=True)
        self.job = f"{number} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if config.ckpt_path is None and was_requeued():
            run = run_of_job(Path(config.trainer.default_root_dir or "."), config.name, self.job)
            if self.config.subcommand == "fit" and run is not None:
                config.ckpt_path = str(run / LAST)
                notice(f"this job was queued again: it goes on in {run}.")

    def before_instantiate_classes(self) -> None:
        """Compute on as many threads as asked for, from the data and the first weights on; keep a run's stack size."""
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
        """Add what every run has: tracking, progress, checkpoints."""
        config, made = (each[self.subcommand] for each in (self.config, self.config_init))
        runner: RoundRunner = made.rounds
        check_given(made.trainer)
        results = self.make_results(runner)
        shown = flat(config.as_dict())
        tracking = Tracking(runner, results, name=config.name, hyperparameters=shown, job=self.job)
        callbacks: list[Callback] = [results, tracking, LastCheckpoint(), *self.more_callbacks]
        self.outcome = results
        if self.subcommand == "predict":
            self.outcome = PredictionWriter(runner, config.name)
            callbacks.append(self.outcome)
        other_bar = any(isinstance(each, ProgressBar) for each in _listed(made.trainer.callbacks))
        if made.trainer.enable_progress_bar is not False and not other_bar:
            callbacks.append(Progress(runner))
        self.trainer_defaults["callbacks"] = callbacks
        made.trainer.logger = _loggers(made.trainer.logger)
        made.trainer.profiler = made.trainer.profiler or NoProfiler()
        self._spread(made)
        try:
            return super().instantiate_trainer(plugins=_plugins(_listed(made.trainer.plugins)), **kwargs)
        except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
            raise PairsLitError(f"trainer: {' '.join(str(error).split())}") from error

    def make_results(self, runner: RoundRunner) -> Results:
        """Return what writes what came of the rounds."""
        return Results(runner, self.config[self.subcommand].name)

    def _spread(self, made: Namespace) -> None:
        """Choose the workers: as many as are asked for, else as many as can work at a time."""
        settings, threads = made.trainer, made.rounds.threads or asked_threads()
        settings.devices, settings.num_nodes = spread(
            settings.devices,
            settings.num_nodes,
            on_cpu=settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available()),
            stacks=len(made.model.stacks),
            threads=threads,
        )
        again = partial(_again, str(self.subcommand), self.given)
        settings.strategy = StackStrategy(cluster_environment=environment(), again=again)

    def after_instantiate_classes(self) -> None:
        """Refuse what would mix rounds before Lightning starts more processes or any work; set the checkpoint."""
        if self.stack_size is not None:
            self.config[self.subcommand].model.stack_size = None  # as it was given, for config.yaml
        check_trainer(self.trainer)
        if self.subcommand == "fit":
            _tell_of_main(flat(self.config.fit.as_dict()))
        if self.replaced:
            notice(f"model.network stands in place of model's {', '.join(self.replaced)}.")
        if self.prints_stack:
            print(self.model.described())
            raise SystemExit(0)
        runner: RoundRunner = self.config_init[self.subcommand].rounds
        trainer: Any = self.trainer  # a connector sets its callbacks
        trainer.callbacks.sort(key=lambda each: each is not runner)  # it seeds what the others may draw from
        trainer.ckpt_path = self.config[self.subcommand].ckpt_path
        self.datamodule.stacks = self.model.slices
        self.model.code.may_change = self.allows_changed_code
        if trainer.world_size > 1:
            self.datamodule.setup("fit")  # once, for all workers that share this memory


class ReadingCLI(PairsCLI):
    """Reads a command line, and builds and runs nothing."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def after_instantiate_classes(self) -> None:
        """There is no trainer to be set up."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def _tell_of_main(options: Mapping[str, object]) -> None:
    """Tell that a run can be loaded by this script alone, where its classes or functions are defined in it."""
    named = {name: found[0] for name, value in options.items() if (found := _OF_MAIN.search(str(value)))}
    for name, path in named.items():
        option = name.partition(".init_args")[0].removesuffix(".class_path")
        _tell_once(
            f"{option} is {path}, which this script or notebook defines itself, so only it can load the run again: "
            "put it in a file of its own, such as my_nets.py, and import it from there, to use pairs-lit test RUN and "
            "the other commands."
        )


_OF_MAIN = re.compile(r"\b__main__\.\w+")
_tell_once = cache(notice)  # a sweep consists of many fits


def _check_schedule(model: Namespace) -> None:
    """Refuse an empty schedule: jsonargparse would take its type, a union, for a class."""
    named = model.lr_scheduler
    if isinstance(named, Namespace) and str(named.get("class_path")).startswith("typing."):
        raise PairsLitError(
            "model.lr_scheduler names no class: name one, such as torch.optim.lr_scheduler.StepLR, or null for none."
        )


def _put_in_place(model: Namespace) -> list[str]:
    """Let a whole pair network, if there is one, stand in place of the parts that a config names; return these."""
    if model.network is None:
        return []
    replaced = [name for name, usual in INSTEAD_OF_NETWORK.items() if model[name] != usual]
    for name in replaced:
        model[name] = INSTEAD_OF_NETWORK[name]
    return replaced


def _again(command: str, args: list[str], rank: int, port: int) -> None:
    """Run the command once more, as another worker of it."""
    os.environ.update(LOCAL_RANK=str(rank), MASTER_PORT=str(port))
    import_from_here()
    train(command, args)


def _loggers(wanted: object) -> list[object]:
    """Return the user's loggers, and one in place of ours until there is a run folder: some callbacks need one."""
    if wanted is True:
        raise PairsLitError(
            "trainer.logger is true: every run has TensorBoard files of its own; name the class of another logger, or "
            "leave it out."
        )
    return [DummyLogger(), *_listed(wanted or None)]


def _listed(value: object) -> list[object]:
    """Return one thing, several, or none as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _plugins(theirs: list[object]) -> list[object]:
    """Add ours to the user's plugins."""
    other = next((each for each in theirs if isinstance(each, CheckpointIO)), None)
    if other is not None:
        raise PairsLitError(
            f"trainer.plugins: {type(other).__name__} would write checkpoints in another way than ours, which are "
            "whole or not there, and run no code: leave it out."
        )
    return [*theirs, DurableCheckpointIO()]


def _no_global_seed(value: object) -> bool:
    """Refuse Lightning's global seed, and say what stands in its place."""
    if value in (False, "false", "False"):
        return False
    raise PairsLitError(
        f"seed_everything is {value}: every random number follows from the seeds of the rounds; set rounds.seed (the "
        "first) and rounds.count."
    )


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Flatten a nested configuration to dotted names, without its files; lists and null become text."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in config.items():
        if name in ("config", "__path__"):
            continue
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float | bool):
            found[f"{prefix}{name}"] = value
        else:  # a file name may hold what is no text
            found[f"{prefix}{name}"] = str(value).encode("utf-8", "replace").decode()
    return found


def fit(
    config: str | Path | Mapping[str, Any],
    changes: Mapping[str, object] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train all rounds of a configuration, as ``pairs-lit fit`` does, and return the finished run.

    Args:
        config: A YAML file, or what one would hold.
        changes: Options that beat the configuration, by dotted name: ``{"rounds.count": 20}``. A value may be a class
            or function that can be imported, for instance a backbone.
        callbacks: More callbacks for the trainer.

    Raises:
        PairsLitError: The user can correct something.
        KeyboardInterrupt: It was interrupted; what was saved is kept.
    """
    source = yaml.safe_dump(dict(config)) if isinstance(config, Mapping) else str(config)
    options = [f"--{name}={spelt(value)}" for name, value in (changes or {}).items()]
    with in_python():
        cli = train("fit", ["fit", f"--config={source}", *options], callbacks)
    return Run.load(str(cli.trainer.log_dir))


@contextmanager
def in_python() -> Iterator[None]:
    """Work for a caller in Python: one at a time, with the files beside the caller; Ctrl-C is a KeyboardInterrupt."""
    with ONE_AT_A_TIME, any_encoding():
        within_command = is_stoppable()
        try:
            with stoppable():
                import_from_here()
                quiet_other_packages()
                yield
        except Stopped as stop:
            if within_command or stop.code != 128 + SIGINT:
                raise
            raise KeyboardInterrupt from None  # as Python does; Lightning itself would end the whole process


def spelt(value: object) -> str:
    """Spell a value as the command line takes it."""
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, type | FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return json.dumps(value, default=spelt)


def run(command: str, args: list[str]) -> None:
    """Run a command and show what came of it; see :func:`train`."""
    cli = train(command, args)
    if cli.trainer.is_global_zero:
        print(f"\n{cli.outcome.text}")


def train(
    command: str, args: list[str], callbacks: Sequence[Callback] = (), kind: type[PairsCLI] = PairsCLI
) -> PairsCLI:
    """Parse the command line, of which the command is the first argument, and run it with more callbacks."""
    given = _with_run(args)
    _be_quiet()

    class OneCommand(kind):  # type: ignore[valid-type, misc] # a class, but mypy sees a value
        """Builds no parsers of other commands, which cost a fifth of a second each."""

        more_callbacks = callbacks

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """Leave out ``weights_only``, since weights are all that is ever loaded, and Lightning's ``ckpt_path``."""
            return {command: LightningCLI.subcommands()[command] | {"weights_only", "ckpt_path"}}

    try:
        with quiet_writers(), outside_slurm(), computing_on(asked_threads()), seeded(0):
            return OneCommand(
                PairModule,
                PairDataModule,
                save_config_callback=RunConfig,
                trainer_defaults=dict(_TRAINER_DEFAULTS),
                seed_everything_default=False,
                parser_class=PairsParser,
                parser_kwargs={"parser_mode": MODE},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=given,
            )
    except MisconfigurationException as error:
        raise PairsLitError(" ".join(str(error).split())) from error
    except SIGTERMException as error:  # Lightning notes SIGTERM, too, and may look for it before we do
        raise Stopped(SIGTERM) from error


def _with_run(args: list[str]) -> list[str]:
    """Let a run folder, as the first argument of a command, stand for its configuration and its last checkpoint."""
    command, *others = args
    if not others or others[0].startswith("-"):
        return args
    run = user_path(others[0])
    if not (run / CONFIG).is_file():
        raise PairsLitError(f"{others[0]} is no run folder; a configuration is given as --config {others[0]}.")
    return [command, f"--config={run / CONFIG}", f"--ckpt_path={run / LAST}", *others[1:]]


_ABOUT_IMPORTS = r"\s*(Importing '[\w.]+' is not allowed|By default only one JsonargparseDeprecationWarning)"


def _be_quiet() -> None:
    """Silence what a user cannot act on, but not what was asked for: a profile, a summary of the layers."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    for asked_for in ("profilers.profiler", "callbacks.model_summary"):
        logging.getLogger(f"lightning.pytorch.{asked_for}").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="lightning")
    # jsonargparse's own list of modules: a file of the user's may have such a name, and configs name trusted code
    warnings.filterwarnings("ignore", _ABOUT_IMPORTS, DeprecationWarning)
