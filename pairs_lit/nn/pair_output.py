"""Outputs of pair networks, and the probabilities and decisions that follow from them."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pairs_lit.relation import Relation, compute_relation_probability

OutputKind = Literal["logit", "logits", "probability"]

Output = Tensor | tuple[Tensor, Tensor]
"""Raw result of a pair network: its output, or its output and the digit logits."""


@dataclass(frozen=True)
class PairOutput:
    """Predictions of R rounds for B pairs; other leading dimensions may take the place of R.

    Attributes:
        output: One logit or probability of the relation, (R, B), or two logits, (R, B, 2).
        kind: Kind of the output.
        digit_logits: Digit logits (R, B, 2, K), or None without a read-out.
        digit_probabilities: Digit probabilities (R, B, 2, K) from which the output was computed
            (:func:`pairs_lit.relation.compute_relation_probability`), or None if the head does not give any.
        is_averaged: Whether this is a mean over networks or views. The output is then a probability, and the digit
            logits are the logarithms of mean probabilities.
    """

    output: Tensor
    kind: OutputKind
    digit_logits: Tensor | None
    digit_probabilities: Tensor | None = None
    is_averaged: bool = False

    def has_shape(self, rounds: int, pairs: int) -> bool:
        """Return whether the output has the right shape for these numbers of rounds and pairs."""
        expected = (rounds, pairs, 2) if self.kind == "logits" else (rounds, pairs)
        return tuple(self.output.shape) == expected

    def get_probability(self) -> Tensor:
        """Return P(relation), (R, B)."""
        if self.kind == "probability":
            return self.output
        return self.output.sigmoid() if self.kind == "logit" else self.output.softmax(-1)[..., 1]

    def get_decision(self) -> Tensor:
        """Return whether the relation is predicted to hold, as booleans (R, B).

        It is if P is above 0.5, one logit is above 0, or the second of two logits is above the first.
        """
        if self.kind == "probability":
            return self.output > 0.5
        return self.output > 0 if self.kind == "logit" else self.output[..., 1] > self.output[..., 0]


def interpret_output(output: Output, relation: Relation, *, is_digit_head: bool) -> PairOutput:
    """Return the raw output of a pair network as a PairOutput.

    Args:
        output: One logit (..., B, 1), two logits (..., B, 2), or digit probabilities (..., B, 2, K); optionally as a
            pair with the digit logits (..., B, 2, K).
        relation: Relation by which digit probabilities are compared.
        is_digit_head: Whether the output is digit probabilities.
    """
    values, digit_logits = (output, None) if isinstance(output, Tensor) else output
    if is_digit_head:
        return PairOutput(compute_relation_probability(relation, values), "probability", digit_logits, values)
    if values.shape[-1] == 1:
        return PairOutput(values.squeeze(-1), "logit", digit_logits)
    return PairOutput(values, "logits", digit_logits)
