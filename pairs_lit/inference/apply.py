"""Applying a run to a user's images: what each of its rounds predicts for them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from pairs_lit.analysis.tables import decimal, mean_and_std
from pairs_lit.data.image_format import ImageFormat
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.conversion import Converted, Converter
from pairs_lit.inference.trained_rounds import Trained
from pairs_lit.inference.user_images import MNIST, Form, Grey, Picture, grey_of
from pairs_lit.relation import sign_of
from pairs_lit.runs.run import FinishedRun
from pairs_lit.statistics import Summary, summarise
from pairs_lit.system.console import notice
from pairs_lit.text import counted, printable, sentence

_SIDES = ("left", "right")


@dataclass(frozen=True)
class Reading:
    """What the rounds read in one image.

    Attributes:
        name: The image's name.
        rounds: The most probable class of each round, (R,).
        read: The class that most rounds read; of equally many, the one that is more probable to all of them.
        agreeing: How many of the rounds read it.
        class_names: What the classes are called; empty if by their numbers.
    """

    name: str
    rounds: Sequence[int]
    read: int
    agreeing: int
    class_names: Sequence[str] = ()

    @property
    def label(self) -> str:
        """What the class that most rounds read is called."""
        return name_of(self.class_names, self.read)

    @property
    def labels(self) -> list[str]:
        """What the class is called that each round reads, (R,)."""
        return [name_of(self.class_names, each) for each in self.rounds]


@dataclass(frozen=True)
class PairAnswer:
    """What the rounds say of one pair.

    Attributes:
        names: The names of its two images.
        rounds: P(relation) of each round, (R,).
        readings: What is read in each image, or None if the network does not read digits.
        warnings: Why the answer may mean nothing.
        differences: How either image clearly differed from the training images; empty where it did not.
    """

    names: tuple[str, str]
    rounds: Sequence[float]
    readings: tuple[Reading, Reading] | None
    warnings: Sequence[str] = ()
    differences: Sequence[str] = ("", "")

    @property
    def probability(self) -> Summary:
        """P(relation) over the rounds."""
        return summarise(self.rounds)

    @property
    def holds(self) -> bool:
        """Whether the answer is yes: the mean of P(relation) is above 0.5."""
        return self.probability.mean > 0.5

    @property
    def yes(self) -> int:
        """How many rounds say yes."""
        return sum(value > 0.5 for value in self.rounds)

    @property
    def agreeing(self) -> int:
        """How many rounds give the answer that the mean gives."""
        return self.yes if self.holds else len(self.rounds) - self.yes

    @property
    def answer(self) -> str:
        """The answer in words.

        ``yes (9 of 10 rounds)``; or, if no majority of the rounds gives the answer of the mean,
        ``no (mean P 0.49; 3 of 5 rounds say yes)``.
        """
        said, other = ("yes", "no") if self.holds else ("no", "yes")
        n = len(self.rounds)
        if 2 * self.agreeing > n:
            return f"{said} ({self.agreeing} of {counted(n, 'round')})"
        others = n - self.agreeing
        return f"{said} (mean P {_near_half(self.probability.mean)}; {others} of {n} rounds say {other})"


def _near_half(mean: float) -> str:
    """Return a mean with as many decimals as tell it from 0.5, at least two."""
    texts = (f"{mean:.{places}f}" for places in range(2, 17))
    return next((text for text in texts if float(text) != 0.5), "0.50")


def name_of(class_names: Sequence[str], number: int) -> str:
    """Return what a class is called: its name, else its number."""
    return class_names[number] if class_names else str(number)


@dataclass(frozen=True)
class Applied:
    """What a run says of pairs of images.

    Attributes:
        run: The run.
        seeds: The seeds of the R rounds that answered; those that failed are left out.
        pairs: What they say of each of the P pairs.
        images: What the images were converted to, (P, 2, S, S), 0 … 255.
        seen: What these are averaged to, which is what the networks saw but for the normalisation, (P, 2, H, W).
        note: What must be said if the networks' code has changed since the fit; else empty.
        notices: How images differ from the training images, a line for each kind of difference.
    """

    run: FinishedRun
    seeds: Sequence[int]
    pairs: Sequence[PairAnswer]
    images: NDArray[np.float32]
    seen: NDArray[np.float32]
    note: str = ""
    notices: Sequence[str] = ()

    @property
    def relation(self) -> str:
        """The relation that the networks were trained for: le, lt, ge or gt."""
        return str(self.run.data["relation"])

    @property
    def source(self) -> str:
        """Where the digits that the networks were trained on came from."""
        return str(self.run.data["source"])

    @property
    def class_names(self) -> Sequence[str]:
        """What the classes are called, in their order; empty if they are called by their numbers."""
        return self.run.class_names

    @property
    def left_out(self) -> list[int]:
        """The seeds of the rounds that failed, in training or on these images."""
        return [each.seed for each in self.run.rounds if each.seed not in self.seeds]

    def __str__(self) -> str:
        """Return a row for each pair, then one for each round of each pair."""
        sign, n = sign_of(self.relation), len(self.seeds)
        header = ["", "left", "right", f"P(left {sign} right)", "answer", "left read as", "right read as"]
        rows = []
        for number, pair in enumerate(self.pairs, 1):
            read = [f"{each.label} ({each.agreeing} of {n})" for each in pair.readings or ()] or ["–", "–"]
            rows.append([str(number), *map(printable, pair.names), mean_and_std(pair.probability), pair.answer, *read])
        columns = [self.seeds, *([decimal(value) for value in pair.rounds] for pair in self.pairs)]
        names = ["seed", *(f"pair {number}" for number in range(1, len(self.pairs) + 1))]
        failed, folder = self.left_out, printable(str(self.run.folder))
        which = f"{counted(len(failed), 'round')} that failed (seed {', '.join(map(str, failed))})"
        left_out = f" Left out: {which}." if failed else ""
        parts = [
            tabulate(rows, header, disable_numparse=True),
            *self.said_of_classes(),
            f"P(left {sign} right) of each round:",
            tabulate(list(zip(*columns, strict=True)), names, disable_numparse=True, stralign="right"),
            f"mean ± std (ddof 1) over {counted(n, 'round')} of {folder}, trained on {self.source}.{left_out}",
            sentence(self.note),
        ]
        return "\n\n".join(filter(None, parts))

    def said_of_classes(self) -> list[str]:
        """Return in which order the relation compares classes that have names, in words; else nothing."""
        if not self.class_names:
            return []
        listed = [printable(name)[:40] for name in self.class_names]
        shown = listed if len(listed) <= _MOST_LISTED else [*listed[: _MOST_LISTED - 1], "…", listed[-1]]
        return [f"The relation compares the places of the classes in this order: {', '.join(shown)}."]


_MOST_LISTED = 12


def apply_networks(
    run: FinishedRun, trained: Trained, pairs: Sequence[tuple[Picture, Picture]], *, as_is: bool = False
) -> Applied:
    """Return what each round of a run says of pairs of images, with a notice for what may be wrong with them.

    Args:
        run: The run.
        trained: Its networks.
        pairs: Two images each: files, images of Pillow, arrays or tensors, (H, W), (H, W, C) or (C, H, W), with whole
            numbers 0 … 255 or decimals 0 … 1.
        as_is: Only make them grey and resize them, for images stored as the training images are. Else an image that
            does not look like the training images is brought to their format.

    Raises:
        PairsLitError: There is no pair, or one that is not of two; an image cannot be read, or is blank; the run has no
            checkpoint, or all of its rounds failed.
    """
    applied = examine(run, trained, pairs, as_is=as_is)
    for line in [*applied.notices, *dict.fromkeys(text for pair in applied.pairs for text in pair.warnings)]:
        notice(line)
    return applied


def examine(
    run: FinishedRun, trained: Trained, pairs: Sequence[tuple[Picture, Picture]], *, as_is: bool = False
) -> Applied:
    """Return the same as :func:`apply_networks`, and print nothing."""
    named, bits = _named(pairs), bits_of(trained)
    greys = [[(name, grey_of(picture, name, bits=bits)) for name, picture in pair] for pair in named]
    return examine_greys(run, trained, greys, as_is=as_is)


def examine_greys(
    run: FinishedRun, trained: Trained, greys: Sequence[Sequence[tuple[str, Grey]]], *, as_is: bool = False
) -> Applied:
    """Return the same for pairs of images that are read: name and grey values of the left and of the right one."""
    converter = Converter(form_of(run, trained), trained.image_format, as_is)
    converted = [[converter.convert(grey, name) for name, grey in pair] for pair in greys]
    names = [(left, right) for (left, _), (right, _) in greys]
    applied = answered(run, trained, names, np.asarray([[each.image for each in pair] for pair in converted]))
    told = [_tell(pair, both) for pair, both in zip(applied.pairs, converted, strict=True)]
    return replace(applied, pairs=told, notices=[*said_of_run(run, trained, as_is=as_is), *_said_of_images(told)])


def _tell(pair: PairAnswer, both: Sequence[Converted]) -> PairAnswer:
    """Return a pair with what is to be told of its images."""
    named = [f"{printable(name)} {each.warning}." for name, each in zip(pair.names, both, strict=True) if each.warning]
    return replace(pair, warnings=named, differences=[each.difference for each in both])


def said_of_run(run: FinishedRun, trained: Trained, *, as_is: bool) -> list[str]:
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


_MOST_NAMED = 3


def _said_of_images(pairs: Sequence[PairAnswer]) -> list[str]:
    """Return a sentence for each kind of difference from the training images."""
    different = {name: text for pair in pairs for name, text in zip(pair.names, pair.differences, strict=True) if text}
    found = []
    for text, count in Counter(different.values()).items():
        shown = [printable(name) for name, each in different.items() if each == text][:_MOST_NAMED]
        more = f" and {count - len(shown)} more" if count > len(shown) else ""
        found.append(f"{', '.join(shown)}{more}: {text}.")
    return found


def _named(pairs: object) -> list[list[tuple[str, Picture]]]:
    """Name each picture by its file, else by its place; refuse what is not pairs."""
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or not pairs:
        raise PairsLitError("no pair of pictures was given: give a list of pairs, such as [('left.png', 'right.png')].")
    found = []
    for number, pair in enumerate(pairs, 1):
        if isinstance(pair, str | Path) or not isinstance(pair, Sequence) or len(pair) != 2:
            what = f"{len(pair)} pictures" if isinstance(pair, tuple | list) else f"a single {type(pair).__name__}"
            raise PairsLitError(f"pair {number} is {what}: give two, such as ('left.png', 'right.png').")
        names = [f"the {side} picture of pair {number}" for side in _SIDES]
        found.append(
            [
                (str(each) if isinstance(each, str | Path) else name, each)
                for name, each in zip(names, pair, strict=True)
            ]
        )
    return found


def bits_of(trained: Trained) -> int | None:
    """Return how many bits of 16-bit images were in use in training, or None if there were none, or no record."""
    known = trained.image_format
    return None if known is None else known.bits


def form_of(run: FinishedRun, trained: Trained) -> Form:
    """Return where strokes are put in images for a run: as in its training images.

    Without a record of these, as in MNIST's, at a size that the run's images are averaged from; but the bundled digits
    fill their images, and have their boxes in the middle.
    """
    known = trained.image_format
    if known is not None:
        return _form_of(known)
    seen = trained.data.image_size
    size = seen * max(1, round(MNIST.size / seen))
    is_bundled = run.data["source"] == "digits"
    return Form(size, size if is_bundled else round(size * MNIST.box / MNIST.size), not is_bundled)


def _form_of(known: ImageFormat) -> Form:
    box = max(1, round(known.size * known.box[1] / 100))
    return Form(known.size, min(box, known.size), known.centring == "mass")


def answered(
    run: FinishedRun, trained: Trained, names: Sequence[tuple[str, str]], images: NDArray[np.float32]
) -> Applied:
    """Return what the rounds say of images that are converted: (P, 2, S, S), 0 … 255.

    Raises:
        PairsLitError: Every round failed, in training or on these images.
    """
    said = trained.answers(torch.from_numpy(images))
    is_finite = said.probability.isfinite().all(1).tolist()
    good = [place for place, seed in enumerate(trained.seeds) if is_finite[place] and seed not in run.failed]
    if not good:
        raise PairsLitError(f"every round of {run.folder} failed, so there is nothing to ask: train it again.")
    probability = said.probability[good].T.double().tolist()
    digits = None if said.digits is None else said.digits[good].transpose(0, 1).double().numpy()
    class_names = run.class_names
    pairs = [
        PairAnswer(name, probability[place], None if digits is None else _readings(name, digits[place], class_names))
        for place, name in enumerate(names)
    ]
    height = trained.data.image_size
    factor = images.shape[-1] // height
    seen = images.reshape(*images.shape[:2], height, factor, height, factor).mean((3, 5))
    return Applied(run, [trained.seeds[place] for place in good], pairs, images, seen, trained.note)


def _readings(
    names: tuple[str, str], classes: NDArray[np.float64], class_names: Sequence[str]
) -> tuple[Reading, Reading]:
    """Return what the rounds read in the two images, (R, 2, K)."""
    rounds, means = classes.argmax(-1), classes.mean(0)
    found = []
    for side, name in enumerate(names):
        counts = np.bincount(rounds[:, side], minlength=classes.shape[-1])
        read = int(np.lexsort((means[side], counts))[-1])
        found.append(Reading(name, rounds[:, side].tolist(), read, int(counts[read]), class_names))
    return found[0], found[1]
