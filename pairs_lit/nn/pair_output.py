"""Outputs of pair networks and what they mean: the probability of the relation, the decision, the digit logits."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pairs_lit.relation import Relation, relation_probability

Kind = Literal["logit", "logits", "probability"]

Output = Tensor | tuple[Tensor, Tensor]
"""What a pair network returns: its output, or its output and the digit logits."""


@dataclass(frozen=True)
class PairOutput:
    """What networks predict for B pairs, with R rounds in front, or with any other leading dimensions.

    Attributes:
        output: (R, B) one logit or one probability of the relation, or (R, B, 2) two logits.
        kind: Which of them.
        digit_logits: (R, B, 2, K), or None without a read-out.
        digit_probabilities: (R, B, 2, K), from which alone the output follows
            (:func:`pairs_lit.relation.relation_probability`); None where it does not.
        averaged: Whether it is a mean over networks or views; then the output is a probability, and the digit logits
            are the logarithms of mean probabilities.
    """

    output: Tensor
    kind: Kind
    digit_logits: Tensor | None
    digit_probabilities: Tensor | None = None
    averaged: bool = False

    def has_shape_of(self, rounds: int, pairs: int) -> bool:
        """Return whether the output has the right shape for these numbers of rounds and pairs."""
        expected = (rounds, pairs, 2) if self.kind == "logits" else (rounds, pairs)
        return tuple(self.output.shape) == expected

    def probability(self) -> Tensor:
        """Return P(relation), (R, B)."""
        if self.kind == "probability":
            return self.output
        return self.output.sigmoid() if self.kind == "logit" else self.output.softmax(-1)[..., 1]

    def decision(self) -> Tensor:
        """Return whether the relation is predicted to hold, (R, B) bool.

        It is where P is above 0.5, one logit above 0, or the second of two logits above the first.
        """
        if self.kind == "probability":
            return self.output > 0.5
        return self.output > 0 if self.kind == "logit" else self.output[..., 1] > self.output[..., 0]


def interpret(output: Output, relation: Relation, *, is_digit_head: bool) -> PairOutput:
    """Return what the output of a pair network means.

    Args:
        output: (..., B, 1) logits, (..., B, 2) two logits, or (..., B, 2, K) digit probabilities; with the digit logits
            (..., B, 2, K), if there are any, beside it.
        relation: What digit probabilities are compared by.
        is_digit_head: Whether the output is digit probabilities.
    """
    values, digit_logits = (output, None) if isinstance(output, Tensor) else output
    if is_digit_head:
        return PairOutput(relation_probability(relation, values), "probability", digit_logits, values)
    if values.shape[-1] == 1:
        return PairOutput(values.squeeze(-1), "logit", digit_logits)
    return PairOutput(values, "logits", digit_logits)
