"""Final evaluation of trained networks: on the drawn pairs, and on all pairs of a split."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from pairs_lit.data.datamodule import PairDataModule, get_data_module
from pairs_lit.data.loaders import StackBatch, StackLoader
from pairs_lit.data.pair_store import Split
from pairs_lit.data.pairs import build_ordered_pairs
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.relation import compute_second_weights
from pairs_lit.runs.metrics import ALL_PAIRS_METRIC_NAMES, Metric
from pairs_lit.system.signals import raise_if_stopped
from pairs_lit.training.all_pairs import build_pair_positions, count_correct_pairs, has_shared_backbone
from pairs_lit.training.collection import collect_metrics, merge_worker_metrics
from pairs_lit.training.module import PairModule
from pairs_lit.training.progress import RoundProgressBar


@dataclass(frozen=True)
class AllPairs:
    """The number of images and pairs behind a metric "over all pairs" of a split; saved in ``summary.json``.

    Attributes:
        images: n, the number of images.
        pairs: The number of pairs, n·(n − 1) or the size of a sample of them.
        sampled: Whether the pairs are a sample.
    """

    images: int
    pairs: int
    sampled: bool


def describe_all_pairs(counts: AllPairs) -> str:
    """Return a description such as ``all 506 ordered pairs of 23 images``."""
    ordered = f"{counts.images * (counts.images - 1):,} ordered pairs of {counts.images:,} images"
    return f"a sample of {counts.pairs:,} of the {ordered}" if counts.sampled else f"all {ordered}"


def count_all_pairs(module: PairModule, data: PairDataModule, split: Split) -> AllPairs:
    """Count the images and pairs that an evaluation over all pairs of a split uses."""
    images = data.bank.count_evaluation_images(split)
    num_ordered = images * (images - 1)
    pairs = num_ordered if module.follows_from_digits else len(build_ordered_pairs(images))
    return AllPairs(images, pairs, pairs < num_ordered)


def evaluate_drawn_pairs(trainer: Trainer, module: PairModule) -> dict[str, Tensor]:
    """Evaluate the final networks on the training pairs and on the splits that were not evaluated in each epoch.

    With test-time augmentation, all splits are evaluated again.
    """
    data = get_data_module(trainer)
    # the evaluations during training are without test-time augmentation
    repeated = data.fit_splits if module.views is not None else ()
    splits = dict.fromkeys((*repeated, *data.final_splits))
    with _use_evaluation_mode(trainer, module):
        for batch in _iterate_batches(trainer, data.loader(*splits)):
            module.shared_step(batch)
    return collect_metrics(trainer, module)


def list_all_pairs_metrics(module: PairModule) -> tuple[str, ...]:
    """Return the metrics of :data:`~pairs_lit.runs.metrics.ALL_PAIRS_METRIC_NAMES` that exist for the networks."""
    return ALL_PAIRS_METRIC_NAMES if "digit_accuracy" in module.measured else ALL_PAIRS_METRIC_NAMES[:1]


def evaluate_all_pairs(trainer: Trainer, module: PairModule, splits: Sequence[Split]) -> dict[str, Tensor]:
    """Compute metrics over all pairs of some splits, such as ``test/all_accuracy``, (R,) float64 each.

    The metrics of a round are NaN if one of its network's predictions is NaN.
    """
    data, names, measured = get_data_module(trainer), list_all_pairs_metrics(module), dict[str, Tensor]()
    for split in splits:
        images = data.bank.count_evaluation_images(split)
        loader = data.all_pairs_loader(split, build_pair_positions(module, images))
        # (2, R); each worker fills in the rounds of its stacks
        values = torch.full((len(ALL_PAIRS_METRIC_NAMES), len(module.rounds.seeds)), torch.nan, dtype=torch.float64)
        with _use_evaluation_mode(trainer, module):
            for stack, batches in groupby(_iterate_batches(trainer, loader), lambda batch: batch.stack):
                outputs = ((module.predict_batch(batch), batch) for batch in batches)
                stack_values = (
                    _compute_from_digits(module, outputs, images)
                    if module.follows_from_digits
                    else _compute_from_predictions(outputs)
                )
                values[:, module.rounds.stacks[stack]] = stack_values
        measured |= {Metric(split, name).tag: row for name, row in zip(names, values, strict=False)}
    return merge_worker_metrics(trainer, module, measured)


def _compute_from_digits(module: PairModule, outputs: Iterable[tuple[PairOutput, StackBatch]], images: int) -> Tensor:
    """Compute the metrics of one stack, (2, R) on the CPU, from the digit probabilities of n images."""
    relation, parts = module.variant.architecture.relation, list[tuple[Tensor, ...]]()
    broken = list[Tensor]()
    for output, batch in outputs:
        p = cast(Tensor, output.digit_probabilities)
        parts.append((compute_second_weights(relation, p), p, batch.digits, _find_correct_digits(output, batch)))
        broken.append(_find_broken_rounds(output))
    weights, p, labels, is_digit_correct = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    if has_shared_backbone(module):  # each image was passed in one position, and the other would give the same
        weights, p, labels, is_digit_correct = (
            part.flatten(1, 2)[:, :images] for part in (weights, p, labels, is_digit_correct)
        )
    else:
        weights, p, labels = weights[:, :, 0], p[:, :, 1], labels[:, :, 0]
        is_digit_correct = is_digit_correct.flatten(1)
    counts = [count_correct_pairs(relation, *parts_of_round) for parts_of_round in zip(weights, p, labels, strict=True)]
    accuracy = torch.stack(counts).cpu().double() / (images * (images - 1))
    digit_accuracy = is_digit_correct.sum(1).cpu().double() / is_digit_correct.shape[1]
    return torch.stack([accuracy, digit_accuracy]).masked_fill(torch.stack(broken).any(0).cpu(), torch.nan)


def _compute_from_predictions(outputs: Iterable[tuple[PairOutput, StackBatch]]) -> Tensor:
    """Compute the metrics of one stack, (2, R) on the CPU, from its predictions for pairs."""
    totals, broken, pairs = list[Tensor](), list[Tensor](), 0
    for output, batch in outputs:
        is_correct = output.get_decision() == batch.target
        totals.append(torch.stack([is_correct.sum(1), _find_correct_digits(output, batch).sum((1, 2))]))
        broken.append(_find_broken_rounds(output))
        pairs += is_correct.shape[1]
    total = torch.stack(totals).sum(0).cpu().double() / torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    return (total / pairs).masked_fill(torch.stack(broken).any(0).cpu(), torch.nan)


def _find_broken_rounds(output: PairOutput) -> Tensor:
    """Return which rounds have a NaN among their predictions, (R,) bool."""
    parts = [output.output] if output.digit_logits is None else [output.output, output.digit_logits]
    return torch.stack([part.isnan().flatten(1).any(1) for part in parts]).any(0)


def _find_correct_digits(output: PairOutput, batch: StackBatch) -> Tensor:
    """Return which digits are predicted correctly, (R, B, 2) bool; all False without digit logits."""
    if output.digit_logits is None:
        return torch.zeros_like(batch.digits, dtype=torch.bool)
    return output.digit_logits.max(-1).indices == batch.digits


@contextmanager
def _use_evaluation_mode(trainer: Trainer, module: PairModule) -> Iterator[None]:
    """Switch to evaluation mode and the trainer's precision, and restore the module's mode afterwards."""
    mode = module.training
    module.eval()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        yield
    module.train(mode)


def _iterate_batches(trainer: Trainer, loader: StackLoader) -> Iterator[StackBatch]:
    """Yield the batches converted and on the device, as Lightning would pass them to the module."""
    bar = trainer.progress_bar_callback
    for batch in bar.track_batches(trainer, loader) if isinstance(bar, RoundProgressBar) else loader:
        raise_if_stopped()
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
