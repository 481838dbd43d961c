"""Schema checks: entries of a checkpoint are not used before they match what a run would have saved."""

import copy
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch
from torch import Tensor, nn, optim

from pairs_lit.checkpoints.schema import build_optimizer_state, check_progress, matches_schema
from pairs_lit.errors import PairsLitError

NESTED = {"weight": torch.zeros(2, 3), "counts": [1, 2], "done": True, "name": "a", "none": None, "seconds": 1.5}


def change_nested(**values: object) -> dict[str, object]:
    return copy.deepcopy(NESTED) | values


@pytest.mark.parametrize(
    "saved",
    [
        change_nested(),
        change_nested(weight=torch.full((2, 3), torch.nan), counts=[0, 7], done=False, name="b", seconds=0.0),
        change_nested(weight=torch.ones(2, 3, dtype=torch.float64)),
    ],
    ids=["the same", "other numbers", "another precision"],
)
def test_values_do_not_matter(saved: object) -> None:
    assert matches_schema(saved, NESTED)


@pytest.mark.parametrize(
    "saved",
    [
        None,
        [],
        {},
        change_nested(more=1),
        {name: value for name, value in NESTED.items() if name != "none"},
        change_nested(weight=torch.zeros(3, 2)),
        change_nested(weight=torch.zeros(2, 3, dtype=torch.int64)),
        change_nested(weight=torch.zeros(3, 2).T),
        change_nested(weight=torch.zeros(1, 1).expand(2, 3)),
        change_nested(weight=torch.zeros(2, 3).to_sparse()),
        change_nested(weight=torch.zeros(2, 3, device="meta")),
        change_nested(weight=[[0.0] * 3] * 2),
        change_nested(counts=[1]),
        change_nested(counts=(1, 2)),
        change_nested(counts=[1, -1]),
        change_nested(counts=[1, 2**60]),
        change_nested(counts=[1, True]),
        change_nested(done=1),
        change_nested(name=b"a"),
        change_nested(none=0),
        change_nested(seconds=float("nan")),
        change_nested(seconds=float("inf")),
    ],
)
def test_another_schema_does_not_match(saved: object) -> None:
    assert not matches_schema(saved, NESTED)


def test_a_deeply_nested_value_is_compared_no_deeper_than_the_example() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert not matches_schema(change_nested(counts=deep), NESTED)
    while deep:  # unpacked step by step, since deleting it at once would overflow the stack
        (deep,) = deep  # type: ignore[assignment] # a list in a list


# --- the optimizer's state ---

Make = Callable[[Iterable[Tensor]], optim.Optimizer]
OPTIMIZERS: list[Make] = [
    partial(optim.SGD, lr=0.1),
    partial(optim.SGD, lr=0.1, momentum=0.9),
    partial(optim.Adam, lr=0.1),
    partial(optim.Adam, lr=0.1, amsgrad=True, fused=True),
    partial(optim.AdamW, lr=0.1),
    partial(optim.NAdam, lr=0.1),
    partial(optim.RAdam, lr=0.1),
    partial(optim.RMSprop, lr=0.1, momentum=0.9, centered=True),
    partial(optim.Adagrad, lr=0.1),
]


def trained(make: Make) -> tuple[list[nn.Parameter], optim.Optimizer]:
    """Train three parameters, the last without gradients, for two steps; return them and the optimizer."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in ((4, 2, 3), (5,), (2,))]
    optimizer = make(parameters)
    for _ in range(2):
        optimizer.zero_grad()
        sum(value.square().sum() for value in parameters[:2]).backward()  # type: ignore[union-attr] # not empty
        optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_restored_optimizer_takes_the_same_steps(make: Make) -> None:
    parameters, optimizer = trained(make)
    saved = [copy.deepcopy(optimizer.state_dict())]
    copies = copy.deepcopy(parameters)
    restored = make(copies)
    restored.load_state_dict(build_optimizer_state(saved, [(make, copies)]))
    for values, stepped in ((parameters, optimizer), (copies, restored)):
        for value in values[:2]:
            value.grad = torch.ones_like(value)
        stepped.step()
    for original, copied in zip(parameters, copies, strict=True):
        assert torch.equal(original, copied)


def test_the_settings_are_those_of_the_config() -> None:
    parameters, optimizer = trained(partial(optim.Adam, lr=0.1))
    restored = build_optimizer_state([optimizer.state_dict()], [(partial(optim.Adam, lr=0.5), parameters)])
    assert restored["param_groups"][0]["lr"] == 0.5


def without_exp_avg(state: dict[int, dict[str, Tensor]]) -> None:
    del state[0]["exp_avg"]


def of_another_shape(state: dict[int, dict[str, Tensor]]) -> None:
    state[0]["exp_avg"] = torch.zeros(1)


def with_strides_that_lie(state: dict[int, dict[str, Tensor]]) -> None:
    state[0]["exp_avg"] = torch.zeros(1, 1, 1).expand(4, 2, 3)


def with_a_long_step(state: dict[int, dict[str, Tensor]]) -> None:
    state[0]["step"] = torch.zeros(3)


def of_a_parameter_that_is_not_there(state: dict[int, dict[str, Tensor]]) -> None:
    state[3] = state[1]


@pytest.mark.parametrize(
    "damage",
    [without_exp_avg, of_another_shape, with_strides_that_lie, with_a_long_step, of_a_parameter_that_is_not_there],
)
def test_a_damaged_state_never_reaches_a_kernel(damage: Callable[[dict[int, dict[str, Tensor]]], None]) -> None:
    make = partial(optim.Adam, lr=0.1)
    parameters, optimizer = trained(make)
    saved = copy.deepcopy(optimizer.state_dict())
    damage(saved["state"])
    with pytest.raises(PairsLitError, match="its optimizer's state is not what this config"):
        build_optimizer_state([saved], [(make, parameters)])


@pytest.mark.parametrize("saved", [[], {}, None, [None], [{}], [{"state": None}], [{"state": {}}] * 2])
def test_a_missing_state_is_rejected(saved: object) -> None:
    make = partial(optim.Adam, lr=0.1)
    with pytest.raises(PairsLitError, match="its optimizer's state is not what this config"):
        build_optimizer_state(saved, [(make, trained(make)[0])])


def test_another_optimizers_state_is_rejected() -> None:
    parameters, optimizer = trained(partial(optim.Adam, lr=0.1))
    with pytest.raises(PairsLitError, match="its optimizer's state is not what this config"):
        build_optimizer_state([optimizer.state_dict()], [(partial(optim.SGD, lr=0.1, momentum=0.9), parameters)])


# --- the rounds' progress ---

CURVES = {"test/loss": torch.empty(2, 3, dtype=torch.float64, device="meta")}


def progress(**values: object) -> dict[str, object]:
    curves = {"test/loss": torch.zeros(2, 3, dtype=torch.float64)}
    return {"curves": curves, "seconds": 1.0, "commits": ["0123456789+changes", None]} | values


def test_the_rounds_progress_is_let_through() -> None:
    check_progress(progress(), CURVES)


@pytest.mark.parametrize(
    "saved",
    [
        None,
        {},
        progress(curves={}),
        progress(curves={"test/loss": torch.zeros(1, 3, dtype=torch.float64)}),
        progress(curves={"test/\x1b[2J": torch.zeros(2, 3, dtype=torch.float64)}),
        progress(seconds=-1.0),
        progress(seconds="1"),
        progress(commits="0123456789"),
        progress(commits=["[here](http:x)"]),
        progress(commits=["0123456789\n"]),
        progress(commits=[1]),
    ],
)
def test_invalid_progress_is_rejected(saved: object) -> None:
    with pytest.raises(PairsLitError, match="its curves are not what this config"):
        check_progress(saved, CURVES)
