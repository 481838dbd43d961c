"""Operator count: the number of operators in a training step does not grow with the number of rounds."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pairs_lit.data.loaders import StackBatch
from pairs_lit.nn.backbones import CNN, FC
from pairs_lit.nn.heads import MLP, PowerHead
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from tests.support.user_parts import TwoPaths

OPTIONS: dict[str, dict[str, Any]] = {
    "FC": {"backbone": FC},
    "CNN": {"backbone": CNN},
    "CNN with batch norm and dropout": {
        "backbone": lambda shape: CNN(shape, batch_norm=("maps", "hidden"), conv_dropout=0.1, dropout=0.2)
    },
    "separate": {"backbone": CNN, "sharing": "separate"},
    "power head": {"backbone": FC, "head": PowerHead, "loss": PairLoss(target="mse")},
    "class with a forward": {"backbone": TwoPaths},
    "layer without a stacked one": {
        "backbone": lambda shape: nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.PReLU())
    },
    "linear read-out": {"backbone": CNN, "readout": "linear", "loss": PairLoss(digits="ce")},
}


class Count(TorchDispatchMode):
    """Dispatch mode that counts the operators that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operators(rounds: int, **options: Any) -> Counter[str]:  # noqa: ANN401 - any option
    """Count the operators of one optimizer step on one batch of one stack."""
    module = PairModule(seeds=list(range(rounds)), stack_size=rounds, **{"head": MLP} | options)
    optimizer = torch.optim.Adam(module.parameters(), foreach=False)
    batch = _batch(rounds)
    with Count() as count:
        _, losses = module.shared_step(batch)
        losses.total.sum().backward()
        optimizer.step()
    return count.calls


def _batch(rounds: int) -> StackBatch:
    images: Tensor = torch.rand(rounds, 6, 2, 14, 14)
    digits = torch.randint(0, 10, (rounds, 6, 2))
    return StackBatch(0, "train", 0, images, digits, (digits[..., 0] <= digits[..., 1]).long())


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.quick(3)
def test_the_number_of_operators_does_not_grow_with_the_rounds(name: str) -> None:
    operators(2, **OPTIONS[name])  # the first step of a process may compile kernels
    few, many = operators(2, **OPTIONS[name]), operators(16, **OPTIONS[name])
    assert sum(few.values()) > 20
    assert many == few


class Branches(TwoPaths):
    """Network with data-dependent control flow, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() >= 0 else x.flatten(1)


def test_operator_count_detects_a_loop() -> None:
    few, many = operators(2, backbone=Branches), operators(4, backbone=Branches)
    assert sum(many.values()) > 1.5 * sum(few.values())
