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

from pairs_lit.sweeps.search_space import Choices, Dimension, Range, get_key

_MAX_STORED_CHOICES = 200
"""Optuna would store more choices with each trial, so that a study would grow with the square of its trials."""


def build_distribution(dimension: Dimension) -> BaseDistribution:
    """Return the Optuna distribution of a dimension."""
    match dimension:
        case Choices(values):
            return CategoricalDistribution(_encode_choices(values))
        case Range() if dimension.is_whole:
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


class ParameterCodec:
    """Conversion between the values of one option and their Optuna parameters.

    Args:
        dimension: The values of the option.
    """

    def __init__(self, dimension: Dimension) -> None:
        values = dimension.values if isinstance(dimension, Choices) else ()
        self._is_range = isinstance(dimension, Range)
        self._values, self._parameters = values, _encode_choices(values)
        self._places = {get_key(value): place for place, value in enumerate(values)}

    def encode(self, value: Any) -> Any:  # noqa: ANN401 - any value
        """Return the Optuna parameter of a value; raise ValueError if the value is not one of the choices."""
        if self._is_range:
            return value
        place = self._places.get(get_key(value))
        if place is None:
            raise ValueError(f"{value!r} is not one of the choices")
        return self._parameters[place]

    def decode(self, parameter: Any) -> Any:  # noqa: ANN401 - any value
        """Return the option value of an Optuna parameter."""
        return parameter if self._is_range else self._values[self._parameters.index(parameter)]


def _encode_choices(values: Sequence[Any]) -> list[Any]:
    """Return choices as Optuna can store them.

    Lists and mappings become JSON text. If two choices would then be equal, such as 1 and true, all become JSON text.
    """
    storable = [value if isinstance(value, str | int | float | None) else json.dumps(value) for value in values]
    return storable if len(set(storable)) == len(storable) else [json.dumps(value) for value in values]


def has_few_choices(distribution: BaseDistribution) -> bool:
    """Return whether the distribution is small enough to be stored with each trial."""
    return not isinstance(distribution, CategoricalDistribution) or len(distribution.choices) <= _MAX_STORED_CHOICES


def are_compatible(first: BaseDistribution, second: BaseDistribution) -> bool:
    """Return whether Optuna accepts both distributions for the same parameter of a study."""
    try:
        check_distribution_compatibility(first, second)
    except ValueError:
        return False
    return True
