"""Detection of strokes in drawings, scans and photos, and their placement as in MNIST's digits.

LeCun, Bottou, Bengio and Haffner (1998) describe that format: a digit is scaled, keeping its proportions and with
anti-aliasing, into 20×20 pixels, and put into 28×28 so that its centre of mass is in the middle; strokes are light on
black.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.user_images import GreyImage

GreyValues = NDArray[np.float64]
"""Grey values, (H, W), 0 … 255."""

_MAX_SIDE = 512
"""The longest side, in pixels, of images that are searched for strokes; larger images are scaled down first."""

_MIN_CONTRAST = 20.0
"""The smallest difference between strokes and paper, of 255."""

_MAX_EVENLY_LIT_SIDE = 64
"""The longest side, in pixels, of images that are taken to be lit evenly: they are too small for photos."""

_MIN_CONTRAST_TO_NOISE = 4.0
"""The smallest difference between strokes and paper in standard deviations of the paper's noise."""

_MIN_EDGE_DARKNESS = 0.05
"""The smallest darkness of soft edges, as a fraction of the strokes'; anything fainter is a JPEG artefact."""

_MIN_SKEWNESS = 0.25
"""The smallest skewness that shows which of two brightnesses is rarer."""

_MIN_PATCH_SIZE = 0.03
"""The size, as a fraction of the largest stroke's, below which a patch is dust."""


@dataclass(frozen=True)
class Placement:
    """Size and position of strokes in an image.

    Attributes:
        size: H = W of the image.
        box: The longer side of a digit in it.
        is_centred_by_mass: Whether its centre of mass is put into the middle, not that of its box.
    """

    size: int = 28
    box: int = 20
    is_centred_by_mass: bool = True


MNIST_PLACEMENT = Placement()


def build_blank_error(name: str) -> PairsLitError:
    """Return the error for a blank image."""
    return PairsLitError(f"{name} is blank: no strokes stand out from the paper. Draw darker, or crop it closer.")


@dataclass(frozen=True)
class Strokes:
    """Strokes found in an image.

    Attributes:
        ink: The difference between each pixel of a stroke and the paper around it, 0 … 255, and 0 elsewhere, (H, W).
        core: The pixels of the strokes without their soft edges, (H, W).
        is_dark: Whether the strokes are darker than the paper.
    """

    ink: GreyValues
    core: NDArray[np.bool_]
    is_dark: bool

    def place(self, where: Placement) -> NDArray[np.float32]:
        """Return the strokes, light on black, scaled into the box and centred as far as they fit, (S, S), 0 … 255."""
        small = self._scale(where.box)
        centre = ndimage.center_of_mass(small) if where.is_centred_by_mass else [side / 2 for side in small.shape]
        image = np.zeros((where.size, where.size), np.float32)
        starts = [
            min(max(round(where.size / 2 - middle), 0), where.size - side)
            for middle, side in zip(centre, small.shape, strict=True)
        ]
        image[tuple(slice(start, start + side) for start, side in zip(starts, small.shape, strict=True))] = small
        return image

    def _scale(self, length: int) -> NDArray[np.float32]:
        """Return the bounding box of the strokes, scaled to this longer side and to a brightest pixel of 255."""
        (box,) = ndimage.find_objects((self.ink > 0).astype(np.uint8))
        cut = self.ink[box]
        scale = length / max(cut.shape)
        small = _resize_grey(cut, *(max(1, round(side * scale)) for side in cut.shape))
        scaled: NDArray[np.float32] = np.clip(small * (255 / small.max()), 0, 255)
        return scaled


def find_strokes(grey: GreyImage) -> Strokes | None:
    """Return the strokes in an image, or None if it is blank."""
    shrink = max(1.0, max(grey.shape) / _MAX_SIDE)
    small = _resize_grey(grey, *(max(1, round(side / shrink)) for side in grey.shape)).astype(np.float64)
    window = max(3, max(small.shape) // 3)
    is_dark = _is_dark_on_light(small, window)
    ink = _compute_ink(small, window, is_dark=is_dark)
    masks = _find_stroke_masks(ink)
    return None if masks is None else Strokes(np.where(masks[0], ink, 0.0), masks[1], is_dark)


def _compute_ink(grey: GreyValues, window: int, *, is_dark: bool) -> GreyValues:
    """Return the difference between each pixel and the paper around it, clipped to 0 … 255."""
    if is_dark:
        paper = 255 - _estimate_paper(255 - grey, window)
        return np.clip(255 * (1 - grey / np.maximum(paper, 1.0)), 0, 255)
    return np.clip(grey - _estimate_paper(grey, window), 0, 255)


def _estimate_paper(grey: GreyValues, window: int) -> GreyValues | float:
    """Return the brightness of dark paper under light strokes: a number, or one per pixel in photos.

    In photos, which may be lit unevenly, it is a morphological opening with a window that is wider than strokes.
    """
    if max(grey.shape) <= _MAX_EVENLY_LIT_SIDE:
        return float(np.percentile(grey, 5))
    opened: GreyValues = ndimage.grey_opening(ndimage.gaussian_filter(grey, max(grey.shape) / 128), window)
    return opened


def _is_dark_on_light(grey: GreyValues, window: int) -> bool:
    """Return whether strokes are darker than paper.

    Strokes are the few pixels that differ most from their surroundings, so the differences are skewed towards them,
    even with uneven light or a frame. In closely cropped images, strokes are not few; there the border decides, since
    it is mostly paper.
    """
    differences = grey - ndimage.uniform_filter(grey, window)
    squares = differences**2
    skewness = (differences * squares).mean() / max(squares.mean() ** 1.5, 1e-9)  # ten times as fast as a cube
    if abs(skewness) > _MIN_SKEWNESS:
        return bool(skewness < 0)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return bool(border.mean() > grey.mean())


def _compute_otsu_threshold(values: GreyValues) -> float:
    """Return the threshold that separates values best into two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    centres, below = (edges[:-1] + edges[1:]) / 2, counts.cumsum()
    above, sums = values.size - below, (counts * centres).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.nanargmax(between[:-1])])


def _find_stroke_masks(ink: GreyValues) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Return masks of the strokes with and without their soft edges, or None if there are no strokes."""
    if np.ptp(ink) < _MIN_CONTRAST:
        return None
    core = ink > _compute_otsu_threshold(ink)
    paper = ink[~core]
    level = float(np.median(paper))
    noise = 1.4826 * float(np.median(np.abs(paper - level)))
    contrast = float(np.median(ink[core])) - level
    if contrast < max(_MIN_CONTRAST, _MIN_CONTRAST_TO_NOISE * noise):
        return None
    strokes = _remove_specks_and_frames(core)
    distance: GreyValues = ndimage.distance_transform_edt(~strokes)
    near = distance <= max(2.0, max(ink.shape) / 50)
    return near & (ink > level + max(3 * noise, _MIN_EDGE_DARKNESS * contrast)), strokes


def _remove_specks_and_frames(core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask without specks, and without frames along the edges unless nothing else is left."""
    labels, count = ndimage.label(core, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    edges = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    along = np.bincount(edges, minlength=count + 1)[1:] / edges.size
    inner = along < 0.2
    if not (inner & (sizes > 0.002 * core.size)).any():
        inner[:] = True
    is_stroke = inner & (sizes > _MIN_PATCH_SIZE * sizes[inner].max())
    return np.isin(labels, 1 + np.flatnonzero(is_stroke))


def _resize_grey(grey: GreyImage | GreyValues, height: int, width: int) -> NDArray[np.float32]:
    """Resize with anti-aliasing; an image of this size is returned unchanged."""
    image = Image.fromarray(grey.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
