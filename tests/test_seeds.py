import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import (
    SEED_LIMIT,
    build_generator,
    derive_seed,
    format_seeds,
    get_rng_state,
    list_round_seeds,
    use_seed,
)

KNOWN = {(0, "shuffle", 0): 2891171048443675967, (123, "shuffle", 4, 5): 6010138115804956676}
purposes = st.sampled_from(["shuffle", "train pairs", "val pairs", "test pairs", "held-out images"])
addresses = st.tuples(st.integers(0, SEED_LIMIT - 1), purposes, st.integers(0, 1000))


@pytest.mark.parametrize(
    ("count", "seed", "expected"),
    [(1, 0, [0]), (3, 7, [7, 8, 9]), (2, SEED_LIMIT - 2, [SEED_LIMIT - 2, SEED_LIMIT - 1])],
)
def test_round_seeds_count_up_from_the_first(count: int, seed: int, expected: list[int]) -> None:
    assert list_round_seeds(count, seed) == expected


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_round_is_rejected(count: int) -> None:
    with pytest.raises(PairsLitError, match=rf"rounds\.count must be 1 or more, got {count}"):
        list_round_seeds(count, 0)


@pytest.mark.parametrize(("count", "seed"), [(1, -1), (1, SEED_LIMIT), (2, SEED_LIMIT - 1)])
def test_seeds_out_of_range_are_rejected(count: int, seed: int) -> None:
    message = rf"rounds\.seed must be between 0 and {2**32 - count} for {count} rounds?, got {seed}"
    with pytest.raises(PairsLitError, match=message):
        list_round_seeds(count, seed)


@pytest.mark.parametrize(("address", "value"), KNOWN.items())
def test_derived_seeds_never_change(address: tuple[int, str, int], value: int) -> None:
    assert derive_seed(*address) == value


@pytest.mark.slow
def test_derived_seeds_are_the_same_in_another_process() -> None:
    code = "from pairs_lit.seeds import derive_seed; print(derive_seed(123, 'shuffle', 4, 5))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == derive_seed(123, "shuffle", 4, 5)


@settings(deadline=None)
@given(first=addresses, second=addresses)
def test_derived_seeds_differ_by_seed_purpose_and_index(
    first: tuple[int, str, int], second: tuple[int, str, int]
) -> None:
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)


def test_derived_seeds_of_many_rounds_purposes_and_epochs_are_all_different() -> None:
    values = {derive_seed(seed, name, i) for seed in range(20) for name in ("a", "b", "shuffle") for i in range(50)}
    assert len(values) == 20 * 3 * 50


def test_the_order_of_the_indices_matters() -> None:
    assert derive_seed(1, "mask", 2, 3) != derive_seed(1, "mask", 3, 2)


@settings(deadline=None)
@given(address=addresses)
def test_derived_seeds_are_accepted_by_torch(address: tuple[int, str, int]) -> None:
    assert 0 <= derive_seed(*address) < 2**63
    assert build_generator(*address).initial_seed() == derive_seed(*address)


def test_generator_does_not_change_the_global_one() -> None:
    before = torch.get_rng_state()
    torch.rand(3, generator=build_generator(1, "shuffle", 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_equals_manual_seed() -> None:
    with use_seed(5):
        inside = torch.rand(4)
    assert torch.equal(inside, torch.rand(4, generator=torch.Generator().manual_seed(5)))


def test_seeded_restores_the_global_generator() -> None:
    before = torch.get_rng_state()
    with use_seed(5, torch.device("cpu")):
        torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_restores_the_global_generator_after_an_exception() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), use_seed(5):
        torch.rand(4).new_tensor(1 / 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("seeds", "words"), [([3], "seed 3"), ([0, 1], "seeds 0 to 1"), (range(9), "seeds 0 to 8"), ([1, 4], "seeds 1, 4")]
)
def test_seeds_as_short_text(seeds: Sequence[int], words: str) -> None:
    assert format_seeds(seeds) == words


def test_the_generator_of_a_mac_gpu_is_seeded_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.tensor([7], dtype=torch.uint8)]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    monkeypatch.setattr(torch.mps, "manual_seed", lambda seed: states.append(torch.tensor([seed], dtype=torch.uint8)))
    device = torch.device("mps")
    before = get_rng_state(device)
    with use_seed(5, device):
        assert get_rng_state(device)[-1] == bytes([5])
    assert [state.item() for state in states] == [7, 5, 7]
    assert get_rng_state(device) == before
