"""The plain network of one round, in plain torch: nothing of the stack is left."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pairs_lit.nn.architecture import Architecture, PlainParts
from pairs_lit.nn.blocks import activation_layer
from pairs_lit.nn.heads import DigitHead
from pairs_lit.nn.test_time_augmentation import Views
from pairs_lit.relation import relation_probability

Said = Tensor | tuple[Tensor, Tensor]
"""P(relation), (N,); with a read-out of the digits, beside their logits, (N, 2, K)."""


class PairNetwork(nn.Module):
    """The network of one round: prepared pairs (N, 2, H, W) → P(relation), or (P(relation), digit logits).

    Args:
        architecture: How its parts stand together.
        parts: The parts, as their authors' classes hold them.

    Attributes:
        network: The whole pair network of ``model.network``; None: it consists of parts.
        branches: One backbone, or one for each image.
        readout: What gives digit logits beside the head.
        head: What gives the answer.
    """

    def __init__(self, architecture: Architecture, parts: PlainParts) -> None:
        super().__init__()
        whole = architecture.network is not None
        self.network = parts.backbones[0] if whole else None
        self.branches = nn.ModuleList([] if whole else parts.backbones)
        self.code_activation = activation_layer(architecture.code_activation)
        self.readout, self.head = parts.readout, parts.head
        self._reads_code = architecture.readout == "identity"
        self._is_joint, self._relation = architecture.sharing == "joint", architecture.relation

    def forward(self, pairs: Tensor) -> Said:
        """Say how probable the relation is: (N, 2, H, W) → (N,), or beside it the digit logits (N, 2, K)."""
        judged, digits = self.judged(pairs)
        probability = self.related(judged)
        return probability if digits is None else (probability, digits)

    def judged(self, pairs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return digit probabilities (N, 2, K) if the head gives any, else P(relation), (N,); and digit logits."""
        if self.network is not None:
            answer = self.network(pairs)
            output, digits = answer if isinstance(answer, tuple) else (answer, None)
        else:
            output, digits = self._compared(pairs)
        if isinstance(self.head, DigitHead):
            return output, digits
        if output.dim() == 2 and output.shape[1] == 2:
            return output.softmax(-1)[:, 1], digits
        return output.flatten().sigmoid(), digits

    def related(self, judged: Tensor) -> Tensor:
        """Return P(relation), (N,), of what :meth:`judged` gives."""
        return relation_probability(self._relation, judged) if isinstance(self.head, DigitHead) else judged

    def _compared(self, pairs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the head's output and the digit logits."""
        assert self.head is not None
        if self._is_joint:
            return self.head(self.code_activation(self.branches[0](pairs))), None
        first, second = self.branches[0], self.branches[-1]
        code: Tensor  # of both images, (N, 2, F)
        if first is second:
            code = first(pairs.flatten(0, 1).unsqueeze(1))
            code = code.view(-1, 2, code.shape[-1])
        else:
            code = torch.stack([first(pairs[:, :1]), second(pairs[:, 1:])], 1)
        digits = code if self._reads_code else None
        if self.readout is not None:
            digits = self.readout(code)
        return self.head(self.code_activation(code).flatten(1)), digits


class AveragedNetwork(nn.Module):
    """The network of a round of several members or views: prepared pairs (N, 2, H, W) → as :class:`PairNetwork`.

    Where a head gives digit probabilities, their means are compared; otherwise P(relation) is averaged. The digit
    logits are the logarithms of mean probabilities.

    Args:
        members: The networks of the round's members.
        views: The views of its images; None: it sees them as they are.

    Attributes:
        members: The same.
        views: The same.
    """

    def __init__(self, members: Sequence[PairNetwork], views: Views | None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.views = views

    def forward(self, pairs: Tensor) -> Said:
        """Say how probable the relation is: (N, 2, H, W) → (N,), or beside it the digit logits (N, 2, K)."""
        networks = [cast(PairNetwork, member) for member in self.members]
        views, shown = (1, pairs) if self.views is None else (self.views.count, self.views(pairs).flatten(0, 1))
        said = [network.judged(shown) for network in networks]
        every = torch.cat([_by_view(judged, views) for judged, _ in said])
        probability = networks[0].related(every.mean(0))
        read = [_by_view(digits.log_softmax(-1), views) for _, digits in said if digits is not None]
        if not read:
            return probability
        return probability, torch.cat(read).logsumexp(0) - math.log(len(every))


def _by_view(values: Tensor, views: int) -> Tensor:
    """(V·N, ...) → (V, N, ...)."""
    return values.view(views, -1, *values.shape[1:])


PlainNetwork = PairNetwork | AveragedNetwork
"""The network of one round: prepared pairs (N, 2, H, W) → P(relation), or (P(relation), digit logits)."""
