"""Relations between two digits (≤, <, ≥, >), their targets and their probabilities."""

from typing import TYPE_CHECKING, Literal

from pairs_lit.errors import check_choice

if TYPE_CHECKING:  # torch takes seconds to load, and commands that only print relations do not need it
    from torch import Tensor

NUM_DIGITS = 10
"""The number of classes K of a dataset of digits."""

Relation = Literal["le", "lt", "ge", "gt"]
"""The relation for which the target is 1: first ≤ second, first < second, first ≥ second or first > second.

Each name is also that of the torch comparison method.
"""

_SIGNS = {"le": "≤", "lt": "<", "ge": "≥", "gt": ">"}


def get_sign(relation: str) -> str:
    """Return the mathematical sign of a relation, such as "≤" for "le".

    Raises:
        PairsLitError: The relation is unknown, for instance because it was read from a damaged run.
    """
    check_choice("relation", Relation, relation)
    return _SIGNS[relation]


def compute_target(relation: Relation, digits: "Tensor") -> "Tensor":
    """Return 1 where the relation holds and 0 elsewhere, for digits of shape (..., 2) int64 → (...) int64."""
    return _compare_digits(relation, digits[..., 0], digits[..., 1]).long()


def _compare_digits(relation: Relation, first: "Tensor", second: "Tensor") -> "Tensor":
    holds: Tensor = getattr(first, relation)(second)
    return holds


def compute_relation_probability(relation: Relation, p: "Tensor") -> "Tensor":
    """Compute P(relation) of two independent digits from the probabilities of their classes.

    For ``le`` this is Σ_{i≤j} p1(i)·p2(j), the engineered comparison of Model B in the report grall.

    Args:
        relation: The relation.
        p: The class probabilities of both digits, (..., 2, K); each row sums to 1.

    Returns:
        P(relation), (...).
    """
    return (compute_second_weights(relation, p[..., 0, :]) * p[..., 1, :]).sum(-1)


def compute_second_weights(relation: Relation, first: "Tensor") -> "Tensor":
    """Compute P(relation) for each class that the second digit may have.

    The scalar product with the class probabilities of the second digit is P(relation) of the pair.

    Args:
        relation: The relation.
        first: The class probabilities of the first digit, (..., K).

    Returns:
        P(relation) given the class of the second digit, (..., K).
    """
    import torch

    classes = torch.arange(first.shape[-1], device=first.device)
    return first @ _compare_digits(relation, classes[:, None], classes[None, :]).to(first.dtype)
