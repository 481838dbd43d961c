"""Applying a run to a user's images: each of its rounds predicts which pairs fulfil the relation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.conversion import Converted, Converter, bits_of
from pairs_lit.inference.predictions import Applied, DigitPrediction, PairPrediction
from pairs_lit.inference.trained_rounds import Trained
from pairs_lit.inference.user_images import Grey, Picture, read_grey
from pairs_lit.runs.run import FinishedRun
from pairs_lit.system.console import notice
from pairs_lit.text import printable

_MOST_NAMED = 3


def apply_run(
    run: FinishedRun, trained: Trained, pairs: Sequence[tuple[Picture, Picture]], *, as_is: bool = False
) -> Applied:
    """Return what each round of a run predicts for pairs of images, with a notice for what may be wrong with them.

    See :meth:`pairs_lit.inference.run.Run.apply` for the arguments and errors.
    """
    named, bits = _name_images(pairs), bits_of(trained)
    greys = [[(name, read_grey(image, name, bits=bits)) for name, image in pair] for pair in named]
    applied = apply_to_greys(run, trained, greys, as_is=as_is)
    for line in [*applied.notices, *dict.fromkeys(text for pair in applied.pairs for text in pair.warnings)]:
        notice(line)
    return applied


def _name_images(pairs: object) -> list[list[tuple[str, Picture]]]:
    """Name each image by its file, else by its place; raise PairsLitError for what is not pairs."""
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or not pairs:
        raise PairsLitError("no pair of images was given: give a list of pairs, such as [('left.png', 'right.png')].")
    found = []
    for number, pair in enumerate(pairs, 1):
        if isinstance(pair, str | Path) or not isinstance(pair, Sequence) or len(pair) != 2:
            what = f"{len(pair)} images" if isinstance(pair, tuple | list) else f"a single {type(pair).__name__}"
            raise PairsLitError(f"pair {number} is {what}: give two, such as ('left.png', 'right.png').")
        names = [f"the {side} image of pair {number}" for side in ("left", "right")]
        files = [str(image) if isinstance(image, str | Path) else "" for image in pair]
        found.append([(file or name, image) for file, name, image in zip(files, names, pair, strict=True)])
    return found


def apply_to_greys(
    run: FinishedRun, trained: Trained, greys: Sequence[Sequence[tuple[str, Grey]]], *, as_is: bool = False
) -> Applied:
    """Return the same for images that are read: each pair's left and right name and grey values. Print nothing."""
    converter = Converter.of_run(run, trained, as_is=as_is)
    names = [(left, right) for (left, _), (right, _) in greys]
    converted = [[converter.convert(grey, name) for name, grey in pair] for pair in greys]
    applied = predict(run, trained, names, np.asarray([[each.image for each in pair] for pair in converted]))
    pairs = [_with_remarks(pair, both) for pair, both in zip(applied.pairs, converted, strict=True)]
    return replace(applied, pairs=pairs, notices=[*describe_format(run, trained, as_is=as_is), *_differences(pairs)])


def _with_remarks(pair: PairPrediction, both: Sequence[Converted]) -> PairPrediction:
    """Return a pair with what is to be told of its images."""
    named = [f"{printable(name)} {each.warning}." for name, each in zip(pair.names, both, strict=True) if each.warning]
    return replace(pair, warnings=named, differences=[each.difference for each in both])


def describe_format(run: FinishedRun, trained: Trained, *, as_is: bool) -> list[str]:
    """Return what the user must know of the format of the run's training images, in sentences."""
    known = trained.image_format
    if known is None:
        return [
            f"{printable(str(run.folder))} does not record the format of its training images (it was trained by an "
            "earlier release): images are brought to MNIST's, light on dark. Train it again if its images were others."
        ]
    if not known.transposed:
        return []
    given = (
        "stored in the same way, as --as-is says" if as_is else "upright; give files of the dataset itself with --as-is"
    )
    return [
        f"the run's training images are stored transposed, and were read upright: these images are taken as {given}."
    ]


def _differences(pairs: Sequence[PairPrediction]) -> list[str]:
    """Return a sentence for each kind of difference from the training images."""
    different = {name: text for pair in pairs for name, text in zip(pair.names, pair.differences, strict=True) if text}
    found = []
    for text, count in Counter(different.values()).items():
        shown = [printable(name) for name, each in different.items() if each == text][:_MOST_NAMED]
        more = f" and {count - len(shown)} more" if count > len(shown) else ""
        found.append(f"{', '.join(shown)}{more}: {text}.")
    return found


def predict(
    run: FinishedRun, trained: Trained, names: Sequence[tuple[str, str]], images: NDArray[np.float32]
) -> Applied:
    """Return what the rounds predict for images that are converted: (P, 2, S, S), 0 … 255.

    Raises:
        PairsLitError: Every round failed, in training or on these images.
    """
    answers = trained.answers(torch.from_numpy(images))
    is_finite = answers.probability.isfinite().all(1).tolist()
    good = [place for place, seed in enumerate(trained.seeds) if is_finite[place] and seed not in run.failed]
    if not good:
        raise PairsLitError(f"every round of {run.folder} failed, so there is nothing to ask: train it again.")
    probability = answers.probability[good].T.double().tolist()
    digits = [None] * len(names)
    if answers.digits is not None:
        digits = list(answers.digits[good].transpose(0, 1).double().numpy())
    pairs = [
        PairPrediction(pair, rounds, None if classes is None else _read_digits(pair, classes, run.class_names))
        for pair, rounds, classes in zip(names, probability, digits, strict=True)
    ]
    height = trained.data.image_size
    factor = images.shape[-1] // height
    seen = images.reshape(*images.shape[:2], height, factor, height, factor).mean((3, 5))
    return Applied(run, [trained.seeds[place] for place in good], pairs, images, seen, trained.note)


def _read_digits(
    names: tuple[str, str], classes: NDArray[np.float64], class_names: Sequence[str]
) -> tuple[DigitPrediction, DigitPrediction]:
    """Return what the rounds read in the two images, from the probabilities of the classes, (R, 2, K)."""
    rounds, means = classes.argmax(-1), classes.mean(0)
    found = []
    for side, name in enumerate(names):
        counts = np.bincount(rounds[:, side], minlength=classes.shape[-1])
        read = int(np.lexsort((means[side], counts))[-1])
        found.append(DigitPrediction(name, rounds[:, side].tolist(), read, int(counts[read]), class_names))
    return found[0], found[1]
