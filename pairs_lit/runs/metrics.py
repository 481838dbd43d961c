"""Metrics of a round: their names in files, tables and sentences, and whether less is better."""

from dataclasses import dataclass

EPOCH_METRIC_NAMES = ("loss", "target_loss", "digit_loss", "accuracy", "digit_accuracy")
"""Metrics measured after each epoch, in the order of ``curves.csv``: total, target and digit loss, accuracy of the
predicted relation and of the digits."""

ALL_PAIRS_METRIC_NAMES = ("all_accuracy", "all_digit_accuracy")
"""Metrics optionally measured on all pairs of a split at the end of a fit: relation and digit accuracy."""

_UNITS = {
    "target_loss": "without the auxiliary part",
    "digit_loss": "unweighted",
    "accuracy": "fraction of pairs",
    "digit_accuracy": "fraction of digits",
}
_TARGET_OPTIONS, _DIGIT_OPTIONS = ("target", "label_smoothing"), ("digits", "digit_reduction", "label_smoothing")
_LOSS_OPTIONS = {
    "loss": (*dict.fromkeys((*_TARGET_OPTIONS, *_DIGIT_OPTIONS)), "target_weight", "aux_weight"),
    "target_loss": _TARGET_OPTIONS,
    "digit_loss": _DIGIT_OPTIONS,
}
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
"""Names of the splits in sentences."""


@dataclass(frozen=True)
class Metric:
    """A metric of every round, measured on the pairs of one split.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        name: One of :data:`EPOCH_METRIC_NAMES` or of :data:`ALL_PAIRS_METRIC_NAMES`.
        is_best: Whether it is the best value of all epochs, not that of the last one.
    """

    split: str
    name: str
    is_best: bool = False

    @property
    def tag(self) -> str:
        """The name of the metric in ``curves.csv``, TensorBoard and a sweep's file: ``val/accuracy``."""
        return f"{self.split}/{self.name}"

    @property
    def column(self) -> str:
        """Its name in ``rounds.csv`` and ``compare``: ``val_accuracy``."""
        return f"{'best_' if self.is_best else ''}{self.split}_{self.name}"

    @property
    def is_loss(self) -> bool:
        """Whether less is better."""
        return self.name.endswith("loss")

    @property
    def better_sign(self) -> int:
        """1 if more is better, -1 for a loss."""
        return -1 if self.is_loss else 1

    @property
    def loss_options(self) -> tuple[str, ...]:
        """The options of ``model.loss`` on which a loss depends; none for an accuracy."""
        return _LOSS_OPTIONS.get(self.name, ())

    @property
    def is_of_digits(self) -> bool:
        """Whether it measures how well digits are classified."""
        return "digit" in self.name

    @property
    def is_over_all_pairs(self) -> bool:
        """Whether it is measured on all pairs of the split, not on the drawn ones."""
        return self.name in ALL_PAIRS_METRIC_NAMES

    @property
    def title(self) -> str:
        """Its name with the unit, without the split: ``accuracy (fraction of pairs)``."""
        words, unit = self.name.replace("_", " "), _UNITS.get(self.name)
        return f"{words} ({unit})" if unit else words

    @property
    def words(self) -> str:
        """Its name within a sentence: ``validation digit accuracy``."""
        return f"{'best ' if self.is_best else ''}{SPLIT_NAMES[self.split]} {self.name.replace('_', ' ')}"

    @property
    def label(self) -> str:
        """Its name in a table of results: ``validation digit accuracy, all images``."""
        if self.is_over_all_pairs:
            return f"{self.words.replace(' all ', ' ')}, all {'images' if self.is_of_digits else 'pairs'}"
        return f"{self.words} of any epoch (selected on test)" if self.is_best else self.words


_ACCURACY_NAMES = ("accuracy", "digit_accuracy")

EPOCH_METRICS = tuple(Metric(split, name) for split in SPLIT_NAMES for name in EPOCH_METRIC_NAMES)
"""The metrics of ``curves.csv``."""

ROUND_METRICS = (
    *(Metric(split, name) for split in SPLIT_NAMES for name in _ACCURACY_NAMES),
    Metric("test", "accuracy", is_best=True),
    *(Metric(split, name) for split in ("val", "test") for name in ALL_PAIRS_METRIC_NAMES),
)
"""The metrics of ``rounds.csv``, in the order of its columns."""

COMPARABLE_METRICS = (
    *ROUND_METRICS,
    *(Metric(split, name) for split in ("val", "test") for name in ("loss", "target_loss")),
)
"""The metrics by which runs can be compared; losses are those after the last epoch, from ``curves.csv``."""

SWEEP_METRICS = tuple(
    Metric("val", name) for name in dict.fromkeys((*_ACCURACY_NAMES, *EPOCH_METRIC_NAMES, *ALL_PAIRS_METRIC_NAMES))
)
"""The metrics by which a sweep can rank its trials."""

TOTAL_LOSSES = frozenset(Metric(split, "loss").tag for split in SPLIT_NAMES)
"""The tags of the losses that decide whether a round failed: it did if one was ever not finite."""

METRICS_BY_TAG = {metric.tag: metric for metric in (*ROUND_METRICS, *EPOCH_METRICS) if not metric.is_best}
METRICS_BY_COLUMN = {metric.column: metric for metric in (*ROUND_METRICS, *EPOCH_METRICS)}
"""Every metric by column of ``rounds.csv``, or by tag of ``curves.csv``, which the best of all epochs does not have."""
