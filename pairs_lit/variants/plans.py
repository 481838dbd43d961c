"""Plans of variants: what a variant trains, and what it must share with others to train side by side with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pairs_lit.nn.architecture import Architecture
from pairs_lit.stacking.stack import get_structure
from pairs_lit.training.recipes import Recipe, Variant

NETWORK_PREFIXES = ("model.backbone.", "model.head.", "model.network.")
"""The prefixes of the options of a network's parts."""

_LOSS_WEIGHTS = ("model.loss.aux_weight", "model.loss.target_weight", "model.loss.label_smoothing")
_RUN_OPTIONS = ("name", "ckpt_path")
_OPTIMIZER_PREFIX, _SCHEDULE_OPTION, _DECAY_OPTION = "model.optimizer.init_args.", "model.lr_scheduler", "model.decay"


@dataclass(frozen=True)
class VariantPlan:
    """A variant whose configuration has been read and checked.

    Attributes:
        changes: The options that differ from the base configuration.
        config: The whole configuration, as the text of ``config.yaml``.
        options: The whole configuration, as options by dotted name.
        variant: The network, loss and recipe of the variant.
        structure: The structure of the network's parts, from :func:`describe_structure`.
        metrics: The names of the variant's metrics; those of digits only if recognising digits is trained.
        has_user_callbacks: Whether the user configured callbacks or loggers, so that the variant needs a separate fit.
    """

    changes: Mapping[str, object]
    config: str
    options: Mapping[str, str | int | float | bool]
    variant: Variant
    structure: str
    metrics: Sequence[str]
    has_user_callbacks: bool

    @property
    def group_key(self) -> str:
        """A key that variants must share to train side by side: all settings that slices of a stack must share."""
        common = {name: value for name, value in self.options.items() if not _can_differ(name, value)}
        return repr([sorted(common.items()), self.variant.loss.form, self.structure])

    @property
    def recipe_key(self) -> str:
        """A key that variants with the same training recipe share."""
        prefixes = ("model.optimizer", _SCHEDULE_OPTION, _DECAY_OPTION)
        return repr([option for option in self.options.items() if option[0].startswith(prefixes)])


def _can_differ(name: str, value: object) -> bool:
    """Return whether slices of one stack may differ in an option."""
    if name in (*_LOSS_WEIGHTS, *_RUN_OPTIONS, _DECAY_OPTION) or name.startswith((*NETWORK_PREFIXES, _SCHEDULE_OPTION)):
        return True  # group_key contains the structure of the networks separately
    is_flag = isinstance(value, bool) or value in ("None", "True", "False")
    return name.startswith(_OPTIMIZER_PREFIX) and not is_flag


def describe_structure(architecture: Architecture) -> str:
    """Return a text that two networks have in common if their parts can be stacked."""
    return repr(list(map(get_structure, architecture.build(0).children())))


def share_recipes(plans: Sequence[VariantPlan]) -> list[VariantPlan]:
    """Give variants with the same training settings the same recipe object."""
    recipes = dict[str, Recipe]()
    result = []
    for plan in plans:
        recipe = recipes.setdefault(plan.recipe_key, plan.variant.recipe)
        result.append(replace(plan, variant=replace(plan.variant, recipe=recipe)))
    return result
