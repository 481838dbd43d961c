"""Networks that a recording could easily get wrong without a sign, and some that it should not refuse."""

import collections
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.support.stack_checks import SEEDS, WIDTH, Base, right
from tests.support.untraceable_modules import ReplacesBuffer


class ReplacesAttribute(Base):
    """A running mean that is neither parameter nor buffer: the new value has the old one's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.layer(x) - self.mean


class CountsInADictionary(Base):
    """What cannot be pickled (a lambda, a class in a function) may change unseen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = collections.defaultdict(lambda: 0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen["calls"] += 1
        return self.layer(x) / self.seen["calls"]


class CountsInALocalObject(Base):
    def __init__(self) -> None:
        super().__init__()

        class Schedule:
            calls = 0

            def __call__(self) -> float:
                self.calls += 1
                return 1 / self.calls

        self.schedule = Schedule()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.schedule()


class FreezesNorm(Base):
    """``eval()`` of a part within forward: the stack normalises by the batch and tracks it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.norm.eval()
        return self.norm(self.layer(x))


class BuiltWithFrozenNorm(Base):
    """A part that its constructor put in evaluation: the stack trains it, unless train() is called on both."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x))


class HooksAccumulation(Base):
    def __init__(self) -> None:
        super().__init__()
        self.layer.weight.register_post_accumulate_grad_hook(_halve)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def _halve(parameter: Tensor) -> None:
    parameter.grad.mul_(0.5)


class AsksWhetherOdd(Base):
    """``n & 1`` is no Count, and all tried counts are odd; so are ``|``, ``^``, ``~``, ``int(n)``, ``divmod(n, 2)``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.shape[0] & 1 else -self.layer(x)


class DropsAMaskOfOnes(Base):
    """Dropout of what is the same in all rounds: training raises; no training is tried when the stack is checked."""

    def forward(self, x: Tensor) -> Tensor:
        mask = F.dropout(torch.ones(1, x.shape[1], dtype=x.dtype), 0.5, self.training)
        return self.layer(x * mask)


class SelectsInTraining(Base):
    """Only training does what cannot be mapped over rounds: it raises at the first batch."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return h + h[x > 0].sum() if self.training else h


class MappedAndReplaces(ReplacesBuffer):
    """``torch.vmap`` (for the branch on the count) loses the new buffer."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return h - self.mean


class MappedAndDraws(Base):
    """``torch.vmap``: all rounds get one number, from the unseeded global generator."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        return h * random.random() if self.training else h


class DrawnPool(nn.Module):
    """A known layer whose printed form does not say all."""

    def __new__(cls) -> nn.Module:
        return nn.AvgPool2d(3, padding=1, count_include_pad=bool(torch.rand(()) > 0.5))


class DrawnDivisor(nn.Module):
    def __new__(cls) -> nn.Module:
        return nn.AvgPool2d(3, divisor_override=int(torch.randint(1, 9, ())))


class Autocasts(Base):
    """Around a known layer alone, whose call is not asked: ``stack`` raises RuntimeError."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(x)


class ConvertsToFloat(Base):
    """A dtype that is the inputs' when tried is taken for "the inputs' own": in float64, nothing is rounded."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).to(torch.float32).double()


class AsksForGradients(Base):
    """The inputs that are tried need no gradient, those of a head do."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.requires_grad else self.layer(x) * 2


TRAPS = [
    ReplacesAttribute,
    CountsInADictionary,
    CountsInALocalObject,
    FreezesNorm,
    BuiltWithFrozenNorm,
    HooksAccumulation,
    AsksWhetherOdd,
    DropsAMaskOfOnes,
    SelectsInTraining,
    MappedAndReplaces,
    MappedAndDraws,
    DrawnPool,
    DrawnDivisor,
    Autocasts,
    ConvertsToFloat,
    AsksForGradients,
]


@pytest.mark.parametrize("factory", TRAPS)
def test_a_trap_is_seen(factory: Callable[[], nn.Module]) -> None:
    right(factory, (2, 6, 6) if factory in (DrawnPool, DrawnDivisor) else (WIDTH,))


class HoldsAParameterList(Base):
    """``nn.ParameterList`` and ``nn.ParameterDict`` override ``__call__``."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList([torch.rand(WIDTH)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scales[0]


class CallsByKeyword(Base):
    """The recorder's stand-in for a layer takes no argument of the name ``input``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


class AddsItself(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h += h
        return h


class ComparesAWidth(nn.Module):
    """A width of 13 is taken for the number of inputs, and other numbers are not tried."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(13, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 13
        return self.conv(x)


@pytest.mark.parametrize("factory", [HoldsAParameterList, CallsByKeyword, AddsItself, ComparesAWidth])
def test_what_can_be_recorded_is_one_stack(factory: Callable[[], nn.Module]) -> None:
    network = stack(factory, SEEDS, (13, 2) if factory is ComparesAWidth else (WIDTH,))
    assert isinstance(network, StackedNetwork), network.reason
