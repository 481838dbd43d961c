from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pairs_lit
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import Architecture, get_embedding_width
from pairs_lit.nn.backbones import CNN, FC, TorchModule
from pairs_lit.nn.heads import MLP, ArgmaxHead, PowerHead, SoftmaxHead
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.nn.pair_output import Output, PairOutput, interpret_output
from pairs_lit.nn.pair_stack import PairStack, compute_default_stack_size
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from tests.support import reference_impl
from tests.support.designs import (
    DESIGN,
    PAIRS,
    RICH_CNN,
    SEEDS,
    TINY_CNN,
    TINY_FC,
    LoopedBackbone,
    build_stack_batches,
    check_same_values,
)
from tests.support.reference_impl import OPERATORS, PlainNetwork

RICH_FC = partial(FC, widths=(5, 6, 10), batch_norm=True, dropout=0.4, activation="silu")
DEEP_MLP = partial(MLP, hidden=(7, 5), batch_norm=True, dropout=0.25)


class LoopedHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(x)) + x.mean()


def build_torch_module(shape: tuple[int, int, int]) -> nn.Module:
    channels = 3 if shape[0] == 1 else 2
    layers = lambda: nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 10, 6))  # noqa: E731 - a factory
    return TorchModule(shape, module=layers, channels=channels, size=8)


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "FC": TINY_FC,
    "rich FC": RICH_FC,
    "CNN": TINY_CNN,
    "rich CNN": RICH_CNN,
    "looped": LoopedBackbone,
    "TorchModule": build_torch_module,
}


HEADS: dict[str, Callable[[int], nn.Module]] = {
    "one logit": MLP,
    "two logits": partial(MLP, outputs=2),
    "deep, one logit": DEEP_MLP,
    "deep, two logits": partial(DEEP_MLP, outputs=2),
    "looped": LoopedHead,
    "softmax": SoftmaxHead,
    "power": PowerHead,
    "argmax": ArgmaxHead,
}


TARGET = {"one logit": "bce", "deep, one logit": "bce", "argmax": "none"}


def build_loss(design: Architecture, head: str) -> PairLoss:
    digits = "none" if design.readout == "none" else "ce"
    return PairLoss(TARGET.get(head, "ce"), digits, aux_weight=0.7)


def check_against_plain(design: Architecture, loss: PairLoss, *, rounds: int = 3, training: bool = True) -> None:
    seeds = SEEDS[:rounds]
    stack = reference_impl.build_stack(design, seeds, training=training)
    stack.clock.epoch, stack.clock.step = 4, 3
    batch = reference_impl.draw_batch(rounds, PAIRS)
    output = stack(batch.images)
    losses = loss(output, batch.digits, batch.target)
    if losses.total.requires_grad:
        losses.total.sum().backward()
    for r, seed in enumerate(seeds):
        plain = PlainNetwork(design, seed).double().use_random_numbers_of(stack, r).train(training)
        prediction = plain(batch.images[r])
        check_same_output(output, r, prediction)
        plain_losses = reference_impl.compute_round_loss(loss, prediction, batch.digits[r], batch.target[r])
        for value, expected in zip(losses, plain_losses, strict=True):
            reference_impl.check_close(value[r], expected)
        if plain_losses[0].requires_grad:
            plain_losses[0].backward()
        check_same_values(plain, stack, r, reference_impl.get_gradients)
        check_same_values(plain, stack, r, reference_impl.get_states)


def check_same_output(output: PairOutput, r: int, expected: reference_impl.PlainOutput) -> None:
    """Check that the output of round ``r`` equals that of its plain network."""
    assert output.kind == expected.kind
    reference_impl.check_close(output.output[r], expected.output[:, 0] if expected.kind == "logit" else expected.output)
    assert (output.digit_logits is None) == (expected.digit_logits is None)
    if expected.digit_logits is not None:
        reference_impl.check_close(output.digit_logits[r], expected.digit_logits)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(
    ("sharing", "readout"),
    [*product(["shared", "separate"], ["none", "identity", "linear"]), ("joint", "none")],
)
@pytest.mark.quick(21)
def test_every_backbone_sharing_and_readout_equals_plain_networks(backbone: str, sharing: str, readout: str) -> None:
    design = replace(
        DESIGN, backbone=BACKBONES[backbone], head=DEEP_MLP, sharing=sharing, readout=readout, code_activation="relu"
    )
    check_against_plain(design, build_loss(design, "one logit"))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("sharing", ["shared", "separate"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_every_head_equals_plain_networks(head: str, sharing: str, rounds: int) -> None:
    design = replace(DESIGN, backbone=RICH_CNN, head=HEADS[head], sharing=sharing, readout="identity")
    check_against_plain(design, build_loss(design, head), rounds=rounds)


@pytest.mark.parametrize("head", ["one logit", "two logits", "deep, two logits", "looped"])
def test_every_learned_head_equals_plain_networks_on_a_joint_image(head: str) -> None:
    check_against_plain(replace(DESIGN, backbone=RICH_FC, head=HEADS[head], sharing="joint"), build_loss(DESIGN, head))


@pytest.mark.parametrize("relation", OPERATORS)
@pytest.mark.parametrize("head", ["softmax", "power", "argmax"])
def test_every_relation_of_digit_heads_equals_a_plain_double_loop(relation: str, head: str) -> None:
    design = replace(DESIGN, backbone=TINY_FC, head=HEADS[head], readout="linear", relation=relation)
    check_against_plain(design, build_loss(design, head))


HEAD_OF_KIND = {"logit": MLP, "logits": partial(MLP, outputs=2), "softmax": SoftmaxHead, "power": PowerHead}


LOSSES = [
    *(("bce", kind) for kind in ("logit", "softmax", "power")),
    *((target, kind) for target in ("ce", "mse") for kind in ("logits", "softmax", "power")),
    *(("none", kind) for kind in HEAD_OF_KIND),
]


@pytest.mark.parametrize(("target", "kind"), LOSSES)
@pytest.mark.parametrize("digits", ["ce", "mse", "none"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.quick(39)
def test_every_loss_equals_plain_networks(target: str, kind: str, digits: str, reduction: str) -> None:
    design = replace(DESIGN, backbone=TINY_FC, head=HEAD_OF_KIND[kind], readout="identity")
    check_against_plain(design, PairLoss(target, digits, aux_weight=0.3, target_weight=1.7, digit_reduction=reduction))


@pytest.mark.parametrize("activation", reference_impl.ACTIVATIONS)
def test_digit_logits_are_computed_before_the_code_activation(activation: str) -> None:
    design = replace(DESIGN, backbone=TINY_FC, code_activation=activation, readout="identity")
    check_against_plain(design, PairLoss(digits="ce"))


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_an_in_place_head_does_not_change_the_digit_logits(sharing: str) -> None:
    def head(width: int, *, inplace: bool) -> nn.Module:
        return nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(width, 1))

    images = reference_impl.draw_batch(3, PAIRS, dtype=torch.float32).images
    design = replace(DESIGN, sharing=sharing, readout="identity")
    expected, output = (
        PairStack.build(replace(design, head=partial(head, inplace=inplace)), SEEDS)(images)
        for inplace in (False, True)
    )
    assert torch.equal(output.output, expected.output)
    assert torch.equal(output.digit_logits, expected.digit_logits)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_evaluation_mode_equals_plain_networks(backbone: str) -> None:
    design = replace(DESIGN, backbone=BACKBONES[backbone], head=DEEP_MLP, readout="linear")
    check_against_plain(design, PairLoss(digits="mse"), training=False)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("sharing", ["shared", "separate", "joint"])
def test_initial_weights_are_bit_equal_to_plain_torch_after_manual_seed(backbone: str, sharing: str) -> None:
    readout = "none" if sharing == "joint" else "linear"
    design = replace(DESIGN, backbone=BACKBONES[backbone], head=DEEP_MLP, sharing=sharing, readout=readout)
    stack = PairStack.build(design, SEEDS)
    for r, seed in enumerate(SEEDS):
        plain = PlainNetwork(design, seed)
        states = zip(plain.get_values(stack, r, reference_impl.get_states), plain.state_dict().values(), strict=True)
        assert all(torch.equal(value, expected) for value, expected in states)


# Adam's default eps of 1e-8 would amplify rounding errors: the exact gradient of a bias before batch norm is 0
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": partial(torch.optim.Adam, lr=0.01, eps=1e-4, weight_decay=0.01),
    "SGD, momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
}


SHARED = (DEEP_MLP, "shared", PairLoss(digits="ce", aux_weight=0.5))
SEPARATE = (partial(DEEP_MLP, outputs=2), "separate", PairLoss("ce", "mse"))
PROBABILITY = (SoftmaxHead, "shared", PairLoss("ce", "none"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("backbone", ["rich CNN", "rich FC", "looped"])
@pytest.mark.parametrize(
    ("head", "sharing", "loss", "stack_size"),
    [(*SHARED, 1), (*SHARED, 2), (*SHARED, 3), (*SEPARATE, 2), (*PROBABILITY, 2)],
    ids=["shared-1", "shared-2", "shared-3", "separate-2", "probability-2"],
)
@pytest.mark.quick(10)
def test_weights_after_training_equal_those_of_separately_trained_plain_networks(
    optimizer: str, backbone: str, head: Callable[[int], nn.Module], sharing: str, loss: PairLoss, stack_size: int
) -> None:
    design = replace(DESIGN, backbone=BACKBONES[backbone], head=head, sharing=sharing, readout="identity")
    module = PairModule(
        seeds=SEEDS,
        stack_size=stack_size,
        backbone=design.backbone,
        head=head,
        sharing=sharing,
        readout="identity",
        loss=loss,
        optimizer=OPTIMIZERS[optimizer],
    ).double()
    rounds = [
        PlainNetwork(design, seed)
        .double()
        .use_random_numbers_of(module.pair_stacks[place // stack_size], place % stack_size)
        for place, seed in enumerate(SEEDS)
    ]
    optimizers = [OPTIMIZERS[optimizer](network.parameters()) for network in rounds]
    stacked_optimizer = module.configure_optimizers()
    for _ in range(2):
        for index, batch in enumerate(build_stack_batches(SEEDS, stack_size, [5, 3])):
            stacked_optimizer.zero_grad()
            module.training_step(batch, index).backward()
            stacked_optimizer.step()
            for r in range(len(batch.target)):
                place = batch.stack * stack_size + r
                optimizers[place].zero_grad()
                prediction = rounds[place](batch.images[r])
                reference_impl.compute_round_loss(loss, prediction, batch.digits[r], batch.target[r])[0].backward()
                optimizers[place].step()
    for place, plain in enumerate(rounds):
        check_same_values(plain, module.pair_stacks[place // stack_size], place % stack_size, reference_impl.get_states)


CONTRACT_BACKBONES = {"FC": TINY_FC, "CNN": TINY_CNN, "TorchModule": build_torch_module}


CONTRACT_HEADS = {
    "MLP 1": partial(MLP, hidden=(8,)),
    "MLP 2": partial(MLP, outputs=2),
    "SoftmaxHead": SoftmaxHead,
    "PowerHead": PowerHead,
    "ArgmaxHead": ArgmaxHead,
}


@pytest.mark.parametrize("head", CONTRACT_HEADS)
@pytest.mark.parametrize("backbone", CONTRACT_BACKBONES)
def test_contract_of_every_backbone_and_head(backbone: str, head: str) -> None:
    design = replace(
        DESIGN, backbone=CONTRACT_BACKBONES[backbone], head=CONTRACT_HEADS[head], readout="identity", relation="gt"
    )
    stack, other = (reference_impl.build_stack(design, seeds) for seeds in ([1, 2], [3, 4]))
    batch = reference_impl.draw_batch(2, PAIRS)
    output = stack(batch.images)
    shape = (2, PAIRS, 2) if head == "MLP 2" else (2, PAIRS)
    assert output.output.shape == shape
    assert output.digit_logits.shape == (2, PAIRS, 2, 10)
    assert output.get_probability().shape == output.get_decision().shape == (2, PAIRS)
    target = {"MLP 1": "bce", "ArgmaxHead": "none"}.get(head, "ce")
    PairLoss(target, "ce")(output, batch.digits, batch.target).total.sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in stack.network.parameters())
    assert all((value.grad.flatten(1).abs().sum(1) > 0).all() for value in stack.network.head.parameters())
    assert any(value.grad.abs().sum() > 0 for value in stack.network.branch.parameters())
    stack.network.eval()
    assert torch.equal(stack(batch.images).output, output.output)
    other.network.load_state_dict(stack.network.state_dict())
    assert torch.equal(other(batch.images).output, output.output)


@pytest.mark.parametrize("backbone", CONTRACT_BACKBONES)
def test_a_target_loss_alone_reaches_every_parameter_of_branch_and_head(backbone: str) -> None:
    stack = PairStack.build(replace(DESIGN, backbone=CONTRACT_BACKBONES[backbone], readout="linear"), [1, 2])
    batch = reference_impl.draw_batch(2, PAIRS, dtype=torch.float32)
    PairLoss()(stack(batch.images), batch.digits, batch.target).total.sum().backward()
    reached = {name.split(".")[0] for name, value in stack.network.named_parameters() if value.grad is not None}
    assert reached == {"branch", "head"}
    assert all(
        value.grad is not None for part in (stack.network.branch, stack.network.head) for value in part.parameters()
    )


@pytest.mark.parametrize("kind", ["logit", "logits", "probability"])
def test_probability_and_decision_follow_the_kind_of_output(kind: str) -> None:
    z = torch.tensor([[-2.0, -0.1, 0.0, 0.1, 0.4, 0.5, 0.6, 3.0]])
    logits = torch.stack([torch.zeros_like(z), z], -1) if kind == "logits" else z
    output = PairOutput(logits, kind, None)
    if kind == "probability":
        assert torch.equal(output.get_probability(), z)
        assert torch.equal(output.get_decision(), z > 0.5)
    else:
        torch.testing.assert_close(output.get_probability(), 1 / (1 + (-z).exp()))
        assert torch.equal(output.get_decision(), z > 0)


def count_parameters(**parts: Any) -> int:  # noqa: ANN401 - the module's own arguments
    return PairModule(seeds=[0, 1], stack_size=2, **parts).parameters_per_round


BELHADJ = {"head": MLP, "readout": "identity", "code_activation": "relu", "loss": PairLoss(digits="ce")}
PILLONEL_CNN = partial(CNN, channels=(32, 64), widths=())
PILLONEL_HEAD = partial(MLP, hidden=(256, 128, 64))
GRALL_CNN = partial(CNN, channels=(64, 128, 256), kernels=[3, 3, 2], pools=[2, 2, 1], widths=(128, 10))
HAKOBYAN_NET1 = partial(CNN, channels=(10, 20), conv_dropout=[0.0, 0.2], widths=(50, 10))
HAKOBYAN_NET2 = partial(CNN, channels=(10, 20), conv_dropout=[0.0, 0.2], widths=(80, 10))


REPORTS: dict[str, tuple[int, dict[str, Any]]] = {
    "belhadj FC": (2101, {"backbone": partial(FC, widths=(10, 10)), **BELHADJ}),
    "belhadj CNN": (1781, {"backbone": partial(CNN, channels=(16, 8), widths=(10, 10)), **BELHADJ}),
    "belhadj FC, default arguments": (2101, {"backbone": FC, **BELHADJ}),
    "belhadj CNN, default arguments": (1781, {"backbone": CNN, **BELHADJ}),
    "hakobyan Net1": (
        6592,
        {
            "backbone": HAKOBYAN_NET1,
            "head": partial(MLP, outputs=2),
            "sharing": "joint",
            "code_activation": "relu",
            "loss": PairLoss("ce"),
        },
    ),
    "hakobyan Net2": (
        10362,
        {
            "backbone": HAKOBYAN_NET2,
            "head": partial(MLP, hidden=(50,), outputs=2),
            "readout": "identity",
            "loss": PairLoss("ce", "ce"),
        },
    ),
    "pillonel 1": (210177, {"backbone": PILLONEL_CNN, "head": PILLONEL_HEAD, "sharing": "separate"}),
    "pillonel 2": (191361, {"backbone": PILLONEL_CNN, "head": PILLONEL_HEAD}),
    "pillonel 3": (
        193931,
        {"backbone": PILLONEL_CNN, "head": PILLONEL_HEAD, "readout": "linear", "loss": PairLoss(digits="ce")},
    ),
    "pillonel 4": (
        195019,
        {
            "backbone": partial(PILLONEL_CNN, batch_norm=("maps",)),
            "head": partial(PILLONEL_HEAD, batch_norm=True),
            "readout": "linear",
            "loss": PairLoss(digits="ce"),
        },
    ),
    "grall Model A": (
        240010 + 462,
        {"backbone": GRALL_CNN, "head": partial(MLP, hidden=(20,), outputs=2), "loss": PairLoss("ce")},
    ),
    "grall Model B": (240010, {"backbone": GRALL_CNN, "head": PowerHead, "loss": PairLoss("mse")}),
    "grall Model B, not shared": (
        2 * 240010,
        {"backbone": GRALL_CNN, "head": PowerHead, "sharing": "separate", "loss": PairLoss("mse")},
    ),
    "gardoni with its batch norms switched off": (
        73299,
        {
            "backbone": partial(CNN, channels=(32, 64), widths=(200, 10), idle_batch_norm=("maps", "code")),
            "head": partial(MLP, hidden=(20, 20)),
        },
    ),
    "gardoni without its batch norms": (
        72226 + 861,
        {"backbone": partial(CNN, channels=(32, 64), widths=(200, 10)), "head": partial(MLP, hidden=(20, 20))},
    ),
}


@pytest.mark.parametrize(("expected", "parts"), REPORTS.values(), ids=REPORTS)
@pytest.mark.quick(5)
def test_parameter_counts_per_round_equal_those_of_the_reports(expected: int, parts: dict[str, Any]) -> None:
    assert count_parameters(**parts) == expected


@pytest.mark.parametrize(
    ("backbone", "rounds", "expected"),
    [
        (CNN, 1, 1),
        (CNN, 3, 3),
        (CNN, 4, 2),
        (CNN, 10, 5),
        (CNN, 21, 7),
        (CNN, 100, 10),
        (CNN, 10_000, 79),
        (FC, 10, 5),
        (FC, 100, 20),
        (partial(CNN, channels=(16, 400)), 100, 6),
        (partial(CNN, channels=(3000, 2)), 100, 1),
    ],
)
def test_default_stack_size_is_a_fixed_function_of_network_and_rounds(
    backbone: Callable[..., nn.Module], rounds: int, expected: int
) -> None:
    design = replace(DESIGN, backbone=backbone)
    assert {compute_default_stack_size(design, range(seed, seed + rounds)) for seed in (0, 7)} == {expected}


@pytest.mark.parametrize(("stack_size", "sizes"), [(None, [3]), (1, [1, 1, 1]), (2, [2, 1]), (50, [3])])
def test_rounds_are_split_into_stacks_of_the_requested_size(stack_size: int | None, sizes: list[int]) -> None:
    module = PairModule(seeds=SEEDS, stack_size=stack_size, backbone=TINY_FC, head=MLP)
    assert [stack.head.get_submodule("0").weight.shape[0] for stack in module.stacks] == sizes
    assert module.rounds.stack_size == max(sizes)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_the_embedding_width_changes_no_mode_statistics_or_generator(training: bool) -> None:
    backbone = RICH_CNN((1, 14, 14)).train(training)
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in backbone.state_dict().items()}
    assert get_embedding_width(backbone, (1, 14, 14)) == 10
    assert backbone.training is training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())


class NormAtRest(nn.Sequential):
    """Keeps batch norm in evaluation mode by a ``train`` method that returns nothing, which is a common mistake."""

    def train(self, mode: bool = True) -> None:
        super().train(mode)
        self[-1].training = False


def test_a_train_method_may_return_nothing() -> None:
    module = build_module(backbone=lambda shape: NormAtRest(nn.Flatten(), nn.Linear(196, 10), nn.BatchNorm1d(10)))
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]
    assert [norm.training for norm in norms] == [False, False]


class FixedOutput(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self._shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * torch.ones(len(x), *self._shape)


class RaisingModule(nn.Module):
    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self._error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self._error("no such\nimage")


class TupleModule(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def build_module(**changes: object) -> PairModule:
    return PairModule(**{"seeds": [0, 1], "backbone": TINY_FC, "head": MLP} | changes)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kernels": [3]}, "CNN.kernels must be one value or a list of 2, .* got a list of 1"),
        ({"pools": [2, 2, 2]}, "CNN.pools must be one value or a list of 2, .* got a list of 3"),
        ({"conv_dropout": [0.1]}, "CNN.conv_dropout must be one value or a list of 2, .* got a list of 1"),
        ({"kernels": 7}, r"CNN: kernels \[7, 7\] and pools \[2, 2\] are too large for an image of shape \(1, 14, 14\)"),
        ({"batch_norm": ["map"]}, "CNN: batch_norm must be one of 'maps', 'hidden', 'code', got 'map'"),
        ({"idle_batch_norm": ["hidden"]}, "CNN: idle_batch_norm must be one of 'maps', 'code', got 'hidden'"),
        (
            {"batch_norm": ["code"], "idle_batch_norm": ["code"]},
            "CNN.batch_norm and CNN.idle_batch_norm both contain 'code'. Remove it from one of them",
        ),
        ({"global_pool": "median"}, "CNN: global_pool must be one of 'none', 'average', 'max', got 'median'"),
        ({"pools": [4, 4]}, r"CNN: kernels \[3, 3\] and pools \[4, 4\] are too large"),
    ],
)
def test_invalid_cnn_options_are_rejected(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(PairsLitError, match=match):
        CNN((1, 14, 14), **arguments)


@pytest.mark.parametrize("outputs", [0, 3, -1])
def test_an_mlp_has_one_or_two_outputs(outputs: int) -> None:
    with pytest.raises(PairsLitError, match=rf"MLP.outputs must be 1 or 2, got {outputs}"):
        MLP(20, outputs=outputs)


@pytest.mark.parametrize("head", [SoftmaxHead, PowerHead, ArgmaxHead])
@pytest.mark.parametrize(
    "changes", [{"backbone": partial(FC, widths=(5,))}, {"sharing": "joint", "backbone": TINY_FC}], ids=["5", "joint"]
)
def test_a_digit_head_needs_ten_values_per_image(head: type[nn.Module], changes: dict[str, Any]) -> None:
    with pytest.raises(PairsLitError, match=rf"{head.__name__} uses the embeddings as .* needs a width of 20"):
        build_module(head=head, loss=PairLoss("ce"), **changes)


@pytest.mark.parametrize("readout", ["identity", "linear"])
def test_joint_sharing_rejects_a_readout(readout: str) -> None:
    with pytest.raises(PairsLitError, match=rf"model\.readout must be none with sharing: joint, got {readout}"):
        build_module(sharing="joint", readout=readout)


def test_an_identity_readout_needs_embeddings_of_width_ten() -> None:
    with pytest.raises(PairsLitError, match="needs embeddings of width 10, but the backbone's have width 7"):
        build_module(backbone=partial(FC, widths=(7,)), readout="identity")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"loss": PairLoss("ce")}, r"target is ce, which needs logits or probability .* gives logit"),
        ({"loss": PairLoss("mse")}, r"target is mse, which needs logits or probability .* gives logit"),
        ({"head": partial(MLP, outputs=2)}, r"target is bce, which needs logit or probability .* gives logits"),
        ({"head": ArgmaxHead}, "this head has no gradient"),
        ({"loss": PairLoss(digits="ce")}, r"digits is ce, but there are no digit logits"),
        ({"loss": PairLoss("none")}, "nothing would be trained"),
        ({"seeds": []}, "the number of seeds must be 1 or more, got 0"),
        (
            {"head": lambda _: FixedOutput(3)},
            r"a head must return 1 or 2 logits per pair, got shape \(3, 3\) for 3 pairs",
        ),
        ({"head": lambda _: FixedOutput(2, 2)}, r"a head must return 1 or 2 logits per pair, got shape \(3, 2, 2\)"),
        ({"head": lambda _: FixedOutput()}, r"a head must return 1 or 2 logits per pair, got"),
    ],
)
def test_incompatible_parts_are_rejected(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(PairsLitError, match=match):
        build_module(**changes)


@pytest.mark.parametrize(
    ("backbone", "match"),
    [
        (lambda shape: nn.Conv2d(1, 4, 3), r"must map \(N, C, H, W\) to \(N, F\)\. Conv2d gave \(2, 4, 12, 12\)"),
        (lambda shape: TupleModule(), r"must map \(N, C, H, W\) to \(N, F\)\. TupleModule gave tuple"),
        (lambda shape: nn.Linear(3, 2), r"the backbone Linear cannot take an input of shape \(1, 14, 14\): "),
        (
            lambda shape: RaisingModule(RuntimeError),
            r"the backbone RaisingModule cannot take an input of shape \(1, 14, 14\): RuntimeError: no such image",
        ),
        (lambda shape: RaisingModule(ValueError), "the backbone RaisingModule cannot take an input of shape"),
        (lambda shape: RaisingModule(TypeError), "the backbone RaisingModule cannot take an input of shape"),
        (lambda shape: TorchModule(shape, module=lambda: nn.Conv2d(3, 5, 3)), "the backbone TorchModule cannot take"),
    ],
)
def test_a_backbone_that_fails_or_has_a_wrong_output_shape_is_rejected(
    backbone: Callable[..., nn.Module], match: str
) -> None:
    with pytest.raises(PairsLitError, match=match):
        build_module(backbone=backbone)


@pytest.mark.parametrize(("channels", "size"), [(None, None), (3, None), (None, 20), (3, 20)])
def test_torch_module_repeats_channels_resizes_and_flattens(channels: int | None, size: int | None) -> None:
    side, depth = size or 14, channels or 1
    backbone = TorchModule((1, 14, 14), module=lambda: nn.AvgPool2d(side // 2), channels=channels, size=size)
    x = torch.randn(3, 1, 14, 14)
    resized = x if size is None else nn.functional.interpolate(x, (20, 20), mode="bilinear")
    assert torch.equal(backbone(x), nn.AvgPool2d(side // 2)(resized.repeat(1, depth, 1, 1)).flatten(1))


PLAIN = [
    replace(DESIGN, backbone=RICH_CNN, readout="linear"),
    replace(DESIGN, sharing="separate", readout="identity", code_activation="relu"),
    replace(DESIGN, sharing="joint"),
    replace(DESIGN, backbone=TINY_FC, head=PowerHead, readout="identity"),
]


@pytest.mark.parametrize("design", PLAIN, ids=["shared", "separate", "joint", "digit head"])
def test_a_stack_of_pair_networks_computes_the_same_as_one_pair_network(design: Architecture) -> None:
    batch = reference_impl.draw_batch(3, PAIRS)
    stacked = reference_impl.build_stack(design, SEEDS[:3], training=False)
    together = stacked.network(batch.images)
    for r, seed in enumerate(SEEDS[:3]):
        network = design.build(seed).double().eval()
        alone = network(batch.images[r])
        for output, expected_output in zip(to_list(together), to_list(alone), strict=True):
            reference_impl.check_close(output[r], expected_output)
        expected = PlainNetwork(design, seed).double().eval()(batch.images[r])
        prediction = interpret_output(alone, design.relation, is_digit_head=network.is_digit_head)
        reference_impl.check_close(
            prediction.output, expected.output[:, 0] if expected.kind == "logit" else expected.output
        )
        assert prediction.kind == expected.kind


def to_list(output: Output) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def test_stack_takes_a_pair_network_built_by_hand() -> None:
    def build() -> PairNetwork:
        return PairNetwork(nn.Sequential(nn.Flatten(), nn.Linear(196, 10)), nn.Linear(20, 1), width=10)

    stacked = pairs_lit.stack(build, SEEDS, (2, 14, 14))
    assert isinstance(stacked, PairNetwork)
    images = reference_impl.draw_batch(len(SEEDS), PAIRS, dtype=torch.float32).images
    for r, seed in enumerate(SEEDS):
        with reference_impl.manual_seed(seed):
            plain = build()
        torch.testing.assert_close(stacked(images)[r], plain(images[r]))


def test_rounds_share_no_parameter_of_a_pair_network() -> None:
    shared = nn.Linear(20, 1)
    with pytest.raises(PairsLitError, match="Linear has the same parameter 'weight' in two rounds"):
        pairs_lit.stack(lambda: PairNetwork(nn.Flatten(), shared, width=10), [0, 1], (2, 14, 14))
