"""Inspecting: what all rounds of a finished run say of the test pairs of the first seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pairs_lit.analysis.inspection.numbers import (
    Inspection,
    Numbers,
    Said,
    agreement,
    by_classes,
    by_distance,
    calibration,
    confusion,
    hardest,
)
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.trained_rounds import Trained
from pairs_lit.runs.run import FinishedRun
from pairs_lit.text import printable


def inspected(run: FinishedRun, trained: Trained, pairs: int) -> Inspection:
    """Inspect a run.

    Args:
        run: The run.
        trained: Its networks and data.
        pairs: How many of the hardest pairs to keep.

    Raises:
        PairsLitError: All rounds failed, or the data are not those of the run any more.
    """
    source = trained.data.settings.source
    if source != run.data.get("source"):
        raise PairsLitError(
            f"{run.folder} was trained on {run.data.get('source')}, but the data found now are {source}: put its data "
            "back where data.root in its config.yaml says."
        )
    said, failed = _said(run, trained)
    hard = hardest(said, pairs)
    return Inspection(
        folder=run.folder,
        label=printable(run.label),
        source=source,
        relation=trained.data.settings.relation,
        pair_seed=trained.seeds[0],
        failed=failed,
        said=said,
        hardest=hard,
        images=_images(trained, [each.place for each in hard]),
        curves=run.curves,
        confusion=confusion(said),
        distances=by_distance(said),
        class_pairs=by_classes(said),
        calibration=calibration(said),
        agreement=agreement(said),
        note=trained.note,
        class_names=trained.data.bank.class_names,
    )


def _said(run: FinishedRun, trained: Trained) -> tuple[Said, list[int]]:
    """Return what the rounds that did not fail say, and the seeds of those that did."""
    answers, classes = _answers(trained)
    broken = ~answers.probability.isfinite().all(1)
    failed = [seed for seed, each in zip(trained.seeds, broken.tolist(), strict=True) if each or seed in run.failed]
    good = [place for place, seed in enumerate(trained.seeds) if seed not in failed]
    if not good:
        raise PairsLitError(
            f"every round of {run.folder} failed (loss not finite): there is nothing to inspect but its curves.csv."
        )
    pairs = trained.data.bank.pairs
    reads = answers.read is not None and trained.module.trains_digits
    said = Said(
        seeds=[trained.seeds[place] for place in good],
        classes=max(classes, *(1 + int(each.digits.max()) for each in pairs.values())),
        digits=pairs["test"].digits[0].numpy(),
        target=pairs["test"].target[0].bool().numpy(),
        probability=answers.probability[good].double().numpy(),
        decision=answers.decision[good].numpy(),
        read=answers.read[good].numpy() if reads and answers.read is not None else None,
    )
    return said, failed


class _Answers(NamedTuple):
    """What some rounds say of some pairs."""

    probability: Tensor  # (R, P)
    decision: Tensor  # (R, P)
    read: Tensor | None  # (R, P, 2)


@torch.inference_mode()
def _answers(trained: Trained) -> tuple[_Answers, int]:
    """Return the answers of all rounds to the pairs that ``predict`` shows them, and the number of classes read."""
    stacks: dict[int, list[_Answers]] = {}
    classes = 0
    for batch in trained.data.predict_dataloader():
        answer = trained.module.compared(batch)
        read = None
        if answer.digit_logits is not None:
            classes, read = answer.digit_logits.shape[-1], answer.digit_logits.max(-1).indices
        stacks.setdefault(batch.stack, []).append(_Answers(answer.probability(), answer.decision(), read))
    return _joined([_joined(stacks[stack], 1) for stack in sorted(stacks)], 0), classes


def _joined(parts: Sequence[_Answers], dim: int) -> _Answers:
    read = [part.read for part in parts if part.read is not None]
    return _Answers(
        torch.cat([part.probability for part in parts], dim),
        torch.cat([part.decision for part in parts], dim),
        torch.cat(read, dim) if read else None,
    )


def _images(trained: Trained, places: list[int]) -> Numbers:
    """Return the images of some of the pairs, (H, 2, S, S), black 0 and white 1."""
    bank = trained.data.bank
    white = 1.0 if bank.settings.normalise == "unit" else 255.0
    images: Numbers = bank.images[bank.pairs["test"].index[0, places]].double().numpy() / white
    return np.clip(images, 0, 1)
