"""The final passes over the networks of a fit, or of a checkpoint: drawn pairs once more, and all pairs of a split."""

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
    """Over what "all pairs" of a split were measured; recorded in ``summary.json``.

    Attributes:
        images: n, how many images.
        pairs: How many pairs: n·(n − 1), or as many as were drawn from these.
        sampled: Whether they were drawn.
    """

    images: int
    pairs: int
    sampled: bool


def in_words(whole: AllPairs) -> str:
    """Say over what all pairs were measured."""
    every = f"{whole.images * (whole.images - 1):,} ordered pairs of {whole.images:,} images"
    return f"a sample of {whole.pairs:,} of the {every}" if whole.sampled else f"all {every}"


def whole_of(module: PairModule, data: PairDataModule, split: Split) -> AllPairs:
    """Say over what all pairs of a split are measured."""
    images = data.bank.count_of(split)
    every = images * (images - 1)
    pairs = every if module.follows_from_digits else len(ordered_pairs(images))
    return AllPairs(images, pairs, pairs < every)


def drawn_figures(trainer: Trainer, module: PairModule) -> dict[str, Tensor]:
    """Pass through the final networks: training pairs, what only the end measures, and with views, all the others."""
    data = data_of(trainer)
    measured = data.fit_splits if module.views is not None else ()  # the curves are without
    splits = dict.fromkeys((*measured, *data.final_splits))
    with _evaluating(trainer, module):
        for batch in _batches(trainer, data.loader(*splits)):
            module.shared_step(batch)
    return collected(trainer, module)


def whole_metrics(module: PairModule) -> tuple[str, ...]:
    """Return which of :data:`~pairs_lit.runs.metrics.OVER_ALL_PAIRS` the networks have."""
    return OVER_ALL_PAIRS if "digit_accuracy" in module.measured else OVER_ALL_PAIRS[:1]


def whole_figures(trainer: Trainer, module: PairModule, splits: Sequence[Split]) -> dict[str, Tensor]:
    """Measure all pairs of some splits: ``test/all_accuracy`` and the like, (R,) float64 each.

    A round whose network answers NaN has no such figures (NaN).
    """
    data, names, measured = data_of(trainer), whole_metrics(module), dict[str, Tensor]()
    for split in splits:
        images = data.bank.count_of(split)
        loader = data.places_loader(split, places(module, images))
        # (2, R), of which this worker fills in its own rounds
        figures = torch.full((len(OVER_ALL_PAIRS), len(module.rounds.seeds)), torch.nan, dtype=torch.float64)
        with _evaluating(trainer, module):
            for stack, batches in groupby(_batches(trainer, loader), lambda batch: batch.stack):
                answered = ((module.compared(batch), batch) for batch in batches)
                found = _exactly(module, answered, images) if module.follows_from_digits else _shown(answered)
                figures[:, module.rounds.stacks[stack]] = found.cpu()
        measured |= {Metric(split, name).tag: values for name, values in zip(names, figures, strict=False)}
    return added_up(trainer, module, measured)


def _exactly(module: PairModule, answered: Iterable[tuple[PairOutput, StackBatch]], images: int) -> Tensor:
    """Return the figures of one stack, (2, R), from the digit probabilities of n images."""
    relation, parts = module.variant.architecture.relation, list[tuple[Tensor, ...]]()
    broken = torch.zeros(())
    for answer, batch in answered:
        p = cast(Tensor, answer.digit_probabilities)
        parts.append((second_weights(relation, p), p, batch.digits, _digits_right(answer, batch)))
        broken = broken + _broken(answer)
    weights, p, labels, digits_right = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    if is_shared(module):  # each image stands at one place, and is the same at the other
        weights, p, labels, digits_right = (
            part.flatten(1, 2)[:, :images] for part in (weights, p, labels, digits_right)
        )
    else:
        weights, p, labels = weights[:, :, 0], p[:, :, 1], labels[:, :, 0]
        digits_right = digits_right.flatten(1)
    counts = [right_answers(relation, *each) for each in zip(weights, p, labels, strict=True)]
    accuracy = torch.tensor(counts, dtype=torch.float64) / (images * (images - 1))
    digit_accuracy = digits_right.mean(1, dtype=torch.float64).cpu()
    return torch.stack([accuracy, digit_accuracy]) + broken.cpu()


def _shown(answered: Iterable[tuple[PairOutput, StackBatch]]) -> Tensor:
    """Return the figures of one stack, (2, R), from pairs that were shown to the networks."""
    total, pairs = torch.zeros(()), 0
    for answer, batch in answered:
        right = answer.decision() == batch.target
        digits_right = _digits_right(answer, batch).mean(2, dtype=torch.float64)
        total = total + torch.stack([right.double().sum(1), digits_right.sum(1)]) + _broken(answer)
        pairs += right.shape[1]
    return total / pairs


def _broken(answer: PairOutput) -> Tensor:
    """Return NaN for each round that answers NaN anywhere, else 0, (R,) float64: what it says means nothing."""
    parts = [answer.output] if answer.digit_logits is None else [answer.output, answer.digit_logits]
    found = torch.stack([part.isnan().flatten(1).any(1) for part in parts]).any(0)
    return torch.zeros(found.shape, dtype=torch.float64, device=found.device).masked_fill(found, torch.nan)


def _digits_right(answer: PairOutput, batch: StackBatch) -> Tensor:
    """Say which digits are recognised, (R, B, 2) bool; none without digit logits."""
    if answer.digit_logits is None:
        return torch.zeros_like(batch.digits, dtype=torch.bool)
    return answer.digit_logits.max(-1).indices == batch.digits


@contextmanager
def _evaluating(trainer: Trainer, module: PairModule) -> Iterator[None]:
    """Evaluate within; leave the module in the mode it was in."""
    mode = module.training
    module.eval()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        yield
    module.train(mode)


def _batches(trainer: Trainer, loader: StackLoader) -> Iterator[StackBatch]:
    """Yield batches as Lightning would hand them to the module."""
    bar = trainer.progress_bar_callback
    for batch in bar.over(trainer, loader) if isinstance(bar, Progress) else loader:
        check_asked()
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
