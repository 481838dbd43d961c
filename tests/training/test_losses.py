from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.heads import ArgmaxHead, DigitHead, PowerHead, SoftmaxHead
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.relation import compute_relation_probability, compute_target
from pairs_lit.training.losses import PairLoss, combine_losses
from tests.support import reference_impl
from tests.support.reference_impl import OPERATORS

ROUNDS, PAIRS = 3, 7
OUTPUT_KINDS = {"bce": ("logit", "probability"), "ce": ("logits", "probability"), "mse": ("logits", "probability")}
COMBINATIONS = [
    *(
        (target, kind, digits)
        for target in OUTPUT_KINDS
        for kind in OUTPUT_KINDS[target]
        for digits in ("none", "ce", "mse")
    ),
    *(("none", kind, digits) for kind in ("logit", "logits", "probability") for digits in ("ce", "mse")),
]
RELATIONS = list(OPERATORS)
relations = pytest.mark.parametrize("relation", RELATIONS)


def draw_outputs(kind: str) -> Tensor:
    shape = (ROUNDS, PAIRS, 2) if kind == "logits" else (ROUNDS, PAIRS)
    return torch.randn(shape, dtype=torch.float64) * 2


def build_output(kind: str, values: Tensor, digit_logits: Tensor | None) -> PairOutput:
    return PairOutput(values.sigmoid() if kind == "probability" else values, kind, digit_logits)


def build_reference_output(kind: str, values: Tensor, digit_logits: Tensor | None) -> reference_impl.PlainOutput:
    output = {"logit": values[..., None], "logits": values, "probability": values.sigmoid()}[kind]
    return reference_impl.PlainOutput(output, kind, digit_logits)


@pytest.mark.parametrize(("target", "kind", "digits"), COMBINATIONS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (1.5, 0.0)], ids=str)
def test_every_combination_equals_torch_losses_of_each_round(
    target: str, kind: str, digits: str, reduction: str, weights: tuple[float, float]
) -> None:
    loss = PairLoss(target, digits, aux_weight=weights[0], target_weight=weights[1], digit_reduction=reduction)
    values, logits = (
        draw_outputs(kind).requires_grad_(),
        torch.randn(ROUNDS, PAIRS, 2, 10, dtype=torch.float64).requires_grad_(),
    )
    batch = reference_impl.draw_batch(ROUNDS, PAIRS, 2)
    parts = loss(build_output(kind, values, logits), batch.digits, batch.target)
    actual = torch.autograd.grad(parts.total.sum(), [values, logits], materialize_grads=True)
    for r in range(ROUNDS):
        leaves = [leaf[r].detach().requires_grad_() for leaf in (values, logits)]
        expected = reference_impl.compute_round_loss(
            loss, build_reference_output(kind, *leaves), batch.digits[r], batch.target[r]
        )
        for part, expected_part in zip(parts, expected, strict=True):
            reference_impl.check_close(part[r], expected_part)
        expected_gradients = torch.autograd.grad(expected[0], leaves, materialize_grads=True)
        for gradient, expected_gradient in zip(actual, expected_gradients, strict=True):
            reference_impl.check_close(gradient[r], expected_gradient)


@pytest.mark.parametrize("target", ["bce", "ce"])
@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0 - 1e-9, 1.0])
def test_probabilities_at_the_ends_are_clamped_and_finite(target: str, p: float) -> None:
    output = torch.full((1, 2), p, dtype=torch.float64, requires_grad=True)
    truth = torch.tensor([[0, 1]])
    parts = PairLoss(target)(PairOutput(output, "probability", None), torch.zeros(1, 2, 2).long(), truth)
    clamped = torch.tensor([1e-6, 1 - 1e-6], dtype=torch.float64)
    reference_impl.check_close(parts.target[0], -clamped.log().mean())
    parts.total.sum().backward()
    assert torch.equal(output.grad, torch.zeros(1, 2, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["logit", "logits", "probability"])
@pytest.mark.parametrize("digits", ["none", "ce", "mse"])
@pytest.mark.parametrize("target", list(OUTPUT_KINDS))
def test_nan_in_one_round_affects_no_other_loss_or_gradient(kind: str, digits: str, target: str) -> None:
    if kind not in OUTPUT_KINDS[target]:
        kind = OUTPUT_KINDS[target][0]
    batch = reference_impl.draw_batch(ROUNDS, PAIRS, 2)
    values, logits = draw_outputs(kind), torch.randn(ROUNDS, PAIRS, 2, 10, dtype=torch.float64)
    broken, broken_logits = values.clone(), logits.clone()
    broken[1], broken_logits[1] = torch.nan, torch.nan
    losses, gradients = [], []
    for output_leaf, logits_leaf in ((values, logits), (broken, broken_logits)):
        leaves = output_leaf.requires_grad_(), logits_leaf.requires_grad_()
        total = PairLoss(target, digits)(build_output(kind, *leaves), batch.digits, batch.target).total
        losses.append(total)
        gradients.append(torch.autograd.grad(total.sum(), leaves, materialize_grads=True))
    assert losses[1][1].isnan()
    assert torch.equal(losses[0][[0, 2]], losses[1][[0, 2]])
    assert all(torch.equal(sound[[0, 2]], other[[0, 2]]) for sound, other in zip(*gradients, strict=True))


@relations
def test_target_is_one_exactly_where_the_relation_holds(relation: str) -> None:
    digit_pairs = torch.tensor(list(product(range(10), repeat=2)))
    expected = [int(OPERATORS[relation](i, j)) for i, j in digit_pairs.tolist()]
    assert compute_target(relation, digit_pairs).tolist() == expected


@relations
def test_the_probability_of_a_relation_equals_an_explicit_double_loop(relation: str) -> None:
    p = torch.randn(3, 5, 2, 10, dtype=torch.float64).softmax(-1)
    total = torch.zeros(3, 5, dtype=torch.float64)
    for i in range(10):
        for j in range(10):
            if OPERATORS[relation](i, j):
                total += p[..., 0, i] * p[..., 1, j]
    reference_impl.check_close(compute_relation_probability(relation, p), total)


@relations
def test_the_probability_of_certain_digits_is_the_target(relation: str) -> None:
    digit_pairs = torch.tensor(list(product(range(10), repeat=2)))
    certain = torch.nn.functional.one_hot(digit_pairs, 10).double()
    assert torch.equal(compute_relation_probability(relation, certain), compute_target(relation, digit_pairs).double())


@pytest.mark.parametrize(("relation", "opposite"), [("le", "gt"), ("lt", "ge")])
def test_opposite_relations_have_probabilities_that_sum_to_one(relation: str, opposite: str) -> None:
    p = torch.randn(4, 2, 10, dtype=torch.float64).softmax(-1)
    reference_impl.check_close(
        compute_relation_probability(relation, p) + compute_relation_probability(opposite, p),
        torch.ones(4, dtype=torch.float64),
    )


HEADS: dict[str, Callable[[], DigitHead]] = {
    "softmax": lambda: SoftmaxHead(20),
    "power": lambda: PowerHead(20),
    "power 1": lambda: PowerHead(20, exponent=1.0),
    "power 2.5": lambda: PowerHead(20, exponent=2.5),
    "argmax": lambda: ArgmaxHead(20),
}
digit_heads = pytest.mark.parametrize("name", HEADS)


@digit_heads
def test_digit_probabilities_and_their_gradients_equal_the_formula(name: str) -> None:
    head = HEADS[name]()
    exponent = {"power 1": 1.0, "power 2.5": 2.5}.get(name, 6.0)
    z = torch.randn(3, 4, 20, dtype=torch.float64, requires_grad=True)
    z_copy = z.detach().clone().requires_grad_()
    actual = head(z)
    expected = reference_impl.compute_digit_probabilities(head, z_copy.view(3, 4, 2, 10), exponent)
    reference_impl.check_close(actual, expected)
    reference_impl.check_close(actual.sum(-1), torch.ones(3, 4, 2, dtype=torch.float64))
    if actual.requires_grad:
        weights = torch.randn_like(actual)
        (actual * weights).sum().backward()
        (expected * weights).sum().backward()
        reference_impl.check_close(z.grad, z_copy.grad)


@digit_heads
@pytest.mark.parametrize("value", [0.0, -3.0, 1e30])
def test_equal_logits_give_no_nan_in_value_or_gradient(name: str, value: float) -> None:
    z = torch.full((2, 3, 20), value, requires_grad=True)
    p = HEADS[name]()(z)
    assert p.isfinite().all()
    if not name.startswith("argmax"):
        torch.testing.assert_close(p, torch.full((2, 3, 2, 10), 0.1))
        p[..., 3].sum().backward()
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("exponent", [0.5, -1.0, float("inf"), float("nan")])
def test_an_exponent_without_a_finite_gradient_is_rejected(exponent: float) -> None:
    with pytest.raises(PairsLitError, match=r"PowerHead\.exponent must be finite and 1 or more, got "):
        PowerHead(20, exponent=exponent)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_the_power_head_neither_overflows_nor_underflows(scale: float) -> None:
    z = torch.randn(5, 20)
    expected = PowerHead(20)(z.double()).float()
    torch.testing.assert_close(PowerHead(20)(z * scale), expected, rtol=1e-3, atol=1e-5)


def test_one_row_of_equal_logits_changes_no_other_row() -> None:
    z = torch.randn(3, 20)
    flat = z.clone()
    flat[1] = 2.0
    head = PowerHead(20)
    assert torch.equal(head(z)[[0, 2]], head(flat)[[0, 2]])


@pytest.mark.parametrize("name", ["aux_weight", "target_weight"])
@pytest.mark.parametrize("value", [-0.5, float("inf"), float("nan")])
def test_weights_that_are_negative_or_not_finite_are_rejected(name: str, value: float) -> None:
    with pytest.raises(PairsLitError, match=rf"model\.loss\.{name} must be a finite number, 0 or more, got {value}\."):
        PairLoss(**{name: value})


@pytest.mark.parametrize(
    ("target", "kind", "needed"),
    [
        ("bce", "logits", "logit or probability"),
        ("ce", "logit", "logits or probability"),
        ("mse", "logit", "logits or probability"),
    ],
)
def test_a_head_that_does_not_suit_the_target_loss_is_rejected(target: str, kind: str, needed: str) -> None:
    match = rf"model\.loss\.target is {target}, which needs {needed} from the head, but the head gives {kind}\. "
    with pytest.raises(PairsLitError, match=match):
        PairLoss(target).check(PairOutput(draw_outputs(kind).requires_grad_(), kind, None))


@pytest.mark.parametrize(
    ("target", "kind"), [(target, kind) for target, kinds in OUTPUT_KINDS.items() for kind in kinds]
)
def test_a_head_that_suits_the_target_loss_is_accepted(target: str, kind: str) -> None:
    PairLoss(target).check(PairOutput(draw_outputs(kind).requires_grad_(), kind, None))


def test_a_head_without_gradient_is_rejected_unless_the_target_is_not_trained() -> None:
    output = PairOutput(draw_outputs("probability"), "probability", torch.zeros(ROUNDS, PAIRS, 2, 10))
    with pytest.raises(PairsLitError, match=r"model\.loss\.target is mse, but this head has no gradient"):
        PairLoss("mse").check(output)
    PairLoss("none", "ce").check(output)


@pytest.mark.parametrize("digits", ["ce", "mse"])
def test_a_digit_loss_without_digit_logits_is_rejected(digits: str) -> None:
    with pytest.raises(PairsLitError, match=rf"model\.loss\.digits is {digits}, but there are no digit logits"):
        PairLoss("bce", digits).check(PairOutput(draw_outputs("logit").requires_grad_(), "logit", None))


def test_training_nothing_is_rejected() -> None:
    with pytest.raises(PairsLitError, match="nothing would be trained"):
        PairLoss("none").check(PairOutput(draw_outputs("logit"), "logit", None))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("epsilon", [0.05, 0.4])
@pytest.mark.parametrize(
    ("target", "kind"), [("bce", "logit"), ("ce", "logits"), ("bce", "probability"), ("ce", "probability")]
)
def test_label_smoothing_equals_that_of_torch(target: str, kind: str, epsilon: float, reduction: str) -> None:
    loss = PairLoss(target, "ce", aux_weight=0.7, digit_reduction=reduction, label_smoothing=epsilon)
    values, logits = draw_outputs(kind), torch.randn(ROUNDS, PAIRS, 2, 10, dtype=torch.float64)
    batch = reference_impl.draw_batch(ROUNDS, PAIRS, 2)
    parts = loss(build_output(kind, values, logits), batch.digits, batch.target)
    for r in range(ROUNDS):
        two = values[r] if kind == "logits" else torch.stack([torch.zeros_like(values[r]), values[r]], -1)
        target_loss = F.cross_entropy(two, batch.target[r], label_smoothing=epsilon)
        digit_losses = [
            F.cross_entropy(logits[r, :, place], batch.digits[r, :, place], label_smoothing=epsilon) for place in (0, 1)
        ]
        digit_loss = sum(digit_losses) / (1 if reduction == "sum" else 2)
        reference_impl.check_close(parts.target[r], target_loss)
        reference_impl.check_close(parts.digits[r], digit_loss)
        reference_impl.check_close(parts.total[r], target_loss + 0.7 * digit_loss)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan")])
def test_a_smoothing_outside_its_range_is_rejected(epsilon: float) -> None:
    with pytest.raises(PairsLitError, match=r"label_smoothing must be in \[0, 1\), got"):
        PairLoss(label_smoothing=epsilon)


@pytest.mark.parametrize(("target", "kind", "digits"), COMBINATIONS)
def test_combined_losses_equal_the_loss_of_each_round(target: str, kind: str, digits: str) -> None:
    numbers = [(0.5, 2.0, 0.1), (1.5, 0.3, 0.2), (1.0, 1.0, 0.3)]
    losses = [PairLoss(target, digits, a, t, label_smoothing=epsilon) for a, t, epsilon in numbers]
    values, logits = (
        draw_outputs(kind).requires_grad_(),
        torch.randn(ROUNDS, PAIRS, 2, 10, dtype=torch.float64).requires_grad_(),
    )
    batch = reference_impl.draw_batch(ROUNDS, PAIRS, 2)
    parts = combine_losses(losses)(build_output(kind, values, logits), batch.digits, batch.target)
    actual = torch.autograd.grad(parts.total.sum(), [values, logits], materialize_grads=True)
    for r, loss in enumerate(losses):
        leaves = [leaf[r : r + 1].detach().requires_grad_() for leaf in (values, logits)]
        expected = loss(build_output(kind, *leaves), batch.digits[r : r + 1], batch.target[r : r + 1])
        for part, expected_part in zip(parts, expected, strict=True):
            reference_impl.check_close(part[r], expected_part[0])
        expected_gradients = torch.autograd.grad(expected.total.sum(), leaves, materialize_grads=True)
        for gradient, expected_gradient in zip(actual, expected_gradients, strict=True):
            reference_impl.check_close(gradient[r], expected_gradient[0])
