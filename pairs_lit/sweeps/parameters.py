"""Conversion between option values and Optuna parameters."""

import json
from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from pairs_lit.sweeps.search_space import Choices, Dimension, Range, key_of


def distribution_of(dimension: Dimension) -> BaseDistribution:
    """Return the Optuna distribution of a dimension."""
    match dimension:
        case Choices(values):
            return CategoricalDistribution(_codes(values))
        case Range() if dimension.is_whole:
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def encode(dimension: Dimension, value: Any) -> Any:  # noqa: ANN401 - any value
    """Return the Optuna parameter of a value; raise ValueError if the value is not one of the choices."""
    if not isinstance(dimension, Choices):
        return value
    return _codes(dimension.values)[list(map(key_of, dimension.values)).index(key_of(value))]


def decode(dimension: Dimension, parameter: Any) -> Any:  # noqa: ANN401 - any value
    """Return the option value of an Optuna parameter."""
    return dimension.values[_codes(dimension.values).index(parameter)] if isinstance(dimension, Choices) else parameter


def _codes(values: Sequence[Any]) -> list[Any]:
    """Return choices as Optuna can store them.

    Lists and mappings become JSON text. If two choices would then be equal, such as 1 and true, all become JSON text.
    """
    storable = [value if isinstance(value, str | int | float | None) else json.dumps(value) for value in values]
    return storable if len(set(storable)) == len(storable) else [json.dumps(value) for value in values]


def can_stand_together(first: BaseDistribution, second: BaseDistribution) -> bool:
    """Return whether Optuna accepts both distributions for the same parameter of a study."""
    try:
        check_distribution_compatibility(first, second)
    except ValueError:
        return False
    return True
