"""Inspection of a finished run: predictions of all rounds on the test pairs of the first seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pairs_lit.analysis.inspection.numbers import (
    FloatArray,
    Inspection,
    PairPredictions,
    compute_accuracy_by_classes,
    compute_accuracy_by_distance,
    compute_agreement,
    compute_calibration,
    compute_confusion,
    find_hardest_pairs,
)
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.trained_rounds import TrainedRounds
from pairs_lit.runs.run import FinishedRun
from pairs_lit.text import replace_control_characters


def build_inspection(run: FinishedRun, trained: TrainedRounds, pairs: int) -> Inspection:
    """Inspect a run.

    Args:
        run: The run.
        trained: Its networks and data.
        pairs: How many of the hardest pairs to keep.

    Raises:
        PairsLitError: All rounds failed, or the run's data has been replaced.
    """
    source = trained.data.settings.source
    if source != run.data.get("source"):
        raise PairsLitError(
            f"{run.folder} was trained on {run.data.get('source')}, but data.root now holds {source}. Put the original "
            "data back into the folder that data.root in its config.yaml names."
        )
    predicted, failed = _predict_test_pairs(run, trained)
    hard = find_hardest_pairs(predicted, pairs)
    return Inspection(
        folder=run.folder,
        label=replace_control_characters(run.label),
        source=source,
        relation=trained.data.settings.relation,
        pair_seed=trained.seeds[0],
        failed=failed,
        predictions=predicted,
        hardest=hard,
        images=_get_images(trained, [pair.index for pair in hard]),
        curves=run.curves,
        confusion=compute_confusion(predicted),
        distances=compute_accuracy_by_distance(predicted),
        class_pairs=compute_accuracy_by_classes(predicted),
        calibration=compute_calibration(predicted),
        agreement=compute_agreement(predicted),
        note=trained.note,
        class_names=trained.data.bank.class_names,
    )


def _predict_test_pairs(run: FinishedRun, trained: TrainedRounds) -> tuple[PairPredictions, list[int]]:
    """Return the predictions of the rounds that did not fail, and the seeds of the rounds that did."""
    answers, classes = _predict_all_stacks(trained)
    broken = (~answers.probability.isfinite().all(1)).tolist()
    failed = [seed for seed, is_broken in zip(trained.seeds, broken, strict=True) if is_broken or seed in run.failed]
    good = [place for place, seed in enumerate(trained.seeds) if seed not in failed]
    if not good:
        raise PairsLitError(
            f"every round of {run.folder} failed (loss not finite). Only its curves.csv can be inspected."
        )
    pairs = trained.data.bank.pairs
    reads = answers.read is not None and trained.module.trains_digits
    predicted = PairPredictions(
        seeds=[trained.seeds[place] for place in good],
        num_classes=max(classes, *(1 + int(split.digits.max()) for split in pairs.values())),
        digits=pairs["test"].digits[0].numpy(),
        target=pairs["test"].target[0].bool().numpy(),
        probability=answers.probability[good].double().numpy(),
        decision=answers.decision[good].numpy(),
        read_classes=answers.read[good].numpy() if reads and answers.read is not None else None,
    )
    return predicted, failed


class _TestPredictions(NamedTuple):
    """Predictions of some rounds for some pairs."""

    probability: Tensor  # (R, P)
    decision: Tensor  # (R, P)
    read: Tensor | None  # (R, P, 2)


@torch.inference_mode()
def _predict_all_stacks(trained: TrainedRounds) -> tuple[_TestPredictions, int]:
    """Return the predictions of all rounds for the pairs that ``predict`` uses, and the number of predicted classes."""
    stacks: dict[int, list[_TestPredictions]] = {}
    classes = 0
    for batch in trained.data.predict_dataloader():
        answer = trained.module.predict_batch(batch)
        read = None
        if answer.digit_logits is not None:
            classes, read = answer.digit_logits.shape[-1], answer.digit_logits.max(-1).indices
        stacks.setdefault(batch.stack, []).append(
            _TestPredictions(answer.get_probability(), answer.get_decision(), read)
        )
    return _join_predictions([_join_predictions(stacks[stack], 1) for stack in sorted(stacks)], 0), classes


def _join_predictions(parts: Sequence[_TestPredictions], dim: int) -> _TestPredictions:
    read = [part.read for part in parts if part.read is not None]
    return _TestPredictions(
        torch.cat([part.probability for part in parts], dim),
        torch.cat([part.decision for part in parts], dim),
        torch.cat(read, dim) if read else None,
    )


def _get_images(trained: TrainedRounds, places: list[int]) -> FloatArray:
    """Return the images of some of the pairs, (H, 2, S, S), black 0 and white 1."""
    bank = trained.data.bank
    white = 1.0 if bank.settings.normalise == "unit" else 255.0
    images: FloatArray = bank.images[bank.pairs["test"].index[0, places]].double().numpy() / white
    return np.clip(images, 0, 1)
