"""Reading and checks of variants of one configuration, without training any."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from jsonargparse import Namespace

from pairs_lit.configuration.cli import ParseOnlyCLI, command_context, run_lightning_command
from pairs_lit.configuration.option_text import flatten_config, format_options
from pairs_lit.configuration.parser import PairsParser
from pairs_lit.data.sources import cache_sources
from pairs_lit.runs.metrics import Metric
from pairs_lit.training.final_evaluation import list_all_pairs_metrics
from pairs_lit.variants.numbers import ParsedVariant, TrainingParser, describe_form, is_number
from pairs_lit.variants.plans import VariantPlan, describe_structure, share_recipes


class VariantReader:
    """Reads variants of a base configuration with one parser.

    The base configuration, its network and its data are built only once for variants that differ in numbers.

    Args:
        base: The command-line arguments of the base configuration.
        first: Changed options with which the base configuration is read first.

    Raises:
        PairsLitError: The base configuration with these changes is not allowed.
    """

    def __init__(self, base: Sequence[str], first: Mapping[str, object] | None = None) -> None:
        class Reading(_ReadingCLI):
            base_arguments = base

        self._cli = cast(
            _ReadingCLI, run_lightning_command("fit", build_fit_arguments(base, first or {}), kind=Reading)
        )

    def try_variants(self, changes: Sequence[Mapping[str, object]]) -> "list[VariantPlan | Exception]":
        """Return the plan of each variant, or its error if it could not be trained.

        Args:
            changes: The changed options of each variant, by dotted name.
        """
        with command_context(), cache_sources():
            return list(map(self._cli.try_plan, changes))

    def read_variants(self, changes: Sequence[Mapping[str, object]]) -> list[VariantPlan]:
        """Return the plan of each variant.

        Args:
            changes: The changed options of each variant, by dotted name.

        Raises:
            PairsLitError: An option does not exist, or a value is not allowed.
        """
        plans = list[VariantPlan]()
        for plan in self.try_variants(changes):
            if isinstance(plan, Exception):
                raise plan
            plans.append(plan)
        return share_recipes(plans)


def read_variants(base: Sequence[str], changes: Sequence[Mapping[str, object]]) -> list[VariantPlan]:
    """Read variants of a configuration and check that each could be trained, without training any.

    Args:
        base: The command-line arguments of the base configuration.
        changes: The changed options of each variant, by dotted name.

    Raises:
        PairsLitError: An option does not exist, or a value is not allowed.
    """
    return VariantReader(base, changes[0]).read_variants(changes) if changes else []


def build_fit_arguments(base: Sequence[str], changes: Mapping[str, object]) -> list[str]:
    """Build the command-line arguments of a fit from those of the base configuration and changed options."""
    return ["fit", *base, *format_options(changes)]


def limit_to_one_round(config: Namespace) -> Namespace:
    """Return a configuration with a single round, which is faster to build."""
    one_round = config.clone()
    one_round.fit.rounds.count = 1
    return one_round


class _ReadingCLI(ParseOnlyCLI):
    """Command line that reads many configurations with one parser and trains none of them."""

    base_arguments: Sequence[str]

    def instantiate_classes(self) -> None:
        """Build nothing yet."""
        self._parsed = dict[str, ParsedVariant]()
        self._training_parser = TrainingParser()

    def try_plan(self, changes: Mapping[str, object]) -> VariantPlan | Exception:
        """Return the plan of a variant, or the error if the variant cannot be trained."""
        try:
            return self._build_plan(changes)
        except Exception as error:  # a user's network can raise anything
            return error

    def _build_plan(self, changes: Mapping[str, object]) -> VariantPlan:
        """Return the plan of a variant, from that of an earlier one if they differ only in numbers."""
        form = describe_form(changes)
        earlier = self._parsed.get(form)
        if earlier is not None:
            with suppress(Exception):  # whatever is wrong, parsing everything reports it
                return self._change_numbers(earlier, changes)
        self.parse_arguments(self.parser, build_fit_arguments(self.base_arguments, changes))
        raw, config = self._raw_config, self.config.fit
        config.ckpt_path = None
        plan = self._instantiate(changes, config, self._dump(config))
        self._parsed[form] = ParsedVariant(raw, plan)
        return plan

    def complete_config(self, config: Namespace) -> None:
        """Complete a parsed configuration, and keep it as it was before."""
        self._raw_config = config.clone()
        super().complete_config(config)

    def _change_numbers(self, earlier: ParsedVariant, changes: Mapping[str, object]) -> VariantPlan:
        """Return the plan of a variant that differs from an earlier one only in numbers.

        Any error means that the whole configuration must be parsed.
        """
        self.arguments = build_fit_arguments(self.base_arguments, changes)
        numbers = {name: value for name, value in changes.items() if is_number(value)}
        self.config.fit = config = earlier.parse_numbers(cast(PairsParser, self._parser("fit")), numbers)
        self.complete_config(config)
        config.ckpt_path = None
        options = flatten_config(config.as_dict())
        changed = earlier.find_changed(options)
        text = earlier.replace_numbers(changed) or self._dump(config)
        variant = self._training_parser.change_variant(earlier.plan.variant, config, changed)
        if variant is None:
            return self._instantiate(changes, config, text)
        return replace(
            earlier.plan,
            changes=changes,
            config=text,
            options=options,
            variant=variant,
            has_user_callbacks=_has_user_callbacks(config),
        )

    def _dump(self, config: Namespace) -> str:
        return cast(str, self._parser("fit").dump(config, skip_unset=False, skip_validation=True))

    def _instantiate(self, changes: Mapping[str, object], config: Namespace, text: str) -> VariantPlan:
        """Build the parts of the present configuration to check them, and return its plan."""
        parts = self.parser.instantiate_classes(limit_to_one_round(self.config)).fit
        variant = parts.model.variant
        return VariantPlan(
            changes,
            text,
            flatten_config(config.as_dict()),
            variant,
            describe_structure(variant.architecture),
            _list_metrics(parts),
            has_user_callbacks=_has_user_callbacks(config),
        )


def _has_user_callbacks(config: Namespace) -> bool:
    """Return whether the user configured callbacks or loggers."""
    return bool(config.trainer.callbacks or config.trainer.logger)


def _list_metrics(parts: Any) -> list[str]:  # noqa: ANN401 - the objects of a configuration
    """Return the names of the metrics that a fit of the configuration measures."""
    all_pairs = list_all_pairs_metrics(parts.model) if "val" in parts.data.whole_splits["fit"] else ()
    names = (*parts.model.measured, *all_pairs)
    return [name for name in names if parts.model.trains_digits or not Metric("val", name).is_of_digits]
