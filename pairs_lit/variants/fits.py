"""Variants of one configuration: reading, checks, grouping into fits, and training side by side."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from jsonargparse import Namespace
from lightning.pytorch import Callback

from pairs_lit.configuration.cli import PairsCLI, ParseOnlyCLI, train
from pairs_lit.configuration.option_text import flatten, format_options
from pairs_lit.data.sources import loaded_once
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run_folder import CHECKPOINTS, LAST
from pairs_lit.stacking.looped import Apart
from pairs_lit.stacking.stack import form
from pairs_lit.training.final_evaluation import whole_metrics
from pairs_lit.training.recipes import Recipe, Variant
from pairs_lit.training.results import Results
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.variants.module import VariantsModule
from pairs_lit.variants.runs import Place, TrialWriter

_WEIGHTS = ("model.loss.aux_weight", "model.loss.target_weight", "model.loss.label_smoothing")
_NAMES = ("name", "ckpt_path")
_NETWORK = ("model.backbone.", "model.head.", "model.network.")
_SETTINGS, _SCHEDULE, _DECAY = "model.optimizer.init_args.", "model.lr_scheduler", "model.decay"


@dataclass(frozen=True)
class Plan:
    """A variant whose configuration has been read and checked.

    Attributes:
        changes: The options that differ from the base configuration.
        config: The whole configuration, as the text of ``config.yaml``.
        options: The whole configuration, as options by dotted name.
        variant: The network, loss and recipe of the variant.
        measured: The names of the variant's metrics; those of digits only if recognising digits is trained.
        guests: Whether the user configured callbacks or loggers, for which the variant needs a fit of its own.
    """

    changes: Mapping[str, object]
    config: str
    options: Mapping[str, str | int | float | bool]
    variant: Variant
    measured: Sequence[str]
    guests: bool

    @property
    def group(self) -> str:
        """A key that variants must share to train side by side: all settings that slices of a stack must share."""
        common = {name: value for name, value in self.options.items() if not _is_own(name, value)}
        parts = self.variant.architecture.build(0).children()
        return repr([sorted(common.items()), self.variant.loss.form, list(map(form, parts))])

    @property
    def recipe(self) -> str:
        """A key that variants with the same training recipe share."""
        prefixes = ("model.optimizer", _SCHEDULE, _DECAY)
        return repr([option for option in self.options.items() if option[0].startswith(prefixes)])


def _is_own(name: str, value: object) -> bool:
    """Return whether slices of one stack may differ in an option."""
    if name in (*_WEIGHTS, *_NAMES, _DECAY) or name.startswith((*_NETWORK, _SCHEDULE)):
        return True  # Plan.group compares the structure of the networks separately
    is_flag = isinstance(value, bool) or value in ("None", "True", "False")
    return name.startswith(_SETTINGS) and not is_flag


def read_variants(base: Sequence[str], changes: Sequence[Mapping[str, object]]) -> list[Plan]:
    """Read variants of a configuration and check that each could be trained, without training any.

    Args:
        base: The command-line arguments of the base configuration.
        changes: The changed options of each variant, by dotted name.

    Raises:
        PairsLitError: An option does not exist, or a value is not allowed.
    """
    plans = list[Plan]()
    for plan in _read_each(base, changes, changes[0] if changes else {}):
        if isinstance(plan, Exception):
            raise plan
        plans.append(plan)
    return with_common_recipes(plans)


def try_variants(base: Sequence[str], changes: Sequence[Mapping[str, object]]) -> "list[Plan | Exception]":
    """Read variants as :func:`read_variants` does, but return the error of a variant that could not be trained.

    Raises:
        PairsLitError: The base configuration could not be trained.
    """
    return _read_each(base, changes, {})


def _read_each(
    base: Sequence[str], changes: Sequence[Mapping[str, object]], first: Mapping[str, object]
) -> "list[Plan | Exception]":
    """Read variants and return the plan or the error of each.

    Args:
        base: The command-line arguments of the base configuration.
        changes: The changed options of each variant.
        first: The changed options with which the base configuration is read first; an error in it is raised.
    """

    class Reading(_VariantReader):
        asked = changes
        varied = base

    if not changes:
        return []
    with loaded_once():
        return cast(_VariantReader, train("fit", _arguments(base, first), kind=Reading)).plans


def _arguments(base: Sequence[str], changes: Mapping[str, object]) -> list[str]:
    """Build the command-line arguments of a fit from those of the base configuration and changed options."""
    return ["fit", *base, *format_options(changes)]


def with_common_recipes(plans: Sequence[Plan]) -> list[Plan]:
    """Give variants with the same training settings the same recipe object."""
    recipes = dict[str, Recipe]()
    result = []
    for plan in plans:
        recipe = recipes.setdefault(plan.recipe, plan.variant.recipe)
        result.append(replace(plan, variant=replace(plan.variant, recipe=recipe)))
    return result


class _VariantReader(ParseOnlyCLI):
    """Command line that reads many configurations with one parser and trains none of them."""

    asked: Sequence[Mapping[str, object]]
    varied: Sequence[str]
    plans: list[Plan | Exception]

    def instantiate_classes(self) -> None:
        """Read the variants, instead of building a trainer, a module and data."""
        self.plans = [self._try_plan(changes) for changes in self.asked]

    def _try_plan(self, changes: Mapping[str, object]) -> Plan | Exception:
        """Return the plan of a variant, or the error if the variant cannot be trained."""
        try:
            return self._plan(changes)
        except Exception as error:  # a user's network can raise anything
            return error

    def _plan(self, changes: Mapping[str, object]) -> Plan:
        """Parse the configuration of a variant, and build its parts to check them."""
        self.parse_arguments(self.parser, _arguments(self.varied, changes))
        config = self.config.fit
        config.ckpt_path = None
        parser = self._parser("fit")
        parts = self.parser.instantiate_classes(_with_one_round(self.config)).fit
        has_user_callbacks = bool(config.trainer.callbacks or config.trainer.logger)
        text = parser.dump(config, skip_unset=False, skip_validation=True)
        measured = (
            *parts.model.measured,
            *(whole_metrics(parts.model) if "val" in parts.data.whole_splits["fit"] else ()),
        )
        trains_digits = parts.model.trains_digits
        metrics = [name for name in measured if trains_digits or not Metric("val", name).is_of_digits]
        return Plan(changes, text, flatten(config.as_dict()), parts.model.variant, metrics, has_user_callbacks)


def _with_one_round(config: Namespace) -> Namespace:
    """Return a configuration with a single round, which is faster to build."""
    one_round = config.clone()
    one_round.fit.rounds.count = 1
    return one_round


def fits_of(plans: Sequence[Plan]) -> list[list[int]]:
    """Group plans into fits of variants that train side by side; return the numbers of the plans in each fit."""
    groups = dict[str, list[int]]()
    for number, plan in enumerate(plans):
        key = f"alone {number}" if plan.guests else plan.group
        groups.setdefault(key, []).append(number)
    return [part for group in groups.values() for part in _stackable(group, plans)]


def _stackable(group: Sequence[int], plans: Sequence[Plan]) -> list[list[int]]:
    """Return a group unchanged, or one group for each plan if their networks cannot be stacked."""
    architectures = [plans[number].variant.architecture for number in group]
    networks = {
        json.dumps([option for option in plans[number].options.items() if option[0].startswith(_NETWORK)])
        for number in group
    }
    if len(networks) > 1:
        stack = PairStack.build(architectures[0], [0] * len(group), architectures)
        if any(isinstance(part, Apart) for part in stack.network.modules()):
            return [[number] for number in group]
    return [list(group)]


def fit_variants(
    base: Sequence[str],
    plans: Sequence[Plan],
    folders: Sequence[Path],
    work: Path,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train variants side by side and write a run folder for each; an interrupted fit of them is resumed.

    Args:
        base: The command-line arguments of the base configuration.
        plans: The variants, a group of :func:`fits_of`.
        folders: The run folders of the variants.
        work: The folder for temporary files, from which an interrupted fit is resumed.
        callbacks: Additional callbacks for the trainer.
    """
    pairs = zip(folders, plans, strict=True)
    runs = [Place(folder, plan.config, plan.options, plan.variant) for folder, plan in pairs]

    class Fitting(_VariantsCLI):
        places = runs

    configs = json.dumps([plan.config for plan in plans])
    fit_folder = work / hashlib.sha256(configs.encode()).hexdigest()[:16]
    options: dict[str, object] = {"trainer.default_root_dir": fit_folder, "trainer.enable_progress_bar": False}
    checkpoints = sorted(fit_folder.glob(f"lightning_logs/*/*/{LAST}"))
    options |= {"ckpt_path": checkpoints[-1]} if checkpoints else {}
    train("fit", _arguments(base, {**plans[0].changes, **options}), callbacks, kind=Fitting)
    if plans[0].guests:
        for path in fit_folder.glob(f"lightning_logs/*/*/{CHECKPOINTS}/*"):  # written by the user's callbacks
            if path.name != Path(LAST).name:
                shutil.move(path, folders[0] / CHECKPOINTS / path.name)
    shutil.rmtree(fit_folder, ignore_errors=True)
    with suppress(OSError):  # it is not empty while other fits are running
        work.rmdir()


class _VariantsCLI(PairsCLI):
    """Command line of a fit that trains the rounds of several variants."""

    places: Sequence[Place]

    def instantiate_classes(self) -> None:
        """Build the module, the data and the trainer of all variants."""
        config, one_round = self.config.fit, _with_one_round(self.config)
        self.config_init = self.parser.instantiate_classes(one_round)
        parts = self.config_init.fit
        parts.rounds = RoundRunner(**config.rounds.as_dict())
        parts.model = VariantsModule(
            [place.variant for place in self.places], parts.rounds.seeds, config.model.stack_size
        )
        parts.data.rounds, parts.rounds.seeds = parts.model.rounds, parts.model.rounds.seeds
        self.datamodule, self.model = parts.data, parts.model
        self.trainer = self.instantiate_trainer()

    def make_results(self, runner: RoundRunner) -> Results:
        """Build the callback that writes the run folders of the variants."""
        return TrialWriter(runner, self.places)
