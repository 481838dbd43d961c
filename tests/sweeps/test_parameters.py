"""Values of options and their Optuna parameters."""

import json
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from pairs_lit.sweeps.parameters import ParameterCodec, has_few_choices
from pairs_lit.sweeps.search_space import Choices, Range


@pytest.mark.parametrize("values", [("a", 1, 0.5, None), ([8, 10], [12, 10]), (1, True), ({"a": 1}, "b", False)])
def test_choices_come_back(values: tuple[Any, ...]) -> None:
    codec = ParameterCodec(Choices(values))
    parameters = [codec.encode(value) for value in values]
    assert [json.dumps(codec.decode(parameter)) for parameter in parameters] == list(map(json.dumps, values))
    assert len(set(parameters)) == len(values)


def test_other_values_are_no_choices() -> None:
    with pytest.raises(ValueError, match="3 is not one of the choices"):
        ParameterCodec(Choices((1, 2))).encode(3)


def test_numbers_of_a_range_are_their_own_parameters() -> None:
    codec = ParameterCodec(Range(0.0, 1.0))
    assert codec.decode(codec.encode(0.25)) == 0.25


def test_only_short_lists_are_stored_with_each_trial() -> None:
    assert has_few_choices(CategoricalDistribution(range(200)))
    assert not has_few_choices(CategoricalDistribution(range(201)))
    assert has_few_choices(FloatDistribution(0, 1))
