"""Predictions of a run's rounds for pairs of user images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.conversion import ConvertedImage, Converter, get_training_bits
from pairs_lit.inference.predictions import ApplyResult, DigitPrediction, PairPrediction
from pairs_lit.inference.trained_rounds import TrainedRounds
from pairs_lit.inference.user_images import ImageLike, read_grey
from pairs_lit.runs.run import FinishedRun
from pairs_lit.system.console import print_notice
from pairs_lit.text import format_count, replace_control_characters

_MAX_NAMED_IMAGES = 3


def apply_run(
    run: FinishedRun, trained: TrainedRounds, pairs: Sequence[tuple[ImageLike, ImageLike]], *, as_is: bool = False
) -> ApplyResult:
    """Return what each round of a run predicts for pairs of images; print a notice for images that may be unsuitable.

    See :meth:`pairs_lit.inference.run.Run.apply` for the arguments and errors.
    """
    named, converter = _name_images(pairs), Converter.for_run(run, trained, as_is=as_is)
    converted = _convert_pairs(named, converter, get_training_bits(trained))
    names = [(left, right) for (left, _), (right, _) in named]
    applied = apply_to_converted_images(run, trained, names, converted, as_is=as_is)
    for line in [*applied.notices, *dict.fromkeys(text for pair in applied.pairs for text in pair.warnings)]:
        print_notice(line)
    return applied


def _name_images(pairs: object) -> list[list[tuple[str, ImageLike]]]:
    """Return pairs of (name, image), named by file or by position; raise PairsLitError if these are not pairs."""
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or not pairs:
        raise PairsLitError("no pair of images was given. Give a list of pairs, such as [('left.png', 'right.png')].")
    named = []
    for number, pair in enumerate(pairs, 1):
        if isinstance(pair, str | Path) or not isinstance(pair, Sequence) or len(pair) != 2:
            is_list = isinstance(pair, tuple | list)
            actual = f"has {format_count(len(pair), 'image')}" if is_list else f"is a single {type(pair).__name__}"
            raise PairsLitError(f"pair {number} {actual}. Give two images, such as ('left.png', 'right.png').")
        names = [f"the {side} image of pair {number}" for side in ("left", "right")]
        files = [str(image) if isinstance(image, str | Path) else "" for image in pair]
        named.append([(file or name, image) for file, name, image in zip(files, names, pair, strict=True)])
    return named


def _convert_pairs(
    named: Sequence[Sequence[tuple[str, ImageLike]]], converter: Converter, bits: int | None
) -> list[list[ConvertedImage]]:
    """Read and convert the images of pairs, one at a time and each file once, so that only small images are kept.

    Raises:
        PairsLitError: An image cannot be read (which is reported first, wherever it is), or is blank.
    """
    converted, blank = dict[object, ConvertedImage](), list[PairsLitError]()
    for name, image in chain.from_iterable(named):
        if (key := _get_image_key(name, image)) in converted:
            continue
        grey = read_grey(image, name, bits=bits)
        try:
            converted[key] = converter.convert(grey, name)
        except PairsLitError as error:
            blank.append(error)
    if blank:
        raise blank[0]
    return [[converted[_get_image_key(name, image)] for name, image in pair] for pair in named]


def _get_image_key(name: str, image: ImageLike) -> tuple[str, bool]:
    """Return what identifies an image in a call: a file's path, or the position of an image that is not a file."""
    return name, isinstance(image, str | Path)


def apply_to_converted_images(
    run: FinishedRun,
    trained: TrainedRounds,
    names: Sequence[tuple[str, str]],
    converted: Sequence[Sequence[ConvertedImage]],
    *,
    as_is: bool = False,
) -> ApplyResult:
    """Return what :func:`apply_run` returns, for images that have been converted; print nothing.

    Args:
        run: The run.
        trained: Its trained rounds.
        names: For each pair, the names of the left and of the right image.
        converted: For each pair, both images.
        as_is: Whether the images were only resized.
    """
    applied = predict_images(run, trained, names, np.asarray([[image.image for image in pair] for pair in converted]))
    pairs = [_add_remarks(pair, both) for pair, both in zip(applied.pairs, converted, strict=True)]
    return replace(
        applied, pairs=pairs, notices=[*describe_format(run, trained, as_is=as_is), *_describe_differences(pairs)]
    )


def _add_remarks(pair: PairPrediction, both: Sequence[ConvertedImage]) -> PairPrediction:
    """Return a pair with the warnings about its two images, and how they differ from the training images."""
    images = zip(pair.names, both, strict=True)
    warnings = [f"{replace_control_characters(name)} {image.warning}." for name, image in images if image.warning]
    return replace(pair, warnings=warnings, differences=[image.difference for image in both])


def describe_format(run: FinishedRun, trained: TrainedRounds, *, as_is: bool) -> list[str]:
    """Return sentences about the format of the run's training images; none if it is known and not transposed."""
    known = trained.image_format
    if known is None:
        return [
            f"{replace_control_characters(str(run.folder))} does not record the format of its training images, "
            "since an earlier release "
            "trained it. Images are converted to MNIST's format, light on dark; retrain the run if its images differ."
        ]
    if not known.transposed:
        return []
    assumption = (
        "--as-is assumes that these images are stored in the same way"
        if as_is
        else "these images are assumed to be upright. Use --as-is for files of the dataset itself"
    )
    return [f"the run's training images are stored transposed, and were read upright; {assumption}."]


def _describe_differences(pairs: Sequence[PairPrediction]) -> list[str]:
    """Return a sentence for each kind of difference from the training images, with the images that it concerns."""
    different = {name: text for pair in pairs for name, text in zip(pair.names, pair.differences, strict=True) if text}
    sentences = []
    for text, count in Counter(different.values()).items():
        names = [replace_control_characters(name) for name, difference in different.items() if difference == text][
            :_MAX_NAMED_IMAGES
        ]
        more = f" and {count - len(names)} more" if count > len(names) else ""
        sentences.append(f"{', '.join(names)}{more}: {text}.")
    return sentences


def predict_images(
    run: FinishedRun, trained: TrainedRounds, names: Sequence[tuple[str, str]], images: NDArray[np.float32]
) -> ApplyResult:
    """Return what the rounds predict for converted images, (P, 2, S, S), 0 … 255.

    Raises:
        PairsLitError: Every round failed, in training or on these images.
    """
    predictions = trained.predict(torch.from_numpy(images))
    is_finite = predictions.probability.isfinite().all(1).tolist()
    good = [place for place, seed in enumerate(trained.seeds) if is_finite[place] and seed not in run.failed]
    if not good:
        raise PairsLitError(f"every round of {run.folder} failed, so it cannot predict anything. Train it again.")
    probability = predictions.probability[good].T.double().tolist()
    digits = [None] * len(names)
    if predictions.digits is not None:
        digits = list(predictions.digits[good].transpose(0, 1).double().numpy())
    pairs = [
        PairPrediction(pair, rounds, None if classes is None else _predict_digits(pair, classes, run.class_names))
        for pair, rounds, classes in zip(names, probability, digits, strict=True)
    ]
    height = trained.data.image_size
    factor = images.shape[-1] // height
    seen = images.reshape(*images.shape[:2], height, factor, height, factor).mean((3, 5))
    return ApplyResult(run, [trained.seeds[place] for place in good], pairs, images, seen, trained.note)


def _predict_digits(
    names: tuple[str, str], classes: NDArray[np.float64], class_names: Sequence[str]
) -> tuple[DigitPrediction, DigitPrediction]:
    """Return the classes that the rounds predict for the two images, from the class probabilities, (R, 2, K)."""
    rounds, means = classes.argmax(-1), classes.mean(0)
    predictions = []
    for side, name in enumerate(names):
        counts = np.bincount(rounds[:, side], minlength=classes.shape[-1])
        majority = int(np.lexsort((means[side], counts))[-1])  # of tied classes, the more probable one
        predictions.append(
            DigitPrediction(name, rounds[:, side].tolist(), majority, int(counts[majority]), class_names)
        )
    return predictions[0], predictions[1]
