"""Pictures of one's own: read from anywhere, and brought to the form that MNIST's digits have.

LeCun, Bottou, Bengio and Haffner (1998) describe that form: a digit is scaled, keeping its proportions and with
anti-aliasing, into 20×20 pixels, and put into 28×28 so that its centre of mass is in the middle; strokes are light on
black. What comes before is for drawings, scans and photos: the strokes are found on the paper.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from pairs_lit.data.grey_range import MASK_TOP
from pairs_lit.data.image_reader import numbers_of, to_greyscale
from pairs_lit.data.resize import resize_images
from pairs_lit.errors import PairsLitError
from pairs_lit.system.paths import user_path
from pairs_lit.system.tracebacks import reason_of

Grey = NDArray[np.float64]
"""Grey values, (H, W), 0 … 255."""

Picture = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, an image of Pillow, or numbers: (H, W), (H, W, 1 … 4) or (1 … 4, H, W); whole 0 … 255 or decimal 0 … 1."""

_LARGEST = 512
"""Pixels along the longer side that the strokes are looked for in; larger pictures are scaled down first."""

_FAINTEST = 20.0
"""How much strokes must differ from the paper, of 255."""

_EVEN = 64
"""Pictures of at most so many pixels along the longer side are no photos: their paper is lit evenly."""

_NOISE = 4.0
"""And in standard deviations of the paper's noise."""

_FRINGE = 0.05
"""The darkness, as a part of the strokes', from which their soft edges count; less is what JPEG leaves beside them."""

_SKEWED = 0.25
"""The skewness that shows which of two brightnesses is the rarer one."""

_SPECK = 0.03
"""The size, as a part of the largest stroke's, below which a patch is dust."""


@dataclass(frozen=True)
class Form:
    """What pictures are brought to.

    Attributes:
        size: H = W of the image.
        box: The longer side of a digit in it.
        by_mass: Whether its centre of mass is put into the middle; else that of its box.
    """

    size: int = 28
    box: int = 20
    by_mass: bool = True


MNIST = Form()


def grey_of(picture: Picture, name: str, *, bits: int | None = None) -> Grey:
    """Read a picture as grey values with the reader of training images, :mod:`pairs_lit.data.image_reader`.

    Args:
        picture: A file, an image, an array or a tensor.
        name: What to call it in errors.
        bits: How many bits of 16-bit images were in use in training; None: as many as the picture's values need.

    Raises:
        PairsLitError: It is missing, a folder, no picture, nearly black, or an array of another form.
    """
    if isinstance(picture, Tensor):
        picture = numbers_of(picture)
    if isinstance(picture, np.ndarray):
        _check_array(picture, name)
    path = user_path(picture) if isinstance(picture, str | Path) else None
    if path is not None and path.is_dir():
        raise PairsLitError(f"{name} is a folder: give the pictures in it, two for each pair.")
    try:
        grey = to_greyscale(path or picture, bits=bits).numpy()
    except FileNotFoundError as error:
        raise PairsLitError(f"{name} is not there: check the path.") from error
    except PermissionError as error:
        raise PairsLitError(f"{name} cannot be read ({error.strerror}): change its permissions.") from error
    except (OSError, ValueError, SyntaxError, PairsLitError, Image.DecompressionBombError) as error:
        kinds = "give a PNG, JPEG or another kind of file that Pillow reads"
        why = "an unknown format" if isinstance(error, UnidentifiedImageError) else reason_of(error)
        raise PairsLitError(f"{name} is no picture that can be read ({why}): {kinds}.") from error
    if 0 < grey.max() <= MASK_TOP:
        raise PairsLitError(
            f"{name} must use the range 0 … 255 (whole numbers) or 0 … 1 (decimals), got grey values of at most "
            f"{grey.max()} of 255. Scale it: multiply a mask of 0 and 1 by 255, values of 0 … 16 by 255 / 16."
        )
    return grey.astype(np.float64)


def _check_array(array: NDArray[Any], name: str) -> None:
    """Raise PairsLitError if an array has another shape or holds other numbers than an image."""
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and not {1, 2, 3, 4} & set(array.shape[::2])):
        raise PairsLitError(f"{name} has the shape {array.shape}: (H, W), (H, W, C) or (C, H, W) is needed, C 1 to 4.")
    top = 1 if array.dtype.kind in "fb" else 65535 if array.dtype == np.uint16 else 255
    if array.dtype.kind not in "fbiu" or not (np.isfinite(array).all() and 0 <= array.min() <= array.max() <= top):
        raise PairsLitError(
            f"{name} holds {array.dtype} outside what is allowed: whole numbers 0 to 255, or decimals 0 to 1."
        )


def as_it_is(grey: Grey, size: int) -> NDArray[np.float32]:
    """Resize an image to (size, size) exactly as training images are resized, and do nothing else."""
    levels = torch.from_numpy(grey.round().clip(0, 255).astype(np.uint8))
    return resize_images(levels[None], size)[0].numpy().astype(np.float32)


def _resized(grey: Grey, height: int, width: int) -> NDArray[np.float32]:
    """Scale with anti-aliasing; a picture of that size is unchanged."""
    image = Image.fromarray(grey.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def prepared(grey: Grey, form: Form, name: str) -> NDArray[np.float32]:
    """Bring an image to MNIST's form: light strokes on black, scaled into the box, centred by mass.

    Args:
        grey: (H, W), 0 … 255, dark on light or light on dark.
        form: What it is brought to.
        name: What to call it in errors.

    Returns:
        (size, size), 0 … 255.

    Raises:
        PairsLitError: There are no strokes in it.
    """
    found = find_strokes(grey)
    if found is None:
        raise blank(name)
    return found.centred(form)


def blank(name: str) -> PairsLitError:
    """Return the error for an image that shows nothing."""
    return PairsLitError(f"{name} is blank: no strokes stand out from the paper. Draw darker, or crop it closer.")


@dataclass(frozen=True)
class Strokes:
    """The strokes that were found in an image.

    Attributes:
        ink: How far each pixel of a stroke is from the paper around it, 0 … 255, and 0 elsewhere, (H, W).
        core: The pixels that are strokes without doubt, (H, W).
        is_dark: Whether the strokes are darker than the paper.
    """

    ink: Grey
    core: NDArray[np.bool_]
    is_dark: bool

    def centred(self, form: Form) -> NDArray[np.float32]:
        """Return the strokes, light on black, scaled into the box and centred, (size, size), 0 … 255."""
        return _centred(self.ink, form)


def find_strokes(grey: Grey) -> Strokes | None:
    """Return the strokes in an image, (H, W), 0 … 255, or None if it is blank."""
    shrink = max(1.0, max(grey.shape) / _LARGEST)
    small = _resized(grey, *(max(1, round(side / shrink)) for side in grey.shape)).astype(np.float64)
    window = max(3, max(small.shape) // 3)
    is_dark = _is_dark_on_light(small, window)
    ink = _ink(small, window, is_dark=is_dark)
    found = _strokes(ink)
    return None if found is None else Strokes(np.where(found[0], ink, 0.0), found[1], is_dark)


def _ink(grey: Grey, window: int, *, is_dark: bool) -> Grey:
    """Return how far each pixel is from the paper around it, in the strokes' direction, 0 … 255."""
    if is_dark:
        paper = 255 - _paper(255 - grey, window)
        return np.clip(255 * (1 - grey / np.maximum(paper, 1.0)), 0, 255)
    return np.clip(grey - _paper(grey, window), 0, 255)


def _paper(grey: Grey, window: int) -> Grey | float:
    """Return the brightness of dark paper below light strokes; in a photo, it may be lit unevenly.

    It is what stays dark in a window that is wider than strokes are (a morphological opening).
    """
    if max(grey.shape) <= _EVEN:
        return float(np.percentile(grey, 5))
    opened: Grey = ndimage.grey_opening(ndimage.gaussian_filter(grey, max(grey.shape) / 128), window)
    return opened


def _is_dark_on_light(grey: Grey, window: int) -> bool:
    """Say whether strokes are darker than paper.

    Strokes are the few pixels that differ most from their surroundings, so the differences are skewed to their side,
    whatever the light or a frame does. Where they are not few, in a picture cut closely, the border tells.
    """
    differences = grey - ndimage.uniform_filter(grey, window)
    skewness = (differences**3).mean() / max((differences**2).mean() ** 1.5, 1e-9)
    if abs(skewness) > _SKEWED:
        return bool(skewness < 0)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return bool(border.mean() > grey.mean())


def _otsu(values: Grey) -> float:
    """Return the threshold that separates values best into two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    centres, below = (edges[:-1] + edges[1:]) / 2, counts.cumsum()
    above, sums = values.size - below, (counts * centres).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.nanargmax(between[:-1])])


def _strokes(ink: Grey) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Return which pixels belong to strokes with their soft edges, and which without, or None if there are none."""
    if np.ptp(ink) < _FAINTEST:
        return None
    core = ink > _otsu(ink)
    paper = ink[~core]
    level = float(np.median(paper))
    noise = 1.4826 * float(np.median(np.abs(paper - level)))
    contrast = float(np.median(ink[core])) - level
    if contrast < max(_FAINTEST, _NOISE * noise):
        return None
    kept = _kept(core)
    distance: Grey = ndimage.distance_transform_edt(~kept)
    near = distance <= max(2.0, max(ink.shape) / 50)
    return near & (ink > level + max(3 * noise, _FRINGE * contrast)), kept


def _kept(core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop specks, and frames and the like that run along the picture's edges, unless nothing else is there."""
    labels, count = ndimage.label(core, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    edges = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    along = np.bincount(edges, minlength=count + 1)[1:] / edges.size
    inner = along < 0.2
    if not (inner & (sizes > 0.002 * core.size)).any():
        inner[:] = True
    kept = inner & (sizes > _SPECK * sizes[inner].max())
    return np.isin(labels, 1 + np.flatnonzero(kept))


def _centred(ink: Grey, form: Form) -> NDArray[np.float32]:
    """Scale strokes into the box and put their centre into the middle, as far as they then fit."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = form.box / max(cut.shape)
    small = _resized(cut, *(max(1, round(side * scale)) for side in cut.shape))
    small = np.clip(small * (255 / small.max()), 0, 255)
    centre = ndimage.center_of_mass(small) if form.by_mass else [side / 2 for side in small.shape]
    starts = [
        min(max(round(form.size / 2 - place), 0), form.size - side)
        for place, side in zip(centre, small.shape, strict=True)
    ]
    found = np.zeros((form.size, form.size), np.float32)
    found[tuple(slice(start, start + side) for start, side in zip(starts, small.shape, strict=True))] = small
    return found
