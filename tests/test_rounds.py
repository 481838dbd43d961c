import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import MLP
from pairs_lit.rounds import Rounds
from pairs_lit.training.module import PairModule

counts = st.integers(1, 12)


def make_rounds(count: int, stack_size: int, variants: int = 1) -> Rounds:
    return Rounds([*range(5, 5 + count)] * variants, stack_size, variants)


@pytest.mark.parametrize(
    ("rounds", "stacks"),
    [
        (make_rounds(5, 2), [(0, 2), (2, 4), (4, 5)]),
        (make_rounds(5, 9), [(0, 5)]),
        (make_rounds(1, 1), [(0, 1)]),
        (make_rounds(3, 7, 4), [(0, 6), (6, 12)]),  # whole variants
        (make_rounds(3, 6, 3), [(0, 6), (6, 9)]),
        (make_rounds(3, 2, 2), [(0, 2), (2, 3), (3, 5), (5, 6)]),  # within a variant
    ],
)
def test_stacks_hold_whole_variants_or_rounds_of_one(rounds: Rounds, stacks: list[tuple[int, int]]) -> None:
    assert rounds.stacks == [slice(*ends) for ends in stacks]


@given(counts, st.integers(1, 40), counts)
def test_each_round_belongs_to_one_stack_and_one_variant(count: int, stack_size: int, variants: int) -> None:
    rounds = make_rounds(count, stack_size, variants)
    numbers = [*range(count * variants)]
    assert [number for stack in rounds.stacks for number in numbers[stack]] == numbers
    assert [number for variant in range(variants) for number in numbers[rounds.get_variant_slice(variant)]] == numbers
    for stack in rounds.stacks:
        assert stack.stop - stack.start <= stack_size
        in_stack = {number // count for number in numbers[stack]}
        assert len(in_stack) == 1 or stack.stop - stack.start == len(in_stack) * count
    for number in numbers:
        stack_number, place = rounds.find_stack(number)
        assert numbers[rounds.stacks[stack_number]][place] == number


@given(counts, st.integers(1, 5), st.integers(1, 6))
def test_workers_share_the_stacks(count: int, stack_size: int, world_size: int) -> None:
    rounds = make_rounds(count, stack_size)
    of_workers = [rounds.get_worker_stacks(rank, world_size) for rank in range(world_size)]
    assert all(stack % world_size == rank for rank, stacks in enumerate(of_workers) for stack in stacks)
    assert dict(sorted(each for stacks in of_workers for each in stacks.items())) == dict(enumerate(rounds.stacks))


def test_rounds_of_a_single_variant() -> None:
    assert make_rounds(3, 7, 4).single_variant == make_rounds(3, 3)
    assert make_rounds(3, 2, 4).single_variant == make_rounds(3, 2)
    assert make_rounds(3, 2).single_variant == make_rounds(3, 2)


def test_module_exposes_its_rounds() -> None:
    module = PairModule(seeds=[3, 4, 5], stack_size=2, backbone=FC, head=MLP)
    assert (module.seeds, module.stack_size) == (module.rounds.seeds, module.rounds.stack_size) == ([3, 4, 5], 2)
