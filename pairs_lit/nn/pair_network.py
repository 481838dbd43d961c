"""Pair network in plain PyTorch: it predicts from two images whether the relation holds.

A round is one pair network, or several if it is an ensemble.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pairs_lit.nn.heads import DigitHead
from pairs_lit.nn.pair_output import Output
from pairs_lit.stacking.composite import Composite, Part


class PairNetwork(Composite):
    """Network that compares two images: (N, 2, H, W) → output, or (output, digit logits).

    A backbone maps each image to an embedding, and the head maps both embeddings to the output. The output is one
    logit of the relation, (N, 1); two logits, of "does not hold" and "holds", (N, 2); or, from a
    :class:`~pairs_lit.nn.heads.DigitHead`, the digit probabilities, (N, 2, K), which
    :func:`~pairs_lit.nn.pair_output.interpret_output` compares. The digit logits are (N, 2, K).

    :func:`pairs_lit.stack` replaces each part by a stack of R modules. The same network then maps the images of R
    rounds, (R, N, 2, H, W) → (R, N, ...).

    Args:
        branch: Backbone (N, 1, H, W) → (N, F) of both images, or only of the first if there is a ``second_branch``. If
            ``is_joint``, the backbone (N, 2, H, W) → (N, F) of the pair as one image of two channels.
        head: Maps both embeddings, (N, 2·F), to the output; if ``is_joint``, the embedding (N, F) of the pair.
        second_branch: Backbone of the second image, or None if both images share one.
        readout: Linear layer from each embedding, (N, 2, F), to its digit logits, or None.
        code_activation: Activation of each embedding before the head, or None.
        reads_code: Whether the embeddings themselves are the digit logits.
        is_joint: Whether the backbone sees both images at once.
        width: F, or the width of the output of a whole network.
        network: Whole network (N, 2, H, W) → (N,), (N, 1) or (N, 2), optionally with digit logits, in place of all
            other modules.

    Attributes:
        is_digit_head: Whether the output is digit probabilities.

    Example:
        >>> network = PairNetwork(nn.Sequential(nn.Flatten(), nn.Linear(196, 10)), nn.Linear(20, 1), width=10)
        >>> network(torch.zeros(5, 2, 14, 14)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        branch: nn.Module | None = None,
        head: nn.Module | None = None,
        *,
        width: int,
        second_branch: nn.Module | None = None,
        readout: nn.Module | None = None,
        code_activation: nn.Module | None = None,
        reads_code: bool = False,
        is_joint: bool = False,
        network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        # torch does not register None as a module, so neither repr nor state_dict mentions parts that are None
        self.network = network
        self.branch, self.second_branch = branch, second_branch
        self.code_activation = code_activation
        self.readout, self.head = readout, head
        self.width, self.is_digit_head = width, isinstance(head, DigitHead)
        self._reads_code, self._is_joint = reads_code, is_joint

    @property
    def backbones(self) -> list[nn.Module]:
        """The one or two backbones, or the whole network."""
        return [part for part in (self.network, self.branch, self.second_branch) if part is not None]

    def forward(self, pairs: Tensor) -> Output:
        """Compare pairs of images: (N, 2, H, W) → output, or (output, digit logits), as described in the class."""
        if self.network is not None:
            return _add_missing_column(self.network(pairs), pairs.dim() - 3)
        assert self.head is not None
        embedding = self.embed(pairs)
        digit_logits = self._compute_digit_logits(embedding)
        active: Tensor = embedding if self.code_activation is None else self.code_activation(embedding)
        if digit_logits is active:  # the head may change its input in place
            active = active.clone()
        output: Tensor = self.head(active if self._is_joint else active.flatten(-2))
        return output if digit_logits is None else (output, digit_logits)

    def embed(self, pairs: Tensor) -> Tensor:
        """Return the embeddings of both images: (N, 2, H, W) → (N, 2, F), or (N, F) with a joint backbone."""
        assert self.branch is not None
        if self._is_joint:
            joint: Tensor = self.branch(pairs)
            return joint
        if self.second_branch is not None:
            first, second = torch.split(pairs, 1, -3)
            return torch.stack([self.branch(first), self.second_branch(second)], -2)
        *leading, count, images, height, width = pairs.shape
        embedding: Tensor = self.branch(pairs.reshape(*leading, count * images, 1, height, width))
        return embedding.view(*leading, count, images, -1)

    def _compute_digit_logits(self, embedding: Tensor) -> Tensor | None:
        """Return the digit logits of both images, (N, 2, K), or None if there are none."""
        if self.readout is not None:
            logits: Tensor = self.readout(embedding)
            return logits
        return embedding if self._reads_code else None

    def parts(self, shape: Sequence[int]) -> Mapping[str, Part]:
        """Return the parts that are stacked, for pairs of this shape (2, H, W)."""
        image = shape if self._is_joint else [1, *shape[1:]]
        parts = {
            "network": Part(shape, ".network"),
            "branch": Part(image, "branch"),
            "second_branch": Part(image, "branch", copy=1),
            "readout": Part([2, self.width], ".readout"),
            "head": Part([self.width if self._is_joint else 2 * self.width], ".head"),
        }
        return {name: part for name, part in parts.items() if getattr(self, name) is not None}


def _add_missing_column(output: Output, leading: int) -> Output:
    """Return the output of a whole network with a last dimension for logits: (..., N) becomes (..., N, 1).

    Args:
        output: Output (..., N), (..., N, 1) or (..., N, 2), optionally with digit logits.
        leading: Number of dimensions up to and including N.
    """
    values, digit_logits = (output, None) if isinstance(output, Tensor) else output
    columns = values if values.dim() > leading else values.unsqueeze(-1)
    return columns if digit_logits is None else (columns, digit_logits)
