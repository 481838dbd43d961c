"""All ordered pairs of n images, decided from digit probabilities: no network is asked, and no n × n matrix is held."""

import torch
from torch import Tensor

from pairs_lit.data.pairs import ordered_pairs
from pairs_lit.relation import Relation, target_of
from pairs_lit.training.module import PairModule

BLOCK_BYTES = 2 * 2**20
"""The largest matrix of P(relation) at a time, one row of n at least: it stays in a core's cache."""


def right_answers(relation: Relation, weights: Tensor, second: Tensor, labels: Tensor) -> int:
    """Count the ordered pairs of two different of n images that are answered rightly: P above 0.5 where it holds.

    Args:
        relation: The relation.
        weights: (n, K), of each image at the first place, see :func:`pairs_lit.relation.second_weights`.
        second: (n, K), the digit probabilities of each image at the second place, of any float type.
        labels: (n,) int64, the classes.
    """
    classes = torch.arange(second.shape[1], device=labels.device)
    holds = target_of(relation, torch.cartesian_prod(classes, labels).view(len(classes), -1, 2)).bool()
    weights, columns = weights.to(second.dtype), second.T.contiguous()
    rows, right = block_rows(len(labels), second.element_size()), 0
    for start in range(0, len(labels), rows):
        part = slice(start, start + rows)
        rightly = (weights[part] @ columns > 0.5) == holds[labels[part]]
        right += int(rightly.count_nonzero() - rightly[:, part].diagonal().count_nonzero())
    return right


def block_rows(images: int, element_size: int) -> int:
    """Return how many images' rows make a block of at most :data:`BLOCK_BYTES`, if one of them does."""
    return max(1, BLOCK_BYTES // (images * element_size))


def places(module: PairModule, images: int) -> Tensor:
    """Return which pairs of n images the networks are shown to measure all pairs, (P, 2) positions.

    Where the answer follows from digit probabilities, they show each image once, or once at each place, where these
    have networks of their own.
    """
    each = torch.arange(images)
    if not module.follows_from_digits:
        return ordered_pairs(images)
    if is_shared(module):
        return torch.cat([each, each[-1:]])[: images + images % 2].view(-1, 2)
    return torch.stack([each, each], 1)


def is_shared(module: PairModule) -> bool:
    """Say whether an image is the same to the networks at both places of a pair."""
    return module.variant.architecture.sharing == "shared"
