"""Tests of tracing: what cannot be traced becomes a loop that states the reason, and every stack is correct."""

import linecache
import operator
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.seeds import get_rng_state, use_seed
from pairs_lit.stacking.looped import LoopedCopies, LoopedRounds
from pairs_lit.stacking.program import rules
from pairs_lit.stacking.recording.symbolic_sizes import SymbolicSize
from pairs_lit.stacking.recording.traced_graph import UntraceableError
from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork, VmapNetwork
from tests.support import untraceable_modules
from tests.support.stack_checks import SEEDS, WIDTH, BaseModule, build_checked_stack
from tests.support.untraceable_modules import (
    UNTRACEABLE_CASES,
    CountsCalls,
    DrawsFromTorch,
    DropsAlways,
    KeepsHistory,
    ReplacesBuffer,
)


@pytest.mark.parametrize("name", UNTRACEABLE_CASES)
def test_untraceable_module_is_a_loop_with_a_reason(name: str) -> None:
    factory, reason, line = UNTRACEABLE_CASES[name]
    network = build_checked_stack(factory)
    assert isinstance(network, LoopedCopies)
    assert re.search(reason, network.reason)
    place = re.search(r" at untraceable_modules.py:(\d+)", network.reason)
    if line:
        assert line in linecache.getline(str(untraceable_modules.__file__), int(place[1]))


def test_stack_with_wrong_values_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    class Adds(BaseModule):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + x

    assert isinstance(build_checked_stack(Adds), StackedNetwork)
    monkeypatch.setitem(rules._ALL_OPERATORS, "add", torch.sub)
    network = build_checked_stack(Adds)
    assert isinstance(network, LoopedCopies)
    assert network.reason == "gives other values when several rounds are computed at once"


class BranchesOnCount(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.shape[0] > 3 else -self.layer(x)


class TakesLength(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / len(x)


class BranchesAndShifts(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.shift if x.size(0) > 3 else self.shift - x


class BranchesThenNorms(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.layer(x))
        return h if x.size(0) > 3 else -h


class BranchesThenDraws(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        return F.dropout(h, 0.4, self.training)


class BranchesOnBoth(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        return h if h.sum() > 0 else -h


@pytest.mark.parametrize("factory", [BranchesOnCount, TakesLength, BranchesAndShifts, BranchesThenNorms])
def test_module_that_depends_on_the_number_of_inputs_is_mapped(factory: Callable[[], nn.Module]) -> None:
    network = build_checked_stack(factory)
    assert isinstance(network, VmapNetwork)
    assert "number of inputs" in network.reason or "len()" in network.reason


@pytest.mark.parametrize("factory", [BranchesThenDraws, BranchesOnBoth])
def test_module_that_cannot_be_mapped_either_is_a_loop(factory: Callable[[], nn.Module]) -> None:
    assert isinstance(build_checked_stack(factory), LoopedCopies)


class OwnTensor(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.shift


class DrawnNumber(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.depth = random.random(), int(torch.randint(1, 4, ()))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.depth):
            x = self.layer(x) * self.scale
        return x


class DrawnActivation(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.activation = random.choice([torch.tanh, torch.relu])

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))


class DrawnLambda(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        scale = random.random()
        self.activation = lambda x: x * scale

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))


class SameLambda(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.activation = lambda x: x * 3

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))


class DrawnForEvaluation(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = random.random()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.training else self.layer(x) / self.temperature


class TrainsOnAView(BaseModule):
    """Changes a view of the inputs, and does not use the inputs otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].mul_(2).sum(1, keepdim=True) * self.layer.bias


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        (OwnTensor, StackedNetwork),
        (DrawnNumber, LoopedRounds),
        (DrawnActivation, LoopedRounds),
        (DrawnLambda, LoopedRounds),
        (SameLambda, StackedNetwork),
        (DrawnForEvaluation, LoopedRounds),
        (TrainsOnAView, StackedNetwork),
    ],
)
def test_differences_between_rounds_are_kept_in_the_stack(
    factory: Callable[[], nn.Module], kind: type[nn.Module]
) -> None:
    assert isinstance(build_checked_stack(factory), kind)


class Sizes(nn.Module):
    """Uses a width that may equal a traced number of inputs, and sizes computed from the number of inputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        n, width = x.shape
        both = self.layer(torch.cat([x, -x])).view(2 * n, width)
        left, right = both[:n], both[n : 2 * n]
        return (left + right).reshape(n * width).view(-1, self.width) / width + torch.zeros(n, 1, dtype=x.dtype)


@pytest.mark.parametrize("width", [1, 2, 13, 17, 19, 23, 26, 34])
def test_size_that_equals_a_traced_number_of_inputs(width: int) -> None:
    assert not isinstance(build_checked_stack(lambda: Sizes(width), (width,)), LoopedCopies)


BINARY = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.truediv, operator.pow)
COMPARING = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
numbers = st.integers(-30, 30)
steps = st.tuples(st.sampled_from((*BINARY, *COMPARING)), numbers, st.booleans(), st.booleans())
DECIDING = (bool, float, lambda n: n == 5, lambda n: n != 5, lambda n: 7 % n, lambda n: n in (1, 2))


def build_formula(n: int, factor: int, offset: int) -> SymbolicSize:
    return SymbolicSize.build(factor * n + offset, factor, offset)


@given(
    calls=st.lists(
        st.tuples(st.sampled_from((*BINARY, *COMPARING)), numbers, st.booleans(), st.booleans()), max_size=5
    ),
    n=st.integers(1, 50),
    other=st.integers(1, 50),
)
def test_symbolic_size_is_correct_for_any_number_of_inputs_or_raises(
    calls: list[tuple[Callable[[Any, Any], Any], int, bool, bool]], n: int, other: int
) -> None:
    count, plain = SymbolicSize.build(n, 1), {n: n, other: other}
    for call, number, swapped, with_count in calls:
        operand: Any = build_formula(n, number, 1) if with_count else number
        try:
            count = call(operand, count) if swapped else call(count, operand)
        except (UntraceableError, ZeroDivisionError):
            return
        for images, value in plain.items():
            plain_operand = number * images + 1 if with_count else number
            plain[images] = call(plain_operand, value) if swapped else call(value, plain_operand)
        if isinstance(count, bool):
            assert set(plain.values()) == {count}
            return
        assert {images: count.factor * images + count.offset for images in plain} == plain
        assert int.__int__(count) == plain[n]


@pytest.mark.parametrize(
    "call",
    [
        bool,
        float,
        int,
        round,
        lambda n: n & 1,
        lambda n: divmod(n, 2),
        lambda n: n == 5,
        lambda n: n != 5,
        lambda n: 7 % n,
        lambda n: n in (1, 2),
    ],
)
def test_symbolic_size_rejects_decisions(call: Callable[[SymbolicSize], object]) -> None:
    with pytest.raises(UntraceableError, match="depends on the number of inputs"):
        call(SymbolicSize.build(13, 1))


@pytest.mark.parametrize("factory", [CountsCalls, KeepsHistory, ReplacesBuffer, DrawsFromTorch, DropsAlways, OwnTensor])
def test_building_a_stack_changes_neither_modules_nor_generators(factory: Callable[[], nn.Module]) -> None:
    modules = []

    def collecting_factory() -> nn.Module:
        modules.append(factory())
        return modules[-1]

    before = get_rng_state()
    network = stack(collecting_factory, SEEDS, (WIDTH,))
    assert get_rng_state() == before
    assert torch.is_grad_enabled()
    assert network.training
    for module, seed in zip(modules, SEEDS, strict=True):
        with use_seed(seed):
            fresh = factory()
        assert module.training
        assert vars(module).keys() == vars(fresh).keys()
        assert getattr(module, "calls", 0) == 0
        assert getattr(module, "history", []) == []
        assert all(map(torch.equal, module.state_dict().values(), fresh.state_dict().values()))
        assert all(value.grad is None for value in module.parameters())
        assert [value._version for value in module.parameters()] == [value._version for value in fresh.parameters()]


def test_tracing_does_not_change_module_classes() -> None:
    before = {kind: dict(vars(kind)) for kind in (nn.Module, nn.Linear, nn.Conv2d, nn.Dropout, Tensor)}
    build_checked_stack(DropsAlways)
    build_checked_stack(OwnTensor)
    assert before == {kind: dict(vars(kind)) for kind in before}
