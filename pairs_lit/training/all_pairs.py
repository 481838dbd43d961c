"""Accuracy over all ordered pairs of n images, from their digit probabilities, without holding an n × n matrix."""

import torch
from torch import Tensor

from pairs_lit.data.pairs import build_ordered_pairs
from pairs_lit.relation import Relation, compute_target
from pairs_lit.training.module import PairModule

MAX_BLOCK_BYTES = 2 * 2**20
"""The size of a block of P(relation), so that it stays in a core's cache; a block has at least one row of n."""


def count_correct_pairs(relation: Relation, weights: Tensor, second: Tensor, labels: Tensor) -> Tensor:
    """Count the ordered pairs of two different images whose prediction is correct, as an int64 on the device.

    The prediction is that the relation holds where its probability is above 0.5.

    Args:
        relation: The relation.
        weights: (n, K), the weights of each image as the first of a pair, see
            :func:`pairs_lit.relation.compute_second_weights`.
        second: (n, K), the digit probabilities of each image as the second of a pair, of any float type.
        labels: (n,) int64, the classes of the images.
    """
    classes = torch.arange(second.shape[1], device=labels.device)
    holds = compute_target(relation, torch.cartesian_prod(classes, labels).view(len(classes), -1, 2)).bool()
    weights, columns = weights.to(second.dtype), second.T.contiguous()
    rows = compute_block_rows(len(labels), second.element_size())
    num_correct = torch.zeros((), dtype=torch.int64, device=labels.device)
    for start in range(0, len(labels), rows):
        block = slice(start, start + rows)
        is_correct = (weights[block] @ columns > 0.5) == holds[labels[block]]
        num_correct += is_correct.count_nonzero() - is_correct[:, block].diagonal().count_nonzero()
    return num_correct


def compute_block_rows(images: int, element_size: int) -> int:
    """Return the number of rows in a block of at most :data:`MAX_BLOCK_BYTES`, but at least 1."""
    return max(1, MAX_BLOCK_BYTES // (images * element_size))


def build_pair_positions(module: PairModule, images: int) -> Tensor:
    """Return the pairs of n images that the networks need as input to evaluate all pairs, (P, 2) positions.

    If predictions follow from digit probabilities, each image is needed only once; or, where the two images of a pair
    have separate networks, once in each position.
    """
    positions = torch.arange(images)
    if not module.follows_from_digits:
        return build_ordered_pairs(images)
    if has_shared_backbone(module):
        return torch.cat([positions, positions[-1:]])[: images + images % 2].view(-1, 2)
    return torch.stack([positions, positions], 1)


def has_shared_backbone(module: PairModule) -> bool:
    """Return whether both images of a pair go through the same network."""
    return module.variant.architecture.sharing == "shared"
