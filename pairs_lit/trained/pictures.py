"""Pictures of one's own: read from anywhere, and brought to the form that MNIST's digits have.

LeCun, Bottou, Bengio and Haffner (1998) describe that form: a digit is scaled, keeping its proportions and with
anti-aliasing, into 20×20 pixels, and put into 28×28 so that its centre of mass is in the middle; strokes are light on
black. What comes before is for drawings, scans and photos: the strokes are found on the paper.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from pairs_lit.data.pictures import resized
from pairs_lit.environment import user_path
from pairs_lit.errors import PairsLitError, reason_of

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


def grey_of(picture: Picture, name: str) -> Grey:
    """Read a picture as grey values; transparent pixels count as paper, and EXIF's orientation is followed.

    Args:
        picture: A file, an image, an array or a tensor.
        name: What to call it in errors.

    Raises:
        PairsLitError: It is missing, a folder, no picture, or an array of another form.
    """
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu().numpy()
    if isinstance(picture, np.ndarray):
        return _grey(_image_of(picture, name))
    if isinstance(picture, Image.Image):
        return _grey(picture)
    path = user_path(picture)
    if path.is_dir():
        raise PairsLitError(f"{name} is a folder: give the pictures in it, two for each pair.")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return _grey(image)
    except FileNotFoundError as error:
        raise PairsLitError(f"{name} is not there: check the path.") from error
    except PermissionError as error:
        raise PairsLitError(f"{name} cannot be read ({error.strerror}): change its permissions.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        kinds = "give a PNG, JPEG or another kind of file that Pillow reads"
        why = "an unknown format" if isinstance(error, UnidentifiedImageError) else reason_of(error)
        raise PairsLitError(f"{name} is no picture that can be read ({why}): {kinds}.") from error


def _image_of(array: NDArray[Any], name: str) -> Image.Image:
    """Return an array as an image."""
    channels_first = array.ndim == 3 and array.shape[0] <= 4 < min(array.shape[1:])
    pixels = np.moveaxis(array, 0, -1) if channels_first else array
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (2, 3, 4))) or 0 in pixels.shape:
        raise PairsLitError(f"{name} has the shape {array.shape}: (H, W), (H, W, C) or (C, H, W) is needed, C 1 to 4.")
    top = 1 if pixels.dtype.kind in "fb" else 255
    if pixels.dtype.kind not in "fbiu" or not (np.isfinite(pixels).all() and 0 <= pixels.min() <= pixels.max() <= top):
        raise PairsLitError(
            f"{name} holds {pixels.dtype} outside what is allowed: whole numbers 0 to 255, or decimals 0 to 1."
        )
    return Image.fromarray(np.ascontiguousarray((pixels * (255 / top)).round().astype(np.uint8)))


def _grey(image: Image.Image) -> Grey:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would cut these off at 255
        values = np.asarray(image, dtype=np.float64)
        return np.clip(values * (255 / (65535 if values.max() > 255 else 255)), 0, 255)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB").convert("L"), dtype=np.float64)
    both = np.asarray(image.convert("RGBA").convert("LA"), dtype=np.float64)
    return _on_paper(both[..., 0], both[..., 1] / 255)


def _on_paper(grey: Grey, opacity: Grey) -> Grey:
    """Lay a picture on paper of its own brightness, or, where only strokes are opaque, of the opposite one."""
    opaque = grey[opacity > 0.5]
    if not len(opaque):
        return np.full_like(grey, 255.0)
    holds_paper = len(opaque) > grey.size / 2 and np.ptp(np.percentile(opaque, [5, 95])) > 64
    paper = float(np.median(opaque)) if holds_paper else 255.0 * (opaque.mean() < 128)
    return grey * opacity + paper * (1 - opacity)


def as_it_is(grey: Grey, size: int) -> NDArray[np.float32]:
    """Resize an image to (size, size) exactly as training images are resized, and do nothing else."""
    levels = torch.from_numpy(grey.round().clip(0, 255).astype(np.uint8))
    return resized(levels[None], size)[0].numpy().astype(np.float32)


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
