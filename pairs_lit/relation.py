"""The relation between the first digit and the second for which the target is 1."""

from typing import TYPE_CHECKING, Literal

from pairs_lit.errors import check_choice

if TYPE_CHECKING:  # torch takes seconds to load, and what only shows relations needs none
    from torch import Tensor

DIGITS = 10
"""K, the number of classes, where the images are digits."""

Relation = Literal["le", "lt", "ge", "gt"]
"""first ≤ second, first < second, first ≥ second, first > second; torch calls its comparisons so, too."""

_SIGNS = {"le": "≤", "lt": "<", "ge": "≥", "gt": ">"}


def sign_of(relation: str) -> str:
    """Return a relation as people write it; raise PairsLitError for one that a damaged run names."""
    check_choice("relation", Relation, relation)
    return _SIGNS[relation]


def target_of(relation: Relation, digits: "Tensor") -> "Tensor":
    """Return 1 where the relation holds, else 0: digits (..., 2) int64 → (...) int64."""
    return _holds(relation, digits[..., 0], digits[..., 1]).long()


def _holds(relation: Relation, first: "Tensor", second: "Tensor") -> "Tensor":
    holds: Tensor = getattr(first, relation)(second)
    return holds


def relation_probability(relation: Relation, p: "Tensor") -> "Tensor":
    """Return P(relation) of two independent digits: p (..., 2, K), each row summing to 1 → (...).

    For ``le`` this is Σ_{i≤j} p1(i)·p2(j), the engineered comparison of grall's Model B.
    """
    return (second_weights(relation, p[..., 0, :]) * p[..., 1, :]).sum(-1)


def second_weights(relation: Relation, first: "Tensor") -> "Tensor":
    """Return, for each class that the second digit may have, P(relation): p of the first digit (..., K) → (..., K).

    P(relation) of a pair is the scalar product with the second digit's p.
    """
    import torch

    classes = torch.arange(first.shape[-1], device=first.device)
    return first @ _holds(relation, classes[:, None], classes[None, :]).to(first.dtype)
