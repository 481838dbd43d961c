"""Format of the images that networks are trained on: polarity, size, grey values, and how shapes are placed."""

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
from pairs_lit.runs.yaml_dataclasses import made
from pairs_lit.system.tracebacks import reason_of

Content = Literal["strokes", "other"]
"""Lines on an even background (digits, letters), or anything else (clothes, photos)."""

Polarity = Literal["light on dark", "dark on light", "mixed"]

Centring = Literal["mass", "box", "none"]
"""What lies in the middle of the images: the centre of mass of the strokes, or that of their bounding box."""

Range = tuple[int, int, int]
"""Low end, median and high end over the training images, where 0.5 % lie beyond either end."""

INK = 0.2
"""The part of an image's contrast from which a pixel counts as ink."""

_MOST_IMAGES, _MOST_PIXELS = 200, 2**24  # are looked at, to save time
_SIDE = 32  # larger images are averaged down to about this side before they are measured
_FAINTEST = 8  # images of less contrast, of 255, show nothing
_DECIDED = 0.7  # of what differs from the background, on one side of it: then the polarity is clear
_NEARLY_ALL = 0.9  # of the training images
_MOST_FILLED, _THICKEST = 0.45, 0.5  # of the image, and of the box: more is no stroke
_CENTRED = 0.04  # of the side: MNIST's centres of mass lie this near to the middle
_NEAR = 0.1

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class ImageFormat:
    """What the training images of a run look like.

    Attributes:
        content: Whether they show strokes.
        polarity: Whether what they show is lighter or darker than the background; ``mixed`` if neither holds for 90 %.
        size: Their height and width in pixels, after resizing.
        original_size: Height and width before resizing, such as ``28x28`` or ``20x30 to 60x40``, or None if unknown.
        transposed: Whether they are stored with rows and columns exchanged, which reading undoes.
        bits: How many bits of 16-bit images were in use, or None if there were no such images.
        centring: What lies in the middle of the images.
        lowest: The lowest grey value in use.
        highest: The highest grey value in use.
        background: Grey level of the border, 0 … 255.
        contrast: Largest difference from the background, 0 … 255.
        box: Longer side of the bounding box of the ink, in % of the side.
        offset: Distance of the centre from the image's middle along either axis, in % of the side.
        unevenness: Mean difference of the other pixels from the background, 0 … 255.
        side_by_side: Images with two separate shapes side by side, in %.
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
        """Raise ValueError for values that no run records."""
        ranges = (self.background, self.contrast, self.box, self.offset, self.unevenness)
        numbers = [self.lowest, self.highest, self.side_by_side, *chain.from_iterable(ranges)]
        if min(numbers) < 0 or any(len(each) != 3 for each in ranges) or not 0 < self.size <= 2**14:
            raise ValueError("a value is not one that a run records")
        if self.bits is not None and not 8 <= self.bits <= 16:
            raise ValueError(f"bits is {self.bits}")

    @property
    def aspects(self) -> tuple[float, float]:
        """The least and the largest height by width of the images before resizing; 1 if it is unknown."""
        sizes = re.findall(r"(\d+)\s*[×x]\s*(\d+)", self.original_size or "") or [(1, 1)]
        found = [int(height) / int(width) for height, width in sizes]
        return min(found), max(found)

    def to_record(self) -> dict[str, Any]:
        """Return the format as JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def to_text(self) -> str:
        """Return the format as one line of JSON, for files that hold plain values only."""
        return json.dumps(self.to_record())


def parse_format(record: object) -> ImageFormat | None:
    """Return the format that :meth:`ImageFormat.to_record` or ``to_text`` gave, or None if there is no record.

    Raises:
        PairsLitError: The record is damaged.
    """
    if record is None:
        return None
    try:
        content: Any = json.loads(record) if isinstance(record, str) else record
        found = made(ImageFormat, {field.name: content[field.name] for field in fields(ImageFormat)}, "image format")
        found.check()
    except (PairsLitError, KeyError, TypeError, ValueError) as error:
        raise PairsLitError(
            f"the record of the training images' format is damaged ({reason_of(error)}): restore the run's files, or "
            "train it again."
        ) from error
    return found


def measure_format(source: Source) -> ImageFormat:
    """Return the format of a source's training images, from up to 200 of them."""
    images = _sample(source.train.images)
    found = measure_images(images)
    found = found.select(found.contrast >= _FAINTEST) if (found.contrast >= _FAINTEST).any() else found
    centring = _centring_of(found)
    return ImageFormat(
        content="strokes" if _shows_strokes(found) else "other",
        polarity=found.polarity,
        size=source.train.size,
        original_size=source.original_size,
        transposed=source.transposed,
        bits=source.bits,
        centring=centring,
        lowest=int(images.min()),
        highest=int(images.max()),
        background=_range(found.background),
        contrast=_range(found.contrast),
        box=_range(100 * found.box),
        offset=_range(100 * found.offset(centring)),
        unevenness=_range(found.unevenness),
        side_by_side=round(100 * float(found.side_by_side.mean())),
    )


def _sample(images: Tensor) -> Tensor:
    """Return some of the images, spread evenly over all."""
    count = min(len(images), _MOST_IMAGES, max(1, _MOST_PIXELS // images[0].numel()))
    return images[torch.linspace(0, len(images) - 1, count).long()]


def _range(values: Numbers) -> Range:
    low, median, high = np.quantile(values, [0.005, 0.5, 0.995]).tolist()
    return round(low), round(median), round(high)


def _shows_strokes(found: "Measures") -> bool:
    return bool(
        np.median(np.maximum(found.light, 1 - found.light)) >= (1 + _DECIDED) / 2
        and np.median(found.filled) <= _MOST_FILLED
        and np.quantile(found.thickness, 0.8) <= _THICKEST
    )


def _centring_of(found: "Measures") -> Centring:
    mass, box = (float(np.quantile(found.offset(centring), 0.9)) for centring in ("mass", "box"))
    if mass <= min(box, _CENTRED):
        return "mass"
    return "box" if box <= _NEAR else "none"


@dataclass(frozen=True)
class Measures:
    """What can be measured of n images, (n,) each; lengths are parts of the side.

    Attributes:
        background: Median grey value of the border, 0 … 255.
        light: The part of all differences from the background that is lighter than it, 0 … 1.
        contrast: The largest difference to the side that prevails, 0 … 255.
        box: Longer side of the bounding box of the ink.
        box_offset: Distance of the box's centre from the middle, along the axis where it is larger.
        mass_offset: Distance of the centre of mass, likewise.
        unevenness: Mean difference of the other pixels from the background, 0 … 255.
        filled: The part of the image that dark ink covers.
        thickness: Width of the thickest stroke, as a part of the box.
        side_by_side: Whether there are two separate shapes side by side.
    """

    background: Numbers
    light: Numbers
    contrast: Numbers
    box: Numbers
    box_offset: Numbers
    mass_offset: Numbers
    unevenness: Numbers
    filled: Numbers
    thickness: Numbers
    side_by_side: NDArray[np.bool_]

    @property
    def polarity(self) -> Polarity:
        """The polarity that 90 % of the images have; ``mixed`` if neither is so frequent."""
        if (self.light >= _DECIDED).mean() >= _NEARLY_ALL:
            return "light on dark"
        return "dark on light" if (self.light <= 1 - _DECIDED).mean() >= _NEARLY_ALL else "mixed"

    def offset(self, centring: Centring) -> Numbers:
        """Return the distance from the middle of what is centred."""
        return self.mass_offset if centring == "mass" else self.box_offset

    def select(self, chosen: NDArray[np.bool_]) -> "Measures":
        """Return the measures of some of the images."""
        return Measures(*(getattr(self, field.name)[chosen] for field in fields(self)))


def measure_images(images: Tensor) -> Measures:
    """Measure images, (n, S, S) uint8."""
    values = _shrunk(images)
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
    mask, core = relative > INK, relative > 0.5
    box, box_offset = _boxes(mask)
    others = (np.abs(differences) * ~mask).sum((1, 2)) / np.maximum((~mask).sum((1, 2)), 1)
    return Measures(
        background=background,
        light=light,
        contrast=contrast,
        box=box / side,
        box_offset=box_offset / side,
        mass_offset=_mass_offsets(ink) / side,
        unevenness=others,
        filled=core.mean((1, 2)),
        thickness=_thickness(core) / np.maximum(box, 1),
        side_by_side=np.array([is_side_by_side(each) for each in mask]),
    )


def _shrunk(images: Tensor) -> Numbers:
    """Return the images as floats, average-pooled where they are large."""
    factor = max(1, images.shape[-1] // _SIDE)
    pooled = [F.avg_pool2d(part[:, None].float(), factor)[:, 0] for part in torch.split(images, 32)]
    return torch.cat(pooled).double().numpy()


def _boxes(mask: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Return the longer side of each mask's bounding box, and how far its centre is from the middle."""
    side, shadows = mask.shape[-1], [np.asarray(mask.any(axis)) for axis in (2, 1)]
    first = [each.argmax(1) for each in shadows]
    last = [side - each[:, ::-1].argmax(1) for each in shadows]
    longest = np.maximum(*(end - start for start, end in zip(first, last, strict=True))).astype(np.float64)
    offsets = [np.abs(start + end - side) / 2 for start, end in zip(first, last, strict=True)]
    return longest, np.maximum(*offsets)


def _mass_offsets(ink: Numbers) -> Numbers:
    side, whole = ink.shape[-1], np.maximum(ink.sum((1, 2)), 1e-9)
    places = np.arange(side) + 0.5
    centres = [(ink.sum(axis) * places).sum(1) / whole for axis in (2, 1)]
    found: Numbers = np.maximum(*(np.abs(centre - side / 2) for centre in centres))
    return found


def _thickness(core: NDArray[np.bool_]) -> Numbers:
    """Return the width of each mask's thickest part: twice its distance from the outside, along rows and columns."""
    padded = np.pad(core, ((0, 0), (1, 1), (1, 1)))
    return np.array([2.0 * ndimage.distance_transform_cdt(each, "taxicab").max() for each in padded])


_GAP = 0.1
_TALL = 0.6


def is_side_by_side(mask: NDArray[np.bool_]) -> bool:
    """Return whether a mask (H, W) has two separate tall shapes side by side, as a number of two digits has.

    Shapes count as separate from a gap of a tenth of the height of all ink, and as tall from 0.6 of that height: the
    bar of a 5 and an accent are not, and the open strokes of a 4 lie nearer.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return False
    height = rows[-1] + 1 - rows[0]
    shapes = np.split(columns, np.flatnonzero(np.diff(columns) - 1 >= max(1, _GAP * height)) + 1)
    return sum(bool(_height(mask[:, each]) >= _TALL * height) for each in shapes) > 1


def _height(mask: NDArray[np.bool_]) -> int:
    rows = np.flatnonzero(mask.any(1))
    return int(rows[-1] + 1 - rows[0])
