from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf

import pytest
from torch import Tensor, nn

from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.backbones import CNN, FC
from pairs_lit.nn.gpu_stack_size import (
    GpuResources,
    choose_stack_size,
    compute_gpu_stack_size,
    estimate_round_bytes,
    use_gpu_resources,
)
from pairs_lit.nn.heads import MLP
from pairs_lit.nn.pair_stack import compute_default_stack_size
from pairs_lit.training.module import PairModule
from tests.support.user_parts import TwoPaths

DESIGN = Architecture(CNN, MLP, "shared", "identity", "relu", "le", 14)


@pytest.mark.parametrize(
    ("round_bytes", "rounds", "free_bytes", "workers", "expected"),
    [
        (10, 100, 10_000, 1, 100),  # 1,000 of 10,000 bytes
        (10, 100, 2_000, 1, 100),  # exactly half
        (10, 100, 1_999, 1, 50),  # 99 would fit; two equal stacks
        (10, 100, 700, 1, 34),  # 35 would fit; three stacks
        (10, 100, 1, 1, 1),
        (10, 100, 0, 1, 1),
        (10, 100, inf, 1, 100),
        (10, 1, inf, 8, 1),
        (10, 8, inf, 2, 4),
        (10, 9, inf, 4, 2),  # stacks of 3 would leave one worker without a stack
        (10, 10, inf, 4, 3),
        (10, 3, inf, 4, 1),
        (10, 100, 200, 2, 10),
    ],
)
def test_stacks_fill_half_of_the_free_memory_and_every_worker_has_one(
    round_bytes: int, rounds: int, free_bytes: float, workers: int, expected: int
) -> None:
    size = compute_gpu_stack_size(round_bytes, rounds, free_bytes, workers)
    assert size == expected
    assert -(-rounds // size) >= min(workers, rounds)


def test_estimate_of_a_linear_network_counts_weights_and_saved_tensors() -> None:
    design = replace(DESIGN, backbone=lambda shape: nn.Sequential(nn.Flatten(), nn.Linear(196, 10)), readout="none")
    weights = 196 * 10 + 10 + 20 + 1
    saved = 5 * 2 * 196 + 5 * 20  # the inputs of both layers, in which ReLU's output is that of the head
    assert estimate_round_bytes(design, 0, 5) == pytest.approx(4 * (4 * weights + 2 * saved), rel=0.1)


def test_estimate_grows_with_pairs_members_and_channels() -> None:
    sizes = [
        estimate_round_bytes(design, 0, pairs) or 0
        for design, pairs in (
            (DESIGN, 10),
            (DESIGN, 100),
            (replace(DESIGN, members=3), 100),
            (replace(DESIGN, members=3, backbone=partial(CNN, channels=(64, 64))), 100),
        )
    ]
    assert sizes == sorted(set(sizes))
    assert sizes[2] == pytest.approx(3 * sizes[1], rel=0.2)


class Branches(TwoPaths):
    """Network with data-dependent control flow, which needs values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() >= 0 else x.flatten(1)


@pytest.mark.parametrize("backbone", [CNN, FC])
def test_only_within_the_context_is_the_default_that_of_gpus(backbone: Callable[..., nn.Module]) -> None:
    design, seeds = replace(DESIGN, backbone=backbone), range(100)
    for resources, expected in (
        (None, compute_default_stack_size(design, seeds)),
        (GpuResources(80e9, 1, 100), 100),
        (GpuResources(80e9, 2, 100), 50),
        (GpuResources(1e3, 1, 100), 1),
    ):
        with use_gpu_resources(resources):
            assert choose_stack_size(design, seeds) == expected
    assert choose_stack_size(design, seeds) == compute_default_stack_size(design, seeds)


def test_networks_that_need_values_keep_the_default_of_a_cpu() -> None:
    design = replace(DESIGN, backbone=Branches)
    assert estimate_round_bytes(design, 0, 3) is None
    with use_gpu_resources(GpuResources(80e9, 1, 100)):
        assert choose_stack_size(design, range(100)) == compute_default_stack_size(design, range(100))


def test_a_module_for_a_gpu_has_one_stack_unless_the_size_is_given() -> None:
    with use_gpu_resources(GpuResources(80e9, 1, 100)):
        assert PairModule(seeds=[*range(12)], backbone=FC, head=MLP).stack_size == 12
        assert PairModule(seeds=[*range(12)], backbone=FC, head=MLP, stack_size=5).stack_size == 5
    assert PairModule(seeds=[*range(12)], backbone=FC, head=MLP).stack_size == 6
