"""Metrics of each round, as means over the pairs of an epoch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.training.losses import LossParts


class RoundMeans(Metric):
    """Means of named values for each of the R rounds of all stacks, weighted by the size of each batch.

    During an epoch, batches are only stored, on the device. They are converted and summed at its end, on the CPU in
    float64, which not every GPU supports.

    Args:
        names: The names of the M values.
        rounds: R, the number of rounds.
        convert: Computes the M values of batches, (..., M, N) float64, from what was stored, (..., M, N), and from the
            number of pairs of each.
    """

    full_state_update = False
    values: list[Tensor]

    def __init__(self, names: tuple[str, ...], rounds: int, convert: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self._names, self._rounds, self._convert = names, rounds, convert
        self._parts: list[tuple[slice, int]] = []
        self.add_state("values", [], dist_reduce_fx=None)

    def update(self, values: Tensor, rounds: slice, pairs: int) -> None:
        """Store the values of one batch of one stack.

        Args:
            values: (M, N), of the N networks of the stack, which are as many as its rounds or a multiple.
            rounds: The positions of the stack's rounds among all rounds.
            pairs: The number of pairs in the batch.
        """
        self.values.append(values)
        self._parts.append((rounds, pairs))

    def compute(self) -> dict[str, Tensor]:
        """Compute the mean of each value, (R,) float64, with NaN for a round without pairs."""
        total = torch.zeros(len(self._names), self._rounds, dtype=torch.float64)
        weight = torch.zeros(self._rounds, dtype=torch.float64)
        for (first, last, pairs), batches in self._group_batches().items():
            means = self._average_members(torch.stack(batches).cpu(), last - first, pairs)
            total[:, first:last] += means.sum(0) * pairs
            weight[first:last] += pairs * len(batches)
        return dict(zip(self._names, total / weight, strict=True))

    def _group_batches(self) -> dict[tuple[int, int, int], list[Tensor]]:
        """Return the batches of the same rounds and number of pairs, which are computed together."""
        groups: dict[tuple[int, int, int], list[Tensor]] = {}
        for values, (rounds, pairs) in zip(self.values, self._parts, strict=True):
            groups.setdefault((rounds.start, rounds.stop, pairs), []).append(values)
        return groups

    def _average_members(self, values: Tensor, rounds: int, pairs: int) -> Tensor:
        """Return the values of some batches as means over the networks of each round, (batches, M, rounds) float64."""
        converted = self._convert(values, pairs)
        return (
            converted if converted.shape[-1] == rounds else converted.view(*converted.shape[:-1], rounds, -1).mean(-1)
        )

    def reset(self) -> None:
        """Discard all batches."""
        super().reset()
        self._parts = []


def copy_values_to_cpu(metrics: Sequence[RoundMeans]) -> None:
    """Copy the stored batches of all metrics from a GPU to the CPU, in a single transfer."""
    batches = [values for metric in metrics for values in metric.values]
    if not batches or batches[0].device.type == "cpu":
        return
    flat = torch.cat([values.flatten() for values in batches]).cpu()
    parts = torch.split(flat, [values.numel() for values in batches])
    copies = iter([part.view(values.shape) for part, values in zip(parts, batches, strict=True)])
    for metric in metrics:
        metric.values = [next(copies) for _ in metric.values]


@torch.no_grad()
def measure_batch(comparison: PairOutput, losses: LossParts, digits: Tensor, target: Tensor) -> Tensor:
    """Return the losses of a batch and the numbers of correct decisions and digits, (M, N), without leaving the device.

    :func:`compute_metrics` turns them into :data:`~pairs_lit.runs.metrics.EPOCH_METRIC_NAMES`. They are float32, or
    float64 if the losses are. In float32, numbers are exact up to 16 million.
    """
    values = torch.stack(losses)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    num_correct = (comparison.get_decision() == target).sum(1).to(values.dtype)
    num_correct_digits = torch.full_like(num_correct, torch.nan)
    if comparison.digit_logits is not None:
        num_correct_digits = (comparison.digit_logits.max(-1).indices == digits).sum((1, 2)).to(values.dtype)
    return torch.cat([values, torch.stack([num_correct, num_correct_digits])])


def compute_metrics(measured: Tensor, pairs: int) -> Tensor:
    """Compute all metrics of :data:`~pairs_lit.runs.metrics.EPOCH_METRIC_NAMES` for batches of a stack, in float64.

    The accuracies of a round are NaN if its loss is not finite, since the predictions of a diverged network mean
    nothing.

    Args:
        measured: The results of :func:`measure_batch`, (..., M, N), on the CPU.
        pairs: The number of pairs in each batch.

    Returns:
        The metrics, (..., M, N) float64.
    """
    losses, counts = torch.split(measured.double(), [len(LossParts._fields), 2], -2)
    accuracies = counts / torch.tensor([[pairs], [2 * pairs]], dtype=torch.float64)
    has_failed = ~losses[..., :1, :].isfinite()
    return torch.cat([losses, accuracies.masked_fill(has_failed, torch.nan)], -2)
