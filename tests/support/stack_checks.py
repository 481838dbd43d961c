"""Comparison of a stack with plain copies: training steps, losses and dropout masks that both use."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pairs_lit.seeds import derive, seeded
from pairs_lit.stacking.looped import Apart
from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.support import reference_impl

DROPPING = (F.dropout, F.dropout1d, F.dropout2d)


class Masked(TorchFunctionMode):
    """Applies the dropout masks of one round of a stack in a plain module."""

    def __init__(self, network: StackedNetwork, place: int) -> None:
        super().__init__()
        self.masks = iter(network._dropouts.values())
        self.place = place

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if func not in DROPPING:
            return func(*args, **(kwargs or {}))
        return self.dropped(*args, **(kwargs or {}))

    def dropped(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002
        if not training or p == 0:
            return input
        keep = next(self.masks).mask(input.shape, input.device)[self.place]
        return input.mul_(keep).div_(1 - p) if inplace else input * keep / (1 - p)


def listed(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def step(network: nn.Module, x: Tensor, weigh: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Compute the gradients of one batch; return the outputs and the gradient of the inputs."""
    x = x.clone().requires_grad_()
    outputs = listed(network(1 * x))
    torch.stack([weigh(output) for output in outputs]).sum().backward()
    return [*outputs, x.grad]


def loss(output: Tensor) -> Tensor:
    """Return a loss in which each value has a different weight; of a stack, the sum over its rounds."""
    return (output.tanh() * torch.linspace(0.5, 1.5, output[0].numel()).view(output[0].shape)).sum()


def round_loss(output: Tensor) -> Tensor:
    return loss(output[None])


SEEDS = [3, 11, 7]
WIDTH = 4


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)


def check(network: nn.Module, factory: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """Check a stack against plain modules: three batches in training, then the state, then evaluation."""
    network.double()
    plain = []
    for seed in SEEDS:
        with seeded(seed):
            plain.append(factory().double())
    torch.manual_seed(0)
    for images in (5, 4, 3):
        x = torch.randn(len(SEEDS), images, *shape, dtype=torch.float64)
        outputs = step(network, x, loss)
        for place, (seed, alone) in enumerate(zip(SEEDS, plain, strict=True)):
            with seeded(derive(seed, "", 0, 0, 0)), masked(network, place):
                expected_outputs = step(alone, x[place], round_loss)
            for output, expected in zip(outputs, expected_outputs, strict=True):
                reference_impl.close(output[place], expected)
    for named in (reference_impl.gradients, reference_impl.states):
        for place, alone in enumerate(plain):
            tensors, expected_tensors = of_round(network, place, named), named(alone)
            assert len(tensors) == len(expected_tensors)
            for tensor, expected in zip(tensors.values(), expected_tensors.values(), strict=True):
                reference_impl.close(tensor, expected)
    x = torch.randn(len(SEEDS), 4, *shape, dtype=torch.float64)
    with torch.no_grad():
        outputs = listed(network.eval()(x))
        for place, (seed, alone) in enumerate(zip(SEEDS, plain, strict=True)):
            with seeded(derive(seed, ".evaluation.train", 0, 0)):
                expected_outputs = listed(alone.eval()(x[place].clone()))
            for output, expected in zip(outputs, expected_outputs, strict=True):
                reference_impl.close(output[place], expected)
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
