"""What the rounds of a run make of one common set of pairs, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairs_lit.analysis.tables import summary_table
from pairs_lit.runs.tables import Curves
from pairs_lit.statistics import Summary, critical, summarise

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
Truths = NDArray[np.bool_]

BINS = 15
"""Bins of a calibration, of equal width over 0 … 1."""

FEW_PAIRS = 5
"""The accuracy of fewer pairs than this is marked as resting on few."""

MOST_COMPARED = 1000
"""Of more rounds than this, only the first so many are compared with each other."""


@dataclass(frozen=True)
class Said:
    """What R rounds say of P pairs that all of them are shown.

    Attributes:
        seeds: The seeds of the R rounds; those that failed are not among them.
        classes: K, how many classes there are.
        digits: The classes of both images, (P, 2).
        target: Whether the relation holds, (P,).
        probability: P(relation), (R, P).
        decision: Whether a round says that it holds, (R, P).
        read: The classes that a round reads, (R, P, 2); None: the network does not read digits.
    """

    seeds: Sequence[int]
    classes: int
    digits: Counts
    target: Truths
    probability: Numbers
    decision: Truths
    read: Counts | None

    @property
    def right(self) -> Truths:
        """Which answers are right, (R, P)."""
        right: Truths = self.decision == self.target
        return right

    @property
    def accuracy(self) -> Summary:
        """The accuracy on these pairs over the rounds."""
        return summarise(self.right.mean(1).tolist())


@dataclass(frozen=True)
class HardPair:
    """A pair that many rounds get wrong.

    Attributes:
        place: Which of the pairs, from 0, as ``predictions.csv`` counts them.
        digits: The classes of both images.
        holds: Whether the relation holds.
        right: Which rounds get it right, (R,).
        probability: P(relation) of each round, (R,).
        read: For either image, how many rounds read each class, (2, K); None: the network does not read digits.
    """

    place: int
    digits: tuple[int, int]
    holds: bool
    right: Truths
    probability: Numbers
    read: Counts | None

    @property
    def wrong(self) -> int:
        """How many rounds get it wrong."""
        return int((~self.right).sum())


def hardest(said: Said, count: int) -> list[HardPair]:
    """Return the pairs that most rounds get wrong, those first that they were surest of; none that all get right."""
    wrong = (~said.right).sum(0)
    surely = np.where(said.target, 1 - said.probability, said.probability).mean(0)
    order = np.lexsort((-surely, -wrong))[:count]
    found = []
    for place in order[wrong[order] > 0].tolist():
        first, second = said.digits[place].tolist()
        read = None
        if said.read is not None:
            read = np.stack([np.bincount(said.read[:, place, image], minlength=said.classes) for image in (0, 1)])
        holds, right = bool(said.target[place]), said.right[:, place]
        found.append(HardPair(place, (first, second), holds, right, said.probability[:, place], read))
    return found


@dataclass(frozen=True)
class Confusion:
    """Which classes are read as which.

    Attributes:
        counts: How often, over all rounds, pairs and both images, (K, K): rows true, columns read.
        accuracy: The share of digits read correctly, over the rounds.
    """

    counts: Counts
    accuracy: Summary

    @property
    def shares(self) -> Numbers:
        """The share of a true class that is read as each class, (K, K); NaN for a class that is not there."""
        total = self.counts.sum(1, keepdims=True)
        return np.where(total > 0, self.counts / np.maximum(total, 1), np.nan)


def confusion(said: Said) -> Confusion | None:
    """Count which classes are read as which; None: the network does not read digits."""
    if said.read is None:
        return None
    true = np.broadcast_to(said.digits, said.read.shape)
    places = (true * said.classes + said.read).ravel()
    counts = np.bincount(places, minlength=said.classes**2).reshape(said.classes, said.classes)
    return Confusion(counts, summarise((said.read == true).mean((1, 2)).tolist()))


@dataclass(frozen=True)
class Distance:
    """The accuracy on the pairs of one distance.

    Attributes:
        distance: Absolute difference of the classes.
        pairs: How many pairs have it.
        accuracy: On these, over the rounds.
    """

    distance: int
    pairs: int
    accuracy: Summary


def by_distance(said: Said) -> list[Distance]:
    """Return the accuracy by absolute difference of the two classes."""
    distances = np.abs(said.digits[:, 0] - said.digits[:, 1])
    found = []
    for distance in np.unique(distances).tolist():
        own = distances == distance
        found.append(Distance(distance, int(own.sum()), summarise(said.right[:, own].mean(1).tolist())))
    return found


@dataclass(frozen=True)
class ClassPairs:
    """The accuracy by the classes of both images.

    Attributes:
        pairs: How many pairs there are, (K, K): rows first, columns second.
        accuracy: The share of right answers over all rounds, (K, K); NaN where there are no pairs.
    """

    pairs: Counts
    accuracy: Numbers


def by_classes(said: Said) -> ClassPairs:
    """Return the accuracy by the classes of both images."""
    places, size = said.digits[:, 0] * said.classes + said.digits[:, 1], said.classes**2
    pairs = np.bincount(places, minlength=size)
    right = np.bincount(places, weights=said.right.mean(0), minlength=size)
    accuracy = np.where(pairs > 0, right / np.maximum(pairs, 1), np.nan)
    return ClassPairs(pairs.reshape(said.classes, -1), accuracy.reshape(said.classes, -1))


@dataclass(frozen=True)
class Calibration:
    """Whether what is said with probability p is so in a share p of the cases, in :data:`BINS` bins.

    A bin holds its lower end and not its upper one, but the last holds 1, too.

    Attributes:
        counts: How many answers lie in each bin of P(relation), (R, bins).
        probability: The mean P(relation) of each round in a bin, (R, bins); NaN where it has none.
        share: The share of these pairs for which the relation holds, (R, bins); likewise.
        error: The expected calibration error of the answers: of the confidence max(P, 1 − P) against the share of
            right answers, over the rounds.
        relation_error: That of P(relation) against the share of pairs for which it holds, over the rounds.
    """

    counts: Counts
    probability: Numbers
    share: Numbers
    error: Summary
    relation_error: Summary

    @property
    def pooled(self) -> tuple[Numbers, Numbers, Counts]:
        """Mean P, share and number of the answers of all rounds in each bin, (bins,) each."""
        counts = self.counts.sum(0)
        weights = np.where(counts > 0, counts, np.nan)
        means = [np.nansum(each * self.counts, 0) / weights for each in (self.probability, self.share)]
        return means[0], means[1], counts

    @property
    def half_widths(self) -> Numbers:
        """Half the width of the 95 % interval over rounds of each pooled share, (bins,); NaN for one round.

        A bin's share is a ratio of two sums over rounds, so its error is that of a ratio estimator; t has R − 1 degrees
        of freedom.
        """
        rounds, (_, share, counts) = len(self.counts), self.pooled
        if rounds < 2:
            return np.full(counts.shape, np.nan)
        residuals = np.nan_to_num(self.share) * self.counts - share * self.counts
        errors = np.sqrt(rounds / (rounds - 1) * (residuals**2).sum(0)) / np.where(counts > 0, counts, np.nan)
        half: Numbers = critical(rounds - 1) * errors
        return half


def calibration(said: Said) -> Calibration:
    """Return how well P(relation) is calibrated."""
    holds = np.broadcast_to(said.target, said.decision.shape)
    counts, probability, share = binned(said.probability, holds)
    confidence = np.maximum(said.probability, 1 - said.probability)
    errors = [expected_error(*binned(confidence, said.right)), expected_error(counts, probability, share)]
    return Calibration(counts, probability, share, *(summarise(each.tolist()) for each in errors))


def binned(probability: Numbers, true: Truths) -> tuple[Counts, Numbers, Numbers]:
    """Return, by round and bin, how many probabilities (R, P) there are, their mean, and the share that came true."""
    rounds = len(probability)
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    places = (bins + BINS * np.arange(rounds)[:, None]).ravel()
    counts, *sums = (
        np.bincount(places, weights, minlength=rounds * BINS).reshape(rounds, BINS)
        for weights in (None, probability.ravel(), true.ravel().astype(np.float64))
    )
    some = np.where(counts > 0, counts, np.nan)
    return counts.astype(np.int64), sums[0] / some, sums[1] / some


def expected_error(counts: Counts, probability: Numbers, share: Numbers) -> Numbers:
    """Return the expected calibration error of each round, (R,): the mean gap of the bins, weighted by their counts."""
    error: Numbers = np.nansum(np.abs(probability - share) * counts, 1) / counts.sum(1)
    return error


@dataclass(frozen=True)
class Agreement:
    """How often two rounds give the same answer.

    Attributes:
        rounds: How many rounds were compared with each other.
        shares: For every two rounds, the share of pairs for which they answer alike, (rounds, rounds).
        share: Over all pairs of different rounds.
        kappa: Cohen's kappa, likewise: 1 if they always answer alike, 0 if no more than two that answer by chance with
            the same shares of yes; pairs of rounds that both give one and the same answer have none.
    """

    rounds: int
    shares: Numbers
    share: Summary
    kappa: Summary


def agreement(said: Said) -> Agreement | None:
    """Compare the answers of every two rounds; None: there is only one."""
    rounds = min(len(said.seeds), MOST_COMPARED)
    if rounds < 2:
        return None
    yes = said.decision[:rounds].astype(np.float64)
    shares = (yes @ yes.T + (1 - yes) @ (1 - yes).T) / yes.shape[1]
    rate = yes.mean(1)
    chance = np.outer(rate, rate) + np.outer(1 - rate, 1 - rate)
    upper = np.triu_indices(rounds, 1)
    alike, expected = shares[upper], chance[upper]
    defined = expected < 1
    kappa = (alike[defined] - expected[defined]) / (1 - expected[defined])
    return Agreement(rounds, shares, summarise(alike.tolist()), summarise(kappa.tolist()))


@dataclass(frozen=True)
class Inspection:
    """A run, looked at.

    Attributes:
        folder: The run folder.
        label: The run's name.
        source: Where the data come from.
        relation: ``le`` and so on.
        pair_seed: The seed whose test pairs all rounds were shown.
        failed: The seeds of the rounds that failed; they are in the learning curves only.
        said: What the other rounds say of these pairs.
        hardest: The pairs that most rounds get wrong.
        images: The images of these, as the source has them, at the size that the network sees: (H, 2, S, S), black 0
            and white 1.
        curves: What was measured after each epoch.
        confusion: Which classes are read as which; None: the network does not read digits.
        distances: The accuracy by ``|first − second|``.
        class_pairs: The accuracy by the classes of both images.
        calibration: How well P(relation) is calibrated.
        agreement: How often two rounds give the same answer; None: there is only one.
        note: What must be said if the networks' code has changed since the fit; else empty.
        class_names: What the classes are called, in their order; empty if by their numbers.
    """

    folder: Path
    label: str
    source: str
    relation: str
    pair_seed: int
    failed: Sequence[int]
    said: Said
    hardest: Sequence[HardPair]
    images: Numbers
    curves: Curves
    confusion: Confusion | None
    distances: Sequence[Distance]
    class_pairs: ClassPairs
    calibration: Calibration
    agreement: Agreement | None
    note: str = ""
    class_names: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.label}: {self.basis}\n\n{summary_table(self.summaries())}"

    @property
    def names(self) -> list[str]:
        """What each of the K classes is called: its name, else its number."""
        return list(self.class_names) or [str(number) for number in range(self.said.classes)]

    @property
    def rounds(self) -> str:
        """How many rounds there are, and how many failed besides, in words."""
        n, failed = len(self.said.seeds), len(self.failed)
        return f"{n} round{'s' if n > 1 else ''}" + (f" ({failed} more failed)" if failed else "")

    @property
    def basis(self) -> str:
        """What the figures rest on, in words."""
        note = f"; {self.note}" if self.note else ""
        return f"{self.rounds}, {len(self.said.target)} test pairs of seed {self.pair_seed}, data: {self.source}{note}"

    def summaries(self) -> dict[str, Summary]:
        """Return the main figures over the rounds, or over pairs of rounds, by name."""
        found = {"accuracy on these pairs": self.said.accuracy}
        if self.confusion is not None:
            found["digit accuracy on these pairs"] = self.confusion.accuracy
        found["calibration error of the answers"] = self.calibration.error
        found["calibration error of P(relation)"] = self.calibration.relation_error
        if self.agreement is not None:
            found["agreement of two rounds"] = self.agreement.share
            found["Cohen's kappa of two rounds"] = self.agreement.kappa
        return found
