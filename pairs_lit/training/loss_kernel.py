"""Numba kernel: losses, numbers of correct decisions and gradients of a batch, in one pass.

It replaces some forty calls of torch on small tensors, which take longer than the arithmetic of a dense network.
"""

import numpy as np

from pairs_lit.stacking.ops.compilation import Array, compile_inline, compile_kernel


@compile_inline
def _measure_target(output: Array, target: Array, weights: Array, gradient: Array) -> tuple[float, int]:
    """Return the mean binary cross-entropy of B logits and the number of correct decisions; write the gradient."""
    pairs, loss, correct = output.size, 0.0, 0
    for pair in range(pairs):
        z, holds = output[pair], target[pair] > 0
        goal, small = weights[3] * holds + weights[2] / 2, np.exp(-abs(z))
        loss += max(z, 0) - z * goal + np.log1p(small)
        correct += (z > 0) == holds
        if gradient.size > 0:
            gradient[pair] = weights[0] * ((1 if z >= 0 else small) / (1 + small) - goal) / pairs
    return loss / pairs, correct


@compile_inline
def _count_correct_digits(logits: Array, digits: Array) -> float:
    """Return how many of P images have the largest of their K logits at the right class; NaN counts as the largest."""
    classes, images = logits.shape
    if classes == 0:
        return np.nan
    top, best = logits[0].copy(), np.zeros(images, np.int64)
    for k in range(1, classes):
        for image in range(images):
            value = logits[k, image]
            is_larger = value > top[image] or (value != value and top[image] == top[image])
            best[image] = k if is_larger else best[image]
            top[image] = value if is_larger else top[image]
    return float((best == digits).sum())


@compile_inline
def _measure_digits(log_probabilities: Array, digits: Array, weights: Array, share: float, gradient: Array) -> float:
    """Return the cross-entropy of P images; write its weighted gradient, in place of the probabilities."""
    classes, images = log_probabilities.shape
    if classes == 0:
        return 0.0
    loss, spread = 0.0, weights[2] / classes
    for image in range(images):
        if not 0 <= digits[image] < classes:
            raise IndexError("a class is not below the number of digit logits")
        loss -= weights[3] * log_probabilities[digits[image], image]
    if spread > 0:
        loss -= spread * log_probabilities.sum()
    if gradient.size > 0:
        scale = weights[1] * share
        for k in range(classes):
            for image in range(images):
                gradient[k, image] = scale * (gradient[k, image] - spread)
        for image in range(images):
            gradient[digits[image], image] -= scale * weights[3]
    return loss * share


@compile_kernel
def measure_losses(
    output: Array,
    target: Array,
    logits: Array,
    log_probabilities: Array,
    digits: Array,
    weights: Array,
    measured: Array,
    output_gradient: Array,
    logit_gradient: Array,
) -> None:
    """Compute the losses of N networks, the numbers of their correct decisions and digits, and the gradients.

    Args:
        output: One logit of the relation for each pair, (N, B).
        target: Whether the relation holds, (N, B) int64.
        logits: Digit logits (N, K, P), or (N, 0, P) if there are none.
        log_probabilities: Their logarithmic softmax (N, K, P), or (N, 0, P) if there is no digit loss.
        digits: The classes of the images, (N, P) int64.
        weights: Settings of each network, (N, 5) float64: weight of the target loss, weight of the digit loss, label
            smoothing, 1 − label smoothing, and the weight of each image of a pair in the digit loss.
        measured: Output: total loss, target loss, digit loss, number of correct decisions and number of correct digits,
            (5, N).
        output_gradient: Output: the gradient of ``output``, (N, B), or (N, 0) if none is needed.
        logit_gradient: Input: the digit probabilities; output: the gradient of ``logits``, (N, K, P), or (N, 0, P) if
            none is needed.

    Raises:
        IndexError: A class is not below K.
    """
    for n in range(len(output)):
        loss, correct = _measure_target(output[n], target[n], weights[n], output_gradient[n])
        share = weights[n, 4] / output.shape[1]
        digit_loss = _measure_digits(log_probabilities[n], digits[n], weights[n], share, logit_gradient[n])
        total = 0.0
        if weights[n, 0] > 0:  # a loss of weight 0 is left out, so its NaN does no harm
            total += weights[n, 0] * loss
        if weights[n, 1] > 0:
            total += weights[n, 1] * digit_loss
        measured[0, n], measured[1, n], measured[2, n] = total, loss, digit_loss
        measured[3, n], measured[4, n] = correct, _count_correct_digits(logits[n], digits[n])
