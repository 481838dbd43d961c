import re
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pairs_lit.nn.backbones import CNN, FC
from pairs_lit.nn.heads import MLP, PowerHead, SoftmaxHead
from pairs_lit.seeds import derive_seed
from pairs_lit.stacking.looped import LoopedCopies, LoopedRounds
from pairs_lit.stacking.ops.dropout import StackedDropout
from pairs_lit.stacking.ops.stacked_layers import SwitchedOff, to_maps, to_rows
from pairs_lit.stacking.stack import is_known, stack
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.support import reference_impl

SEEDS = [3, 11, 7]
Factory = Callable[[], nn.Module]


class Case(NamedTuple):
    factory: Factory
    shape: tuple[int, ...]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.inner(x)).relu()


class DoubledLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class SpreadFlatten(nn.Flatten):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


class ReversedSequential(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(list(self)):
            x = layer(x)
        return x


class PooledWithIndices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)[0]


def build_tied() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def build_tied_weight() -> nn.Module:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


def build_frozen() -> nn.Module:
    layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    layers[0].requires_grad_(False)
    return layers


def build_hooked() -> nn.Module:
    layer = nn.Linear(4, 3)
    layer.register_forward_hook(lambda module, draw_inputs, output: 2 * output)
    return layer


def build_one_relu_twice() -> nn.Module:
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(4, 5), relu, nn.Linear(5, 3), relu)


def build_one_relu_and_pool_twice() -> nn.Module:
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(nn.Conv2d(2, 3, 2), relu, pool, nn.Conv2d(3, 4, 2), relu, pool, nn.Flatten())


def build_one_nested_activation_twice() -> nn.Module:
    shrink = nn.Sequential(nn.Tanh())
    return nn.Sequential(nn.Linear(4, 5), shrink, nn.Linear(5, 3), shrink)


def build_with_parameter() -> nn.Module:
    network = nn.Sequential(nn.Linear(5, 2))
    network.register_parameter("unused", nn.Parameter(torch.zeros(3)))
    return network


def build_one_free_batch_norm_twice() -> nn.Module:
    norm = nn.BatchNorm1d(4, affine=False)
    return nn.Sequential(norm, nn.Linear(4, 4), norm)


ACTIVATIONS: dict[str, Factory] = {
    "celu": lambda: nn.CELU(0.6),
    "elu": lambda: nn.ELU(0.7),
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU("tanh"),
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.7),
    "identity": nn.Identity,
    "leaky relu": lambda: nn.LeakyReLU(0.3),
    "logsigmoid": nn.LogSigmoid,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "softplus": lambda: nn.Softplus(2.0),
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}
STACKED: dict[str, Case] = {
    "linear": Case(lambda: nn.Linear(4, 3), (4,)),
    "linear without bias": Case(lambda: nn.Linear(4, 3, bias=False), (4,)),
    "linear on rows": Case(lambda: nn.Linear(4, 3), (5, 4)),
    "linear on maps": Case(lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(5, 4), nn.Conv2d(3, 2, 2)), (2, 6, 6)),
    "linear on maps at the end": Case(lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(5, 4)), (2, 6, 6)),
    "conv": Case(lambda: nn.Conv2d(2, 3, 3), (2, 6, 7)),
    "conv stride": Case(lambda: nn.Conv2d(2, 3, 3, stride=(2, 1)), (2, 7, 6)),
    "conv padding": Case(lambda: nn.Conv2d(2, 3, 3, padding=(2, 1)), (2, 5, 6)),
    "conv padding same": Case(lambda: nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 6)),
    "conv dilation": Case(lambda: nn.Conv2d(2, 3, 2, dilation=2), (2, 6, 6)),
    "conv groups": Case(lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
    "conv depthwise": Case(lambda: nn.Conv2d(3, 3, 3, groups=3), (3, 5, 5)),
    "conv without bias": Case(lambda: nn.Conv2d(2, 3, 3, bias=False), (2, 6, 6)),
    "conv oblong kernel": Case(lambda: nn.Conv2d(1, 3, (1, 4)), (1, 5, 6)),
    "max-pool": Case(lambda: nn.MaxPool2d(2), (2, 6, 6)),
    "max-pool overlapping": Case(lambda: nn.MaxPool2d(3, stride=1, padding=1), (2, 6, 6)),
    "max-pool ceil mode": Case(lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 5, 7)),
    "average-pool": Case(lambda: nn.AvgPool2d(2), (2, 6, 6)),
    "average-pool padded": Case(lambda: nn.AvgPool2d(3, padding=1, count_include_pad=False), (2, 6, 6)),
    "adaptive average-pool": Case(lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 6, 7)),
    "global average-pool": Case(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 5, 5)),
    "adaptive max-pool": Case(lambda: nn.AdaptiveMaxPool2d(2), (2, 5, 5)),
    "batch norm 1d": Case(lambda: nn.BatchNorm1d(4), (4,)),
    "batch norm 1d not affine": Case(lambda: nn.BatchNorm1d(4, affine=False), (4,)),
    "batch norm 1d untracked": Case(lambda: nn.BatchNorm1d(4, track_running_stats=False), (4,)),
    "batch norm 1d momentum and eps": Case(lambda: nn.BatchNorm1d(4, eps=0.1, momentum=0.4), (4,)),
    "batch norm 1d on sequences": Case(lambda: nn.BatchNorm1d(4), (4, 3)),
    "batch norm 2d": Case(lambda: nn.BatchNorm2d(3), (3, 4, 4)),
    "batch norm 2d not affine": Case(lambda: nn.BatchNorm2d(3, affine=False), (3, 4, 4)),
    "batch norm 2d untracked": Case(lambda: nn.BatchNorm2d(3, track_running_stats=False), (3, 4, 4)),
    "batch norm 2d bare": Case(lambda: nn.BatchNorm2d(3, affine=False, track_running_stats=False), (3, 4, 4)),
    "dropout": Case(lambda: nn.Dropout(0.4), (6,)),
    "dropout of nothing": Case(lambda: nn.Dropout(0.0), (6,)),
    "dropout on maps": Case(lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Dropout(0.3), nn.Flatten()), (2, 4, 4)),
    "two dropouts": Case(lambda: nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 6), nn.Dropout(0.6)), (6,)),
    "flatten": Case(nn.Flatten, (2, 3, 4)),
    "flatten of the flat": Case(nn.Flatten, (5,)),
    "empty sequence": Case(nn.Sequential, (4,)),
    "conv relu pool": Case(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        ),
        (1, 8, 8),
    ),
    "relu in place, pool": Case(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)), (1, 6, 6)
    ),
    "relu, two padded pools": Case(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten()
        ),
        (1, 7, 7),
    ),
    "leaky relu, pool": Case(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.LeakyReLU(), nn.MaxPool2d(2)), (1, 6, 6)),
    "relu, average-pool": Case(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AvgPool2d(2)), (1, 6, 6)),
    "nested": Case(
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Tanh())),
            nn.Linear(5, 2),
        ),
        (1, 6, 6),
    ),
    "nested layouts": Case(
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(6, 6), nn.Conv2d(1, 3, 3)), nn.Sequential(nn.Linear(4, 4)), nn.AvgPool2d(2)
        ),
        (1, 6, 6),
    ),
    "named": Case(
        lambda: nn.Sequential(OrderedDict(first=nn.Conv2d(1, 2, 3), act=nn.ReLU(), pool=nn.MaxPool2d(2))), (1, 6, 6)
    ),
    "identities": Case(
        lambda: nn.Sequential(nn.Identity(), nn.Conv2d(1, 2, 3), nn.Identity(), nn.Flatten(), nn.Identity()), (1, 5, 5)
    ),
    "frozen first layer": Case(build_frozen, (4,)),
    "fc": Case(lambda: FC((1, 4, 4), widths=(6, 5, 3), batch_norm=True, dropout=0.3, activation="tanh"), (1, 4, 4)),
    "cnn": Case(
        lambda: CNN(
            (2, 9, 9),
            channels=(4, 3),
            kernels=[3, 2],
            widths=(6, 3),
            batch_norm=("maps", "hidden", "code"),
            conv_dropout=[0.2, 0.0],
        ),
        (2, 9, 9),
    ),
    "cnn with idle norms": Case(
        lambda: CNN((1, 9, 9), channels=(4, 3), kernels=[3, 2], widths=(6, 3), idle_batch_norm=("maps", "code")),
        (1, 9, 9),
    ),
    "cnn with a global average": Case(
        lambda: CNN((1, 9, 9), channels=(5,), widths=(3,), global_pool="average"), (1, 9, 9)
    ),
    "cnn with a global maximum": Case(lambda: CNN((1, 9, 9), channels=(5,), widths=(), global_pool="max"), (1, 9, 9)),
    "cnn without convolutions": Case(lambda: CNN((1, 4, 4), channels=(), widths=(5, 3)), (1, 4, 4)),
    "switched off": Case(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), SwitchedOff(nn.BatchNorm2d(4)), nn.MaxPool2d(2), nn.ReLU()), (1, 6, 6)
    ),
    "cnn without widths": Case(lambda: CNN((1, 8, 8), channels=(3,), widths=(), activation="gelu"), (1, 8, 8)),
    "mlp": Case(lambda: MLP(6, hidden=(5, 4), outputs=2, batch_norm=True, dropout=0.5), (6,)),
} | {f"activation {name}": Case(factory, (7,)) for name, factory in ACTIVATIONS.items()}
STACKED |= {
    f"activation {name} on maps": Case(
        lambda name=name: nn.Sequential(nn.Conv2d(1, 2, 2), ACTIVATIONS[name]()), (1, 4, 4)
    )
    for name in ("relu", "gelu tanh", "softplus", "identity")
}
TRACED: dict[str, Case] = {
    "residual block": Case(Residual, (4,)),
    "residual block in a sequence": Case(lambda: nn.Sequential(nn.Linear(3, 4), Residual()), (3,)),
    "prelu": Case(lambda: nn.PReLU(4), (4,)),
    "tied layers": Case(build_tied, (4,)),
    "tied weights": Case(build_tied_weight, (4,)),
    "subclass of linear": Case(lambda: DoubledLinear(4, 3), (4,)),
    "subclass of flatten": Case(SpreadFlatten, (2, 3)),
    "subclass of flatten in a sequence": Case(lambda: nn.Sequential(SpreadFlatten(), nn.Linear(6, 2)), (2, 3)),
    "sequence with its own forward": Case(lambda: ReversedSequential(nn.Linear(4, 3), nn.Linear(5, 4)), (5,)),
    "sequence with a direct parameter": Case(build_with_parameter, (5,)),
    "switched off layer that is not known": Case(lambda: SwitchedOff(nn.LayerNorm(5)), (5,)),
    "conv reflect": Case(lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "conv circular in a sequence": Case(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.ReLU()), (2, 5, 5)
    ),
    "flatten from 2": Case(lambda: nn.Flatten(2), (2, 3, 4)),
    "flatten then norm over sequences": Case(lambda: nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(3)), (3, 2, 2)),
    "max-pool with indices": Case(PooledWithIndices, (2, 4, 4)),
    "layer norm": Case(lambda: nn.LayerNorm(5), (5,)),
    "softmax": Case(lambda: nn.Softmax(-1), (5,)),
    "instance norm": Case(lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 4)),
}
LOOPED: dict[str, Case] = {
    "weight norm": Case(lambda: weight_norm(nn.Linear(4, 3)), (4,)),
    "linear with a forward hook": Case(build_hooked, (4,)),
    "batch norm without momentum": Case(lambda: nn.BatchNorm2d(3, momentum=None), (3, 4, 4)),
}
REASONS = {
    "weight norm": "has hooks or overrides methods such as train or state_dict, in ParametrizedLinear",
    "linear with a forward hook": "has hooks or overrides methods such as train or state_dict, in Linear",
    "batch norm without momentum": r"changes one of its parameters or buffers in place \(add_\)",
}
# one module without parameters at several positions of a sequence
REPEATED: dict[str, Case] = {
    "one relu twice": Case(build_one_relu_twice, (4,)),
    "one relu and pool twice": Case(build_one_relu_and_pool_twice, (2, 9, 9)),
    "one nested activation twice": Case(build_one_nested_activation_twice, (4,)),
    "one free batch norm twice": Case(build_one_free_batch_norm_twice, (4,)),
}
AS_ONE = STACKED | TRACED | REPEATED
ALL = AS_ONE | LOOPED
parametrize_cases = pytest.mark.parametrize("case", ALL.values(), ids=ALL)
parametrize_rounds = pytest.mark.parametrize("rounds", [1, 3], ids="R={}".format)


def build_both(case: Case, rounds: int) -> tuple[nn.Module, list[nn.Module]]:
    stacked = stack(case.factory, SEEDS[:rounds], case.shape).double()
    plain = [reference_impl.build_plain(case.factory, seed).double() for seed in SEEDS[:rounds]]
    if not isinstance(stacked, LoopedCopies):
        for place, network in enumerate(plain):
            network = plain[place] = nn.Sequential(network)
            reference_impl.use_masks(network, stacked, place)
    return stacked, plain


def draw_inputs(case: Case, rounds: int, images: int = 5) -> Tensor:
    return torch.randn(rounds, images, *case.shape, dtype=torch.float64)


def check_training_step(stacked: nn.Module, plain: list[nn.Module], x: Tensor) -> None:
    x, plain_inputs = x.clone().requires_grad_(), [part.clone().requires_grad_() for part in x]
    output, expected = (
        stacked(1 * x),
        torch.stack([network(1 * part) for network, part in zip(plain, plain_inputs, strict=True)]),
    )
    reference_impl.check_close(output, expected)
    weights = torch.randn_like(expected)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    reference_impl.check_close(x.grad, torch.stack([part.grad for part in plain_inputs]))


def check_same_values(stacked: nn.Module, plain: list[nn.Module], named: reference_impl.GetTensors) -> None:
    for place, network in enumerate(plain):
        actual, expected = reference_impl.get_copy_tensors(stacked, place, named), named(network)
        assert len(actual) == len(expected)
        for (name, value), (plain_name, plain_value) in zip(actual.items(), expected.items(), strict=True):
            assert name.split(".")[-1] == plain_name.split(".")[-1]
            reference_impl.check_close(value, plain_value)


@parametrize_cases
@parametrize_rounds
@pytest.mark.quick(106)
def test_outputs_and_gradients_equal_those_of_separate_plain_networks(case: Case, rounds: int) -> None:
    stacked, plain = build_both(case, rounds)
    check_training_step(stacked, plain, draw_inputs(case, rounds))
    check_same_values(stacked, plain, reference_impl.get_gradients)


@parametrize_cases
@parametrize_rounds
@pytest.mark.quick(106)
def test_buffers_and_evaluation_after_three_uneven_batches_equal_those_of_plain_networks(
    case: Case, rounds: int
) -> None:
    stacked, plain = build_both(case, rounds)
    for images in (5, 4, 3):
        check_training_step(stacked, plain, 2 + 3 * draw_inputs(case, rounds, images))
    check_same_values(stacked, plain, reference_impl.get_states)
    x = draw_inputs(case, rounds)
    reference_impl.check_close(
        stacked.eval()(x), torch.stack([net.eval()(part) for net, part in zip(plain, x, strict=True)])
    )


@parametrize_cases
def test_initial_weights_are_bit_equal_to_plain_torch_after_manual_seed(case: Case) -> None:
    stacked = stack(case.factory, SEEDS, case.shape)
    for place, seed in enumerate(SEEDS):
        actual = reference_impl.get_copy_tensors(stacked, place, reference_impl.get_states)
        expected = reference_impl.get_states(reference_impl.build_plain(case.factory, seed))
        assert all(map(torch.equal, actual.values(), expected.values()))
        assert len(actual) == len(expected)


@pytest.mark.parametrize("name", ["fc", "cnn", "mlp", "nested", "frozen first layer", "conv relu pool"])
def test_the_state_dict_of_a_round_loads_into_its_plain_network(name: str) -> None:
    case = STACKED[name]
    stacked = stack(case.factory, SEEDS, case.shape)
    for place, seed in enumerate(SEEDS):
        state = {name: value[place] for name, value in stacked.state_dict().items()}
        plain = reference_impl.build_plain(case.factory, seed).state_dict()
        assert list(state) == list(plain)
        assert all(torch.equal(state[name], plain[name]) for name in plain)
        reference_impl.build_plain(case.factory, 99).load_state_dict(state)


@parametrize_cases
def test_parameters_keep_their_requires_grad(case: Case) -> None:
    plain = [value.requires_grad for value in case.factory().parameters()]
    stacked = stack(case.factory, [0], case.shape)
    assert [value.requires_grad for value in stacked.parameters()] == plain


def parametrize_modules(cases: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", [case.factory() for case in cases.values()], ids=list(cases))


KNOWN = ("tied layers", "tied weights", "flatten from 2", "flatten then norm over sequences")


@parametrize_modules(STACKED | REPEATED | {name: TRACED[name] for name in KNOWN})
def test_known_layers_and_sequences_of_them_are_recognised(module: nn.Module) -> None:
    assert is_known(module)


@parametrize_modules(
    {name: case for name, case in (TRACED | LOOPED).items() if name not in KNOWN}
    | {
        "dropout 2d": Case(nn.Dropout2d, ()),
        "alpha dropout": Case(nn.AlphaDropout, ()),
        "transposed conv": Case(lambda: nn.ConvTranspose2d(1, 2, 3), ()),
        "conv 1d": Case(lambda: nn.Conv1d(1, 2, 3), ()),
        "batch norm 1d without momentum": Case(lambda: nn.BatchNorm1d(2, momentum=None), ()),
        "softmax head": Case(lambda: SoftmaxHead(20), ()),
        "power head in a sequence": Case(lambda: nn.Sequential(PowerHead(20)), ()),
    }
)
def test_other_modules_are_not_known_layers(module: nn.Module) -> None:
    assert not is_known(module)


@pytest.mark.parametrize("case", AS_ONE.values(), ids=AS_ONE)
def test_traceable_modules_are_stacked(case: Case) -> None:
    stacked = stack(case.factory, SEEDS, case.shape)
    assert isinstance(stacked, StackedNetwork), stacked.reason


@pytest.mark.parametrize("name", LOOPED)
def test_untraceable_modules_run_in_a_loop_with_a_reason(name: str) -> None:
    stacked = stack(LOOPED[name].factory, SEEDS, LOOPED[name].shape)
    assert isinstance(stacked, LoopedCopies)
    assert re.search(REASONS[name], stacked.reason)


def test_without_an_input_shape_modules_run_in_a_loop() -> None:
    stacked = stack(lambda: nn.Linear(4, 3), SEEDS)
    assert isinstance(stacked, LoopedCopies)
    assert "shape of its inputs" in stacked.reason


@pytest.mark.parametrize(
    "factory",
    [
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(float(torch.rand(())))),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3 + int(5 * torch.rand(())))),
    ],
    ids=["slope", "width"],
)
def test_copies_of_different_structure_are_separate_stacks(factory: Factory) -> None:
    """Each copy is a separate stack, so its random numbers do not depend on the other copies."""
    together = stack(factory, [0, 1, 2, 3, 4], [4])
    assert isinstance(together, LoopedRounds)
    x = torch.randn(5, 3, 4)
    for seed, alone in enumerate(together.rounds):
        torch.testing.assert_close(alone(x[seed : seed + 1]), stack(factory, [seed], [4])(x[seed : seed + 1]))


def test_looped_random_layers_use_their_round_seed_and_restore_the_global_generator() -> None:
    def factory() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 3, 2), nn.Dropout2d(0.5), nn.Dropout(0.3))

    x = torch.randn(3, 6, 1, 4, 4, dtype=torch.float64)
    before = torch.get_rng_state()
    output = stack(factory, SEEDS).double()(x)
    assert torch.equal(torch.get_rng_state(), before)
    for place, seed in enumerate(SEEDS):
        network = reference_impl.build_plain(factory, seed).double()
        with reference_impl.manual_seed(derive_seed(seed, "", 0, 0, 0)):
            reference_impl.check_close(output[place], network(x[place]))


def test_building_a_stack_does_not_change_the_global_generator() -> None:
    before = torch.get_rng_state()
    stack(lambda: nn.Linear(3, 2), SEEDS, [3])
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_inactive_in_evaluation() -> None:
    stacked = stack(lambda: nn.Dropout(0.9), SEEDS, [5]).eval()
    x = torch.randn(3, 4, 5)
    assert torch.equal(stacked(x), x)


def test_dropout_masks_keep_their_shape_and_name_in_both_layouts() -> None:
    stacked = stack(lambda: nn.Sequential(nn.Identity(), nn.Conv2d(1, 2, 1), nn.Dropout(0.5)), SEEDS, (1, 3, 3))
    (dropout,) = (layer for layer in stacked.modules() if isinstance(layer, StackedDropout))
    assert dropout.compute_mask((4, 2, 3, 3), torch.device("cpu")).shape == (3, 4, 2, 3, 3)


def test_layout_conversions_are_inverse() -> None:
    x = torch.randn(3, 5, 4, 6, 7)
    maps = to_maps(x)
    assert maps.is_contiguous()
    assert torch.equal(to_rows(maps), x)
    assert torch.equal(maps[1, ..., 2], x[1, 2])


@pytest.mark.parametrize("case", [STACKED["batch norm 1d"], STACKED["batch norm 2d"]], ids=["1d", "2d"])
def test_batch_norm_counts_its_training_batches_per_round(case: Case) -> None:
    stacked = stack(case.factory, SEEDS, case.shape).double()
    for _ in range(4):
        stacked(draw_inputs(case, 3))
    assert stacked.state_dict()[next(n for n in stacked.state_dict() if "tracked" in n)].tolist() == [4, 4, 4]


@pytest.mark.parametrize("rounds", [1, 3])
def test_batch_norm_rejects_a_single_value_per_channel_like_plain_torch(rounds: int) -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        stack(lambda: nn.BatchNorm1d(4), SEEDS[:rounds], [4])(torch.zeros(rounds, 1, 4))


@pytest.mark.parametrize("maps", [False, True])
def test_copies_may_have_different_dropout_probabilities(maps: bool) -> None:
    rates = iter([0.1, 0.5, 0.9] * 3)

    def factory() -> nn.Module:
        first = [nn.Conv2d(1, 4, 3)] if maps else [nn.Flatten(), nn.Linear(64, 9)]
        last = [nn.MaxPool2d(2), nn.ReLU()] if maps else []
        return nn.Sequential(*first, nn.Dropout(next(rates)), *last)

    together = stack(factory, [0, 1, 2], [1, 8, 8])
    assert isinstance(together, StackedNetwork)
    images = torch.rand(3, 5, 1, 8, 8)
    outputs = together(images)
    for place, rate in enumerate([0.1, 0.5, 0.9]):
        rates = iter([rate] * 3)
        same = stack(factory, [0, 1, 2], [1, 8, 8])
        assert torch.equal(same(images)[place], outputs[place])  # other rounds' probabilities do not matter
        parameters = [list(network.parameters()) for network in (together, same)]
        gradients = [
            torch.autograd.grad(network(images)[place].sum(), network_parameters)
            for network, network_parameters in zip((together, same), parameters, strict=True)
        ]
        for gradient, expected in zip(*gradients, strict=True):
            assert torch.equal(gradient[place], expected[place])
