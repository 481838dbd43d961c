"""Metrics per round: means over the pairs of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric

from pairs_lit.losses import LossParts
from pairs_lit.nn.comparer import Comparison

METRICS = ("loss", "target_loss", "digit_loss", "accuracy", "digit_accuracy")
"""What is measured on each split: total, target and digit loss, accuracy of the answer and of the digits."""


class RoundMeans(Metric):
    """Means of several values for each of R rounds, weighted by the pairs of each batch, accumulated in float64.

    Args:
        names: The values' names, in their order.
        rounds: R, over all stacks.
    """

    full_state_update = False
    total: Tensor
    pairs: Tensor

    def __init__(self, names: tuple[str, ...], rounds: int) -> None:
        super().__init__()
        self._names = names
        self.add_state("total", torch.zeros(len(names), rounds, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros(rounds, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor, rounds: slice, pairs: int) -> None:
        """Add one batch of one stack: values (M, R of the stack), its rounds, its number of pairs."""
        # not in place: reset() may have run in inference mode, whose tensors refuse it afterwards
        self.total, self.pairs = self.total.clone(), self.pairs.clone()
        self.total[:, rounds] += values * pairs
        self.pairs[rounds] += pairs

    def compute(self) -> dict[str, Tensor]:
        """Return the mean of each value, (R,) float64; NaN for a round that saw no pairs."""
        return dict(zip(self._names, self.total / self.pairs, strict=True))


def measure(comparison: Comparison, losses: LossParts, digits: Tensor, target: Tensor) -> Tensor:
    """Return all of :data:`METRICS` for one batch of one stack, (M, R) float64.

    A round whose loss is not finite has no accuracy either (NaN): what a broken network answers means nothing.
    """
    accuracy = (comparison.decision() == target).double().mean(1)
    digit_accuracy = torch.full_like(accuracy, torch.nan)
    if comparison.digit_logits is not None:
        digit_accuracy = (comparison.digit_logits.argmax(-1) == digits).double().mean((1, 2))
    broken = ~losses.total.isfinite()
    accuracies = torch.stack([accuracy, digit_accuracy]).masked_fill(broken, torch.nan)
    return torch.cat([torch.stack(losses).double(), accuracies]).detach()
