"""The plain network of one round, in plain torch: nothing of the stack is left."""

import torch
from torch import Tensor, nn

from pairs_lit.nn.architecture import Architecture, PlainParts
from pairs_lit.nn.blocks import activation_layer
from pairs_lit.nn.heads import DigitHead
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
        if self.network is not None:
            answer = self.network(pairs)
            output, digits = answer if isinstance(answer, tuple) else (answer, None)
        else:
            output, digits = self._compared(pairs)
        probability = self._probability(output)
        return probability if digits is None else (probability, digits)

    def _compared(self, pairs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the head's output and the digit logits."""
        assert self.head is not None
        if self._is_joint:
            return self.head(self.code_activation(self.branches[0](pairs))), None
        first, second = self.branches[0], self.branches[-1]
        code = self._both(first, second, pairs)
        digits = code if self._reads_code else None
        if self.readout is not None:
            digits = self.readout(code)
        return self.head(self.code_activation(code).flatten(1)), digits

    @staticmethod
    def _both(first: nn.Module, second: nn.Module, pairs: Tensor) -> Tensor:
        """Return the codes of both images, (N, 2, F)."""
        if first is second:
            code: Tensor = first(pairs.flatten(0, 1).unsqueeze(1))
            return code.view(-1, 2, code.shape[-1])
        return torch.stack([first(pairs[:, :1]), second(pairs[:, 1:])], 1)

    def _probability(self, output: Tensor) -> Tensor:
        if isinstance(self.head, DigitHead):
            return relation_probability(self._relation, output)
        if output.dim() == 2 and output.shape[1] == 2:
            return output.softmax(-1)[:, 1]
        return output.flatten().sigmoid()
