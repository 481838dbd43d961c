"""Comparison of a stack with plain copies: training steps, losses and dropout masks that both use."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pairs_lit.seeds import derive_seed, use_seed
from pairs_lit.stacking.looped import LoopedRounds
from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.support import reference_impl

DROPOUT_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d)


class UseStackMasks(TorchFunctionMode):
    """Applies the dropout masks of one round of a stack in a plain module."""

    def __init__(self, network: StackedNetwork, place: int) -> None:
        super().__init__()
        self.masks = iter(network._dropouts.values())
        self.place = place

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if func not in DROPOUT_FUNCTIONS:
            return func(*args, **(kwargs or {}))
        return self.drop(*args, **(kwargs or {}))

    def drop(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002
        if not training or p == 0:
            return input
        keep = next(self.masks).compute_mask(input.shape, input.device)[self.place]
        return input.mul_(keep).div_(1 - p) if inplace else input * keep / (1 - p)


def to_list(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def run_step(network: nn.Module, x: Tensor, weigh: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Compute the gradients of one batch; return the outputs and the gradient of the inputs."""
    x = x.clone().requires_grad_()
    outputs = to_list(network(1 * x))
    torch.stack([weigh(output) for output in outputs]).sum().backward()
    return [*outputs, x.grad]


def compute_loss(output: Tensor) -> Tensor:
    """Return a loss in which each value has a different weight; of a stack, the sum over its rounds."""
    return (output.tanh() * torch.linspace(0.5, 1.5, output[0].numel()).view(output[0].shape)).sum()


def compute_round_loss(output: Tensor) -> Tensor:
    return compute_loss(output[None])


SEEDS = [3, 11, 7]
WIDTH = 4


class BaseModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)


def check_against_plain(network: nn.Module, factory: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """Check a stack against plain modules: three batches in training, then the state, then evaluation."""
    network.double()
    plain = []
    for seed in SEEDS:
        with use_seed(seed):
            plain.append(factory().double())
    torch.manual_seed(0)
    for images in (5, 4, 3):
        x = torch.randn(len(SEEDS), images, *shape, dtype=torch.float64)
        outputs = run_step(network, x, compute_loss)
        for place, (seed, alone) in enumerate(zip(SEEDS, plain, strict=True)):
            with use_seed(derive_seed(seed, "", 0, 0, 0)), use_masks(network, place):
                expected_outputs = run_step(alone, x[place], compute_round_loss)
            for output, expected in zip(outputs, expected_outputs, strict=True):
                reference_impl.check_close(output[place], expected)
    for named in (reference_impl.get_gradients, reference_impl.get_states):
        for place, alone in enumerate(plain):
            tensors, expected_tensors = get_round_tensors(network, place, named), named(alone)
            assert len(tensors) == len(expected_tensors)
            for tensor, expected in zip(tensors.values(), expected_tensors.values(), strict=True):
                reference_impl.check_close(tensor, expected)
    x = torch.randn(len(SEEDS), 4, *shape, dtype=torch.float64)
    with torch.no_grad():
        outputs = to_list(network.eval()(x))
        for place, (seed, alone) in enumerate(zip(SEEDS, plain, strict=True)):
            with use_seed(derive_seed(seed, ".evaluation.train", 0, 0)):
                expected_outputs = to_list(alone.eval()(x[place].clone()))
            for output, expected in zip(outputs, expected_outputs, strict=True):
                reference_impl.check_close(output[place], expected)
    return network


def use_masks(network: nn.Module, place: int) -> Any:  # noqa: ANN401 - any context
    if isinstance(network, LoopedRounds):
        return use_masks(network.rounds[place], 0)
    return UseStackMasks(network, place) if isinstance(network, StackedNetwork) else torch.enable_grad()


def get_round_tensors(network: nn.Module, place: int, named: reference_impl.GetTensors) -> dict[str, Tensor]:
    return (
        get_round_tensors(network.rounds[place], 0, named)
        if isinstance(network, LoopedRounds)
        else reference_impl.get_copy_tensors(network, place, named)
    )


def build_checked_stack(factory: Callable[[], nn.Module], shape: tuple[int, ...] = (WIDTH,)) -> nn.Module:
    return check_against_plain(stack(factory, SEEDS, shape), factory, shape)
