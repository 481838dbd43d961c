"""Losses and numbers of correct decisions of a batch, from a compiled kernel or, where it supports less, from torch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.stacking.ops.compilation import can_use_kernels, run_kernel
from pairs_lit.training.losses import LossParts, PairLoss, combine_losses
from pairs_lit.training.metrics import measure_batch


class BatchLosses:
    """The losses of the R rounds of a stack, and the numbers from which the metrics of a batch are computed.

    Args:
        losses: The loss of each round; all have the same :attr:`PairLoss.form`.

    Attributes:
        combined: The losses as one function, computed by torch.
    """

    def __init__(self, losses: Sequence[PairLoss]) -> None:
        self.combined = combine_losses(losses)
        self._first = losses[0]
        self._settings = torch.tensor([_list_settings(loss) for loss in losses], dtype=torch.float64)

    def __call__(self, comparison: PairOutput, digits: Tensor, target: Tensor) -> tuple[LossParts, Tensor]:
        """Compute the losses of N networks, which are the R rounds or their ensemble members.

        Args:
            comparison: The predictions of the networks.
            digits: The classes of the images, (N, B, 2) int64.
            target: Whether the relation holds, (N, B) int64.

        Returns:
            The losses, of which only the total has gradients, and the result of
            :func:`~pairs_lit.training.metrics.measure_batch`.
        """
        if not self._can_use_kernel(comparison):
            losses = self.combined(comparison, digits, target)
            return losses, measure_batch(comparison, losses, digits, target)
        output, logits, members = comparison.output, comparison.digit_logits, len(target) // len(self._settings)
        if comparison.kind == "logits":  # the cross-entropy of two logits is the binary one of their difference
            output = output[..., 1] - output[..., 0]
        if logits is None:
            logits = output.new_empty(*digits.shape, 0)
        settings = self._settings.repeat_interleave(members, 0) if members > 1 else self._settings
        total, measured = _KernelLosses.apply(output, logits, digits, target, settings, self._first)
        return LossParts(total, measured[1], measured[2]), measured

    def _can_use_kernel(self, comparison: PairOutput) -> bool:
        """Return whether the compiled kernel supports the losses and the predictions."""
        has_supported_target = (self._first.target, comparison.kind) in (("bce", "logit"), ("ce", "logits"))
        values = [comparison.output, *([] if comparison.digit_logits is None else [comparison.digit_logits])]
        return has_supported_target and self._first.digits in ("ce", "none") and can_use_kernels(*values)


def _list_settings(loss: PairLoss) -> list[float]:
    """Return the settings of one network, as :func:`pairs_lit.training.loss_kernel.measure_losses` needs them."""
    aux_weight = loss.aux_weight if loss.trains_digits else 0.0
    image_weight = 1.0 if loss.digit_reduction == "sum" else 0.5
    return [loss.target_weight, aux_weight, loss.label_smoothing, 1 - loss.label_smoothing, image_weight]


class _KernelLosses(torch.autograd.Function):
    """Autograd function of the compiled kernel, which computes gradients along with the losses."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        output: Tensor,
        logits: Tensor,
        digits: Tensor,
        target: Tensor,
        settings: Tensor,
        loss: PairLoss,
    ) -> tuple[Tensor, Tensor]:
        from pairs_lit.training import loss_kernel

        columns = logits.movedim(-1, 1).flatten(2).contiguous()  # (N, K, 2·B): torch's softmax is fast over long rows
        none = columns[:, :0]
        log_probabilities = F.log_softmax(columns, 1) if loss.digits == "ce" and columns.shape[1] > 0 else none
        needs_output, needs_logits = (
            needed and trained
            for needed, trained in zip(ctx.needs_input_grad[:2], (loss.trains_target, loss.trains_digits), strict=True)
        )
        output_gradient = torch.empty_like(output) if needs_output else output.new_empty(len(output), 0)
        logit_gradient = log_probabilities.exp() if needs_logits else none
        measured = output.new_empty(5, len(output))
        run_kernel(
            loss_kernel.measure_losses,
            output.contiguous(),
            target.contiguous(),
            columns,
            log_probabilities,
            digits.flatten(1).contiguous(),
            settings,
            measured,
            output_gradient,
            logit_gradient,
        )
        ctx.save_for_backward(output_gradient if needs_output else None, logit_gradient if needs_logits else None)
        ctx.mark_non_differentiable(measured)
        return measured[0].clone(), measured

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:  # noqa: ANN401 - torch's context
        output_gradient, logit_gradient = ctx.saved_tensors
        if output_gradient is not None:
            output_gradient = output_gradient * grads[0][:, None]
        if logit_gradient is not None:
            scaled = logit_gradient * grads[0][:, None, None]
            logit_gradient = scaled.view(*scaled.shape[:2], -1, 2).movedim(1, -1)
        return output_gradient, logit_gradient, None, None, None, None
