"""Measured format of the images that networks are trained on: polarity, size, grey values and centring."""

import json
import re
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data.labelled_images import Source
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_dataclasses import parse_dataclass
from pairs_lit.system.tracebacks import format_reason

Content = Literal["strokes", "other"]
"""Strokes on an even background (digits, letters), or anything else (clothes, photos)."""

Polarity = Literal["light on dark", "dark on light", "mixed"]

Centring = Literal["mass", "box", "none"]
"""What lies at the centre of the images: the strokes' centre of mass, the centre of their bounding box, or neither."""

Range = tuple[int, int, int]
"""The 0.5 % quantile, the median and the 99.5 % quantile over the training images."""

INK_THRESHOLD = 0.2
"""A pixel counts as ink if its difference from the background is more than this fraction of the image's contrast."""

_MAX_IMAGES, _MAX_PIXELS = 200, 2**24  # limits of the sample that is measured, to save time
_TARGET_SIDE = 32  # larger images are average-pooled to about this side before they are measured
_MIN_CONTRAST = 8  # images with less contrast, of 255, count as blank
_MIN_POLARITY_SHARE = (
    0.7  # an image is light on dark if at least this share of its differences from the background is lighter
)
_MIN_IMAGE_SHARE = 0.9  # a polarity holds for a dataset if at least this share of its images has it
_MAX_FILLED_SHARE, _MAX_THICKNESS = (
    0.45,
    0.5,
)  # strokes fill no more of the image, and are no thicker relative to their box
_MAX_MASS_OFFSET = 0.04  # the largest offset, relative to the side, of MNIST's centres of mass
_MAX_BOX_OFFSET = 0.1  # the largest offset, relative to the side, of boxes that count as centred

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ImageFormat:
    """Format of the training images of a run.

    Attributes:
        content: Whether the images show strokes or something else.
        polarity: Whether the content is lighter or darker than the background; ``mixed`` if neither holds for 90 %.
        size: Height and width in pixels, after resizing.
        original_size: Height and width before resizing, such as ``28x28`` or ``20x30 to 60x40``, or None if unknown.
        transposed: Whether the images are stored with rows and columns exchanged, which reading undoes.
        bits: The number of bits in use in 16-bit images, or None if there were no such images.
        centring: What lies at the centre of the images.
        lowest: The lowest grey value in use.
        highest: The highest grey value in use.
        background: Grey level of the border, 0 … 255.
        contrast: Largest difference from the background, 0 … 255.
        box: Longer side of the bounding box of the ink, in % of the side.
        offset: Larger distance, of both axes, between the content's centre and the image's centre, in % of the side.
        unevenness: Mean difference of the other pixels from the background, 0 … 255.
        side_by_side: Percentage of images with two separate shapes side by side.
    """

    content: Content
    polarity: Polarity
    size: int
    original_size: str | None
    transposed: bool
    bits: int | None
    centring: Centring
    lowest: int
    highest: int
    background: Range
    contrast: Range
    box: Range
    offset: Range
    unevenness: Range
    side_by_side: int

    def check(self) -> None:
        """Raise ValueError for values that a run never records."""
        ranges = (self.background, self.contrast, self.box, self.offset, self.unevenness)
        numbers = [self.lowest, self.highest, self.side_by_side, *chain.from_iterable(ranges)]
        if min(numbers) < 0 or any(len(quantiles) != 3 for quantiles in ranges) or not 0 < self.size <= 2**14:
            raise ValueError("a value is out of range")
        if self.bits is not None and not 8 <= self.bits <= 16:
            raise ValueError(f"bits must be from 8 to 16, got {self.bits}")

    @property
    def aspect_ratios(self) -> tuple[float, float]:
        """The smallest and the largest ratio of height to width before resizing; both are 1 if unknown."""
        sizes = re.findall(r"(\d+)\s*[×x]\s*(\d+)", self.original_size or "") or [(1, 1)]
        ratios = [int(height) / int(width) for height, width in sizes]
        return min(ratios), max(ratios)

    def to_record(self) -> dict[str, Any]:
        """Return the format as a dictionary of values that JSON can hold."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def to_text(self) -> str:
        """Return the format as one line of JSON, for files whose values must be plain texts or numbers."""
        return json.dumps(self.to_record())


def parse_format(record: object) -> ImageFormat | None:
    """Return the format from the result of :meth:`ImageFormat.to_record` or ``to_text``, or None if ``record`` is None.

    Raises:
        PairsLitError: If the record is damaged.
    """
    if record is None:
        return None
    try:
        content: Any = json.loads(record) if isinstance(record, str) else record
        values = {field.name: content[field.name] for field in fields(ImageFormat)}
        image_format = parse_dataclass(ImageFormat, values, "image format")
        image_format.check()
    except (PairsLitError, KeyError, TypeError, ValueError) as error:
        raise PairsLitError(
            f"the record of the training images' format is damaged ({format_reason(error)}). Restore the run's "
            "files, or "
            "train it again."
        ) from error
    return image_format


def measure_format(source: Source) -> ImageFormat:
    """Return the format of a source's training images, from up to 200 of them."""
    images = _sample_images(source.train.images)
    measures = measure_images(images)
    is_visible = measures.contrast >= _MIN_CONTRAST
    measures = measures.select(is_visible) if is_visible.any() else measures
    centring = _find_centring(measures)
    return ImageFormat(
        content="strokes" if _has_strokes(measures) else "other",
        polarity=measures.polarity,
        size=source.train.size,
        original_size=source.original_size,
        transposed=source.transposed,
        bits=source.bits,
        centring=centring,
        lowest=int(images.min()),
        highest=int(images.max()),
        background=_compute_range(measures.background),
        contrast=_compute_range(measures.contrast),
        box=_compute_range(100 * measures.box),
        offset=_compute_range(100 * measures.get_offset(centring)),
        unevenness=_compute_range(measures.unevenness),
        side_by_side=round(100 * float(measures.side_by_side.mean())),
    )


def _sample_images(images: Tensor) -> Tensor:
    """Return a sample of the images at evenly spaced positions."""
    count = min(len(images), _MAX_IMAGES, max(1, _MAX_PIXELS // images[0].numel()))
    return images[torch.linspace(0, len(images) - 1, count).long()]


def _compute_range(values: FloatArray) -> Range:
    """Return the rounded quantiles 0.5 %, 50 % and 99.5 %."""
    low, median, high = np.quantile(values, [0.005, 0.5, 0.995]).tolist()
    return round(low), round(median), round(high)


def _has_strokes(measures: "Measures") -> bool:
    """Return whether most images have a clear polarity and thin ink that covers little of the image."""
    return bool(
        np.median(np.maximum(measures.light, 1 - measures.light)) >= (1 + _MIN_POLARITY_SHARE) / 2
        and np.median(measures.filled) <= _MAX_FILLED_SHARE
        and np.quantile(measures.thickness, 0.8) <= _MAX_THICKNESS
    )


def _find_centring(measures: "Measures") -> Centring:
    """Return which kind of centre lies near the image's centre in 90 % of the images."""
    mass, box = (float(np.quantile(measures.get_offset(centring), 0.9)) for centring in ("mass", "box"))
    if mass <= min(box, _MAX_MASS_OFFSET):
        return "mass"
    return "box" if box <= _MAX_BOX_OFFSET else "none"


@dataclass(frozen=True)
class Measures:
    """Measurements of n images, (n,) each; lengths are fractions of the image's side.

    Attributes:
        background: Median grey value of the border, 0 … 255.
        light: Fraction of the total difference from the background that is lighter than it, 0 … 1.
        contrast: Largest difference from the background in the prevailing direction (lighter or darker), 0 … 255.
        box: Longer side of the bounding box of the ink.
        box_offset: Larger distance, of both axes, between the box's centre and the image's centre.
        mass_offset: Larger distance, of both axes, between the centre of mass and the image's centre.
        unevenness: Mean difference of pixels without ink from the background, 0 … 255.
        filled: Fraction of the image that strong ink (more than half the contrast) covers.
        thickness: Width of the thickest stroke, as a fraction of the box.
        side_by_side: Whether two separate shapes stand side by side.
    """

    background: FloatArray
    light: FloatArray
    contrast: FloatArray
    box: FloatArray
    box_offset: FloatArray
    mass_offset: FloatArray
    unevenness: FloatArray
    filled: FloatArray
    thickness: FloatArray
    side_by_side: NDArray[np.bool_]

    @property
    def polarity(self) -> Polarity:
        """The polarity of at least 90 % of the images, or ``mixed``."""
        if (self.light >= _MIN_POLARITY_SHARE).mean() >= _MIN_IMAGE_SHARE:
            return "light on dark"
        return "dark on light" if (self.light <= 1 - _MIN_POLARITY_SHARE).mean() >= _MIN_IMAGE_SHARE else "mixed"

    def get_offset(self, centring: Centring) -> FloatArray:
        """Return the distances from the image's centre of the centre of mass (``mass``), or of the box (otherwise)."""
        return self.mass_offset if centring == "mass" else self.box_offset

    def select(self, mask: NDArray[np.bool_]) -> "Measures":
        """Return the measurements of the images for which the mask is true."""
        return Measures(*(getattr(self, field.name)[mask] for field in fields(self)))


def measure_images(images: Tensor) -> Measures:
    """Compute the measurements of images, (n, S, S) uint8."""
    values = _downscale_images(images)
    side = values.shape[-1]
    border = [values[:, 0], values[:, -1], values[:, 1:-1, 0], values[:, 1:-1, -1]]
    background = np.median(np.concatenate(border, 1), 1)
    differences = values - background[:, None, None]
    lighter, darker = np.clip(differences, 0, None), np.clip(-differences, 0, None)
    sums = lighter.sum((1, 2)), darker.sum((1, 2))
    light = np.where(sum(sums) > 0, sums[0] / np.maximum(sum(sums), 1e-9), 0.5)
    ink = np.where((light >= 0.5)[:, None, None], lighter, darker)
    contrast = ink.max((1, 2))
    relative = ink / np.maximum(contrast, 1)[:, None, None]
    mask, core = relative > INK_THRESHOLD, relative > 0.5
    box, box_offset = _measure_boxes(mask)
    unevenness = (np.abs(differences) * ~mask).sum((1, 2)) / np.maximum((~mask).sum((1, 2)), 1)
    return Measures(
        background=background,
        light=light,
        contrast=contrast,
        box=box / side,
        box_offset=box_offset / side,
        mass_offset=_measure_mass_offsets(ink) / side,
        unevenness=unevenness,
        filled=core.mean((1, 2)),
        thickness=_measure_thickness(core) / np.maximum(box, 1),
        side_by_side=np.array([is_side_by_side(ink_mask) for ink_mask in mask]),
    )


def _downscale_images(images: Tensor) -> FloatArray:
    """Return the images as floats; large ones are average-pooled."""
    factor = max(1, images.shape[-1] // _TARGET_SIDE)
    pooled = [F.avg_pool2d(part[:, None].float(), factor)[:, 0] for part in torch.split(images, 32)]
    return torch.cat(pooled).double().numpy()


def _measure_boxes(mask: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return each bounding box's longer side, and its centre's larger distance from the image's centre, in pixels."""
    side, projections = mask.shape[-1], [np.asarray(mask.any(axis)) for axis in (2, 1)]
    first = [projection.argmax(1) for projection in projections]
    last = [side - projection[:, ::-1].argmax(1) for projection in projections]
    longest = np.maximum(*(end - start for start, end in zip(first, last, strict=True))).astype(np.float64)
    offsets = [np.abs(start + end - side) / 2 for start, end in zip(first, last, strict=True)]
    return longest, np.maximum(*offsets)


def _measure_mass_offsets(ink: FloatArray) -> FloatArray:
    """Return the larger distance, of both axes, between each centre of mass and the image's centre, in pixels."""
    side, total = ink.shape[-1], np.maximum(ink.sum((1, 2)), 1e-9)
    pixel_centres = np.arange(side) + 0.5
    centres = [(ink.sum(axis) * pixel_centres).sum(1) / total for axis in (2, 1)]
    offsets: FloatArray = np.maximum(*(np.abs(centre - side / 2) for centre in centres))
    return offsets


def _measure_thickness(core: NDArray[np.bool_]) -> FloatArray:
    """Return the width of each mask's thickest part: twice the largest city-block distance to the outside."""
    padded = np.pad(core, ((0, 0), (1, 1), (1, 1)))
    return np.array([2.0 * ndimage.distance_transform_cdt(mask, "taxicab").max() for mask in padded])


_MIN_GAP = 0.1  # the least gap between separate shapes, relative to the height of all ink
_MIN_HEIGHT = 0.6  # the least height of a tall shape, relative to the height of all ink


def is_side_by_side(mask: NDArray[np.bool_]) -> bool:
    """Return whether a mask (H, W) shows two separate tall shapes side by side, like a number of two digits.

    The limits are chosen such that the bar of a 5 and an accent are not tall, and that the strokes of an open 4 are
    too close to each other to be separate.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return False
    height = rows[-1] + 1 - rows[0]
    shapes = np.split(columns, np.flatnonzero(np.diff(columns) - 1 >= max(1, _MIN_GAP * height)) + 1)
    return sum(bool(_measure_height(mask[:, shape]) >= _MIN_HEIGHT * height) for shape in shapes) > 1


def _measure_height(mask: NDArray[np.bool_]) -> int:
    rows = np.flatnonzero(mask.any(1))
    return int(rows[-1] + 1 - rows[0])
