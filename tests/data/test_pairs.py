import operator
from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pairs_lit.data.pairs import Pairs, Swap, add_swapped_pairs, compute_targets, sample_pairs, stack_rounds
from pairs_lit.errors import PairsLitError
from pairs_lit.relation import Relation, compute_relation_probability, compute_target

RELATIONS: tuple[Relation, ...] = ("le", "lt", "ge", "gt")
OPERATORS: dict[Relation, Callable[[int, int], bool]] = {name: getattr(operator, name) for name in RELATIONS}
ALL_PAIRS = list(product(range(10), repeat=2))

pools = st.lists(st.integers(0, 10**6), min_size=2, max_size=60, unique=True)
random_seeds = st.integers(0, 2**32 - 1)
pairs_of_digits = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50)
quick = settings(deadline=None, max_examples=60)


def build_generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(pool: list[int], count: int, seed: int, *, reuse: bool = True) -> Tensor:
    return sample_pairs(torch.tensor(pool, dtype=torch.int64), count, build_generator(seed), reuse=reuse)


def build_all_digit_pairs(relation: Relation) -> Pairs:
    return compute_targets(torch.tensor(ALL_PAIRS), torch.arange(10), relation)


def build_probabilities(*shape: int) -> Tensor:
    return torch.rand(*shape, 2, 10, dtype=torch.float64, generator=build_generator(0)).softmax(-1)


@quick
@given(pool=pools, seed=random_seeds, data=st.data(), reuse=st.booleans())
def test_no_image_is_drawn_twice_if_there_are_enough(
    pool: list[int], seed: int, data: st.DataObject, reuse: bool
) -> None:
    count = data.draw(st.integers(1, len(pool) // 2))
    index = sample(pool, count, seed, reuse=reuse)
    assert index.shape == (count, 2)
    assert index.dtype == torch.int64
    assert len(set(index.flatten().tolist())) == 2 * count
    assert set(index.flatten().tolist()) <= set(pool)


@quick
@given(pool=pools, seed=random_seeds, count=st.integers(1, 150))
def test_no_permutation_draws_an_image_twice(pool: list[int], seed: int, count: int) -> None:
    index = sample(pool, count, seed)
    assert index.shape == (count, 2)
    assert set(index.flatten().tolist()) <= set(pool)
    for block in index.split(len(pool) // 2):
        assert len(set(block.flatten().tolist())) == block.numel()


@quick
@given(pool=pools, seed=random_seeds, count=st.integers(1, 150))
def test_no_pair_has_the_same_image_twice(pool: list[int], seed: int, count: int) -> None:
    index = sample(pool, count, seed)
    assert (index[:, 0] != index[:, 1]).all()


@quick
@given(pool=pools, seed=random_seeds, count=st.integers(1, 50), more=st.integers(0, 50))
def test_a_longer_sample_begins_with_the_shorter_one(pool: list[int], seed: int, count: int, more: int) -> None:
    assert torch.equal(sample(pool, count, seed), sample(pool, count + more, seed)[:count])


def test_every_ordered_pair_can_be_drawn_from_an_odd_pool() -> None:
    counts = Counter(tuple(sample([4, 7, 9], 1, seed)[0].tolist()) for seed in range(600))
    assert set(counts) == {(a, b) for a, b in product((4, 7, 9), repeat=2) if a != b}
    assert min(counts.values()) > 60  # the expected count is 100 each


def test_further_permutations_differ_from_the_first() -> None:
    first, second = sample(list(range(40)), 40, seed=0).split(20)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("images", "count"), [(2, 2), (3, 2), (10, 6), (11, 6)])
def test_too_many_pairs_without_reuse_are_rejected(images: int, count: int) -> None:
    message = rf"{count} pairs were requested, but {images} images make only {images // 2} pairs .* set data\.reuse to"
    with pytest.raises(PairsLitError, match=message):
        sample(list(range(images)), count, 0, reuse=False)


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("pool", [[], [5]])
def test_fewer_than_two_images_make_no_pair(pool: list[int], reuse: bool) -> None:
    with pytest.raises(PairsLitError, match=f"{len(pool)} images make only 0 pairs"):
        sample(pool, 1, 0, reuse=reuse)


@pytest.mark.parametrize("relation", RELATIONS)
@quick
@given(digits=pairs_of_digits)
def test_the_target_agrees_with_pythons_comparison(relation: Relation, digits: list[tuple[int, int]]) -> None:
    target = compute_target(relation, torch.tensor(digits))
    assert target.dtype == torch.int64
    assert target.tolist() == [int(OPERATORS[relation](a, b)) for a, b in digits]


def test_target_keeps_leading_dimensions() -> None:
    assert compute_target("le", torch.zeros(3, 4, 5, 2)).shape == (3, 4, 5)


def test_relate_looks_up_the_classes() -> None:
    labels = torch.tensor([3, 1, 4, 1, 5])
    pairs = compute_targets(torch.tensor([[0, 1], [1, 3], [1, 2]]), labels, "le")
    assert pairs.digits.tolist() == [[3, 1], [1, 1], [1, 4]]
    assert pairs.target.tolist() == [0, 1, 1]


@pytest.mark.parametrize("relation", RELATIONS)
def test_relabel_appends_the_swapped_pairs_with_targets_recomputed(relation: Relation) -> None:
    pairs = build_all_digit_pairs(relation)
    doubled = add_swapped_pairs(pairs, "relabel", relation)
    assert doubled.index.tolist() == [[a, b] for a, b in ALL_PAIRS] + [[b, a] for a, b in ALL_PAIRS]
    assert doubled.digits.tolist() == doubled.index.tolist()  # here, image i shows digit i
    assert doubled.target.tolist() == [int(OPERATORS[relation](a, b)) for a, b in doubled.digits.tolist()]


@pytest.mark.parametrize(("relation", "on_ties"), [("le", 1), ("ge", 1), ("lt", 0), ("gt", 0)])
def test_relabel_is_right_on_equal_digits(relation: Relation, on_ties: int) -> None:
    doubled = add_swapped_pairs(build_all_digit_pairs(relation), "relabel", relation)
    ties = doubled.digits[:, 0] == doubled.digits[:, 1]
    assert doubled.target[ties].tolist() == [on_ties] * 20


@pytest.mark.parametrize("relation", RELATIONS)
def test_flip_uses_one_minus_the_target(relation: Relation) -> None:
    pairs = build_all_digit_pairs(relation)
    doubled = add_swapped_pairs(pairs, "flip", relation)
    assert doubled.digits.tolist() == [[a, b] for a, b in ALL_PAIRS] + [[b, a] for a, b in ALL_PAIRS]
    assert doubled.target.tolist() == pairs.target.tolist() + [1 - target for target in pairs.target.tolist()]


@pytest.mark.parametrize("relation", RELATIONS)
def test_flip_is_wrong_on_equal_digits_and_nowhere_else(relation: Relation) -> None:
    flipped = add_swapped_pairs(build_all_digit_pairs(relation), "flip", relation).target[100:]
    correct = add_swapped_pairs(build_all_digit_pairs(relation), "relabel", relation).target[100:]
    assert (flipped != correct).tolist() == [a == b for a, b in ALL_PAIRS]


@pytest.mark.parametrize("swap", ["relabel", "flip"])
@quick
@given(digits=pairs_of_digits)
def test_swapping_doubles_and_keeps_the_originals_first(swap: Swap, digits: list[tuple[int, int]]) -> None:
    pairs = compute_targets(torch.tensor(digits), torch.arange(10), "lt")
    doubled = add_swapped_pairs(pairs, swap, "lt")
    for before, after in ((pairs.index, doubled.index), (pairs.digits, doubled.digits), (pairs.target, doubled.target)):
        assert len(after) == 2 * len(before)
        assert torch.equal(after[: len(before)], before)


def test_swap_none_leaves_the_pairs_unchanged() -> None:
    pairs = build_all_digit_pairs("le")
    same = add_swapped_pairs(pairs, "none", "le")
    assert torch.equal(same.index, pairs.index)
    assert torch.equal(same.digits, pairs.digits)
    assert torch.equal(same.target, pairs.target)


def test_side_by_side_adds_a_leading_dimension_of_rounds() -> None:
    rounds = [build_all_digit_pairs("le"), build_all_digit_pairs("gt"), build_all_digit_pairs("lt")]
    table = stack_rounds(rounds)
    assert (table.index.shape, table.digits.shape, table.target.shape) == ((3, 100, 2), (3, 100, 2), (3, 100))
    for r, pairs in enumerate(rounds):
        assert torch.equal(table.target[r], pairs.target)


@pytest.mark.parametrize("relation", RELATIONS)
def test_relation_probability_agrees_with_a_double_loop(relation: Relation) -> None:
    p = build_probabilities(5)
    expected = [
        sum(first[i] * second[j] for i, j in ALL_PAIRS if OPERATORS[relation](i, j)) for first, second in p.tolist()
    ]
    assert compute_relation_probability(relation, p).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("relation", "complement"), [("le", "gt"), ("lt", "ge")])
def test_a_relation_and_its_complement_have_probability_one(relation: Relation, complement: Relation) -> None:
    p = build_probabilities(4, 7)
    total = compute_relation_probability(relation, p) + compute_relation_probability(complement, p)
    assert total.shape == (4, 7)
    assert torch.allclose(total, torch.ones(4, 7, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("relation", "mirrored"), [("le", "ge"), ("lt", "gt")])
def test_swapping_the_digits_mirrors_the_relation(relation: Relation, mirrored: Relation) -> None:
    p = build_probabilities(6)
    assert torch.allclose(compute_relation_probability(relation, p), compute_relation_probability(mirrored, p.flip(-2)))


@pytest.mark.parametrize("relation", RELATIONS)
def test_relation_probability_of_certain_digits_is_the_target(relation: Relation) -> None:
    certain = torch.eye(10)[torch.tensor(ALL_PAIRS)]
    expected = [float(OPERATORS[relation](a, b)) for a, b in ALL_PAIRS]
    assert compute_relation_probability(relation, certain).tolist() == expected
