"""Variants of one configuration: how they are read and checked, which can train side by side, and the fit that does."""

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
    """One variant, read and checked.

    Attributes:
        changes: What differs from the configuration.
        config: Its whole configuration, as ``config.yaml`` has it.
        options: The same by dotted name.
        variant: What it trains.
        measured: Which metrics it has; those of digits only if something trains its networks to name digits.
        guests: Whether there are callbacks or loggers of the user's, which must see a fit of its own.
    """

    changes: Mapping[str, object]
    config: str
    options: Mapping[str, str | int | float | bool]
    variant: Variant
    measured: Sequence[str]
    guests: bool

    @property
    def group(self) -> str:
        """What variants must have in common to train side by side: all that is not a slice's own."""
        common = {name: value for name, value in self.options.items() if not _is_own(name, value)}
        parts = self.variant.architecture.build(0).children()
        return repr([sorted(common.items()), self.variant.loss.form, list(map(form, parts))])

    @property
    def recipe(self) -> str:
        """What decides how it is trained."""
        chosen = ("model.optimizer", _SCHEDULE, _DECAY)
        return repr([each for each in self.options.items() if each[0].startswith(chosen)])


def _is_own(name: str, value: object) -> bool:
    """Say whether slices of one stack may differ in an option."""
    if name in (*_WEIGHTS, *_NAMES, _DECAY) or name.startswith((*_NETWORK, _SCHEDULE)):
        return True  # networks of another form tell themselves apart
    is_flag = isinstance(value, bool) or value in ("None", "True", "False")
    return name.startswith(_SETTINGS) and not is_flag


def read_variants(base: Sequence[str], changes: Sequence[Mapping[str, object]]) -> list[Plan]:
    """Read variants of a configuration, and check that each could be trained; nothing is.

    Args:
        base: The arguments of the fit that is varied.
        changes: For each variant, options by dotted name.

    Raises:
        PairsLitError: An option does not exist, or a value is not allowed.
    """
    found = list[Plan]()
    for plan in _read_each(base, changes, changes[0] if changes else {}):
        if isinstance(plan, Exception):
            raise plan
        found.append(plan)
    return with_common_recipes(found)


def try_variants(base: Sequence[str], changes: Sequence[Mapping[str, object]]) -> "list[Plan | Exception]":
    """Read variants as :func:`read_variants` does; return the error in place of one that could not be trained.

    Raises:
        PairsLitError: The configuration itself could not be trained.
    """
    return _read_each(base, changes, {})


def _read_each(
    base: Sequence[str], changes: Sequence[Mapping[str, object]], first: Mapping[str, object]
) -> "list[Plan | Exception]":
    class Reading(_VariantReader):
        asked = changes
        varied = base

    if not changes:
        return []
    with loaded_once():
        return cast(_VariantReader, train("fit", _arguments(base, first), kind=Reading)).plans


def _arguments(base: Sequence[str], changes: Mapping[str, object]) -> list[str]:
    return ["fit", *base, *format_options(changes)]


def with_common_recipes(plans: Sequence[Plan]) -> list[Plan]:
    """Let variants that are trained alike share one recipe."""
    recipes = dict[str, Recipe]()
    found = []
    for plan in plans:
        recipe = recipes.setdefault(plan.recipe, plan.variant.recipe)
        found.append(replace(plan, variant=replace(plan.variant, recipe=recipe)))
    return found


class _VariantReader(ParseOnlyCLI):
    """Reads one configuration after the other, with one parser, and trains none."""

    asked: Sequence[Mapping[str, object]]
    varied: Sequence[str]
    plans: list[Plan | Exception]

    def instantiate_classes(self) -> None:
        """Read the variants in place of building what trains."""
        self.plans = [self._try_plan(changes) for changes in self.asked]

    def _try_plan(self, changes: Mapping[str, object]) -> Plan | Exception:
        try:
            return self._plan(changes)
        except Exception as error:  # whatever a network of the user's raises
            return error

    def _plan(self, changes: Mapping[str, object]) -> Plan:
        self.parse_arguments(self.parser, _arguments(self.varied, changes))
        config = self.config.fit
        config.ckpt_path = None
        parser = self._parser("fit")
        made = self.parser.instantiate_classes(_with_one_round(self.config)).fit
        guests = bool(config.trainer.callbacks or config.trainer.logger)
        text = parser.dump(config, skip_unset=False, skip_validation=True)
        measured = (
            *made.model.measured,
            *(whole_metrics(made.model) if "val" in made.data.whole_splits["fit"] else ()),
        )
        told = [name for name in measured if made.model.trains_digits or not Metric("val", name).is_of_digits]
        return Plan(changes, text, flatten(config.as_dict()), made.model.variant, told, guests)


def _with_one_round(config: Namespace) -> Namespace:
    few = config.clone()
    few.fit.rounds.count = 1
    return few


def fits_of(plans: Sequence[Plan]) -> list[list[int]]:
    """Return the numbers of the plans that train side by side, fit by fit."""
    groups = dict[str, list[int]]()
    for number, plan in enumerate(plans):
        key = f"alone {number}" if plan.guests else plan.group
        groups.setdefault(key, []).append(number)
    return [part for group in groups.values() for part in _stackable(group, plans)]


def _stackable(group: Sequence[int], plans: Sequence[Plan]) -> list[list[int]]:
    """Return a group as it is, or each plan by itself where their networks do not compute alike."""
    architectures = [plans[number].variant.architecture for number in group]
    networks = {json.dumps([each for each in plans[n].options.items() if each[0].startswith(_NETWORK)]) for n in group}
    if len(networks) > 1:
        tried = PairStack.build(architectures[0], [0] * len(group), architectures)
        if any(isinstance(part, Apart) for part in tried.network.modules()):
            return [[number] for number in group]
    return [list(group)]


def fit_variants(
    base: Sequence[str],
    plans: Sequence[Plan],
    folders: Sequence[Path],
    work: Path,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train variants side by side, and write a run folder for each; an interrupted fit of them goes on.

    Args:
        base: The arguments of the fit that is varied.
        plans: The variants; :func:`fits_of` has put them together.
        folders: Their run folders.
        work: The folder for what only an interrupted fit needs; nothing is left there of a finished one.
        callbacks: More callbacks for the trainer.
    """
    pairs = zip(folders, plans, strict=True)
    runs = [Place(folder, plan.config, plan.options, plan.variant) for folder, plan in pairs]

    class Fitting(_VariantsCLI):
        places = runs

    names = json.dumps([plan.config for plan in plans])
    own_work = work / hashlib.sha256(names.encode()).hexdigest()[:16]
    own: dict[str, object] = {"trainer.default_root_dir": own_work, "trainer.enable_progress_bar": False}
    checkpoints = sorted(own_work.glob(f"lightning_logs/*/*/{LAST}"))
    own |= {"ckpt_path": checkpoints[-1]} if checkpoints else {}
    train("fit", _arguments(base, {**plans[0].changes, **own}), callbacks, kind=Fitting)
    if plans[0].guests:
        for path in own_work.glob(f"lightning_logs/*/*/{CHECKPOINTS}/*"):  # the user's callbacks wrote them
            if path.name != Path(LAST).name:
                shutil.move(path, folders[0] / CHECKPOINTS / path.name)
    shutil.rmtree(own_work, ignore_errors=True)
    with suppress(OSError):  # other fits are under way
        work.rmdir()


class _VariantsCLI(PairsCLI):
    """``fit`` over the rounds of several variants."""

    places: Sequence[Place]

    def instantiate_classes(self) -> None:
        """Build the parts of all variants in place of one variant's."""
        config, few = self.config.fit, _with_one_round(self.config)
        self.config_init = self.parser.instantiate_classes(few)
        made = self.config_init.fit
        made.rounds = RoundRunner(**config.rounds.as_dict())
        made.model = VariantsModule(
            [place.variant for place in self.places], made.rounds.seeds, config.model.stack_size
        )
        made.data.rounds, made.rounds.seeds = made.model.rounds, made.model.rounds.seeds
        self.datamodule, self.model = made.data, made.model
        self.trainer = self.instantiate_trainer()

    def make_results(self, runner: RoundRunner) -> Results:
        """Return what writes the variants' runs."""
        return TrialWriter(runner, self.places)
