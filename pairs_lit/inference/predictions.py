"""Predictions of a run for pairs of images: what each round reads and says, and the table of it all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from pairs_lit.analysis.tables import decimal, mean_and_std
from pairs_lit.data.class_names import join_names
from pairs_lit.relation import sign_of
from pairs_lit.runs.run import FinishedRun
from pairs_lit.statistics import Summary, summarise
from pairs_lit.text import counted, printable, sentence


@dataclass(frozen=True)
class DigitPrediction:
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
        return self._name_of(self.read)

    @property
    def labels(self) -> list[str]:
        """What the class is called that each round reads, (R,)."""
        return [self._name_of(each) for each in self.rounds]

    def _name_of(self, number: int) -> str:
        return self.class_names[number] if self.class_names else str(number)


@dataclass(frozen=True)
class PairPrediction:
    """What the rounds predict for one pair.

    Attributes:
        names: The names of its two images.
        rounds: P(relation) of each round, (R,).
        readings: What is read in each image, or None if the network does not read digits.
        warnings: Why the prediction may mean nothing.
        differences: How either image clearly differed from the training images; empty where it did not.
    """

    names: tuple[str, str]
    rounds: Sequence[float]
    readings: tuple[DigitPrediction, DigitPrediction] | None
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


@dataclass(frozen=True)
class Applied:
    """What a run predicts for pairs of images.

    Attributes:
        run: The run.
        seeds: The seeds of the R rounds that answered; those that failed are left out.
        pairs: What they predict for each of the P pairs.
        images: What the images were converted to, (P, 2, S, S), 0 … 255.
        seen: What these are averaged to, which is what the networks saw but for the normalisation, (P, 2, H, W).
        note: What must be said if the networks' code has changed since the fit; else empty.
        notices: How images differ from the training images, a line for each kind of difference.
    """

    run: FinishedRun
    seeds: Sequence[int]
    pairs: Sequence[PairPrediction]
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
        """Where the images that the networks were trained on came from."""
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
        order = f"The relation compares the places of the classes in this order: {join_names(self.class_names)}."
        parts = [
            tabulate(rows, header, disable_numparse=True),
            order if self.class_names else "",
            f"P(left {sign} right) of each round:",
            tabulate(list(zip(*columns, strict=True)), names, disable_numparse=True, stralign="right"),
            f"mean ± std (ddof 1) over {counted(n, 'round')} of {folder}, trained on {self.source}.{left_out}",
            sentence(self.note),
        ]
        return "\n\n".join(filter(None, parts))
