"""Averaging the predictions of a round's ensemble members and of several views of its images."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.relation import Relation, relation_probability


def average(outputs: Iterable[PairOutput], members: int, relation: Relation) -> PairOutput:
    """Return the mean prediction of R rounds, by probabilities, as those of bagged classifiers are (Breiman 1996).

    Where a head gives digit probabilities, their means are compared; otherwise P(relation) is averaged. The mean
    digit logits are the logarithm of the mean of their softmax. A round of which any output is not finite has NaN.

    Args:
        outputs: For each view, those of R·M networks, at index r·M + m; consumed lazily to save memory.
        members: M, how many predictions of each round are in one output: its members, or members × views.
        relation: What digit probabilities are compared by.
    """
    total, read, views = torch.zeros(()), None, 0
    for output in outputs:
        views += 1
        total = total + _by_round(_probabilities(output), members).mean(1)
        if output.digit_logits is not None:
            own = _by_round(output.digit_logits.log_softmax(-1), members).logsumexp(1)
            read = own if read is None else torch.logaddexp(read, own)
    mean = total / views
    logits = read if read is None else read - math.log(views * members)
    if mean.dim() == 4:
        return PairOutput(relation_probability(relation, mean), "probability", logits, mean, averaged=True)
    return PairOutput(mean, "probability", logits, averaged=True)


def _probabilities(output: PairOutput) -> Tensor:
    """Return digit probabilities if there are any, else P(relation), with NaN where a logit is not finite."""
    if output.digit_probabilities is not None:
        return output.digit_probabilities
    finite = output.output.isfinite() if output.kind != "logits" else output.output.isfinite().all(-1)
    return output.probability().where(finite, torch.nan)  # an infinite logit would hide in a probability


def _by_round(values: Tensor, members: int) -> Tensor:
    """(R·M, ...) → (R, M, ...)."""
    return values.view(-1, members, *values.shape[1:])
