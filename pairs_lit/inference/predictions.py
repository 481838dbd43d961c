"""Predictions of a run's rounds for pairs of images, and their table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairs_lit.analysis.html_tables import format_html
from pairs_lit.analysis.tables import Table, format_decimal
from pairs_lit.data.class_names import join_names
from pairs_lit.relation import get_sign
from pairs_lit.runs.run import FinishedRun
from pairs_lit.statistics import Summary, format_mean_and_std, summarise
from pairs_lit.system.deprecation import renamed_names
from pairs_lit.text import format_count, format_sentence, replace_control_characters


@dataclass(frozen=True)
class DigitPrediction:
    """The classes that the rounds predict for one image.

    Attributes:
        name: The image's name.
        rounds: The most probable class of each round, (R,).
        read: The class that most rounds predict; of tied classes, the one with the larger mean probability.
        agreeing: The number of rounds that predict it.
        class_names: The names of the classes, or empty if they are called by their numbers.
    """

    name: str
    rounds: Sequence[int]
    read: int
    agreeing: int
    class_names: Sequence[str] = ()

    @property
    def label(self) -> str:
        """The name of the class that most rounds predict."""
        return self._get_class_name(self.read)

    @property
    def labels(self) -> list[str]:
        """The name of the class that each round predicts, (R,)."""
        return [self._get_class_name(number) for number in self.rounds]

    def _get_class_name(self, number: int) -> str:
        return self.class_names[number] if self.class_names else str(number)


@dataclass(frozen=True)
class PairPrediction:
    """Predictions of the rounds for one pair.

    Attributes:
        names: The names of its two images.
        rounds: P(relation) of each round, (R,).
        readings: The predicted class of each image, or None if the network does not classify digits.
        warnings: Reasons why the prediction may be meaningless.
        differences: How each image clearly differed from the training images, or an empty text.
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
        """The number of rounds that predict yes."""
        return sum(value > 0.5 for value in self.rounds)

    @property
    def agreeing(self) -> int:
        """The number of rounds whose prediction is that of the mean."""
        return self.yes if self.holds else len(self.rounds) - self.yes

    @property
    def answer(self) -> str:
        """The answer in words.

        ``yes (9 of 10 rounds)``; or, if the majority of the rounds does not agree with the mean,
        ``no (mean P 0.49; 3 of 5 rounds say yes)``.
        """
        word, opposite = ("yes", "no") if self.holds else ("no", "yes")
        n = len(self.rounds)
        if 2 * self.agreeing > n:
            return f"{word} ({self.agreeing} of {format_count(n, 'round')})"
        disagreeing = n - self.agreeing
        return f"{word} (mean P {_format_near_half(self.probability.mean)}; {disagreeing} of {n} rounds say {opposite})"


def _format_near_half(mean: float) -> str:
    """Return a mean with as many decimals as distinguish it from 0.5, at least two."""
    texts = (f"{mean:.{places}f}" for places in range(2, 17))
    return next((text for text in texts if float(text) != 0.5), "0.50")


@dataclass(frozen=True)
class ApplyResult:
    """Predictions of a run for pairs of images.

    Attributes:
        run: The run.
        seeds: The seeds of the R rounds, without those that failed.
        pairs: Their predictions for each of the P pairs.
        images: The converted images, (P, 2, S, S), 0 … 255.
        seen: The converted images averaged to the size that the networks see, before normalisation, (P, 2, H, W).
        note: A note if the code of the networks has changed since the fit, or empty.
        notices: Lines on the format of the images, and on each kind of difference from the training images.
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
        """The source of the images that the networks were trained on."""
        return str(self.run.data["source"])

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes in their order, or empty if they are called by their numbers."""
        return self.run.class_names

    @property
    def left_out(self) -> list[int]:
        """The seeds of the rounds that failed, in training or on these images."""
        return [result.seed for result in self.run.rounds if result.seed not in self.seeds]

    def __str__(self) -> str:
        """Return a table of the pairs, and one of the probabilities of each round."""
        return "\n\n".join(filter(None, map(str, self._build_blocks())))

    def _repr_html_(self) -> str:
        """Return the tables as HTML, which notebooks display."""
        return format_html(self._build_blocks())

    def _build_blocks(self) -> list[Table | str]:
        """Return the tables and paragraphs of the output; texts may be empty."""
        sign, n = get_sign(self.relation), len(self.seeds)
        header = ["", "left", "right", f"P(left {sign} right)", "answer", "left read as", "right read as"]
        rows = []
        for number, pair in enumerate(self.pairs, 1):
            digits = [f"{digit.label} ({digit.agreeing} of {n})" for digit in pair.readings or ()] or ["–", "–"]
            cells = [*map(replace_control_characters, pair.names), format_mean_and_std(pair.probability), pair.answer]
            rows.append([str(number), *cells, *digits])
        columns = [self.seeds, *([format_decimal(value) for value in pair.rounds] for pair in self.pairs)]
        names = ["seed", *(f"pair {number}" for number in range(1, len(self.pairs) + 1))]
        failed, folder = self.left_out, replace_control_characters(str(self.run.folder))
        rounds = f"{format_count(len(failed), 'round')} that failed (seed {', '.join(map(str, failed))})"
        left_out = f" Left out: {rounds}." if failed else ""
        order = f"The relation compares the positions of the classes in this order: {join_names(self.class_names)}."
        return [
            Table(header, rows),
            order if self.class_names else "",
            f"P(left {sign} right) of each round:",
            Table(names, list(zip(*columns, strict=True)), alignment="right"),
            f"mean ± std (ddof 1) over {format_count(n, 'round')} of {folder}, trained on {self.source}.{left_out}",
            format_sentence(self.note),
        ]


__getattr__ = renamed_names(__name__, {"Applied": "ApplyResult"})
