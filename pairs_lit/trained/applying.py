"""Applying a run to pictures of one's own: what each of its rounds says of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run import Run
from pairs_lit.statistics import Summary, summarise
from pairs_lit.trained.pictures import Form, Grey, Picture, as_it_is, grey_of, prepared

Shown = Picture | Tensor
"""A picture in any form: a file, an image of Pillow, an array or a tensor."""

_SIZE, _BOX = 28, 20


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
    """

    run: Run
    seeds: Sequence[int]
    pairs: Sequence[PairAnswer]
    images: NDArray[np.float32]
    seen: NDArray[np.float32]

    @property
    def relation(self) -> str:
        """The relation that the networks were trained for: le, lt, ge or gt."""
        return str(self.run.data["relation"])

    @property
    def source(self) -> str:
        """Where the digits that the networks were trained on came from."""
        return str(self.run.data["source"])


def apply(run: Run, pairs: Sequence[tuple[Shown, Shown]], *, as_is: bool = False) -> Applied:
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
    greys = [(name, grey_of(_plain(picture), name)) for pair in named for name, picture in pair]  # before torch works
    images = prepared_images(run, greys, as_is=as_is)
    names = [(first, second) for (first, _), (second, _) in named]
    return answered(run, names, images)


def _named(pairs: Sequence[tuple[Shown, Shown]]) -> list[tuple[tuple[str, Shown], tuple[str, Shown]]]:
    """Give each picture a name; refuse what is not pairs."""
    if isinstance(pairs, str) or not len(pairs):
        raise PairsLitError("no pair of pictures was given: give a list of pairs, such as [('left.png', 'right.png')].")
    found = []
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            what = f"{len(pair)} pictures" if isinstance(pair, tuple | list) else f"a single {type(pair).__name__}"
            raise PairsLitError(f"pair {number} is {what}: give two, such as ('left.png', 'right.png').")
        left, right = (_name(picture, f"pair {number}, {side}") for picture, side in zip(pair, _SIDES, strict=True))
        found.append(((left, pair[0]), (right, pair[1])))
    return found


_SIDES = ("left", "right")


def _name(picture: Shown, place: str) -> str:
    """Name a picture by its file, else by its place."""
    return place if isinstance(picture, Picture) and not _is_path(picture) or isinstance(picture, Tensor) else str(picture)


def prepared_images(run: Run, greys: Sequence[tuple[str, Grey]], *, as_is: bool = False) -> NDArray[np.float32]:
    """Bring named pictures to what the run's data look like: (2·P, S, S), 0 … 255."""
    form = form_of(run)
    found = [as_it_is(grey, form.size) if as_is else prepared(grey, form, name) for name, grey in greys]
    return np.stack(found)
