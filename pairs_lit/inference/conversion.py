"""Conversion of a user's images to the format of the images that a run was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pairs_lit.data.image_format import ImageFormat, Measures, is_side_by_side, measure_images
from pairs_lit.inference.strokes import MNIST_PLACEMENT, Placement, Strokes, build_blank_error, find_strokes
from pairs_lit.inference.trained_rounds import TrainedRounds
from pairs_lit.inference.user_images import GreyImage, resize_only
from pairs_lit.runs.run import FinishedRun
from pairs_lit.system.threads import use_threads

_BACKGROUND_MARGIN = 12
"""How far outside the range of the training images the background may lie, in grey levels of 255."""

_CONTRAST_MARGIN = 25
"""The same for the contrast."""

_POSITION_MARGIN = 6
"""The same for the size and the position of the strokes, as a percentage of the side."""

_NOTICE_MARGIN = 15
"""How far outside that range the size of the strokes must lie to be worth a notice, as a percentage of the side."""

_ASPECT_MARGIN = 1.25
"""By which factor height / width may lie outside the range of the training images."""

_MIN_SIDE_BY_SIDE_PERCENT = 5
"""Percentage of training images with two shapes from which two shapes need no warning."""

_MIN_CONTRAST = 20.0
"""The contrast, of 255, below which an image is blank, unless the training images are fainter."""

TWO_SHAPES_WARNING = "shows two separate shapes side by side, perhaps two digits, but the networks expect one per image"


@dataclass(frozen=True)
class ConvertedImage:
    """An image in the format that the networks expect.

    Attributes:
        image: (S, S), 0 … 255, in the format of the training images.
        difference: How it clearly differed from the training images, and what was done about it, or empty.
        warning: Why its prediction may be meaningless, or empty.
    """

    image: NDArray[np.float32]
    difference: str = ""
    warning: str = ""


def get_training_bits(trained: TrainedRounds) -> int | None:
    """Return how many bits of 16-bit training images were in use, or None if there were no such images or no record."""
    known = trained.image_format
    return None if known is None else known.bits


def get_placement(run: FinishedRun, trained: TrainedRounds) -> Placement:
    """Return where strokes are placed in images for a run: as in its training images.

    If the run does not record their format, strokes are placed as in MNIST, at a multiple of the size that the networks
    see. For the bundled digits, they are centred by their bounding box and fill the image.
    """
    known = trained.image_format
    if known is not None:
        box = max(1, round(known.size * known.box[1] / 100))
        return Placement(known.size, min(box, known.size), known.centring == "mass")
    seen = trained.data.image_size
    size = seen * max(1, round(MNIST_PLACEMENT.size / seen))
    is_bundled = run.data["source"] == "digits"
    return Placement(
        size, size if is_bundled else round(size * MNIST_PLACEMENT.box / MNIST_PLACEMENT.size), not is_bundled
    )


@dataclass(frozen=True)
class Converter:
    """Converts images to a run's format.

    Attributes:
        placement: Where strokes are placed.
        known: The format of the training images, or None if the run does not record it; they are then assumed to be
            light on dark, like MNIST's.
        as_is: Whether images are only resized.
    """

    placement: Placement
    known: ImageFormat | None
    as_is: bool

    @classmethod
    def for_run(cls, run: FinishedRun, trained: TrainedRounds, *, as_is: bool = False) -> "Converter":
        """Return the converter for a run."""
        return cls(get_placement(run, trained), trained.image_format, as_is)

    @use_threads(1)  # a second thread would only spin between small operations, which doubles the time
    def convert(self, grey: GreyImage, name: str) -> ConvertedImage:
        """Convert an image.

        With ``as_is``, or if the training images do not show strokes, the image is only resized; the same holds if it
        looks like the training images. Otherwise its strokes are found and placed like theirs.

        Args:
            grey: The image, dark on light or light on dark.
            name: The image's name in errors.

        Raises:
            PairsLitError: The image is blank.
        """
        if np.ptp(grey) < self._get_min_contrast():
            raise build_blank_error(name)
        known, resized = self.known, self._resize(grey)
        strokes = find_strokes(grey) if known is None or known.content == "strokes" else None
        warning = TWO_SHAPES_WARNING if strokes is not None and self._has_too_many_shapes(strokes) else ""
        if self.as_is or (known is not None and known.content == "other"):
            return ConvertedImage(
                resized, "" if known is None else self._describe_difference(resized, grey.shape, known), warning
            )
        if known is not None and is_like_training_images(resized, grey.shape, known):
            return ConvertedImage(resized, "", warning)
        if strokes is None:
            raise build_blank_error(name)
        image = strokes.place(self.placement)
        if known is None:
            return ConvertedImage(image, "", warning)
        return ConvertedImage(
            match_greys(image, known, is_dark=strokes.is_dark), _describe_inversion(strokes, known), warning
        )

    def _get_min_contrast(self) -> float:
        return _MIN_CONTRAST if self.known is None else min(_MIN_CONTRAST, max(1.0, self.known.contrast[0] / 2))

    def _resize(self, grey: GreyImage) -> NDArray[np.float32]:
        """Resize an image as training images are; with ``as_is``, also transpose it if those were stored transposed."""
        is_transposed = self.as_is and self.known is not None and self.known.transposed
        return resize_only(grey.T if is_transposed else grey, self.placement.size)

    def _has_too_many_shapes(self, strokes: Strokes) -> bool:
        is_usual = self.known is not None and self.known.side_by_side >= _MIN_SIDE_BY_SIDE_PERCENT
        return not is_usual and is_side_by_side(strokes.core)

    def _describe_difference(self, resized: NDArray[np.float32], sides: Sequence[int], known: ImageFormat) -> str:
        """Return how an image that is only resized differs from the training images, or an empty text."""
        phrases = describe_differences(_measure_image(resized), sides, known)
        if not phrases:
            return ""
        fix = (
            "leave out --as-is to have images converted" if self.as_is and known.content == "strokes" else "check them"
        )
        return f"{' and '.join(phrases)}: {fix}"


def is_like_training_images(resized: NDArray[np.float32], sides: Sequence[int], known: ImageFormat) -> bool:
    """Return whether polarity, grey values and the size and position of the strokes are like the training images'.

    Args:
        resized: The image, resized to (S, S), 0 … 255.
        sides: Its original height and width.
        known: The format of the training images.
    """
    measures = _measure_image(resized)
    offset, unevenness = 100 * float(measures.get_offset(known.centring)[0]), float(measures.unevenness[0])
    return (
        known.polarity in ("mixed", measures.polarity)
        and _has_usual_aspect(sides, known)
        and _is_within(float(measures.background[0]), known.background, _BACKGROUND_MARGIN)
        and _is_within(float(measures.contrast[0]), known.contrast, _CONTRAST_MARGIN)
        and _is_within(100 * float(measures.box[0]), known.box, _POSITION_MARGIN)
        and offset <= known.offset[2] + _POSITION_MARGIN
        and unevenness <= 1.5 * known.unevenness[2] + 3
    )


def _measure_image(resized: NDArray[np.float32]) -> Measures:
    return measure_images(torch.from_numpy(resized.round().astype(np.uint8))[None])


def _is_within(value: float, limits: Sequence[int], margin: float) -> bool:
    return limits[0] - margin <= value <= limits[2] + margin


def _has_usual_aspect(sides: Sequence[int], known: ImageFormat) -> bool:
    """Return whether height / width is similar to that of the training images."""
    least, most = known.aspect_ratios
    return least / _ASPECT_MARGIN <= sides[0] / sides[1] <= most * _ASPECT_MARGIN


def describe_differences(found: Measures, sides: Sequence[int], known: ImageFormat) -> list[str]:
    """Return phrases that describe how a resized image clearly differs from the training images.

    Args:
        found: The measures of the resized image.
        sides: Its original height and width.
        known: The format of the training images.
    """
    polarity, box, size = found.polarity, 100 * float(found.box[0]), f"{known.size}×{known.size}"
    found_contrast = float(found.contrast[0])
    phrases = []
    if "mixed" not in (polarity, known.polarity) and polarity != known.polarity:
        phrases.append(f"{polarity} (training images: {known.polarity})")
    if not _has_usual_aspect(sides, known):
        phrases.append(f"{sides[0]}×{sides[1]} pixels, squeezed (training images: {known.original_size or size})")
    if found_contrast < known.contrast[0] / 2:
        phrases.append(f"faint, contrast {found_contrast:.0f} of 255 (training images: {known.contrast[0]} or more)")
    if known.content == "strokes" and not _is_within(box, known.box, _NOTICE_MARGIN):
        usual = f"{known.box[0]} to {known.box[2]} %"
        phrases.append(f"placed differently, strokes over {box:.0f} % of the side (training images: {usual})")
    return phrases


def match_greys(image: NDArray[np.float32], known: ImageFormat, *, is_dark: bool) -> NDArray[np.float32]:
    """Return light strokes on black, (S, S), with the polarity and the grey values of the training images.

    Args:
        image: Strokes of 0 … 255.
        known: The format of the training images.
        is_dark: Whether the strokes were dark on light; it decides the polarity if the training images have both.
    """
    inverts = is_dark if known.polarity == "mixed" else known.polarity == "dark on light"
    if known.polarity == "mixed":
        return (255 - image) if inverts else image
    background, contrast = known.background[1], known.contrast[2]
    levels = background + image * (-contrast if inverts else contrast) / 255
    return np.clip(levels, 0, 255).astype(np.float32)


def _describe_inversion(strokes: Strokes, known: ImageFormat) -> str:
    """Return a phrase about an inverted image, or an empty text if its polarity fits."""
    polarity = "dark on light" if strokes.is_dark else "light on dark"
    if known.polarity in ("mixed", polarity):
        return ""
    return f"{polarity} (training images: {known.polarity}): its strokes were inverted and placed as in training"
