"""Statistics of the predictions that the rounds of a run make for one shared set of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairs_lit.analysis.html_tables import format_html
from pairs_lit.analysis.tables import build_summary_table, format_summary_table
from pairs_lit.runs.tables import Curves
from pairs_lit.statistics import Summary, compute_critical_t, summarise
from pairs_lit.system.deprecation import RenamedAttribute

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NUM_BINS = 15
"""The number of calibration bins, which have equal width between 0 and 1."""

MIN_PAIRS = 5
"""The accuracy of fewer pairs than this is marked as uncertain."""

MAX_COMPARED_ROUNDS = 1000
"""At most this many rounds, the first ones, are compared with each other."""


@dataclass(frozen=True)
class PairPredictions:
    """Predictions of R rounds for P shared pairs.

    Attributes:
        seeds: The seeds of the R rounds, without failed rounds.
        num_classes: K, the number of classes.
        digits: The true classes of both images, (P, 2).
        target: Whether the relation holds, (P,).
        probability: The predicted P(relation), (R, P).
        decision: Whether a round predicts that the relation holds, (R, P).
        read_classes: The classes that a round reads, (R, P, 2), or None if the network does not read digits.
    """

    seeds: Sequence[int]
    num_classes: int
    digits: IntArray
    target: BoolArray
    probability: FloatArray
    decision: BoolArray
    read_classes: IntArray | None

    @property
    def correct(self) -> BoolArray:
        """Which predictions are correct, (R, P)."""
        correct: BoolArray = self.decision == self.target
        return correct

    @property
    def accuracy(self) -> Summary:
        """The accuracy on these pairs, summarised over the rounds."""
        return summarise(self.correct.mean(1).tolist())


@dataclass(frozen=True)
class HardPair:
    """A pair that many rounds get wrong.

    Attributes:
        index: The index of the pair, from 0, as in ``predictions.csv``.
        digits: The true classes of both images.
        holds: Whether the relation holds.
        correct: Which rounds predict correctly, (R,).
        probability: P(relation) of each round, (R,).
        read_counts: For each image, the number of rounds that read each class, (2, K), or None if the network does not
            read digits.
    """

    index: int
    digits: tuple[int, int]
    holds: bool
    correct: BoolArray
    probability: FloatArray
    read_counts: IntArray | None

    place = RenamedAttribute("index")
    right = RenamedAttribute("correct")
    read = RenamedAttribute("read_counts")
    wrong = RenamedAttribute("num_wrong")

    @property
    def num_wrong(self) -> int:
        """The number of rounds that get the pair wrong."""
        return int((~self.correct).sum())


def find_hardest_pairs(said: PairPredictions, count: int) -> list[HardPair]:
    """Return the at most ``count`` pairs that most rounds get wrong, the hardest first.

    Pairs with equally many wrong rounds are sorted by the mean probability of the wrong answer. Pairs that all rounds
    get right are not returned.
    """
    wrong = (~said.correct).sum(0)
    wrong_probability = np.where(said.target, 1 - said.probability, said.probability).mean(0)
    order = np.lexsort((-wrong_probability, -wrong))[:count]
    pairs = []
    for index in order[wrong[order] > 0].tolist():
        first, second = said.digits[index].tolist()
        read = None
        if said.read_classes is not None:
            read = np.stack(
                [np.bincount(said.read_classes[:, index, image], minlength=said.num_classes) for image in (0, 1)]
            )
        holds, correct = bool(said.target[index]), said.correct[:, index]
        pairs.append(HardPair(index, (first, second), holds, correct, said.probability[:, index], read))
    return pairs


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of the digits that the rounds read.

    Attributes:
        counts: The number of readings over all rounds, pairs and both images, (K, K): true class by class read.
        accuracy: The share of digits read correctly, summarised over the rounds.
    """

    counts: IntArray
    accuracy: Summary

    @property
    def shares(self) -> FloatArray:
        """The share of each true class that is read as each class, (K, K); NaN for classes without images."""
        total = self.counts.sum(1, keepdims=True)
        return np.where(total > 0, self.counts / np.maximum(total, 1), np.nan)


def compute_confusion(said: PairPredictions) -> Confusion | None:
    """Return the confusion matrix of the digits read, or None if the network does not read digits."""
    if said.read_classes is None:
        return None
    true = np.broadcast_to(said.digits, said.read_classes.shape)
    cells = (true * said.num_classes + said.read_classes).ravel()
    counts = np.bincount(cells, minlength=said.num_classes**2).reshape(said.num_classes, said.num_classes)
    return Confusion(counts, summarise((said.read_classes == true).mean((1, 2)).tolist()))


@dataclass(frozen=True)
class DistanceAccuracy:
    """The accuracy on the pairs whose classes have one distance.

    Attributes:
        distance: The absolute difference of the two classes.
        pairs: The number of pairs with this distance.
        accuracy: The accuracy on these pairs, summarised over the rounds.
    """

    distance: int
    pairs: int
    accuracy: Summary


def compute_accuracy_by_distance(said: PairPredictions) -> list[DistanceAccuracy]:
    """Return the accuracy for each absolute difference of the two classes."""
    distances = np.abs(said.digits[:, 0] - said.digits[:, 1])
    points = []
    for distance in np.unique(distances).tolist():
        is_chosen = distances == distance
        accuracies = said.correct[:, is_chosen].mean(1).tolist()
        points.append(DistanceAccuracy(distance, int(is_chosen.sum()), summarise(accuracies)))
    return points


@dataclass(frozen=True)
class ClassPairAccuracy:
    """The accuracy by the classes of both images.

    Attributes:
        pairs: The number of pairs, (K, K): class of the first image by class of the second.
        accuracy: The share of correct predictions over all rounds, (K, K); NaN where there are no pairs.
    """

    pairs: IntArray
    accuracy: FloatArray


def compute_accuracy_by_classes(said: PairPredictions) -> ClassPairAccuracy:
    """Return the accuracy by the classes of both images."""
    cells, size = said.digits[:, 0] * said.num_classes + said.digits[:, 1], said.num_classes**2
    pairs = np.bincount(cells, minlength=size)
    correct = np.bincount(cells, weights=said.correct.mean(0), minlength=size)
    accuracy = np.where(pairs > 0, correct / np.maximum(pairs, 1), np.nan)
    return ClassPairAccuracy(pairs.reshape(said.num_classes, -1), accuracy.reshape(said.num_classes, -1))


@dataclass(frozen=True)
class Calibration:
    """Reliability of P(relation) in :data:`NUM_BINS` bins, and expected calibration errors.

    A bin includes its lower end but not its upper end; only the last bin includes 1.

    Attributes:
        counts: The number of predictions in each bin of P(relation), (R, bins).
        probability: The mean P(relation) of each round in a bin, (R, bins); NaN for empty bins.
        share: The share of pairs in a bin for which the relation holds, (R, bins); NaN for empty bins.
        error: The expected calibration error of the predictions, which compares the confidence max(P, 1 − P) with the
            share of correct predictions, summarised over the rounds.
        relation_error: The expected calibration error of P(relation), which compares it with the share of pairs for
            which the relation holds, summarised over the rounds.
    """

    counts: IntArray
    probability: FloatArray
    share: FloatArray
    error: Summary
    relation_error: Summary

    @property
    def pooled(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Mean P(relation), share of pairs and number of predictions in each bin over all rounds, (bins,) each."""
        counts = self.counts.sum(0)
        weights = np.where(counts > 0, counts, np.nan)
        means = [np.nansum(values * self.counts, 0) / weights for values in (self.probability, self.share)]
        return means[0], means[1], counts

    @property
    def half_widths(self) -> FloatArray:
        """Half the width of the 95 % interval of each pooled share over rounds, (bins,); NaN for a single round.

        A bin's share is a ratio of two sums over rounds, so the standard error is that of a ratio estimator, with R − 1
        degrees of freedom.
        """
        rounds, (_, share, counts) = len(self.counts), self.pooled
        if rounds < 2:
            return np.full(counts.shape, np.nan)
        residuals = np.nan_to_num(self.share) * self.counts - share * self.counts
        errors = np.sqrt(rounds / (rounds - 1) * (residuals**2).sum(0)) / np.where(counts > 0, counts, np.nan)
        half: FloatArray = compute_critical_t(rounds - 1) * errors
        return half


def compute_calibration(said: PairPredictions) -> Calibration:
    """Return the reliability bins and the expected calibration errors."""
    holds = np.broadcast_to(said.target, said.decision.shape)
    counts, probability, share = bin_probabilities(said.probability, holds)
    confidence = np.maximum(said.probability, 1 - said.probability)
    errors = [
        compute_expected_error(*bin_probabilities(confidence, said.correct)),
        compute_expected_error(counts, probability, share),
    ]
    return Calibration(counts, probability, share, *(summarise(round_errors.tolist()) for round_errors in errors))


def bin_probabilities(probability: FloatArray, true: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Sort probabilities into bins.

    Args:
        probability: Probabilities, (R, P).
        true: Whether the events were true, (R, P).

    Returns:
        By round and bin, (R, bins) each: the number of probabilities, their mean, and the share of true events. Mean
        and share are NaN for empty bins.
    """
    rounds = len(probability)
    bins = np.minimum((probability * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    cells = (bins + NUM_BINS * np.arange(rounds)[:, None]).ravel()
    counts, *sums = (
        np.bincount(cells, weights, minlength=rounds * NUM_BINS).reshape(rounds, NUM_BINS)
        for weights in (None, probability.ravel(), true.ravel().astype(np.float64))
    )
    divisors = np.where(counts > 0, counts, np.nan)
    return counts.astype(np.int64), sums[0] / divisors, sums[1] / divisors


def compute_expected_error(counts: IntArray, probability: FloatArray, share: FloatArray) -> FloatArray:
    """Return the expected calibration error of each round, (R,): the bins' mean gap, weighted by counts."""
    error: FloatArray = np.nansum(np.abs(probability - share) * counts, 1) / counts.sum(1)
    return error


@dataclass(frozen=True)
class Agreement:
    """Agreement of the predictions of every two rounds.

    Attributes:
        num_rounds: The number of rounds that were compared with each other.
        shares: For every two rounds, the share of pairs for which they predict the same, (rounds, rounds).
        share: This share, summarised over all pairs of different rounds.
        kappa: Cohen's kappa, summarised over the pairs of rounds: 1 for equal predictions, 0 for the agreement expected
            by chance. It is undefined if both rounds predict the same for every pair of images; these pairs of rounds
            are left out.
    """

    num_rounds: int
    shares: FloatArray
    share: Summary
    kappa: Summary


def compute_agreement(said: PairPredictions) -> Agreement | None:
    """Return the agreement of every two rounds, or None if there is only one round."""
    rounds = min(len(said.seeds), MAX_COMPARED_ROUNDS)
    if rounds < 2:
        return None
    yes = said.decision[:rounds].astype(np.float64)
    shares = (yes @ yes.T + (1 - yes) @ (1 - yes).T) / yes.shape[1]
    rate = yes.mean(1)
    chance = np.outer(rate, rate) + np.outer(1 - rate, 1 - rate)
    upper = np.triu_indices(rounds, 1)
    observed, expected = shares[upper], chance[upper]
    is_defined = expected < 1
    kappa = (observed[is_defined] - expected[is_defined]) / (1 - expected[is_defined])
    return Agreement(rounds, shares, summarise(observed.tolist()), summarise(kappa.tolist()))


@dataclass(frozen=True)
class Inspection:
    """The inspection of a run; printing it shows a summary table.

    Attributes:
        folder: The run folder.
        label: The run's name.
        source: The data source.
        relation: The relation, such as ``le``.
        pair_seed: The seed whose test pairs were given to all rounds.
        failed: The seeds of failed rounds, which appear in the learning curves only.
        predictions: The predictions of the other rounds for these pairs.
        hardest: The pairs that most rounds get wrong.
        images: The images of the hardest pairs as the source provides them, at the network's input size, (H, 2, S, S),
            from 0 (black) to 1 (white).
        curves: The metrics after each epoch.
        confusion: The confusion matrix of the digits read, or None if the network does not read digits.
        distances: The accuracy by ``|first − second|``.
        class_pairs: The accuracy by the classes of both images.
        calibration: The calibration of P(relation).
        agreement: The agreement of every two rounds, or None if there is only one round.
        note: A warning if the networks' code has changed since the fit, else empty.
        class_names: The names of the classes in their order, or empty if classes are shown by their numbers.
    """

    folder: Path
    label: str
    source: str
    relation: str
    pair_seed: int
    failed: Sequence[int]
    predictions: PairPredictions
    hardest: Sequence[HardPair]
    images: FloatArray
    curves: Curves
    confusion: Confusion | None
    distances: Sequence[DistanceAccuracy]
    class_pairs: ClassPairAccuracy
    calibration: Calibration
    agreement: Agreement | None
    note: str = ""
    class_names: Sequence[str] = ()

    said = RenamedAttribute("predictions")

    def __str__(self) -> str:
        return f"{self.label}: {self.basis}\n\n{format_summary_table(self.summaries())}"

    def _repr_html_(self) -> str:
        """Return the summary table as HTML, which notebooks display."""
        return format_html([f"{self.label}: {self.basis}", build_summary_table(self.summaries())])

    @property
    def names(self) -> list[str]:
        """The name of each of the K classes; a class without a name is called by its number."""
        return list(self.class_names) or [str(number) for number in range(self.predictions.num_classes)]

    @property
    def rounds(self) -> str:
        """The numbers of inspected and of failed rounds in words."""
        n, failed = len(self.predictions.seeds), len(self.failed)
        return f"{n} round{'s' if n > 1 else ''}" + (f" ({failed} more failed)" if failed else "")

    @property
    def basis(self) -> str:
        """The rounds, pairs and data behind the results, in words."""
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.rounds}, {len(self.predictions.target)} test pairs of seed {self.pair_seed}, data: "
            f"{self.source}{note}"
        )

    def summaries(self) -> dict[str, Summary]:
        """Return the main metrics by name, summarised over the rounds or over pairs of rounds."""
        summaries = {"accuracy on these pairs": self.predictions.accuracy}
        if self.confusion is not None:
            summaries["digit accuracy on these pairs"] = self.confusion.accuracy
        summaries["calibration error of the predictions"] = self.calibration.error
        summaries["calibration error of P(relation)"] = self.calibration.relation_error
        if self.agreement is not None:
            summaries["agreement of two rounds"] = self.agreement.share
            summaries["Cohen's kappa of two rounds"] = self.agreement.kappa
        return summaries
