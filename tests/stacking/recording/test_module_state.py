"""Comparison of the states of modules, and how often a stack takes them."""

from collections import OrderedDict
from collections.abc import Callable
from random import random

import pytest
import torch
from torch import nn

from pairs_lit.seeds import use_seed
from pairs_lit.stacking import stack as stack_module
from pairs_lit.stacking.looped import LoopedRounds
from pairs_lit.stacking.recording.module_state import ChangeDetector, get_comparable_state
from pairs_lit.stacking.stack import stack


class Holder(nn.Linear):
    """Linear layer with one more attribute."""

    def __init__(self, value: object) -> None:
        super().__init__(2, 2)
        self.value = value


VALUES = [
    None,
    True,
    1,
    1.0,
    "1",
    (),
    [],
    {},
    set(),
    OrderedDict(),
    [1],
    {"a": 1},
    torch.zeros(2),
    lambda: 1,
    lambda: 2,
]


@pytest.mark.parametrize("place", range(len(VALUES)))
def test_only_equal_values_of_the_same_type_compare_equal(place: int) -> None:
    state = get_comparable_state(Holder(VALUES[place]))
    assert [get_comparable_state(Holder(value)) == state for value in VALUES].index(True) == place
    assert sum(get_comparable_state(Holder(value)) == state for value in VALUES) == 1


@pytest.mark.parametrize(
    ("value", "change"),
    [([], lambda value: value.append(1)), ({}, lambda value: value.update(a=1)), (set(), lambda value: value.add(1))],
)
def test_an_empty_container_that_is_filled_in_place_has_changed(value: object, change: Callable[..., None]) -> None:
    holder = Holder(value)
    detector = ChangeDetector(holder)
    change(value)
    assert detector.find_change() == "value"


def test_a_setting_that_repr_does_not_show_separates_rounds() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(2, padding=1, count_include_pad=random() < 0.5), nn.Flatten())

    seeds, x = [0, 1, 2, 3], torch.rand(4, 3, 1, 4, 4)
    network = stack(build, seeds, (1, 4, 4))
    assert isinstance(network, LoopedRounds)
    for number, seed in enumerate(seeds):
        with use_seed(seed):
            plain = build()
        assert torch.equal(network(x)[number], plain(x[number]))


@pytest.mark.parametrize("name", ["get_structure", "get_comparable_state"])
def test_a_stack_looks_at_each_round_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, original = [], getattr(stack_module, name)
    monkeypatch.setattr(stack_module, name, lambda module: [seen.append(module), original(module)][1])
    stack(lambda: nn.Sequential(nn.Linear(3, 2), nn.ReLU()), list(range(10)), [3])
    assert len(seen) <= 11
