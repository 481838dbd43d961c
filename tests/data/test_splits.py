"""Images that a round holds out, against a plain search for groups of identical images."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pairs_lit.data.splits import hold_out


def find_first_identical(kinds: list[int]) -> Tensor:
    return torch.tensor([kinds.index(kind) for kind in kinds])


@given(kinds=st.lists(st.integers(0, 30), min_size=2, max_size=30), data=st.data())
def test_identical_images_stay_together_wherever_this_is_possible(kinds: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(kinds))))
    count = data.draw(st.integers(1, len(kinds) - 1))
    held_out, rest = (part.tolist() for part in hold_out(torch.tensor(order), count, find_first_identical(kinds)))
    assert (len(held_out), sorted(held_out + rest)) == (count, list(range(len(kinds))))
    divided = {kinds[position] for position in held_out} & {kinds[position] for position in rest}
    is_repeated = {kinds[position] for position in order[:count]} & {kinds[position] for position in order[count:]}
    if not is_repeated:
        assert (held_out, rest) == (order[:count], order[count:])
    whole = {kinds[position] for position in held_out} - divided
    assert not divided or len([kind for kind in kinds if kind in whole]) < count


def test_groups_are_held_out_in_order_if_they_still_fit() -> None:
    groups = find_first_identical([0, 1, 0, 2, 1, 3])
    held_out, rest = hold_out(torch.tensor([0, 1, 2, 3, 4, 5]), 3, groups)
    assert (held_out.tolist(), rest.tolist()) == ([0, 2, 3], [1, 4, 5])


def test_copies_among_other_images_of_the_source_do_not_count() -> None:
    groups = find_first_identical([0, 1, 2, 3, 0, 1])  # the last two are test images
    held_out, rest = hold_out(torch.tensor([3, 0, 2, 1]), 2, groups)
    assert (held_out.tolist(), rest.tolist()) == ([3, 0], [2, 1])
