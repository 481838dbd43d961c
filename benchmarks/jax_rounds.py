"""The same rounds in JAX, trained sequentially or under ``vmap``, with ``jit`` and one ``lax.scan`` per epoch."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")  # one thread, like the plain loop

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from baselines import EVAL_BATCH_SIZE, EpochClock, Timing, get_batch_size, load_splits
from networks import NETWORKS

Weights = list[tuple[Any, Any]]
"""Weight and bias of each layer, those of the branch first, then those of the head."""

Predict = Callable[[Weights, Any], tuple[Any, Any]]
"""Maps weights and pairs (N, 2, 14, 14) to the logit (N,) and the digit logits (N, 2, 10)."""


def train_sequentially(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    """Train the rounds sequentially."""
    runs = [_train(name, [seed], epochs) for seed in seeds]
    return Timing([value for run in runs for value in run.seconds], [run.accuracy[0] for run in runs])


def train_vmapped(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    """Train all rounds at once under ``vmap``."""
    return _train(name, seeds, epochs)


def _train(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    clock, size = EpochClock(), get_batch_size(name)
    weights = _stack_trees([_build_initial_weights(name, seed) for seed in seeds])
    data = {
        split: _stack_trees([_load_arrays(name, seed)[split] for seed in seeds]) for split in ("train", "val", "test")
    }
    loss = partial(_compute_loss, _PREDICTORS[name], NETWORKS[name].aux_weight)
    epoch = jax.jit(jax.vmap(partial(_train_epoch, loss), in_axes=(0, 0, 0, 0, 0, 0)))
    evaluate = jax.jit(jax.vmap(partial(_evaluate, _PREDICTORS[name], loss)))
    moments, step = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)], jnp.zeros(len(seeds))
    rng, pairs = np.random.default_rng(0), data["train"][2].shape[1]
    accuracy = np.zeros(len(seeds))
    for _ in range(epochs):
        order = np.stack([rng.permutation(pairs) for _ in seeds])
        whole = order[:, : pairs // size * size].reshape(len(seeds), -1, size)
        for batches in (whole, order[:, None, whole[0].size :]):  # the last batch is smaller
            if batches.size:
                weights, *moments, step = epoch(weights, *moments, step, data["train"], jnp.asarray(batches))
        evaluate(weights, data["val"])
        accuracy = np.asarray(evaluate(weights, data["test"]))[:, 0]
        clock.record_epoch_end("cpu")
    return Timing(clock.compute_epoch_seconds(len(seeds)), accuracy.tolist())


def _build_initial_weights(name: str, seed: int) -> Weights:
    """Return the initial weights of the plain network."""
    torch.manual_seed(seed)
    layers = [
        layer for layer in NETWORKS[name].build().modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    ]
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers if layer.bias is not None]


def _load_arrays(name: str, seed: int) -> dict[str, tuple[Any, ...]]:
    return {split: tuple(part.numpy() for part in parts) for split, parts in load_splits(name, seed, "cpu").items()}


def _stack_trees(trees: Sequence[Any]) -> Any:  # noqa: ANN401 - a tree of arrays
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)


def _train_epoch(
    loss: Callable[..., Any],
    weights: Any,  # noqa: ANN401 - a tree of JAX's arrays, as all that follow
    first: Any,  # noqa: ANN401
    second: Any,  # noqa: ANN401
    step: Any,  # noqa: ANN401
    data: Any,  # noqa: ANN401
    batches: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    def one(carry: Any, rows: Any) -> tuple[Any, None]:  # noqa: ANN401
        values, mean, square, count = carry
        gradients = jax.grad(loss)(values, *(part[rows] for part in data))
        count = count + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradients)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradients)
        rate = 0.001 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        values = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-8), values, mean, square)
        return (values, mean, square, count), None

    return lax.scan(one, (weights, first, second, step), batches)[0]


def _evaluate(predict: Predict, loss: Callable[..., Any], weights: Weights, data: Any) -> Any:  # noqa: ANN401
    """Return accuracy, digit accuracy and loss, in batches."""

    def one(_: None, batch: Any) -> tuple[None, Any]:  # noqa: ANN401
        images, digits, target = batch
        logit, digit_logits = predict(weights, images)
        accuracies = jnp.mean((logit > 0) == target), jnp.mean(digit_logits.argmax(-1) == digits)
        return None, jnp.stack([*accuracies, loss(weights, *batch)])

    batches = jax.tree.map(lambda part: part.reshape(-1, EVAL_BATCH_SIZE, *part.shape[1:]), data)
    return lax.scan(one, None, batches)[1].mean(0)


def _compute_loss(predict: Predict, aux_weight: float, weights: Weights, images: Any, digits: Any, target: Any) -> Any:  # noqa: ANN401
    logit, digit_logits = predict(weights, images)
    loss = jnp.mean(jax.nn.softplus(logit) - logit * target)
    if aux_weight:
        surprise = -jnp.take_along_axis(jax.nn.log_softmax(digit_logits), digits[..., None], -1)
        loss = loss + aux_weight * surprise.mean(0).sum()
    return loss


def _apply_fc(weights: Weights, pairs: Any) -> tuple[Any, Any]:  # noqa: ANN401
    *branch, head = weights
    return _apply_head(_apply_dense(branch, pairs.reshape(*pairs.shape[:2], -1)), head)


def _apply_cnn(weights: Weights, pairs: Any) -> tuple[Any, Any]:  # noqa: ANN401
    first, second, *branch, head = weights
    maps = pairs.reshape(-1, 1, *pairs.shape[2:])
    for weight, bias in (first, second):
        maps = lax.conv_general_dilated(maps, weight, (1, 1), "VALID") + bias[:, None, None]
        maps = jax.nn.relu(lax.reduce_window(maps, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"))
    return _apply_head(_apply_dense(branch, maps.reshape(len(pairs), 2, -1)), head)


def _apply_dense(layers: Weights, values: Any) -> Any:  # noqa: ANN401
    for weight, bias in layers[:-1]:
        values = jax.nn.relu(values @ weight.T + bias)
    weight, bias = layers[-1]
    return values @ weight.T + bias


def _apply_head(embedding: Any, head: tuple[Any, Any]) -> tuple[Any, Any]:  # noqa: ANN401
    weight, bias = head
    return (jax.nn.relu(embedding).reshape(len(embedding), -1) @ weight.T + bias)[:, 0], embedding


_PREDICTORS: dict[str, Predict] = {"fc": _apply_fc, "cnn_aux": _apply_cnn}
