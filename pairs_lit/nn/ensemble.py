"""Averaging predictions over ensemble members and test-time augmentation."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.relation import Relation, compute_relation_probability


def average_outputs(outputs: Iterable[PairOutput], members: int, relation: Relation) -> PairOutput:
    """Return the mean prediction of R rounds; it averages probabilities, as in bagging (Breiman 1996).

    If a head gives digit probabilities, these are averaged and then compared; otherwise, P(relation) is averaged. The
    mean digit logits are the logarithm of the mean softmax. A pair's mean is NaN if any of its outputs is not finite.

    Args:
        outputs: Outputs of R·M networks for each view, with member m of round r at index r·M + m. They are consumed
            one by one to save memory.
        members: M, the number of predictions of each round in one output: its members, or its members × views.
        relation: Relation by which digit probabilities are compared.
    """
    total: Tensor | None = None
    log_sum, views = None, 0
    for output in outputs:
        views += 1
        probabilities = _split_by_round(_get_probabilities(output), members).mean(1)
        total = probabilities if total is None else total + probabilities
        if output.digit_logits is not None:
            log_digits = _split_by_round(output.digit_logits.log_softmax(-1), members).logsumexp(1)
            log_sum = log_digits if log_sum is None else torch.logaddexp(log_sum, log_digits)
    assert total is not None
    mean = total / views
    logits = log_sum if log_sum is None else log_sum - math.log(views * members)
    if mean.dim() == 4:  # digit probabilities (R, B, 2, K)
        return PairOutput(compute_relation_probability(relation, mean), "probability", logits, mean, is_averaged=True)
    return PairOutput(mean, "probability", logits, is_averaged=True)


def _get_probabilities(output: PairOutput) -> Tensor:
    """Return the digit probabilities if there are any, or else P(relation), with NaN where a logit is not finite."""
    if output.digit_probabilities is not None:
        return output.digit_probabilities
    finite = output.output.isfinite() if output.kind != "logits" else output.output.isfinite().all(-1)
    return output.get_probability().where(finite, torch.nan)  # an infinite logit has a finite probability


def _split_by_round(values: Tensor, members: int) -> Tensor:
    """Return the values with one dimension for rounds and one for members: (R·M, ...) → (R, M, ...)."""
    return values.view(-1, members, *values.shape[1:])
