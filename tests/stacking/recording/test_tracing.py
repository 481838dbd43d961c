"""What cannot be recorded stays a loop, says why and where, and is right; what can be recorded is never guessed."""

import itertools
import linecache
import operator
import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.seeds import derive, generators_state, seeded
from pairs_lit.stacking.looped import Apart, Loop
from pairs_lit.stacking.program import rules
from pairs_lit.stacking.recording.symbolic_sizes import Count
from pairs_lit.stacking.recording.traced_graph import UntraceableError
from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import MappedNetwork, StackedNetwork
from tests.stacking.test_networks import Masked, listed, loss, round_loss, step
from tests.support import reference_impl

SEEDS = [3, 11, 7]
WIDTH = 4
_OUTSIDE = torch.linspace(0.5, 1.5, WIDTH)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)


class Unbinds(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(row[None])[0] for row in x.unbind(0)])


class DrawsFromPython(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * random.random()


class DrawsFromNumpy(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * float(np.random.rand())


class DrawsFromTorch(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.randn_like(x))


class TakesDoubles(Base):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            raise ValueError("doubles only")
        return self.layer(x)


class CountsCalls(Base):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) / self.calls


class KeepsHistory(Base):
    def __init__(self) -> None:
        super().__init__()
        self.history: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.history.append(x.detach().mean(0))
        return self.layer(x) - torch.stack(self.history).mean(0)


class StoresOutput(Base):
    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.layer(x)
        return self.last


class ReplacesBuffer(Base):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.layer(x - self.mean)


class ChangesBuffer(ReplacesBuffer):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9)
        return self.layer(x - self.mean + 1)


class NoGradients(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            shift = x.mean(1, keepdim=True)
        return self.layer(x - shift)


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401 - likewise
        return -grads[0]


class ReversalOfItself(Reversal):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        return x


class ReversesGradients(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(Reversal.apply(x))


class ReversesGradientsOfItself(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(ReversalOfItself.apply(x))


class ReachesPastGradients(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.layer.weight.data.mean()


class Autocasts(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(x.mul(2))


class BranchesOnValue(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        if h.sum() > 0:
            return h.tanh()
        return -h


class CatchesItsBranch(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        try:
            positive = bool(h.sum() > 0)
        except Exception:  # whatever comes
            positive = True
        return h.tanh() if positive else -h


class ReadsValue(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * x.abs().max().item()


class HooksGradient(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        if h.requires_grad:
            h.register_hook(lambda gradient: gradient / 2)
        return h


class DropsAlways(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.layer(x), 0.4)


class WritesMany(Base):
    def forward(self, x: Tensor) -> Tensor:
        one, other = self.layer(x), self.layer(x + 1)
        torch._foreach_mul_([one, other], 2.0)
        return one * other


class IndexesByNumpy(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, np.array([0, 2])]


class UsesTheOutside(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * _OUTSIDE)


class KeepsTensorsInAList(Base):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [torch.rand(WIDTH), torch.rand(WIDTH)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.scales[0]) + self.scales[1]


class WritesIntoView(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h[:, :2].mul_(3)
        return h.tanh()


class UsesViewOfChanged(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        view = h[:, :2]
        h.mul_(3)
        return view.tanh()


class SelectsByMask(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return h + h[x > 0].sum()


class OwnTrain(Base):
    def train(self, mode: bool = True) -> "OwnTrain":
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class ConvolvesAndCounts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, None]) / len(x)


def ticking(ticks: "itertools.count[int]") -> Callable[[], nn.Module]:
    class Ticks(Base):
        def forward(self, x: Tensor) -> Tensor:
            return F.leaky_relu(self.layer(x).abs(), next(ticks))

    return Ticks


class Refusal(NamedTuple):
    factory: Callable[[], nn.Module]
    reason: str
    line: str = ""
    """What stands in the line that the reason names; empty: it names none."""


REFUSALS: dict[str, Refusal] = {
    "one call for each input": Refusal(Unbinds, "does not do the same with other inputs"),
    "something else each time": Refusal(ticking(itertools.count()), "or when it runs again"),
    "Python's random numbers": Refusal(DrawsFromPython, "draws random numbers$"),
    "NumPy's random numbers": Refusal(DrawsFromNumpy, "draws random numbers$"),
    "torch's random numbers": Refusal(DrawsFromTorch, r"draws random numbers \(randn_like\)", "torch.randn_like(x)"),
    "an error": Refusal(TakesDoubles, r"raises ValueError: doubles only \(test_tracing.py:\d+\) when it is tried"),
    "a counter": Refusal(CountsCalls, "changes its calls"),
    "a history": Refusal(KeepsHistory, "neither its own nor made from its inputs|changes its history"),
    "its output, stored": Refusal(StoresOutput, "changes its last"),
    "a buffer, replaced": Refusal(ReplacesBuffer, "changes its mean"),
    "a buffer, changed": Refusal(ChangesBuffer, r"changes a parameter or buffer of its own \(mul_\)", "self.mean.mul_"),
    "no gradients": Refusal(NoGradients, "switches gradients off", "torch.no_grad()"),
    "an autograd function": Refusal(ReversesGradients, "an autograd function of its own", "x.view_as(x)"),
    "an autograd function without calls": Refusal(ReversesGradientsOfItself, "an autograd function of its own"),
    "data": Refusal(ReachesPastGradients, r"reaches past the gradients \(.data\)", ".data.mean()"),
    "autocast": Refusal(Autocasts, "switches autocast on", "x.mul(2)"),
    "a branch on a value": Refusal(BranchesOnValue, "branches on a tensor's value", "if h.sum() > 0"),
    "a branch on a value, caught": Refusal(CatchesItsBranch, "branches on a tensor's value"),
    "a value": Refusal(ReadsValue, r"reads a tensor's values \(item\)", "item()"),
    "a gradient's hook": Refusal(HooksGradient, "passes a function to torch", "register_hook"),
    "dropout in evaluation": Refusal(DropsAlways, "drops activations in evaluation, too", "F.dropout"),
    "writing into many": Refusal(WritesMany, r"in a way that cannot be recorded \(_foreach_mul_\)", "_foreach_mul_"),
    "an array": Refusal(IndexesByNumpy, "passes a ndarray to torch", "np.array"),
    "a tensor of the file": Refusal(UsesTheOutside, "uses a tensor that is neither its own nor", "_OUTSIDE"),
    "tensors in a list": Refusal(KeepsTensorsInAList, "uses a tensor that is neither its own nor", "self.scales[0]"),
    "writing into a view": Refusal(WritesIntoView, "changed it in place through another", "return h.tanh()"),
    "a view of what changed": Refusal(UsesViewOfChanged, "changed it in place through another", "return view.tanh()"),
    "a selection": Refusal(SelectsByMask, "cannot be computed for several rounds at once"),
    "a method of its own": Refusal(OwnTrain, "has hooks, or methods such as train or state_dict of its own, in Own"),
    "len() beside a convolution": Refusal(ConvolvesAndCounts, r"takes len\(\) of its inputs", "len(x)"),
}


def check(network: nn.Module, factory: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """Hold a stack against as many plain modules: three batches in training, state, evaluation."""
    network.double()
    plain = []
    for seed in SEEDS:
        with seeded(seed):
            plain.append(factory().double())
    torch.manual_seed(0)
    for images in (5, 4, 3):
        x = torch.randn(len(SEEDS), images, *shape, dtype=torch.float64)
        found = step(network, x, loss)
        for place, (seed, own) in enumerate(zip(SEEDS, plain, strict=True)):
            with seeded(derive(seed, "", 0, 0, 0)), masked(network, place):
                expected = step(own, x[place], round_loss)
            for one, other in zip(found, expected, strict=True):
                reference_impl.close(one[place], other)
    for named in (reference_impl.gradients, reference_impl.states):
        for place, own in enumerate(plain):
            actual, wanted = of_round(network, place, named), named(own)
            assert len(actual) == len(wanted)
            for one, other in zip(actual.values(), wanted.values(), strict=True):
                reference_impl.close(one, other)
    x = torch.randn(len(SEEDS), 4, *shape, dtype=torch.float64)
    with torch.no_grad():
        found = listed(network.eval()(x))
        for place, (seed, own) in enumerate(zip(SEEDS, plain, strict=True)):
            with seeded(derive(seed, ".evaluation.train", 0, 0)):
                expected = listed(own.eval()(x[place].clone()))
            for one, other in zip(found, expected, strict=True):
                reference_impl.close(one[place], other)
    return network


def masked(network: nn.Module, place: int) -> Any:  # noqa: ANN401 - any context
    if isinstance(network, Apart):
        return masked(network.rounds[place], 0)
    return Masked(network, place) if isinstance(network, StackedNetwork) else torch.enable_grad()


def of_round(network: nn.Module, place: int, named: reference_impl.Named) -> dict[str, Tensor]:
    return (
        of_round(network.rounds[place], 0, named)
        if isinstance(network, Apart)
        else reference_impl.of_copy(network, place, named)
    )


def right(factory: Callable[[], nn.Module], shape: tuple[int, ...] = (WIDTH,)) -> nn.Module:
    return check(stack(factory, SEEDS, shape), factory, shape)


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_recorded_is_a_loop_that_says_why_and_is_right(name: str) -> None:
    factory, reason, line = REFUSALS[name]
    network = right(factory)
    assert isinstance(network, Loop)
    assert re.search(reason, network.reason)
    place = re.search(r" at test_tracing.py:(\d+)", network.reason)
    if line:
        assert line in linecache.getline(__file__, int(place[1]))


def test_a_stack_that_gives_other_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Adds(Base):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + x

    assert isinstance(right(Adds), StackedNetwork)
    monkeypatch.setitem(rules._OPERATORS, "add", torch.sub)
    network = right(Adds)
    assert isinstance(network, Loop)
    assert network.reason == "gives other values when several rounds are computed at once"


class BranchesOnCount(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.shape[0] > 3 else -self.layer(x)


class TakesLength(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / len(x)


class BranchesAndShifts(Base):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.shift if x.size(0) > 3 else self.shift - x


class BranchesThenNorms(Base):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.layer(x))
        return h if x.size(0) > 3 else -h


class BranchesThenDraws(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        return F.dropout(h, 0.4, self.training)


class BranchesOnBoth(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        return h if h.sum() > 0 else -h


@pytest.mark.parametrize("factory", [BranchesOnCount, TakesLength, BranchesAndShifts, BranchesThenNorms])
def test_what_depends_on_the_number_of_inputs_is_mapped(factory: Callable[[], nn.Module]) -> None:
    network = right(factory)
    assert isinstance(network, MappedNetwork)
    assert "number of inputs" in network.reason or "len()" in network.reason


@pytest.mark.parametrize("factory", [BranchesThenDraws, BranchesOnBoth])
def test_what_cannot_be_mapped_either_is_a_loop(factory: Callable[[], nn.Module]) -> None:
    assert isinstance(right(factory), Loop)


class OwnTensor(Base):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.shift


class DrawnNumber(Base):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.depth = random.random(), int(torch.randint(1, 4, ()))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.depth):
            x = self.layer(x) * self.scale
        return x


class DrawnActivation(Base):
    def __init__(self) -> None:
        super().__init__()
        self.activation = random.choice([torch.tanh, torch.relu])

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))


class DrawnLambda(Base):
    def __init__(self) -> None:
        super().__init__()
        scale = random.random()
        self.activation = lambda x: x * scale

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))


class SameLambda(Base):
    def __init__(self) -> None:
        super().__init__()
        self.activation = lambda x: x * 3

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))


class DrawnForEvaluation(Base):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = random.random()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.training else self.layer(x) / self.temperature


class TrainsOnAView(Base):
    """Changes a view, and uses nothing else of it."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].mul_(2).sum(1, keepdim=True) * self.layer.bias


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        (OwnTensor, StackedNetwork),
        (DrawnNumber, Apart),
        (DrawnActivation, Apart),
        (DrawnLambda, Apart),
        (SameLambda, StackedNetwork),
        (DrawnForEvaluation, Apart),
        (TrainsOnAView, StackedNetwork),
    ],
)
def test_what_differs_between_rounds_differs_in_the_stack(
    factory: Callable[[], nn.Module], kind: type[nn.Module]
) -> None:
    assert isinstance(right(factory), kind)


class Sizes(nn.Module):
    """Sizes that are primes which the recorder tries, and sizes made of the number of inputs."""

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
def test_a_size_that_is_the_number_of_tried_inputs_by_chance(width: int) -> None:
    assert not isinstance(right(lambda: Sizes(width), (width,)), Loop)


BINARY = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.truediv, operator.pow)
COMPARING = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
numbers = st.integers(-30, 30)
steps = st.tuples(st.sampled_from((*BINARY, *COMPARING)), numbers, st.booleans(), st.booleans())
DECIDING = (bool, float, lambda n: n == 5, lambda n: n != 5, lambda n: 7 % n, lambda n: n in (1, 2))


def formula(n: int, factor: int, offset: int) -> Count:
    return Count.of(factor * n + offset, factor, offset)


@given(
    calls=st.lists(
        st.tuples(st.sampled_from((*BINARY, *COMPARING)), numbers, st.booleans(), st.booleans()), max_size=5
    ),
    n=st.integers(1, 50),
    other=st.integers(1, 50),
)
def test_a_count_gives_what_it_would_give_for_any_number_of_inputs_or_refuses(
    calls: list[tuple[Callable[[Any, Any], Any], int, bool, bool]], n: int, other: int
) -> None:
    count, plain = Count.of(n, 1), {n: n, other: other}
    for call, number, swapped, with_count in calls:
        operand: Any = formula(n, number, 1) if with_count else number
        try:
            count = call(operand, count) if swapped else call(count, operand)
        except (UntraceableError, ZeroDivisionError):
            return
        for images, value in plain.items():
            own = number * images + 1 if with_count else number
            plain[images] = call(own, value) if swapped else call(value, own)
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
def test_a_count_is_no_number_to_decide_by(call: Callable[[Count], object]) -> None:
    with pytest.raises(UntraceableError, match="depends on the number of inputs"):
        call(Count.of(13, 1))


@pytest.mark.parametrize("factory", [CountsCalls, KeepsHistory, ReplacesBuffer, DrawsFromTorch, DropsAlways, OwnTensor])
def test_building_a_stack_leaves_modules_and_generators_as_they_were(factory: Callable[[], nn.Module]) -> None:
    modules = []

    def noted() -> nn.Module:
        modules.append(factory())
        return modules[-1]

    before = generators_state()
    network = stack(noted, SEEDS, (WIDTH,))
    assert generators_state() == before
    assert torch.is_grad_enabled()
    assert network.training
    for module, seed in zip(modules, SEEDS, strict=True):
        with seeded(seed):
            fresh = factory()
        assert module.training
        assert vars(module).keys() == vars(fresh).keys()
        assert getattr(module, "calls", 0) == 0
        assert getattr(module, "history", []) == []
        assert all(map(torch.equal, module.state_dict().values(), fresh.state_dict().values()))
        assert all(value.grad is None for value in module.parameters())
        assert [value._version for value in module.parameters()] == [value._version for value in fresh.parameters()]


def test_a_class_of_modules_is_not_altered() -> None:
    before = {kind: dict(vars(kind)) for kind in (nn.Module, nn.Linear, nn.Conv2d, nn.Dropout, Tensor)}
    right(DropsAlways)
    right(OwnTensor)
    assert before == {kind: dict(vars(kind)) for kind in before}
