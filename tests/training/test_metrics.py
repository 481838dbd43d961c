import pytest
import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.runs.metrics import EPOCH_METRIC_NAMES
from pairs_lit.training.losses import LossParts
from pairs_lit.training.metrics import RoundMeans, compute_metrics, measure_batch
from tests.support import reference_impl

ROUNDS = 3
UNEVEN = [5, 4, 1]
KINDS = ["logit", "logits", "probability"]


def random_comparison(kind: str, pairs: int, rounds: int = ROUNDS) -> PairOutput:
    logits = torch.randn(rounds, pairs, 2, 10, dtype=torch.float64)
    z = torch.randn(rounds, pairs, 2, dtype=torch.float64)
    output = {"logit": z[..., 0], "logits": z, "probability": z[..., 0].sigmoid()}[kind]
    return PairOutput(output, kind, logits)


def random_losses(rounds: int = ROUNDS) -> LossParts:
    return LossParts(*torch.rand(3, rounds, dtype=torch.float64))


def keep_values(values: Tensor, pairs: int) -> Tensor:
    return values.double()


def measure(comparison: PairOutput, losses: LossParts, digits: Tensor, target: Tensor) -> Tensor:
    return compute_metrics(measure_batch(comparison, losses, digits, target), target.shape[1])


class PlainMetrics:
    """The metrics of one round, computed by classes of torchmetrics."""

    def __init__(self) -> None:
        self._losses = [MeanMetric().set_dtype(torch.float64) for _ in range(3)]
        self._accuracy = BinaryAccuracy()
        self._digits = MulticlassAccuracy(10, average="micro")

    def update(self, comparison: PairOutput, losses: LossParts, batch: reference_impl.Batch, r: int) -> None:
        for metric, value in zip(self._losses, losses, strict=True):
            metric.update(value[r], weight=batch.target.shape[1])
        output = comparison.output[r]
        p = {"logit": output.sigmoid, "logits": lambda: output.softmax(-1)[:, 1], "probability": lambda: output}
        self._accuracy.update(p[comparison.kind](), batch.target[r])
        self._digits.update(comparison.digit_logits[r].flatten(0, 1), batch.digits[r].flatten())

    def compute(self) -> Tensor:
        return torch.stack([metric.compute().double() for metric in [*self._losses, self._accuracy, self._digits]])


@pytest.mark.parametrize("kind", KINDS)
def test_means_over_uneven_batches_equal_torchmetrics_of_each_round(kind: str) -> None:
    means, plain = RoundMeans(EPOCH_METRIC_NAMES, ROUNDS, compute_metrics), [PlainMetrics() for _ in range(ROUNDS)]
    for pairs in UNEVEN:
        comparison, losses = random_comparison(kind, pairs), random_losses()
        batch = reference_impl.draw_batch(ROUNDS, pairs, 2, seed=pairs)
        means.update(measure_batch(comparison, losses, batch.digits, batch.target), slice(0, ROUNDS), pairs)
        for r, metrics in enumerate(plain):
            metrics.update(comparison, losses, batch, r)
    actual = torch.stack(list(means.compute().values()))
    expected = torch.stack([metrics.compute() for metrics in plain], 1)
    assert tuple(means.compute()) == EPOCH_METRIC_NAMES
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual[:3], expected[:3], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual[3:], expected[3:], rtol=1e-6, atol=1e-6)  # torchmetrics uses float32


def test_each_stack_updates_only_its_rounds() -> None:
    means = RoundMeans(("a", "b"), 5, keep_values)
    means.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), slice(0, 2), 4)
    means.update(torch.tensor([[5.0], [6.0]]), slice(4, 5), 2)
    means.update(torch.tensor([[8.0], [9.0]]), slice(4, 5), 1)
    values = means.compute()
    torch.testing.assert_close(
        values["a"], torch.tensor([1, 2, torch.nan, torch.nan, 6], dtype=torch.float64), equal_nan=True
    )
    torch.testing.assert_close(
        values["b"], torch.tensor([3, 4, torch.nan, torch.nan, 7], dtype=torch.float64), equal_nan=True
    )


def test_reset_discards_all_batches() -> None:
    means = RoundMeans(("a",), 2, keep_values)
    means.update(torch.tensor([[7.0, torch.nan]]), slice(0, 2), 3)
    assert means.compute()["a"][0] == 7
    means.reset()
    assert means.update_count == 0
    means.update(torch.tensor([[1.0, 2.0]]), slice(0, 2), 3)
    assert means.compute()["a"].tolist() == [1, 2]


def test_metrics_can_be_updated_after_an_evaluation_in_inference_mode() -> None:
    means = RoundMeans(("a",), 2, keep_values)
    with torch.inference_mode():
        means.update(torch.tensor([[7.0, 8.0]]), slice(0, 2), 3)
        means.compute()
        means.reset()
    means.update(torch.tensor([[1.0, 2.0]]), slice(0, 2), 3)
    assert means.compute()["a"].tolist() == [1, 2]


def test_sums_of_many_batches_do_not_lose_digits() -> None:
    means = RoundMeans(("a",), 1, keep_values)
    for _ in range(2000):
        means.update(torch.tensor([[0.1]], dtype=torch.float64), slice(0, 1), 1000)
    assert abs(means.compute()["a"].item() - 0.1) < 1e-12


def test_precision_of_the_network_does_not_change_the_accumulator() -> None:
    means = RoundMeans(("a",), 1, keep_values).float().half()
    means.update(torch.tensor([[1.0]]), slice(0, 1), 1)
    assert means.compute()["a"].dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "output", "holds"),
    [
        ("probability", [0.0, 0.49, 0.5, 0.51, 1.0], [0, 0, 0, 1, 1]),
        ("logit", [-1.0, -0.1, 0.0, 0.1, 0.4], [0, 0, 0, 1, 1]),
        ("logits", [[1.0, -1.0], [0.0, 0.0], [-2.0, -1.0], [3.0, 4.0], [0.7, 0.6]], [0, 0, 1, 1, 0]),
    ],
)
def test_thresholds_are_half_for_a_probability_and_zero_for_a_logit(
    kind: str, output: list[object], holds: list[int]
) -> None:
    comparison = PairOutput(torch.tensor([output]), kind, None)
    accuracy = EPOCH_METRIC_NAMES.index("accuracy")
    for truth, expected in ((holds, 1.0), ([1 - value for value in holds], 0.0)):
        values = measure(comparison, random_losses(1), torch.zeros(1, 5, 2).long(), torch.tensor([truth]))
        assert values[accuracy].tolist() == [expected]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_round_whose_loss_is_not_finite_has_no_accuracies(value: float, kind: str) -> None:
    comparison, losses, batch = random_comparison(kind, 6), random_losses(), reference_impl.draw_batch(ROUNDS, 6, 2)
    whole = measure(comparison, losses, batch.digits, batch.target)
    total = losses.total.clone()
    total[1] = value
    broken = measure(comparison, losses._replace(total=total), batch.digits, batch.target)
    assert broken[3:, 1].isnan().all()
    assert torch.equal(broken[:, [0, 2]], whole[:, [0, 2]])
    assert torch.equal(broken[1:3], whole[1:3])


def test_without_digit_logits_there_is_no_digit_accuracy() -> None:
    batch = reference_impl.draw_batch(ROUNDS, 6, 2)
    comparison = PairOutput(torch.randn(ROUNDS, 6), "logit", None)
    values = measure(comparison, random_losses(), batch.digits, batch.target)
    assert values[EPOCH_METRIC_NAMES.index("digit_accuracy")].isnan().all()
    assert values[EPOCH_METRIC_NAMES.index("accuracy")].isfinite().all()


def test_measured_values_are_detached_float64() -> None:
    losses = LossParts(*torch.rand(3, ROUNDS, requires_grad=True))
    batch = reference_impl.draw_batch(ROUNDS, 6, 2)
    values = measure(random_comparison("logit", 6), losses, batch.digits, batch.target)
    assert values.shape == (len(EPOCH_METRIC_NAMES), ROUNDS)
    assert values.dtype == torch.float64
    assert not values.requires_grad
