"""Metrics of each round, as means over the pairs of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.training.losses import LossParts


class RoundMeans(Metric):
    """Means of named values for each of the R rounds of all stacks, weighted by the size of each batch.

    Batches are only stored during an epoch and summed at its end, in float64.
    """

    full_state_update = False
    values: list[Tensor]

    def __init__(self, names: tuple[str, ...], rounds: int) -> None:
        super().__init__()
        self._names = names
        self._rounds = rounds
        self._parts: list[tuple[slice, int]] = []
        self.add_state("values", [], dist_reduce_fx=None)

    def update(self, values: Tensor, rounds: slice, pairs: int) -> None:
        """Store the values of one batch of one stack.

        Args:
            values: (M, R), the M values of the R rounds of the stack.
            rounds: The positions of these rounds among all rounds.
            pairs: The number of pairs in the batch.
        """
        self.values.append(values)
        self._parts.append((rounds, pairs))

    def compute(self) -> dict[str, Tensor]:
        """Compute the mean of each value, (R,) float64, with NaN for a round without pairs."""
        total = torch.zeros(len(self._names), self._rounds, dtype=torch.float64)
        weight = torch.zeros(self._rounds, dtype=torch.float64)
        for values, (rounds, pairs) in zip(self.values, self._parts, strict=True):
            total[:, rounds] += values.cpu() * pairs
            weight[rounds] += pairs
        return dict(zip(self._names, total / weight, strict=True))

    def reset(self) -> None:
        """Discard all batches."""
        super().reset()
        self._parts = []


@torch.no_grad()
def compute_metrics(comparison: PairOutput, losses: LossParts, digits: Tensor, target: Tensor) -> Tensor:
    """Compute all metrics of :data:`~pairs_lit.runs.metrics.EPOCH_METRIC_NAMES` for a batch of a stack, (M, R) float64.

    The accuracies of a round are NaN if its loss is not finite, since the predictions of a diverged network mean
    nothing.
    """
    accuracy = (comparison.get_decision() == target).mean(1, dtype=torch.float64)
    digit_accuracy = torch.full_like(accuracy, torch.nan)
    if comparison.digit_logits is not None:
        digit_accuracy = (comparison.digit_logits.max(-1).indices == digits).mean((1, 2), dtype=torch.float64)
    broken = ~losses.total.isfinite()
    accuracies = torch.stack([accuracy, digit_accuracy]).masked_fill(broken, torch.nan)
    return torch.cat([torch.stack(losses).double(), accuracies])
