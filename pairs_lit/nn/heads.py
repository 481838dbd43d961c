"""Heads: plain torch modules that turn the codes of both images into the answer, (N, W) → output.

Three kinds of output are understood: (N, 1), the logit of the relation; (N, 2), the logits of "does not hold" and
"holds"; and, from a :class:`DigitHead`, the digit probabilities of both images, which the relation then compares.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError, check_dropout, check_sizes
from pairs_lit.nn.blocks import Activation, linear_layers
from pairs_lit.stacking.ops.stacked_layers import Rowwise

HeadFactory = Callable[[int], nn.Module]


class MLP(nn.Sequential):
    """Fully connected layers; no activation after the last.

    Args:
        width: Width of the concatenated code.
        hidden: Widths of the hidden layers; none: one linear layer (belhadj's 20→1).
        outputs: 1 (one logit, for bce) or 2 (two logits, for ce or mse).
        batch_norm: Batch norm after every hidden layer.
        dropout: Dropout probability after every hidden activation.
        activation: The activation after every hidden layer.

    Raises:
        PairsLitError: ``outputs`` is neither 1 nor 2, a width is below 1, or the dropout lies outside [0, 1).
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: Sequence[int] = (),
        outputs: int = 1,
        batch_norm: bool = False,
        dropout: float = 0.0,
        activation: Activation = "relu",
    ) -> None:
        if outputs not in (1, 2):
            raise PairsLitError(f"MLP: outputs is {outputs}: it must be 1 or 2.")
        check_sizes("MLP: hidden", hidden)
        check_dropout("MLP: dropout", [dropout])
        widths = [width, *hidden, outputs]
        super().__init__(*linear_layers(widths, batch_norm=batch_norm, dropout=dropout, activation=activation))


class DigitHead(nn.Module):
    """A head that gives digit probabilities: codes of both images (..., 2·K) → (..., 2, K).

    Args:
        width: 2·K; that K is the number of classes is for who knows it to check, see :meth:`check`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.classes = width, width // 2

    def check(self, classes: int) -> None:
        """Refuse a code that does not have one value per class for each image.

        Raises:
            PairsLitError: The width is not twice the number of classes.
        """
        if self.width != 2 * classes:
            raise PairsLitError(
                f"{type(self).__name__} reads the code as digit logits and needs a width of {2 * classes} for both "
                f"images, got {self.width}: give the backbone {classes} outputs and do not use sharing: joint."
            )

    def forward(self, codes: Tensor) -> Tensor:
        """Return digit probabilities: (..., 2·K) → (..., 2, K)."""
        return self.digit_probabilities(codes.view(*codes.shape[:-1], 2, self.classes))

    @abstractmethod
    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Turn digit logits into digit probabilities: (..., K) → (..., K), summing to 1."""


class SoftmaxHead(DigitHead, Rowwise):
    """p = softmax(z): the probabilities that cross-entropy on the digits trains."""

    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Return softmax(z)."""
        return logits.softmax(-1)


class PowerHead(DigitHead, Rowwise):
    """p_i = (z_i − min z)^e / Σ_k (z_k − min z)^e; uniform where all z are equal. Grall's Model B with e = 6.

    Args:
        width: Width of the concatenated code.
        exponent: e, 1 or more: below, the gradient at the smallest logit is infinite.

    Raises:
        PairsLitError: The exponent is below 1.
    """

    def __init__(self, width: int, *, exponent: float = 6.0) -> None:
        super().__init__(width)
        if not 1 <= exponent < float("inf"):
            raise PairsLitError(f"PowerHead: exponent is {exponent}: it must be finite, 1 or more.")
        self._exponent = exponent

    def extra_repr(self) -> str:
        """Show the exponent."""
        return f"exponent={self._exponent}"

    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Return the normalised powers; the largest is scaled to 1 first, so that none overflows."""
        above = logits - logits.amin(-1, keepdim=True)
        largest = above.detach().amax(-1, keepdim=True)
        flat = largest == 0
        powers = (above / largest.masked_fill(flat, 1)) ** self._exponent
        total = powers.sum(-1, keepdim=True).masked_fill(flat, 1)
        return torch.where(flat, torch.full_like(powers, 1 / self.classes), powers / total)


class ArgmaxHead(DigitHead, Rowwise):
    """p = 1 for the largest logit: compares the two recognised digits by logic. No gradient: needs target loss none.

    Gardoni's transfer row trains only the digit recogniser and compares in this way.
    """

    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Return the one-hot vector of the largest logit."""
        return F.one_hot(logits.argmax(-1), self.classes).to(logits.dtype)
