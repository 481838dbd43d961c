"""Heads: plain torch modules that turn the embeddings of both images into the output, (N, W) → output.

There are three kinds of output: one logit of the relation, (N, 1); two logits, of "does not hold" and "holds", (N, 2);
and the digit probabilities of both images, (N, 2, K), from a :class:`DigitHead`. The relation is then computed from the
digit probabilities.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError, check_dropout, check_sizes
from pairs_lit.nn.blocks import Activation, build_linear_layers
from pairs_lit.stacking.ops.stacked_layers import Rowwise

HeadFactory = Callable[[int], nn.Module]


class MLP(nn.Sequential):
    """Fully connected layers, without an activation after the last.

    Args:
        width: Width of the concatenated embeddings.
        hidden: Widths of the hidden layers. Without any, the head is one linear layer (belhadj's 20→1).
        outputs: 1 (one logit, for bce) or 2 (two logits, for ce or mse).
        batch_norm: Whether batch norm follows every hidden layer.
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
            raise PairsLitError(f"MLP.outputs must be 1 or 2, got {outputs}.")
        check_sizes("MLP: hidden", hidden)
        check_dropout("MLP: dropout", [dropout])
        widths = [width, *hidden, outputs]
        super().__init__(*build_linear_layers(widths, batch_norm=batch_norm, dropout=dropout, activation=activation))


class DigitHead(nn.Module):
    """Base class of heads that give digit probabilities: embeddings of both images (..., 2·K) → (..., 2, K).

    Args:
        width: 2·K. :meth:`check` compares K with the number of classes.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.classes = width, width // 2

    def check_width(self, classes: int) -> None:
        """Raise PairsLitError if the embedding of each image does not have one value per class."""
        if self.width != 2 * classes:
            raise PairsLitError(
                f"{type(self).__name__} uses the embeddings as digit logits and needs a width of {2 * classes} for "
                f"both images, got {self.width}. Give the backbone {classes} outputs and do not use sharing: joint."
            )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return digit probabilities: (..., 2·K) → (..., 2, K)."""
        return self.digit_probabilities(embeddings.view(*embeddings.shape[:-1], 2, self.classes))

    @abstractmethod
    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Return digit probabilities, which sum to 1, from digit logits: (..., K) → (..., K)."""


class SoftmaxHead(DigitHead, Rowwise):
    """Digit probabilities p = softmax(z), which cross-entropy on the digits trains."""

    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Return softmax(z)."""
        return logits.softmax(-1)


class PowerHead(DigitHead, Rowwise):
    """Digit probabilities p_i = (z_i − min z)^e / Σ_k (z_k − min z)^e, uniform if all z are equal.

    With e = 6, this is the head of grall's Model B.

    Args:
        width: Width of the concatenated embeddings.
        exponent: e, 1 or more. Below 1, the gradient at the smallest logit would be infinite.

    Raises:
        PairsLitError: The exponent is below 1.
    """

    def __init__(self, width: int, *, exponent: float = 6.0) -> None:
        super().__init__(width)
        if not 1 <= exponent < float("inf"):
            raise PairsLitError(f"PowerHead.exponent must be finite and 1 or more, got {exponent}.")
        self._exponent = exponent

    def extra_repr(self) -> str:
        """Return the exponent, for ``repr``."""
        return f"exponent={self._exponent}"

    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Return the normalised powers; all values are first divided by the largest, so that no power overflows."""
        above = logits - logits.amin(-1, keepdim=True)
        largest = above.detach().amax(-1, keepdim=True)
        flat = largest == 0
        powers = (above / largest.masked_fill(flat, 1)) ** self._exponent
        total = powers.sum(-1, keepdim=True).masked_fill(flat, 1)
        return torch.where(flat, torch.full_like(powers, 1 / self.classes), powers / total)


class ArgmaxHead(DigitHead, Rowwise):
    """Digit probabilities p = 1 for the largest logit, so that the two recognised digits are compared by logic.

    There is no gradient, so the target loss must be none. Gardoni's transfer experiment trains only the digit
    recogniser and compares digits in this way.
    """

    def digit_probabilities(self, logits: Tensor) -> Tensor:
        """Return the one-hot vector of the largest logit."""
        return F.one_hot(logits.argmax(-1), self.classes).to(logits.dtype)
