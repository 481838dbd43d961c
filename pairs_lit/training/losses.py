"""The loss of each round: the weighted sum of a target loss and a digit loss, which are logged separately."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.system.device_constants import DeviceConstants

EPSILON = 1e-6
"""Probabilities are clamped to [EPSILON, 1 − EPSILON] before a logarithm."""

Weight = float | DeviceConstants
"""One number for all rounds, or one for each."""


class LossParts(NamedTuple):
    """The losses of R rounds, (R,) each: the total, which is minimised, and its two parts before weighting."""

    total: Tensor
    target: Tensor
    digits: Tensor


class LossWeights(NamedTuple):
    """The numbers by which the losses of rounds in one stack may differ, each one for all rounds or one per round.

    Attributes:
        target: Weight of the target loss.
        aux: Weight of the digit loss.
        smoothing: Label smoothing.
        certainty: 1 − smoothing.
    """

    target: Weight
    aux: Weight
    smoothing: Weight
    certainty: Weight


@dataclass(frozen=True)
class PairLoss:
    """The weighted sum target_weight · target loss + aux_weight · digit loss.

    Args:
        target: Loss of the prediction. ``bce``: on one logit or probability; ``ce``: on two logits or a probability;
            ``mse``: on two raw outputs against one-hot targets, or on a probability; ``none``: no target loss.
        digits: Loss of the digit logits, the auxiliary loss. ``ce``; ``mse``: on raw logits against one-hot classes,
            mean over all elements (on probabilities, if the prediction is a mean over several networks or images);
            ``none``: no digit loss.
        aux_weight: Weight of the digit loss, α.
        target_weight: Weight of the target loss.
        digit_reduction: ``sum`` (belhadj) or ``mean`` over the two images.
        label_smoothing: ε for bce and ce: a share ε of each target is spread evenly over all classes (Szegedy et al.
            2016), as in ``torch.nn.CrossEntropyLoss``.

    Raises:
        PairsLitError: A weight is negative or not finite, or the smoothing lies outside [0, 1).
    """

    target: Literal["bce", "ce", "mse", "none"] = "bce"
    digits: Literal["ce", "mse", "none"] = "none"
    aux_weight: float = 1.0
    target_weight: float = 1.0
    digit_reduction: Literal["sum", "mean"] = "sum"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Raise PairsLitError if a weight or the label smoothing is out of range."""
        for name, value in (("aux_weight", self.aux_weight), ("target_weight", self.target_weight)):
            if not 0 <= value < float("inf"):
                raise PairsLitError(f"model.loss.{name} must be a finite number, 0 or more, got {value}.")
        if not 0 <= self.label_smoothing < 1:
            raise PairsLitError(f"model.loss.label_smoothing must be in [0, 1), got {self.label_smoothing}.")

    def __call__(self, comparison: PairOutput, digits: Tensor, target: Tensor) -> LossParts:
        """Compute the losses of each round, means over its pairs; digits (R, B, 2) and target (R, B) are int64."""
        weights = LossWeights(self.target_weight, self.aux_weight, self.label_smoothing, 1 - self.label_smoothing)
        return self.compute_weighted(comparison, digits, target, weights)

    def compute_weighted(
        self, comparison: PairOutput, digits: Tensor, target: Tensor, weights: LossWeights
    ) -> LossParts:
        """Compute the losses of each round with the given weights in place of the loss's own."""
        target_loss = self._compute_target_loss(comparison, target, weights)
        digit_loss = self._compute_digit_loss(comparison, digits, weights)
        target_weight, aux_weight = (_broadcast_weight(weight, target_loss) for weight in (weights.target, weights.aux))
        if self.trains_target == self.trains_digits:
            total = target_weight * target_loss + aux_weight * digit_loss
        elif self.trains_target:  # a loss of weight 0 is left out, so it needs no gradient and its NaN does no harm
            total = target_weight * target_loss
        else:
            total = aux_weight * digit_loss
        return LossParts(total, target_loss, digit_loss)

    @property
    def form(self) -> tuple[object, ...]:
        """The settings that the losses of rounds in one stack must share: all except non-zero weights and smoothing."""
        trained = self.trains_target, self.trains_digits, self.label_smoothing > 0
        return self.target, self.digits, self.digit_reduction, *trained

    def check(self, comparison: PairOutput) -> None:
        """Raise PairsLitError if this loss cannot train the network that gave an output.

        Args:
            comparison: The output for any pairs, computed while gradients are recorded.

        Raises:
            PairsLitError: The head's output does not suit the target loss, there are no digit logits for the digit
                loss, or nothing would be trained.
        """
        allowed = {"bce": ("logit", "probability"), "ce": ("logits", "probability"), "mse": ("logits", "probability")}
        if self.target != "none" and comparison.kind not in allowed[self.target]:
            raise PairsLitError(
                f"model.loss.target is {self.target}, which needs {' or '.join(allowed[self.target])} from the head, "
                f"but the head gives {comparison.kind}. Change the head's outputs (1: logit, 2: logits) or the loss."
            )
        if self.target != "none" and not comparison.output.requires_grad:
            raise PairsLitError(
                f"model.loss.target is {self.target}, but this head has no gradient. Set model.loss.target to none."
            )
        if self.digits != "none" and comparison.digit_logits is None:
            raise PairsLitError(
                f"model.loss.digits is {self.digits}, but there are no digit logits. "
                "Set model.readout to identity or linear, or model.loss.digits to none."
            )
        if not self.trains_target and not self.trains_digits:
            raise PairsLitError(
                "model.loss: target and digits are both none or of weight 0, so nothing would be trained. Set at least "
                "one of them."
            )

    @property
    def trains_target(self) -> bool:
        """Whether the loss trains the prediction of the relation."""
        return self.target != "none" and self.target_weight > 0

    @property
    def trains_digits(self) -> bool:
        """Whether the loss trains the digit logits directly."""
        return self.digits != "none" and self.aux_weight > 0

    def _compute_target_loss(self, comparison: PairOutput, target: Tensor, weights: LossWeights) -> Tensor:
        output = comparison.output
        if self.target == "none":
            return output.new_zeros(len(output))
        if comparison.kind == "probability" and self.target == "mse":
            return (output - target.to(output.dtype)).square().mean(1)
        if comparison.kind == "probability":
            # F.binary_cross_entropy raises on a NaN, but one round's NaN must not end the others
            correct = torch.where(target > 0, output, 1 - output)
            loss = -correct.clamp(EPSILON, 1 - EPSILON).log()
            if self.label_smoothing > 0:
                opposite = -(1 - correct).clamp(EPSILON, 1 - EPSILON).log()
                loss = _smooth_cross_entropy(loss, (loss + opposite) / 2, weights)
            return loss.mean(1)
        if self.target == "bce":
            loss = F.binary_cross_entropy_with_logits(output, target.to(output.dtype), reduction="none")
            if self.label_smoothing > 0:
                uniform = F.binary_cross_entropy_with_logits(output, torch.full_like(output, 0.5), reduction="none")
                loss = _smooth_cross_entropy(loss, uniform, weights)
            return loss.mean(1)
        if self.target == "ce":
            return self._compute_cross_entropy(output, target, weights).mean(1)
        return (output - F.one_hot(target, 2)).square().mean((1, 2))

    def _compute_digit_loss(self, comparison: PairOutput, digits: Tensor, weights: LossWeights) -> Tensor:
        logits = comparison.digit_logits
        if self.digits == "none" or logits is None:
            return comparison.output.new_zeros(len(comparison.output))
        if self.digits == "mse":  # (R, B, 2, K) → (R, 2), mean over the pairs
            values = logits.exp() if comparison.is_averaged else logits
            image_losses = (values - F.one_hot(digits, values.shape[-1])).square().mean((1, 3))
        else:
            image_losses = self._compute_cross_entropy(logits, digits, weights).mean(1)
        return image_losses.sum(-1) if self.digit_reduction == "sum" else image_losses.mean(-1)

    def _compute_cross_entropy(self, logits: Tensor, classes: Tensor, weights: LossWeights) -> Tensor:
        """Compute the elementwise cross-entropy of logits (..., K) for classes (...).

        The classes are moved before the images, because torch's softmax over the last dimension is much slower on the
        CPU if there are few classes.
        """
        first = logits.movedim(-1, 1)
        loss = F.cross_entropy(first, classes, reduction="none")
        if self.label_smoothing == 0:
            return loss
        return _smooth_cross_entropy(loss, -F.log_softmax(first, 1).mean(1), weights)


@dataclass(frozen=True)
class WeightedLosses:
    """The losses of R rounds that differ in their weights or in their label smoothing.

    Args:
        losses: The loss of each round; all have the same :attr:`PairLoss.form`.
    """

    losses: Sequence[PairLoss]
    _weights: dict[int, LossWeights] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, comparison: PairOutput, digits: Tensor, target: Tensor) -> LossParts:
        """Compute the losses of each round, or of each of its ensemble members, as :class:`PairLoss` does."""
        members = len(comparison.output) // len(self.losses)
        if members not in self._weights:
            self._weights[members] = self._build_weights(members)
        return self.losses[0].compute_weighted(comparison, digits, target, self._weights[members])

    def _build_weights(self, members: int) -> LossWeights:
        """Return the weights of R rounds with this many members each."""
        rows = [
            (loss.target_weight, loss.aux_weight, loss.label_smoothing, 1 - loss.label_smoothing)
            for loss in self.losses
            for _ in range(members)
        ]
        return LossWeights(*map(DeviceConstants, zip(*rows, strict=True)))


def combine_losses(losses: Sequence[PairLoss]) -> PairLoss | WeightedLosses:
    """Combine the losses of the rounds of one stack into one loss."""
    return losses[0] if len(set(losses)) == 1 else WeightedLosses(losses)


def _broadcast_weight(weight: Weight, like: Tensor) -> float | Tensor:
    """Convert a weight to the type and shape with which it multiplies values (R, ...)."""
    return weight.shape_like(like) if isinstance(weight, DeviceConstants) else weight


def _smooth_cross_entropy(loss: Tensor, uniform: Tensor, weights: LossWeights) -> Tensor:
    """Interpolate between the cross-entropy and the cross-entropy of a uniform target."""
    return _broadcast_weight(weights.certainty, loss) * loss + _broadcast_weight(weights.smoothing, loss) * uniform
