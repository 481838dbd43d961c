"""Modules that cannot be traced, and the reason that is given for each."""

import itertools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.stack_checks import WIDTH, Base

_OUTSIDE = torch.linspace(0.5, 1.5, WIDTH)


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
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
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
        except Exception:  # any error
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
        first, second = self.layer(x), self.layer(x + 1)
        torch._foreach_mul_([first, second], 2.0)
        return first * second


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
    """Text in the line of code that the reason names, or an empty string if it names none."""


REFUSALS: dict[str, Refusal] = {
    "one call for each input": Refusal(Unbinds, "does not do the same with other inputs"),
    "something else each time": Refusal(ticking(itertools.count()), "or when it runs again"),
    "Python's random numbers": Refusal(DrawsFromPython, "draws random numbers$"),
    "NumPy's random numbers": Refusal(DrawsFromNumpy, "draws random numbers$"),
    "torch's random numbers": Refusal(DrawsFromTorch, r"draws random numbers \(randn_like\)", "torch.randn_like(x)"),
    "an error": Refusal(
        TakesDoubles, r"raises ValueError: doubles only \(untraceable_modules.py:\d+\) when it is tried"
    ),
    "a counter": Refusal(CountsCalls, "changes its calls"),
    "a history": Refusal(KeepsHistory, "neither its attribute nor computed from its inputs|changes its history"),
    "its output, stored": Refusal(StoresOutput, "changes its last"),
    "a buffer, replaced": Refusal(ReplacesBuffer, "changes its mean"),
    "a buffer, changed": Refusal(
        ChangesBuffer, r"one of its parameters or buffers in place \(mul_\)", "self.mean.mul_"
    ),
    "no gradients": Refusal(NoGradients, "switches gradients off", "torch.no_grad()"),
    "an autograd function": Refusal(ReversesGradients, "a custom autograd function", "x.view_as(x)"),
    "an autograd function without calls": Refusal(ReversesGradientsOfItself, "a custom autograd function"),
    "data": Refusal(ReachesPastGradients, r"bypasses the gradients \(.data\)", ".data.mean()"),
    "autocast": Refusal(Autocasts, "switches autocast on", "x.mul(2)"),
    "a branch on a value": Refusal(BranchesOnValue, "branches on a tensor's value", "if h.sum() > 0"),
    "a branch on a value, caught": Refusal(CatchesItsBranch, "branches on a tensor's value"),
    "a value": Refusal(ReadsValue, r"reads a tensor's values \(item\)", "item()"),
    "a gradient's hook": Refusal(HooksGradient, "passes a function to torch", "register_hook"),
    "dropout in evaluation": Refusal(DropsAlways, "drops activations in evaluation, too", "F.dropout"),
    "writing into many": Refusal(WritesMany, r"in a way that cannot be recorded \(_foreach_mul_\)", "_foreach_mul_"),
    "an array": Refusal(IndexesByNumpy, "passes a ndarray to torch", "np.array"),
    "a tensor of the file": Refusal(UsesTheOutside, "a tensor that is neither its attribute nor", "_OUTSIDE"),
    "tensors in a list": Refusal(KeepsTensorsInAList, "a tensor that is neither its attribute nor", "self.scales[0]"),
    "writing into a view": Refusal(WritesIntoView, "changed in place through another view", "return h.tanh()"),
    "a view of what changed": Refusal(UsesViewOfChanged, "changed in place through another view", "return view.tanh()"),
    "a selection": Refusal(SelectsByMask, "cannot be computed for several rounds at once"),
    "an overridden method": Refusal(OwnTrain, "has hooks or overrides methods such as train or state_dict, in Own"),
    "len() next to a convolution": Refusal(ConvolvesAndCounts, r"takes len\(\) of its inputs", "len(x)"),
}
