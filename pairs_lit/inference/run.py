"""A finished run with its trained networks."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pairs_lit.analysis.html_tables import format_html
from pairs_lit.analysis.run_report import build_run_report
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.apply import apply_run
from pairs_lit.inference.open_run import open_run
from pairs_lit.inference.predictions import ApplyResult
from pairs_lit.inference.trained_rounds import TrainedRounds
from pairs_lit.inference.user_images import ImageLike
from pairs_lit.nn.round_network import RoundNetwork
from pairs_lit.runs.metrics import SPLIT_NAMES, Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.tables import build_round_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_PLOTTED_METRICS = (Metric("train", "loss"), Metric("val", "accuracy"))
_MAX_LETTERS = 40
"""The largest number of letters of a run's name in a figure."""


class Run(FinishedRun):
    """A finished run: its results, and the trained networks of its rounds; a notebook shows a table of its results."""

    def _repr_html_(self) -> str:
        """Return the results as HTML, which notebooks display."""
        return format_html(build_run_report(self))

    def plot(self) -> "Figure":
        """Draw training loss and validation accuracy by epoch: the mean over rounds ± one standard deviation."""
        from pairs_lit.analysis.figures import draw_curves, shorten_name  # matplotlib takes long to import

        panels = {metric.tag: f"{SPLIT_NAMES[metric.split]} {metric.title}" for metric in _PLOTTED_METRICS}
        return draw_curves({shorten_name(self.label, _MAX_LETTERS): self.curves}, panels)

    def to_pandas(self) -> "DataFrame":
        """Return the table of ``rounds.csv``, one row per round, as a DataFrame of pandas.

        Raises:
            PairsLitError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise PairsLitError("run.to_pandas needs pandas: pip install pandas.") from error
        columns, rows = build_round_rows(self.rounds)
        return DataFrame(rows, columns=columns)

    @cached_property
    def trained(self) -> TrainedRounds:
        """The trained networks of all rounds, built on first access.

        They need the run's data only if ``data.normalise`` is ``standard``.
        """
        return open_run(self.folder, allow_changed_code=self.allow_changed_code)

    def network(self, seed: int) -> RoundNetwork:
        """Return the torch module of one round in evaluation mode: preprocessed pairs (N, 2, H, W) → P(relation).

        If the round is an ensemble, the module returns the mean probability of its members.

        ``run.trained.preprocessing(seed)`` preprocesses images for it.
        """
        return self.trained.network(seed)

    def apply(self, images: Sequence[tuple[ImageLike, ImageLike]], *, as_is: bool = False) -> ApplyResult:
        """Return what each round predicts for pairs of your images.

        Args:
            images: Two images each: files, images of Pillow, arrays or tensors, (H, W), (H, W, C) or (C, H, W), with
                whole numbers 0 … 255 or decimals 0 … 1.
            as_is: Only convert to greyscale and resize, for images stored like the training images. By default, images
                that do not look like the training images are converted to their format.

        Raises:
            PairsLitError: There are no pairs, or a pair does not have two images; an image cannot be read, or is blank;
                the run has no checkpoint, or all of its rounds failed.
        """
        return apply_run(self, self.trained, images, as_is=as_is)
