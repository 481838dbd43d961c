"""Averaging: one answer from those of a round's members and from those to several views of its images."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from pairs_lit.nn.comparer import Answer
from pairs_lit.relation import Relation, relation_probability


def averaged(answers: Iterable[Answer], members: int, relation: Relation) -> Answer:
    """Return the mean answer of R rounds, by probabilities, as those of bagged classifiers are (Breiman 1996).

    Where a head gives digit probabilities, their means are compared; otherwise P(relation) is averaged. The mean
    digit logits are the logarithm of the mean of their softmax. A round of which any answer is not finite has NaN.

    Args:
        answers: To each view, those of R·M networks, round after round; taken one by one, for they need memory.
        members: M.
        relation: What digit probabilities are compared by.
    """
    total, read, views = torch.zeros(()), None, 0
    for answer in answers:
        views += 1
        judged, output = answer.digit_probabilities, answer.output
        if judged is None:
            finite = output.isfinite() if output.dim() == 2 else output.isfinite().all(-1)
            judged = answer.probability().where(finite, torch.nan)  # an infinite logit would hide in a probability
        total = total + _by_round(judged, members).mean(1)
        if answer.digit_logits is not None:
            own = _by_round(answer.digit_logits.log_softmax(-1), members).logsumexp(1)
            read = own if read is None else torch.logaddexp(read, own)
    mean = total / views
    whole = read if read is None else read - math.log(views * members)
    if mean.dim() == 4:
        return Answer(relation_probability(relation, mean), "probability", whole, mean, averaged=True)
    return Answer(mean, "probability", whole, averaged=True)


def _by_round(values: Tensor, members: int) -> Tensor:
    """(R·M, ...) → (R, M, ...)."""
    return values.view(-1, members, *values.shape[1:])
