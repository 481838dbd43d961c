"""A finished run with its trained networks."""

from collections.abc import Sequence
from functools import cached_property

from pairs_lit.inference.apply import apply_run
from pairs_lit.inference.open_run import open_run
from pairs_lit.inference.predictions import ApplyResult
from pairs_lit.inference.trained_rounds import TrainedRounds
from pairs_lit.inference.user_images import ImageLike
from pairs_lit.nn.round_network import RoundNetwork
from pairs_lit.runs.run import FinishedRun


class Run(FinishedRun):
    """A finished run: its results, and the trained networks of its rounds."""

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
