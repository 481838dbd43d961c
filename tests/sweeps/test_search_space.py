"""Search spaces of sweeps: grids, random values and short option names."""

import numpy as np

from pairs_lit.sweeps.search_space import (
    Choices,
    Range,
    build_grid,
    build_short_names,
    format_value,
    generate_examples,
    parse_space,
    sample_points,
)
from pairs_lit.sweeps.spec import read_spec
from tests.support.sweeps import ALPHA, build_spec


def test_grid_tries_every_combination() -> None:
    space = parse_space({"a": [1, [2, 3]], "b": {"low": 1e-3, "high": 0.1, "log": True, "steps": 3}}, "sweep")
    assert build_grid(space) == [
        {"a": 1, "b": 0.001},
        {"a": 1, "b": 0.01},
        {"a": 1, "b": 0.1},
        {"a": [2, 3], "b": 0.001},
        {"a": [2, 3], "b": 0.01},
        {"a": [2, 3], "b": 0.1},
    ]
    assert Range(0, 10, steps=3).get_grid_values() == [0, 5, 10]
    assert Range(1, 3, steps=9).get_grid_values() == [1, 2, 3]  # whole numbers without repetitions


def test_random_values_lie_in_the_space_and_follow_from_the_seed() -> None:
    space = parse_space(
        {"a": {"low": 1e-4, "high": 1e-2, "log": True}, "b": {"low": 1, "high": 6}, "c": ["x", "y"]}, "s"
    )
    values = sample_points(space, 400, 3)
    assert sample_points(space, 10, 3) == values[:10]
    assert sample_points(space, 10, 4) != values[:10]
    logarithms = np.log10([each["a"] for each in values])
    assert (logarithms >= -4).all()
    assert (logarithms <= -2).all()
    assert abs(logarithms.mean() + 3) < 0.1
    assert {each["b"] for each in values} == {1, 2, 3, 4, 5, 6}
    assert {each["c"] for each in values} == {"x", "y"}


def test_values_are_shown_as_in_the_file_unless_they_are_long() -> None:
    assert list(map(format_value, [0.99991, 1e-3, 0.1, 1 / 3, 2.0, 7, "a", [1, 2], None, True])) == [
        "0.99991", "0.001", "0.1", "0.3333", "2", "7", "a", "[1, 2]", "null", "true",
    ]  # fmt: skip


def test_option_names_are_shortened_while_unique() -> None:
    options = ["model.backbone.init_args.dropout", "model.head.init_args.dropout", "model.loss.aux_weight"]
    assert list(build_short_names([*options, "data"]).values()) == [
        "backbone.init_args.dropout",
        "head.init_args.dropout",
        "aux_weight",
        "data",
    ]


def test_examples_contain_every_value_once() -> None:
    space = {"a": Choices((1, 2, 3)), "b": Range(0.0, 1.0)}
    assert list(generate_examples(space)) == [
        {"a": 1, "b": 0.0},
        {"a": 2, "b": 0.0},
        {"a": 3, "b": 0.0},
        {"a": 1, "b": 1.0},
    ]


def test_repeated_random_choice_is_tried_once() -> None:
    points = read_spec(build_spec(space={ALPHA: [0.1, 1.0]}, sampler="random", trials=30)).list_points()
    assert sorted(values[ALPHA] for values in points or []) == [0.1, 1.0]
