"""Metrics per round: means over the pairs of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.training.losses import LossParts


class RoundMeans(Metric):
    """Means of named values for each of R rounds, of all stacks, weighted by each batch's pairs, added in float64.

    Batches are only collected as they come, and added up once per epoch.
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
        """Keep one batch of one stack: values (M, R of the stack), its rounds, its number of pairs."""
        self.values.append(values)
        self._parts.append((rounds, pairs))

    def compute(self) -> dict[str, Tensor]:
        """Return the mean of each value, (R,) float64; NaN for a round that saw no pairs."""
        total = torch.zeros(len(self._names), self._rounds, dtype=torch.float64)
        weight = torch.zeros(self._rounds, dtype=torch.float64)
        for values, (rounds, pairs) in zip(self.values, self._parts, strict=True):
            total[:, rounds] += values.cpu() * pairs
            weight[rounds] += pairs
        return dict(zip(self._names, total / weight, strict=True))

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._parts = []


@torch.no_grad()
def measure(comparison: PairOutput, losses: LossParts, digits: Tensor, target: Tensor) -> Tensor:
    """Return all of :data:`~pairs_lit.runs.metrics.PER_EPOCH` for one batch of one stack, (M, R) float64.

    A round whose loss is not finite has no accuracy either (NaN): the answers of a broken network mean nothing.
    """
    accuracy = (comparison.decision() == target).mean(1, dtype=torch.float64)
    digit_accuracy = torch.full_like(accuracy, torch.nan)
    if comparison.digit_logits is not None:
        digit_accuracy = (comparison.digit_logits.max(-1).indices == digits).mean((1, 2), dtype=torch.float64)
    broken = ~losses.total.isfinite()
    accuracies = torch.stack([accuracy, digit_accuracy]).masked_fill(broken, torch.nan)
    return torch.cat([torch.stack(losses).double(), accuracies])
