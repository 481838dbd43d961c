"""Variants that differ from an earlier one only in numbers: only these numbers are parsed and checked again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from pairs_lit.configuration.factory_options import is_wrapped
from pairs_lit.configuration.option_text import format_option, format_options
from pairs_lit.configuration.parser import PairsParser
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.runs.yaml_text import Loader
from pairs_lit.training.recipes import Recipe, Variant
from pairs_lit.variants.plans import VariantPlan

_LOSS_PREFIX = "model.loss."
_RECIPE_PREFIXES = ("model.optimizer.init_args.", "model.lr_scheduler.init_args.")
_COUNTS = ("batch_size", "eval_batch_size", "train_pairs", "val_pairs", "test_pairs")
_COUNT_OPTIONS = [f"data.{name}" for name in _COUNTS]
"""Options of the data on which the network does not depend."""

_NUMBER_TAGS = [f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool")]
_WRAPPED_PARTS = ("backbone", "network")


def is_number(value: object) -> bool:
    """Return whether a value is a finite number, a truth value, or a list of these.

    Such a value cannot name a class, a file or a section.
    """
    if isinstance(value, list | tuple):
        return bool(value) and all(map(is_number, value))
    return isinstance(value, int | float) and isfinite(value)


def describe_form(changes: Mapping[str, object]) -> str:
    """Return a text that changed options have in common if they differ only in numbers."""
    return repr([(name, is_number(value) or format_option(value)) for name, value in changes.items()])


@dataclass(frozen=True)
class ParsedVariant:
    """A variant whose whole configuration was parsed and checked.

    Attributes:
        config: The parsed configuration.
        plan: The plan of the variant.
    """

    config: Namespace
    plan: VariantPlan

    def parse_numbers(self, parser: PairsParser, numbers: Mapping[str, object]) -> Namespace:
        """Return the configuration with other numbers.

        Args:
            parser: The parser of the configuration.
            numbers: The numbers, by dotted name.

        Raises:
            PairsLitError: A number is not allowed.
            ValueError: Another option of the variant may replace one of the numbers, or a number belongs to a factory,
                whose options are not parsed one by one.
        """
        self._check_order(numbers)
        wrapped = tuple(f"model.{part}." for part in _WRAPPED_PARTS if is_wrapped(self.config.model[part]))
        if any(name.startswith(wrapped) for name in numbers):
            raise ValueError("an option of a factory")
        return parser.parse_changes(self.config, format_options(numbers))

    def _check_order(self, numbers: Mapping[str, object]) -> None:
        """Raise ValueError if an option that is not a number follows a number of the same section."""
        seen = list[str]()
        for name in self.plan.changes:
            section = ".".join(name.split(".")[:2])
            if name in numbers:
                seen.append(name)
            elif any(f"{number}.".startswith(f"{section}.") for number in seen):
                raise ValueError(f"{name} may replace a number")

    def find_changed(self, options: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
        """Return the options whose values differ from those of this variant.

        Raises:
            ValueError: The variant has other options.
        """
        if options.keys() != self.plan.options.keys():
            raise ValueError("other options")
        return {name: value for name, value in options.items() if repr(value) != repr(self.plan.options[name])}

    def replace_numbers(self, changed: Mapping[str, str | int | float | bool]) -> str | None:
        """Return the text of the configuration with other numbers, or None if others than single numbers changed."""
        if not all(name in self._spans and isinstance(value, int | float) for name, value in changed.items()):
            return None
        text = self.plan.config
        for name in sorted(changed, key=lambda name: self._spans[name].start, reverse=True):
            span = self._spans[name]
            text = text[: span.start] + yaml.safe_dump(changed[name]).partition("\n")[0] + text[span.stop :]
        return text

    @cached_property
    def _spans(self) -> dict[str, slice]:
        """The place of each single number in the text of the configuration, by dotted name."""
        return dict(_iterate_numbers(yaml.compose(self.plan.config, Loader), ""))


def _iterate_numbers(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, slice]]:
    """Yield the dotted name and the place of each number in nested mappings."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _iterate_numbers(value, f"{prefix}.{key.value}")
    elif node is not None and node.tag in _NUMBER_TAGS:
        yield prefix[1:], slice(node.start_mark.index, node.end_mark.index)


class TrainingParser:
    """Checks a variant and builds its loss and its recipe, without its network and its images."""

    def __init__(self) -> None:
        self._parser = PairsParser()
        self._parser.add_argument("--optimizer", type=OptimizerCallable)
        self._parser.add_argument("--lr_scheduler", type=LRSchedulerCallable | None)

    def change_variant(
        self, variant: Variant, config: Namespace, changed: Mapping[str, str | int | float | bool]
    ) -> Variant | None:
        """Return the variant with another loss or recipe, or None if its network or images must be checked again.

        Args:
            variant: The earlier variant.
            config: The parsed configuration.
            changed: The changed options.

        Raises:
            PairsLitError: A number is not allowed.
        """
        if not all(map(_needs_no_network, changed)):
            return None
        if any(name in _COUNT_OPTIONS for name in changed):
            PairDataModule(seeds=[0], **{**config.data.as_dict(), "augment": None})
        weights: dict[str, Any] = {
            name.removeprefix(_LOSS_PREFIX): value for name, value in changed.items() if name.startswith(_LOSS_PREFIX)
        }
        loss = replace(variant.loss, **weights) if weights else variant.loss
        if loss.form != variant.loss.form:  # it may not suit the network, and other metrics may exist
            return None
        recipe = variant.recipe
        if any(name.startswith(_RECIPE_PREFIXES) for name in changed):
            recipe = self._build_recipe(recipe, config)
        return replace(variant, loss=loss, recipe=recipe)

    def _build_recipe(self, recipe: Recipe, config: Namespace) -> Recipe:
        """Return the recipe with the optimizer and the schedule of a configuration."""
        parts: dict[str, Any] = {name: config.model[name] for name in ("optimizer", "lr_scheduler")}
        factories = self._parser.instantiate_classes(Namespace(parts))  # type: ignore[no-untyped-call]
        return Recipe(factories.optimizer, factories.lr_scheduler, recipe.decay)


def _needs_no_network(option: str) -> bool:
    """Return whether an option can be checked without building the network, the images or the user's callbacks."""
    is_of_trainer = option.startswith("trainer.") and option.count(".") == 1
    return is_of_trainer or option in _COUNT_OPTIONS or option.startswith((_LOSS_PREFIX, *_RECIPE_PREFIXES))
