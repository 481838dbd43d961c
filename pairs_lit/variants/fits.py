"""Variants of one configuration: reading, checks, grouping into fits, and training side by side."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from jsonargparse import Namespace
from lightning.pytorch import Callback

from pairs_lit.configuration.cli import PairsCLI, ParseOnlyCLI, run_lightning_command
from pairs_lit.configuration.option_text import flatten_config, format_options
from pairs_lit.data.sources import cache_sources
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run_folder import CHECKPOINTS_FOLDER, LAST_CHECKPOINT
from pairs_lit.stacking.looped import LoopedRounds
from pairs_lit.stacking.stack import get_structure
from pairs_lit.system.files import replace_file, try_delete_folder
from pairs_lit.training.final_evaluation import list_all_pairs_metrics
from pairs_lit.training.recipes import Recipe, Variant
from pairs_lit.training.results import Results
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.variants.module import VariantsModule
from pairs_lit.variants.runs import RunTarget, VariantRunWriter

_LOSS_WEIGHTS = ("model.loss.aux_weight", "model.loss.target_weight", "model.loss.label_smoothing")
_RUN_OPTIONS = ("name", "ckpt_path")
_NETWORK_PREFIXES = ("model.backbone.", "model.head.", "model.network.")
_OPTIMIZER_PREFIX, _SCHEDULE_OPTION, _DECAY_OPTION = "model.optimizer.init_args.", "model.lr_scheduler", "model.decay"


@dataclass(frozen=True)
class VariantPlan:
    """A variant whose configuration has been read and checked.

    Attributes:
        changes: The options that differ from the base configuration.
        config: The whole configuration, as the text of ``config.yaml``.
        options: The whole configuration, as options by dotted name.
        variant: The network, loss and recipe of the variant.
        metrics: The names of the variant's metrics; those of digits only if recognising digits is trained.
        has_user_callbacks: Whether the user configured callbacks or loggers, so that the variant needs a separate fit.
    """

    changes: Mapping[str, object]
    config: str
    options: Mapping[str, str | int | float | bool]
    variant: Variant
    metrics: Sequence[str]
    has_user_callbacks: bool

    @property
    def group_key(self) -> str:
        """A key that variants must share to train side by side: all settings that slices of a stack must share."""
        common = {name: value for name, value in self.options.items() if not _can_differ(name, value)}
        parts = self.variant.architecture.build(0).children()
        return repr([sorted(common.items()), self.variant.loss.form, list(map(get_structure, parts))])

    @property
    def recipe_key(self) -> str:
        """A key that variants with the same training recipe share."""
        prefixes = ("model.optimizer", _SCHEDULE_OPTION, _DECAY_OPTION)
        return repr([option for option in self.options.items() if option[0].startswith(prefixes)])


def _can_differ(name: str, value: object) -> bool:
    """Return whether slices of one stack may differ in an option."""
    if name in (*_LOSS_WEIGHTS, *_RUN_OPTIONS, _DECAY_OPTION) or name.startswith(
        (*_NETWORK_PREFIXES, _SCHEDULE_OPTION)
    ):
        return True  # Plan.group compares the structure of the networks separately
    is_flag = isinstance(value, bool) or value in ("None", "True", "False")
    return name.startswith(_OPTIMIZER_PREFIX) and not is_flag


def read_variants(base: Sequence[str], changes: Sequence[Mapping[str, object]]) -> list[VariantPlan]:
    """Read variants of a configuration and check that each could be trained, without training any.

    Args:
        base: The command-line arguments of the base configuration.
        changes: The changed options of each variant, by dotted name.

    Raises:
        PairsLitError: An option does not exist, or a value is not allowed.
    """
    plans = list[VariantPlan]()
    for plan in _read_plans(base, changes, changes[0] if changes else {}):
        if isinstance(plan, Exception):
            raise plan
        plans.append(plan)
    return share_recipes(plans)


def try_variants(base: Sequence[str], changes: Sequence[Mapping[str, object]]) -> "list[VariantPlan | Exception]":
    """Read variants as :func:`read_variants` does, but return the error of a variant that could not be trained.

    Raises:
        PairsLitError: The base configuration could not be trained.
    """
    return _read_plans(base, changes, {})


def _read_plans(
    base: Sequence[str], changes: Sequence[Mapping[str, object]], first: Mapping[str, object]
) -> "list[VariantPlan | Exception]":
    """Read variants and return the plan or the error of each.

    Args:
        base: The command-line arguments of the base configuration.
        changes: The changed options of each variant.
        first: The changed options with which the base configuration is read first; an error in it is raised.
    """

    class Reading(_VariantReader):
        variant_changes = changes
        base_arguments = base

    if not changes:
        return []
    with cache_sources():
        return cast(_VariantReader, run_lightning_command("fit", _build_arguments(base, first), kind=Reading)).plans


def _build_arguments(base: Sequence[str], changes: Mapping[str, object]) -> list[str]:
    """Build the command-line arguments of a fit from those of the base configuration and changed options."""
    return ["fit", *base, *format_options(changes)]


def share_recipes(plans: Sequence[VariantPlan]) -> list[VariantPlan]:
    """Give variants with the same training settings the same recipe object."""
    recipes = dict[str, Recipe]()
    result = []
    for plan in plans:
        recipe = recipes.setdefault(plan.recipe_key, plan.variant.recipe)
        result.append(replace(plan, variant=replace(plan.variant, recipe=recipe)))
    return result


class _VariantReader(ParseOnlyCLI):
    """Command line that reads many configurations with one parser and trains none of them."""

    variant_changes: Sequence[Mapping[str, object]]
    base_arguments: Sequence[str]
    plans: list[VariantPlan | Exception]

    def instantiate_classes(self) -> None:
        """Read the variants, instead of building a trainer, a module and data."""
        self.plans = [self._try_plan(changes) for changes in self.variant_changes]

    def _try_plan(self, changes: Mapping[str, object]) -> VariantPlan | Exception:
        """Return the plan of a variant, or the error if the variant cannot be trained."""
        try:
            return self._build_plan(changes)
        except Exception as error:  # a user's network can raise anything
            return error

    def _build_plan(self, changes: Mapping[str, object]) -> VariantPlan:
        """Parse the configuration of a variant, and build its parts to check them."""
        self.parse_arguments(self.parser, _build_arguments(self.base_arguments, changes))
        config = self.config.fit
        config.ckpt_path = None
        parser = self._parser("fit")
        parts = self.parser.instantiate_classes(_limit_to_one_round(self.config)).fit
        has_user_callbacks = bool(config.trainer.callbacks or config.trainer.logger)
        text = parser.dump(config, skip_unset=False, skip_validation=True)
        measured = (
            *parts.model.measured,
            *(list_all_pairs_metrics(parts.model) if "val" in parts.data.whole_splits["fit"] else ()),
        )
        trains_digits = parts.model.trains_digits
        metrics = [name for name in measured if trains_digits or not Metric("val", name).is_of_digits]
        return VariantPlan(
            changes, text, flatten_config(config.as_dict()), parts.model.variant, metrics, has_user_callbacks
        )


def _limit_to_one_round(config: Namespace) -> Namespace:
    """Return a configuration with a single round, which is faster to build."""
    one_round = config.clone()
    one_round.fit.rounds.count = 1
    return one_round


def group_into_fits(plans: Sequence[VariantPlan]) -> list[list[int]]:
    """Group plans into fits of variants that train side by side; return the numbers of the plans in each fit."""
    groups = dict[str, list[int]]()
    for number, plan in enumerate(plans):
        key = f"alone {number}" if plan.has_user_callbacks else plan.group_key
        groups.setdefault(key, []).append(number)
    return [part for group in groups.values() for part in _split_unstackable(group, plans)]


def _split_unstackable(group: Sequence[int], plans: Sequence[VariantPlan]) -> list[list[int]]:
    """Return a group unchanged, or one group for each plan if their networks cannot be stacked."""
    architectures = [plans[number].variant.architecture for number in group]
    networks = {
        json.dumps([option for option in plans[number].options.items() if option[0].startswith(_NETWORK_PREFIXES)])
        for number in group
    }
    if len(networks) > 1:
        stack = PairStack.build(architectures[0], [0] * len(group), architectures)
        if any(isinstance(part, LoopedRounds) for part in stack.network.modules()):
            return [[number] for number in group]
    return [list(group)]


def fit_variants(
    base: Sequence[str],
    plans: Sequence[VariantPlan],
    folders: Sequence[Path],
    work: Path,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train variants side by side and write a run folder for each; an interrupted fit of them is resumed.

    Args:
        base: The command-line arguments of the base configuration.
        plans: The variants, a group of :func:`group_into_fits`.
        folders: The run folders of the variants.
        work: The folder for temporary files, from which an interrupted fit is resumed.
        callbacks: Additional callbacks for the trainer.
    """
    pairs = zip(folders, plans, strict=True)
    runs = [RunTarget(folder, plan.config, plan.options, plan.variant) for folder, plan in pairs]

    class Fitting(_VariantsCLI):
        targets = runs

    configs = json.dumps([plan.config for plan in plans])
    fit_folder = work / hashlib.sha256(configs.encode()).hexdigest()[:16]
    options: dict[str, object] = {"trainer.default_root_dir": fit_folder, "trainer.enable_progress_bar": False}
    checkpoints = sorted(fit_folder.glob(f"lightning_logs/*/*/{LAST_CHECKPOINT}"))
    options |= {"ckpt_path": checkpoints[-1]} if checkpoints else {}
    run_lightning_command("fit", _build_arguments(base, {**plans[0].changes, **options}), callbacks, kind=Fitting)
    if plans[0].has_user_callbacks:
        for path in fit_folder.glob(f"lightning_logs/*/*/{CHECKPOINTS_FOLDER}/*"):  # written by the user's callbacks
            if path.name != Path(LAST_CHECKPOINT).name:
                replace_file(path, folders[0] / CHECKPOINTS_FOLDER / path.name)
    try_delete_folder(fit_folder)
    with suppress(OSError):  # it is not empty while other fits are running
        work.rmdir()


class _VariantsCLI(PairsCLI):
    """Command line of a fit that trains the rounds of several variants."""

    targets: Sequence[RunTarget]

    def build_objects(self) -> None:
        """Build the module, the data and the trainer of all variants."""
        config, one_round = self.config.fit, _limit_to_one_round(self.config)
        self.config_init = self.parser.instantiate_classes(one_round)
        parts = self.config_init.fit
        parts.rounds = RoundRunner(**config.rounds.as_dict())
        parts.model = VariantsModule(
            [target.variant for target in self.targets], parts.rounds.seeds, config.model.stack_size
        )
        parts.data.rounds, parts.rounds.seeds = parts.model.rounds, parts.model.rounds.seeds
        self.datamodule, self.model = parts.data, parts.model
        self.trainer = self.instantiate_trainer()

    def build_results(self, runner: RoundRunner) -> Results:
        """Build the callback that writes the run folders of the variants."""
        return VariantRunWriter(runner, self.targets)
