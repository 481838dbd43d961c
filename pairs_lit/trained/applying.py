"""Applying a run to pictures of one's own: what each of its rounds says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from pairs_lit.analysis.tables import decimal, mean_and_std
from pairs_lit.errors import PairsLitError, check_choice, counted, printable, sentence
from pairs_lit.relation import Relation
from pairs_lit.runs.run import Run
from pairs_lit.statistics import Summary, summarise
from pairs_lit.trained.pictures import MNIST, Form, Picture, as_it_is, grey_of, prepared

_SIDES = ("left", "right")
_SIGNS = {"le": "≤", "lt": "<", "ge": "≥", "gt": ">"}


def sign_of(relation: str) -> str:
    """Return a relation as people write it; refuse one that a damaged run names."""
    check_choice("relation", Relation, relation)
    return _SIGNS[relation]


@dataclass(frozen=True)
class Reading:
    """What the rounds read in one picture.

    Attributes:
        name: The picture's.
        rounds: The most probable class of each round, (R,).
        read: The class that most rounds read; of equally many, the one that is more probable to all of them.
        agreeing: How many of the rounds read it.
    """

    name: str
    rounds: Sequence[int]
    read: int
    agreeing: int


@dataclass(frozen=True)
class PairAnswer:
    """What the rounds say of one pair.

    Attributes:
        names: Of its two pictures.
        rounds: P(relation) of each round, (R,).
        readings: What is read in each picture; None: the network does not read digits.
    """

    names: tuple[str, str]
    rounds: Sequence[float]
    readings: tuple[Reading, Reading] | None

    @property
    def probability(self) -> Summary:
        """P(relation) over the rounds."""
        return summarise(self.rounds)

    @property
    def agreeing(self) -> int:
        """How many rounds give the answer that the mean gives."""
        says_yes = self.probability.mean > 0.5
        return sum((value > 0.5) == says_yes for value in self.rounds)


@dataclass(frozen=True)
class Applied:
    """What a run says of pairs of pictures.

    Attributes:
        run: The run.
        seeds: The seeds of the R rounds that answered; those that failed are left out.
        pairs: What they say of each of the P pairs.
        images: What the pictures were brought to, (P, 2, S, S), 0 … 255.
        seen: What these are averaged to, which is what the networks saw but for the normalisation, (P, 2, H, W).
        note: What must be said if the networks' code has changed since the fit; else empty.
    """

    run: Run
    seeds: Sequence[int]
    pairs: Sequence[PairAnswer]
    images: NDArray[np.float32]
    seen: NDArray[np.float32]
    note: str = ""

    @property
    def relation(self) -> str:
        """The relation that the networks were trained for: le, lt, ge or gt."""
        return str(self.run.data["relation"])

    @property
    def source(self) -> str:
        """Where the digits that the networks were trained on came from."""
        return str(self.run.data["source"])

    def __str__(self) -> str:
        """Return a row for each pair, then one for each round of each pair."""
        sign, n = sign_of(self.relation), len(self.seeds)
        header = ["", "left", "right", f"P(left {sign} right)", "answer", "left read as", "right read as"]
        rows = []
        for number, pair in enumerate(self.pairs, 1):
            answer = f"{'yes' if pair.probability.mean > 0.5 else 'no'} ({pair.agreeing} of {n})"
            read = [f"{each.read} ({each.agreeing} of {n})" for each in pair.readings or ()] or ["–", "–"]
            rows.append([str(number), *map(printable, pair.names), mean_and_std(pair.probability), answer, *read])
        columns = [self.seeds, *([decimal(value) for value in pair.rounds] for pair in self.pairs)]
        names = ["seed", *(f"pair {number}" for number in range(1, len(self.pairs) + 1))]
        failed, folder = self.run.failed, printable(str(self.run.folder))
        which = f"{counted(len(failed), 'round')} that failed (seed {', '.join(map(str, failed))})"
        left_out = f" Left out: {which}." if failed else ""
        parts = [
            tabulate(rows, header, disable_numparse=True),
            f"P(left {sign} right) of each round:",
            tabulate(list(zip(*columns, strict=True)), names, disable_numparse=True, stralign="right"),
            f"mean ± std (ddof 1) over {counted(n, 'round')} of {folder}, trained on {self.source}.{left_out}",
            sentence(self.note),
        ]
        return "\n\n".join(filter(None, parts))


def apply(run: Run, pairs: Sequence[tuple[Picture, Picture]], *, as_is: bool = False) -> Applied:
    """Say what each round of a run says of pairs of pictures.

    Args:
        run: The run.
        pairs: Two pictures each: files, images of Pillow, arrays or tensors, (H, W), (H, W, C) or (C, H, W), with
            whole numbers 0 … 255 or decimals 0 … 1.
        as_is: Only make them grey and scale them, for pictures in MNIST's form: light strokes on black, centred.

    Raises:
        PairsLitError: There is no pair, or one that is not of two; a picture cannot be read, or holds no strokes; the
            run has no checkpoint, or all of its rounds failed.
    """
    named = _named(pairs)
    greys = [[(name, grey_of(picture, name)) for name, picture in pair] for pair in named]  # all of them can be read
    form = form_of(run)
    images = [[as_it_is(g, form.size) if as_is else prepared(g, form, name) for name, g in pair] for pair in greys]
    return answered(run, [(left, right) for (left, _), (right, _) in named], np.asarray(images))


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


def form_of(run: Run) -> Form:
    """Return what pictures are brought to for a run: MNIST's form, at a size that the run's images are averaged from.

    The bundled digits fill their images, and have their boxes in the middle.
    """
    seen = run.trained.data.image_size
    size = seen * max(1, round(MNIST.size / seen))
    is_bundled = run.data["source"] == "digits"
    return Form(size, size if is_bundled else round(size * MNIST.box / MNIST.size), not is_bundled)


def answered(run: Run, names: Sequence[tuple[str, str]], images: NDArray[np.float32]) -> Applied:
    """Say what the rounds say of images that are prepared: (P, 2, S, S), 0 … 255."""
    trained = run.trained
    good = [place for place, seed in enumerate(trained.seeds) if seed not in run.failed]
    if not good:
        raise PairsLitError(f"every round of {run.folder} failed, so there is nothing to ask: train it again.")
    said = trained.answers(torch.from_numpy(images))
    probability = said.probability[good].T.double().tolist()
    digits = None if said.digits is None else said.digits[good].transpose(0, 1).double().numpy()
    pairs = [
        PairAnswer(name, probability[place], None if digits is None else _readings(name, digits[place]))
        for place, name in enumerate(names)
    ]
    height = trained.data.image_size
    factor = images.shape[-1] // height
    seen = images.reshape(*images.shape[:2], height, factor, height, factor).mean((3, 5))
    return Applied(run, [trained.seeds[place] for place in good], pairs, images, seen, trained.note)


def _readings(names: tuple[str, str], classes: NDArray[np.float64]) -> tuple[Reading, Reading]:
    """Say what the rounds read in the two pictures, (R, 2, K)."""
    rounds, means = classes.argmax(-1), classes.mean(0)
    found = []
    for side, name in enumerate(names):
        counts = np.bincount(rounds[:, side], minlength=classes.shape[-1])
        read = int(np.lexsort((means[side], counts))[-1])
        found.append(Reading(name, rounds[:, side].tolist(), read, int(counts[read])))
    return found[0], found[1]
