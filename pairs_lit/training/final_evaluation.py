"""Final evaluation of trained networks: on the drawn pairs, and on all pairs of a split."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from pairs_lit.data.datamodule import PairDataModule, data_of
from pairs_lit.data.loaders import StackBatch, StackLoader
from pairs_lit.data.pair_store import Split
from pairs_lit.data.pairs import ordered_pairs
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.relation import second_weights
from pairs_lit.runs.metrics import OVER_ALL_PAIRS, Metric
from pairs_lit.system.signals import check_asked
from pairs_lit.training.all_pairs import is_shared, places, right_answers
from pairs_lit.training.collection import added_up, collected
from pairs_lit.training.module import PairModule
from pairs_lit.training.progress import Progress


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


def in_words(counts: AllPairs) -> str:
    """Return a description such as ``all 506 ordered pairs of 23 images``."""
    ordered = f"{counts.images * (counts.images - 1):,} ordered pairs of {counts.images:,} images"
    return f"a sample of {counts.pairs:,} of the {ordered}" if counts.sampled else f"all {ordered}"


def whole_of(module: PairModule, data: PairDataModule, split: Split) -> AllPairs:
    """Count the images and pairs that an evaluation over all pairs of a split uses."""
    images = data.bank.count_of(split)
    num_ordered = images * (images - 1)
    pairs = num_ordered if module.follows_from_digits else len(ordered_pairs(images))
    return AllPairs(images, pairs, pairs < num_ordered)


def drawn_figures(trainer: Trainer, module: PairModule) -> dict[str, Tensor]:
    """Evaluate the final networks on the training pairs and on the splits that were not evaluated in each epoch.

    With test-time augmentation, all splits are evaluated again.
    """
    data = data_of(trainer)
    # the evaluations during training are without test-time augmentation
    repeated = data.fit_splits if module.views is not None else ()
    splits = dict.fromkeys((*repeated, *data.final_splits))
    with _evaluating(trainer, module):
        for batch in _batches(trainer, data.loader(*splits)):
            module.shared_step(batch)
    return collected(trainer, module)


def whole_metrics(module: PairModule) -> tuple[str, ...]:
    """Return the metrics of :data:`~pairs_lit.runs.metrics.OVER_ALL_PAIRS` that exist for the networks."""
    return OVER_ALL_PAIRS if "digit_accuracy" in module.measured else OVER_ALL_PAIRS[:1]


def whole_figures(trainer: Trainer, module: PairModule, splits: Sequence[Split]) -> dict[str, Tensor]:
    """Compute metrics over all pairs of some splits, such as ``test/all_accuracy``, (R,) float64 each.

    The metrics of a round are NaN if one of its network's predictions is NaN.
    """
    data, names, measured = data_of(trainer), whole_metrics(module), dict[str, Tensor]()
    for split in splits:
        images = data.bank.count_of(split)
        loader = data.places_loader(split, places(module, images))
        # (2, R); each worker fills in the rounds of its stacks
        values = torch.full((len(OVER_ALL_PAIRS), len(module.rounds.seeds)), torch.nan, dtype=torch.float64)
        with _evaluating(trainer, module):
            for stack, batches in groupby(_batches(trainer, loader), lambda batch: batch.stack):
                outputs = ((module.compared(batch), batch) for batch in batches)
                stack_values = _exactly(module, outputs, images) if module.follows_from_digits else _shown(outputs)
                values[:, module.rounds.stacks[stack]] = stack_values.cpu()
        measured |= {Metric(split, name).tag: row for name, row in zip(names, values, strict=False)}
    return added_up(trainer, module, measured)


def _exactly(module: PairModule, outputs: Iterable[tuple[PairOutput, StackBatch]], images: int) -> Tensor:
    """Compute the metrics of one stack, (2, R), from the digit probabilities of n images."""
    relation, parts = module.variant.architecture.relation, list[tuple[Tensor, ...]]()
    broken = torch.zeros(())
    for output, batch in outputs:
        p = cast(Tensor, output.digit_probabilities)
        parts.append((second_weights(relation, p), p, batch.digits, _digits_right(output, batch)))
        broken = broken + _broken(output)
    weights, p, labels, is_digit_correct = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    if is_shared(module):  # each image was passed in one position, and the other would give the same
        weights, p, labels, is_digit_correct = (
            part.flatten(1, 2)[:, :images] for part in (weights, p, labels, is_digit_correct)
        )
    else:
        weights, p, labels = weights[:, :, 0], p[:, :, 1], labels[:, :, 0]
        is_digit_correct = is_digit_correct.flatten(1)
    counts = [right_answers(relation, *parts_of_round) for parts_of_round in zip(weights, p, labels, strict=True)]
    accuracy = torch.tensor(counts, dtype=torch.float64) / (images * (images - 1))
    digit_accuracy = is_digit_correct.mean(1, dtype=torch.float64).cpu()
    return torch.stack([accuracy, digit_accuracy]) + broken.cpu()


def _shown(outputs: Iterable[tuple[PairOutput, StackBatch]]) -> Tensor:
    """Compute the metrics of one stack, (2, R), from its predictions for pairs."""
    total, pairs = torch.zeros(()), 0
    for output, batch in outputs:
        is_correct = output.decision() == batch.target
        digit_accuracy = _digits_right(output, batch).mean(2, dtype=torch.float64)
        total = total + torch.stack([is_correct.double().sum(1), digit_accuracy.sum(1)]) + _broken(output)
        pairs += is_correct.shape[1]
    return total / pairs


def _broken(output: PairOutput) -> Tensor:
    """Return NaN for each round with a NaN among its predictions, else 0, (R,) float64."""
    parts = [output.output] if output.digit_logits is None else [output.output, output.digit_logits]
    has_nan = torch.stack([part.isnan().flatten(1).any(1) for part in parts]).any(0)
    return torch.zeros(has_nan.shape, dtype=torch.float64, device=has_nan.device).masked_fill(has_nan, torch.nan)


def _digits_right(output: PairOutput, batch: StackBatch) -> Tensor:
    """Return which digits are predicted correctly, (R, B, 2) bool; all False without digit logits."""
    if output.digit_logits is None:
        return torch.zeros_like(batch.digits, dtype=torch.bool)
    return output.digit_logits.max(-1).indices == batch.digits


@contextmanager
def _evaluating(trainer: Trainer, module: PairModule) -> Iterator[None]:
    """Switch to evaluation mode and the trainer's precision, and restore the module's mode afterwards."""
    mode = module.training
    module.eval()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        yield
    module.train(mode)


def _batches(trainer: Trainer, loader: StackLoader) -> Iterator[StackBatch]:
    """Yield the batches converted and on the device, as Lightning would pass them to the module."""
    bar = trainer.progress_bar_callback
    for batch in bar.over(trainer, loader) if isinstance(bar, Progress) else loader:
        check_asked()
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
