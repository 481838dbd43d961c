"""Losses, counts and gradients of the compiled kernel against those of torch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.stacking.ops.compilation import KERNELS_VARIABLE
from pairs_lit.training import batch_losses
from pairs_lit.training.batch_losses import BatchLosses
from pairs_lit.training.losses import LossParts, PairLoss
from pairs_lit.training.metrics import measure_batch
from tests.support import reference_impl

ROUNDS, PAIRS, CLASSES = 3, 7, 10
BASE = PairLoss(digits="ce")
LOSSES = {
    "both": [BASE],
    "mean of the images": [replace(BASE, digit_reduction="mean")],
    "weights": [replace(BASE, target_weight=0.3, aux_weight=2.5)],
    "smoothing": [replace(BASE, label_smoothing=0.2)],
    "digits of weight 0": [replace(BASE, aux_weight=0.0)],
    "target of weight 0": [replace(BASE, target_weight=0.0)],
    "no digit loss": [PairLoss()],
    "one for each round": [
        replace(BASE, aux_weight=weight, label_smoothing=weight / 4, target_weight=1 / weight) for weight in (0.5, 1, 2)
    ],
}
losses = pytest.mark.parametrize("chosen", LOSSES.values(), ids=LOSSES.keys())


def draw_values(networks: int = ROUNDS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    output = torch.randn(networks, PAIRS, generator=draw, dtype=dtype) * 3
    return output.requires_grad_(), torch.randn(
        networks, PAIRS, 2, CLASSES, generator=draw, dtype=dtype
    ).requires_grad_()


def compute(
    losses: BatchLosses, output: Tensor, logits: Tensor | None, *, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[LossParts, Tensor, list[Tensor]]:
    """Compute losses, measures and gradients by the kernel or by torch, which the environment variable chooses."""
    monkeypatch.setenv(KERNELS_VARIABLE, "1" if kernel else "0")
    batch = reference_impl.draw_batch(len(output), PAIRS, 2)
    comparison = PairOutput(output, "logit" if output.dim() == 2 else "logits", logits)
    parts, measured = losses(comparison, batch.digits, batch.target)
    assert ("_KernelLosses" in str(parts.total.grad_fn)) is kernel
    leaves = [output] if logits is None else [output, logits]
    direction = torch.arange(1, len(output) + 1, dtype=output.dtype)
    return parts, measured, list(torch.autograd.grad(parts.total, leaves, direction, materialize_grads=True))


@losses
@pytest.mark.parametrize("members", [1, 2])
def test_kernel_computes_what_torch_computes(
    chosen: list[PairLoss], members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = chosen if len(chosen) == ROUNDS else chosen * ROUNDS
    output, logits = draw_values(ROUNDS * members)
    ours, torchs = (
        compute(BatchLosses(rounds), output, logits, kernel=kernel, monkeypatch=monkeypatch) for kernel in (True, False)
    )
    torch.testing.assert_close(ours, torchs, atol=1e-12, rtol=1e-12)


@losses
def test_kernel_computes_the_cross_entropy_of_two_logits(
    chosen: list[PairLoss], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = [replace(loss, target="ce") for loss in (chosen if len(chosen) == ROUNDS else chosen * ROUNDS)]
    first, logits = draw_values()
    output = torch.stack([first.detach(), first.detach().flip(0)], -1).requires_grad_()
    ours, torchs = (
        compute(BatchLosses(rounds), output, logits, kernel=kernel, monkeypatch=monkeypatch) for kernel in (True, False)
    )
    torch.testing.assert_close(ours, torchs, atol=1e-12, rtol=1e-12)


def test_kernel_works_without_digit_logits_and_on_other_memory_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    output, logits = draw_values()
    layouts: list[tuple[Tensor, Tensor | None]] = [
        (output, None),
        (output.detach().t().contiguous().t().requires_grad_(), logits),
        (output, logits.detach().movedim(-1, 1).contiguous().movedim(1, -1).requires_grad_()),
    ]
    for first, second in layouts:
        loss = BatchLosses([PairLoss() if second is None else BASE] * ROUNDS)
        ours, torchs = (
            compute(loss, first, second, kernel=kernel, monkeypatch=monkeypatch) for kernel in (True, False)
        )
        torch.testing.assert_close(ours, torchs, atol=1e-12, rtol=1e-12, equal_nan=True)


def test_float32_agrees_to_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    output, logits = draw_values(dtype=torch.float32)
    ours, torchs = (
        compute(BatchLosses([BASE] * ROUNDS), output, logits, kernel=kernel, monkeypatch=monkeypatch)
        for kernel in (True, False)
    )
    assert ours[1].dtype == torch.float32
    torch.testing.assert_close(ours, torchs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e4, -1e4, 0.0])
def test_extreme_values_fail_a_round_only_where_torch_says_so(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    output, logits = (part.detach() for part in draw_values())
    output[0, 0], logits[1, 0, 0, 3], logits[2] = value, value, value
    results = [
        compute(
            BatchLosses([BASE] * ROUNDS),
            output.clone().requires_grad_(),
            logits.clone().requires_grad_(),
            kernel=kernel,
            monkeypatch=monkeypatch,
        )
        for kernel in (True, False)
    ]
    finite = [[part.isfinite() for part in parts] for parts, _, _ in results]
    torch.testing.assert_close(*finite)
    assert torch.equal(results[0][1][3:], results[1][1][3:])  # correct decisions and digits, NaN being the largest
    if abs(value) <= 1e4:
        torch.testing.assert_close(*results, atol=1e-9, rtol=1e-9)


def test_evaluation_computes_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "1")
    output, logits = draw_values()
    batch = reference_impl.draw_batch(ROUNDS, PAIRS, 2)
    with torch.no_grad():
        comparison = PairOutput(output * 1, "logit", logits * 1)
        parts, measured = BatchLosses([BASE] * ROUNDS)(comparison, batch.digits, batch.target)
        expected = measure_batch(comparison, BASE(comparison, batch.digits, batch.target), batch.digits, batch.target)
    assert not parts.total.requires_grad
    torch.testing.assert_close(measured, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("digit", [-1, CLASSES])
def test_a_class_without_a_logit_is_an_error(digit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "1")
    output, logits = draw_values()
    digits = torch.full((ROUNDS, PAIRS, 2), digit)
    with pytest.raises(IndexError, match="a class is not below the number of digit logits"):
        BatchLosses([BASE] * ROUNDS)(PairOutput(output, "logit", logits), digits, digits[..., 0] * 0)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [(PairLoss(target="mse"), "logits"), (PairLoss(), "probability"), (PairLoss(digits="mse"), "logit")],
    ids=["squared error", "probability", "squared digit error"],
)
def test_other_losses_are_left_to_torch(loss: PairLoss, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the kernel does not support this")

    monkeypatch.setattr(batch_losses, "run_kernel", fail)
    output, logits = draw_values()
    values = {"logits": torch.stack([output, -output], -1), "probability": output.sigmoid()}.get(kind, output)
    batch = reference_impl.draw_batch(ROUNDS, PAIRS, 2)
    comparison = PairOutput(values, kind, logits)  # type: ignore[arg-type]
    parts, measured = BatchLosses([loss] * ROUNDS)(comparison, batch.digits, batch.target)
    torch.testing.assert_close(parts, loss(comparison, batch.digits, batch.target))
    torch.testing.assert_close(measured, measure_batch(comparison, parts, batch.digits, batch.target))
