"""Tests of networks that a trace could silently get wrong, and of some that it should not reject."""

import collections
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.support.stack_checks import SEEDS, WIDTH, BaseModule, build_checked_stack
from tests.support.untraceable_modules import ReplacesBuffer


class ReplacesAttribute(BaseModule):
    """Replaces a running mean, which is neither parameter nor buffer, by a tensor of the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.layer(x) - self.mean


class CountsInADictionary(BaseModule):
    """Changes an object that cannot be pickled, because it holds a lambda; the change could be missed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = collections.defaultdict(lambda: 0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen["calls"] += 1
        return self.layer(x) / self.seen["calls"]


class CountsInALocalObject(BaseModule):
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


class FreezesNorm(BaseModule):
    """Calls ``eval()`` on a submodule in ``forward``; the stack could use batch statistics and track them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.norm.eval()
        return self.norm(self.layer(x))


class BuiltWithFrozenNorm(BaseModule):
    """Puts a submodule into evaluation mode in the constructor; the stack could train it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x))


class HooksAccumulation(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer.weight.register_post_accumulate_grad_hook(_halve)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def _halve(parameter: Tensor) -> None:
    parameter.grad.mul_(0.5)


class AsksWhetherOdd(BaseModule):
    """Branches on ``n & 1``, which is wrongly constant if all traced numbers of inputs are odd."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.shape[0] & 1 else -self.layer(x)


class DropsAMaskOfOnes(BaseModule):
    """Applies dropout to a tensor that is the same in all rounds; only training would show it."""

    def forward(self, x: Tensor) -> Tensor:
        mask = F.dropout(torch.ones(1, x.shape[1], dtype=x.dtype), 0.5, self.training)
        return self.layer(x * mask)


class SelectsInTraining(BaseModule):
    """Uses an operation that cannot be mapped over rounds in training only, so it could fail at the first batch."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return h + h[x > 0].sum() if self.training else h


class MappedAndReplaces(ReplacesBuffer):
    """Replaces a buffer, which ``torch.vmap`` would lose; the branch on the number of inputs requires it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return h - self.mean


class MappedAndDraws(BaseModule):
    """Draws a random number; with ``torch.vmap``, all rounds would get the same one from the global generator."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) if x.shape[0] > 3 else x
        return h * random.random() if self.training else h


class DrawnPool(nn.Module):
    """A known layer whose ``repr`` does not show all settings."""

    def __new__(cls) -> nn.Module:
        return nn.AvgPool2d(3, padding=1, count_include_pad=bool(torch.rand(()) > 0.5))


class DrawnDivisor(nn.Module):
    def __new__(cls) -> nn.Module:
        return nn.AvgPool2d(3, divisor_override=int(torch.randint(1, 9, ())))


class Autocasts(BaseModule):
    """Uses autocast around a leaf layer only, inside which no call is intercepted."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(x)


class ConvertsToFloat(BaseModule):
    """Passes a dtype that equals that of the traced inputs, so that float64 inputs could escape the rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).to(torch.float32).double()


class AsksForGradients(BaseModule):
    """Branches on ``requires_grad``, which may differ between traced and real inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.requires_grad else self.layer(x) * 2


PITFALLS = [
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


@pytest.mark.parametrize("factory", PITFALLS)
def test_pitfall_is_detected(factory: Callable[[], nn.Module]) -> None:
    build_checked_stack(factory, (2, 6, 6) if factory in (DrawnPool, DrawnDivisor) else (WIDTH,))


class HoldsAParameterList(BaseModule):
    """``nn.ParameterList`` and ``nn.ParameterDict`` override ``__call__``."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList([torch.rand(WIDTH)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scales[0]


class CallsByKeyword(BaseModule):
    """Passes the argument of a layer by its name ``input``, which the replaced ``forward`` must accept."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


class AddsItself(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h += h
        return h


class ComparesAWidth(nn.Module):
    """Has a width of 13, which could be mistaken for the number of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(13, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 13
        return self.conv(x)


@pytest.mark.parametrize("factory", [HoldsAParameterList, CallsByKeyword, AddsItself, ComparesAWidth])
def test_traceable_module_is_one_stack(factory: Callable[[], nn.Module]) -> None:
    network = stack(factory, SEEDS, (13, 2) if factory is ComparesAWidth else (WIDTH,))
    assert isinstance(network, StackedNetwork), network.reason
