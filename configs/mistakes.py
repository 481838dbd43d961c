"""Mistakes that may lie behind a report's figures: here only to explain them ("Why ours differ" in docs/results)."""

from collections.abc import Sequence

from torch import nn

from pairs_lit.nn.backbones import CNN, IdlePlace, Place, Shape


class SoftmaxTwice(nn.Sequential):
    """A CNN whose code is softmax(z): cross-entropy on the digits, which applies softmax itself, applies it again.

    Args:
        shape: As of ``CNN``.
        channels: As of ``CNN``.
        widths: As of ``CNN``.
        batch_norm: As of ``CNN``.
        idle_batch_norm: As of ``CNN``.
        dropout: As of ``CNN``.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Sequence[int],
        widths: Sequence[int],
        batch_norm: Sequence[Place] = (),
        idle_batch_norm: Sequence[IdlePlace] = (),
        dropout: float = 0.0,
    ) -> None:
        network = CNN(
            shape,
            channels=channels,
            widths=widths,
            batch_norm=batch_norm,
            idle_batch_norm=idle_batch_norm,
            dropout=dropout,
        )
        super().__init__(*network, nn.Softmax(1))
