"""Modules that cannot be traced, and the reason that is given for each."""

import itertools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.stack_checks import WIDTH, BaseModule

_OUTSIDE = torch.linspace(0.5, 1.5, WIDTH)


class Unbinds(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(row[None])[0] for row in x.unbind(0)])


class DrawsFromPython(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * random.random()


class DrawsFromNumpy(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * float(np.random.rand())


class DrawsFromTorch(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.randn_like(x))


class TakesDoubles(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            raise ValueError("doubles only")
        return self.layer(x)


class CountsCalls(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) / self.calls


class KeepsHistory(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.history: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.history.append(x.detach().mean(0))
        return self.layer(x) - torch.stack(self.history).mean(0)


class StoresOutput(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.layer(x)
        return self.last


class ReplacesBuffer(BaseModule):
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


class NoGradients(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            shift = x.mean(1, keepdim=True)
        return self.layer(x - shift)


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        return -grads[0]


class ReversalOfItself(Reversal):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        return x


class ReversesGradients(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(Reversal.apply(x))


class ReversesGradientsOfItself(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(ReversalOfItself.apply(x))


class ReachesPastGradients(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.layer.weight.data.mean()


class Autocasts(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(x.mul(2))


class BranchesOnValue(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        if h.sum() > 0:
            return h.tanh()
        return -h


class CatchesItsBranch(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        try:
            positive = bool(h.sum() > 0)
        except Exception:  # any error
            positive = True
        return h.tanh() if positive else -h


class ReadsValue(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * x.abs().max().item()


class HooksGradient(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        if h.requires_grad:
            h.register_hook(lambda gradient: gradient / 2)
        return h


class DropsAlways(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.layer(x), 0.4)


class WritesMany(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        first, second = self.layer(x), self.layer(x + 1)
        torch._foreach_mul_([first, second], 2.0)
        return first * second


class IndexesByNumpy(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, np.array([0, 2])]


class UsesTheOutside(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * _OUTSIDE)


class KeepsTensorsInAList(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [torch.rand(WIDTH), torch.rand(WIDTH)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.scales[0]) + self.scales[1]


class WritesIntoView(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h[:, :2].mul_(3)
        return h.tanh()


class UsesViewOfChanged(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        view = h[:, :2]
        h.mul_(3)
        return view.tanh()


class SelectsByMask(BaseModule):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return h + h[x > 0].sum()


class OwnTrain(BaseModule):
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


def build_ticking_class(ticks: "itertools.count[int]") -> Callable[[], nn.Module]:
    class Ticks(BaseModule):
        def forward(self, x: Tensor) -> Tensor:
            return F.leaky_relu(self.layer(x).abs(), next(ticks))

    return Ticks


class UntraceableCase(NamedTuple):
    factory: Callable[[], nn.Module]
    reason: str
    line: str = ""
    """Text in the line of code that the reason names, or an empty string if it names none."""


UNTRACEABLE_CASES: dict[str, UntraceableCase] = {
    "one call for each input": UntraceableCase(Unbinds, "does not do the same with other inputs"),
    "something else each time": UntraceableCase(build_ticking_class(itertools.count()), "or when it runs again"),
    "Python's random numbers": UntraceableCase(DrawsFromPython, "draws random numbers$"),
    "NumPy's random numbers": UntraceableCase(DrawsFromNumpy, "draws random numbers$"),
    "torch's random numbers": UntraceableCase(
        DrawsFromTorch, r"draws random numbers \(randn_like\)", "torch.randn_like(x)"
    ),
    "an error": UntraceableCase(
        TakesDoubles, r"raises ValueError: doubles only \(untraceable_modules.py:\d+\) when it is tried"
    ),
    "a counter": UntraceableCase(CountsCalls, "changes its calls"),
    "a history": UntraceableCase(
        KeepsHistory, "neither its attribute nor computed from its inputs|changes its history"
    ),
    "its output, stored": UntraceableCase(StoresOutput, "changes its last"),
    "a buffer, replaced": UntraceableCase(ReplacesBuffer, "changes its mean"),
    "a buffer, changed": UntraceableCase(
        ChangesBuffer, r"one of its parameters or buffers in place \(mul_\)", "self.mean.mul_"
    ),
    "no gradients": UntraceableCase(NoGradients, "switches gradients off", "torch.no_grad()"),
    "an autograd function": UntraceableCase(ReversesGradients, "a custom autograd function", "x.view_as(x)"),
    "an autograd function without calls": UntraceableCase(ReversesGradientsOfItself, "a custom autograd function"),
    "data": UntraceableCase(ReachesPastGradients, r"bypasses the gradients \(.data\)", ".data.mean()"),
    "autocast": UntraceableCase(Autocasts, "switches autocast on", "x.mul(2)"),
    "a branch on a value": UntraceableCase(BranchesOnValue, "branches on a tensor's value", "if h.sum() > 0"),
    "a branch on a value, caught": UntraceableCase(CatchesItsBranch, "branches on a tensor's value"),
    "a value": UntraceableCase(ReadsValue, r"reads a tensor's values \(item\)", "item()"),
    "a gradient's hook": UntraceableCase(HooksGradient, "passes a function to torch", "register_hook"),
    "dropout in evaluation": UntraceableCase(DropsAlways, "drops activations in evaluation, too", "F.dropout"),
    "writing into many": UntraceableCase(
        WritesMany, r"in a way that cannot be recorded \(_foreach_mul_\)", "_foreach_mul_"
    ),
    "an array": UntraceableCase(IndexesByNumpy, "passes a ndarray to torch", "np.array"),
    "a tensor of the file": UntraceableCase(UsesTheOutside, "a tensor that is neither its attribute nor", "_OUTSIDE"),
    "tensors in a list": UntraceableCase(
        KeepsTensorsInAList, "a tensor that is neither its attribute nor", "self.scales[0]"
    ),
    "writing into a view": UntraceableCase(WritesIntoView, "changed in place through another view", "return h.tanh()"),
    "a view of what changed": UntraceableCase(
        UsesViewOfChanged, "changed in place through another view", "return view.tanh()"
    ),
    "a selection": UntraceableCase(SelectsByMask, "cannot be computed for several rounds at once"),
    "an overridden method": UntraceableCase(
        OwnTrain, "has hooks or overrides methods such as train or state_dict, in Own"
    ),
    "len() next to a convolution": UntraceableCase(ConvolvesAndCounts, r"takes len\(\) of its inputs", "len(x)"),
}
