"""The relation between the first digit and the second for which the target is 1."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

DIGITS = 10
"""K, the number of classes, where the images are digits."""

Relation = Literal["le", "lt", "ge", "gt"]
"""first ≤ second, first < second, first ≥ second, first > second."""

_COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "le": torch.le,
    "lt": torch.lt,
    "ge": torch.ge,
    "gt": torch.gt,
}


def target_of(relation: Relation, digits: Tensor) -> Tensor:
    """Return 1 where the relation holds, else 0: digits (..., 2) int64 → (...) int64."""
    return _COMPARISONS[relation](digits[..., 0], digits[..., 1]).long()


def relation_probability(relation: Relation, p: Tensor) -> Tensor:
    """Return P(relation) of two independent digits: p (..., 2, K), each row summing to 1 → (...).

    For ``le`` this is Σ_{i≤j} p1(i)·p2(j), the engineered comparison of grall's Model B.
    """
    return (second_weights(relation, p[..., 0, :]) * p[..., 1, :]).sum(-1)


def second_weights(relation: Relation, first: Tensor) -> Tensor:
    """Return, for each class that the second digit may have, P(relation): p of the first digit (..., K) → (..., K).

    P(relation) of a pair is the scalar product with the second digit's p.
    """
    classes = torch.arange(first.shape[-1], device=first.device)
    holds = _COMPARISONS[relation](classes[:, None], classes[None, :]).to(first.dtype)
    return first @ holds
