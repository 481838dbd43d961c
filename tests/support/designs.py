"""Small pair networks, random batches for them, and the comparison with plain networks."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from pairs_lit.data.loaders import StackBatch
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.backbones import CNN, FC
from pairs_lit.nn.heads import MLP
from pairs_lit.nn.pair_stack import PairStack
from tests.support import reference_impl
from tests.support.reference_impl import PlainNetwork

SEEDS = [5, 2, 9]
PAIRS = 6
TINY_CNN = partial(CNN, channels=(3, 2), widths=(6, 10))


RICH_CNN = partial(
    CNN, channels=(3, 2), widths=(6, 10), batch_norm=("maps", "hidden"), conv_dropout=[0.0, 0.2], dropout=0.3
)


TINY_FC = partial(FC, widths=(5, 10))


class LoopedBackbone(nn.Module):
    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], 3, 5, stride=3)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.norm(self.conv(x)).relu()).flatten(1))


DESIGN = Architecture(
    backbone=TINY_CNN,
    head=MLP,
    sharing="shared",
    readout="none",
    code_activation="none",
    relation="le",
    image_size=14,
)


def check_same_values(plain: PlainNetwork, stack: PairStack, r: int, named: reference_impl.GetTensors) -> None:
    """Check that the tensors of round ``r`` of a stack equal those of its plain network."""
    actual, expected = plain.get_values(stack, r, named), list(named(plain).values())
    for actual_value, expected_value in zip(actual, expected, strict=True):
        reference_impl.check_close(actual_value, expected_value)


def build_stack_batches(seeds: list[int], stack_size: int, sizes: list[int]) -> list[StackBatch]:
    """Return an epoch of random batches, ordered by stack."""
    batches = []
    for stack, start in enumerate(range(0, len(seeds), stack_size)):
        rounds = len(seeds[start : start + stack_size])
        for step, size in enumerate(sizes):
            batch = reference_impl.draw_batch(rounds, size, seed=100 * stack + step)
            batches.append(StackBatch(stack, "train", step, *batch))
    return batches


def build_two_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Return two parameter groups for an optimizer: weights of layers, and all other parameters without decay."""
    weights, others = list[nn.Parameter](), list[nn.Parameter]()
    for layer in network.modules():
        for name, value in layer.named_parameters(recurse=False):
            is_weight = isinstance(layer, nn.Linear | nn.Conv2d) and name == "weight"
            (weights if is_weight else others).append(value)
    return [{"params": weights}, {"params": others, "weight_decay": 0}]
