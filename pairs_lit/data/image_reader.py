"""Conversion of image files, Pillow images, arrays and tensors to grey bytes, 0 … 255.

Training and ``pairs-lit apply`` both use this module, so that both read a file in the same way:

- The EXIF orientation is applied.
- Transparent pixels become background, see :func:`lay_on_paper`.
- Colours become grey by ITU-R 601, as in Pillow's ``convert("L")``.
- Only the first frame of a file with several frames (GIF, TIFF, APNG) is read.
- 16-bit images keep the 8 highest bits in use; scanners and cameras often store only 10, 12 or 14 bits. The largest
  value of a whole dataset decides how many bits are in use, so that dark images stay darker than bright ones.
"""

import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from pairs_lit.data.resize import resize_images
from pairs_lit.errors import PairsLitError

GreyValues = NDArray[Any]
"""Grey values of one image (H, W) or of many (n, H, W): uint8, or uint16 and float32 that are not scaled yet."""

_EXCLUDED_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow registers, but reads only with other programs or packages, or that hold no pixels."""

_MAX_VALUES = (255, 1023, 4095, 16383, 65535)
"""The largest values of 8, 10, 12, 14 and 16 bits."""

_MAX_VALUE = _MAX_VALUES[-1]
_CHUNK_SIZE = 10_000  # images per chunk, to save memory
_BLEND_PIXELS = 2**18  # pixels that are blended at a time, in float64, to save memory
_CHANNEL_COUNTS = (1, 2, 3, 4)
_CHANNEL_COUNTS_WITH_OPACITY = (2, 4)


def list_readable_extensions() -> frozenset[str]:
    """Return the extensions of files that Pillow reads, in lower case with their dot."""
    formats = {*_list_readable_formats(), "MPO"}  # MPO is read by the JPEG plugin
    return frozenset(extension for extension, kind in Image.registered_extensions().items() if kind in formats)


def _list_readable_formats() -> list[str]:
    Image.init()
    return sorted(Image.OPEN.keys() - _EXCLUDED_FORMATS)


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Yield the image of a file at its first frame, without Pillow's warnings.

    Raises:
        OSError: If the file cannot be read or holds no image. For damaged files, Pillow also raises other errors.
    """
    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_list_readable_formats()) as image:
        yield image


def to_greyscale(image: object, *, bits: int | None = None) -> Tensor:
    """Return one image as grey bytes, (H, W) uint8.

    Args:
        image: A file; a Pillow image of any mode; or a tensor or array, see :meth:`GreyReader.read_arrays`.
        bits: The number of bits in use in a 16-bit image. If None, it is the smallest of 8, 10, 12, 14 and 16 that
            holds its values.

    Raises:
        PairsLitError: If ``image`` has another type, or values outside the allowed range.
        OSError: If the file cannot be read, see :func:`open_image`.
    """
    values = _decode(image)
    max_value = _find_max_value(values)
    if bits is not None and values.dtype == np.uint16:
        max_value = max(max_value, 2**bits - 1)
    return _to_tensor(_to_bytes(values, max_value))


class GreyReader:
    """Reader of all images of a dataset, with one scale for 16-bit images and one for files that hold floats.

    The right scale depends on the largest value, which is known only when all images have been read. If it differs
    from the assumed scale, :attr:`rescaled_reader` is a new reader with the right scale, and the images must be read
    again.

    Args:
        size: The height and width to which images are resized; if None, they keep their size.
        tops: The assumed largest value by kind of number (``u``: 16-bit integers, ``f``: floats).

    Attributes:
        sizes: The heights and widths of the images read so far, before resizing.
    """

    def __init__(self, size: int | None = None, tops: Mapping[str, float] | None = None) -> None:
        self.sizes: set[tuple[int, int]] = set()
        self._size = size
        self._max_values = {"u": float(_MAX_VALUE), "f": 1.0} | dict(tops or {})
        self._largest: dict[str, float] = {}

    def read(self, image: object) -> Tensor:
        """Return one image as grey bytes, (H, W) uint8; see :func:`to_greyscale`."""
        return self._scale(_decode(image)[None])[0]

    def read_arrays(self, images: Tensor | NDArray[Any]) -> Tensor:
        """Return many images as grey bytes, (n, H, W) uint8.

        Args:
            images: (n, H, W), (n, C, H, W) or (n, H, W, C), where 1 to 4 channels are grey, grey and opacity, RGB, or
                RGB and opacity. Values are bytes, other integers in 0 … 255, uint16, floats in 0 … 1, or booleans.

        Raises:
            PairsLitError: If the shape is different or a value is out of range.
        """
        return self._scale(_decode_arrays(images))

    def _scale(self, values: GreyValues) -> Tensor:
        kind, (_, height, width) = values.dtype.kind, values.shape
        self.sizes.add((height, width))
        if values.dtype != np.uint8:
            self._largest[kind] = max(self._largest.get(kind, 0.0), float(values.max()))
        return resize_images(_to_tensor(_to_bytes(values, self._max_values.get(kind, _MAX_VALUE))), self._size)

    @property
    def rescaled_reader(self) -> "GreyReader | None":
        """A reader whose scale fits the images read so far, or None if the scale of this one does."""
        tops = {kind: _choose_max_value(kind, largest) for kind, largest in self._largest.items()}
        return None if tops.items() <= self._max_values.items() else GreyReader(self._size, tops)

    @property
    def bits(self) -> int | None:
        """The number of bits in use in the 16-bit images read so far, or None if there were none."""
        return int(_choose_max_value("u", self._largest["u"])).bit_length() if "u" in self._largest else None


def _choose_max_value(kind: str, largest: float) -> float:
    """Return the value that becomes white, from the kind of number and the largest value that occurs."""
    return 1.0 if kind == "f" and largest <= 1 else float(next(top for top in _MAX_VALUES if largest <= top))


def _find_max_value(values: GreyValues) -> float:
    """Return the value that becomes white when these values are scaled by themselves."""
    return _MAX_VALUE if values.dtype == np.uint8 else _choose_max_value(values.dtype.kind, float(values.max()))


def _to_bytes(values: GreyValues, top: float) -> NDArray[np.uint8]:
    """Return grey values scaled from 0 … ``top`` to 0 … 255; bytes stay unchanged."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u":  # keep the 8 highest bits in use
        return (np.minimum(values, int(top)) >> (int(top).bit_length() - 8)).astype(np.uint8)
    return np.rint(np.minimum(values, top) * (255 / top)).astype(np.uint8)


def _to_tensor(values: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))  # copied unless contiguous and writable


# --- files and Pillow images ---


def _decode(image: object) -> GreyValues:
    """Return the grey values of one image, (H, W)."""
    if isinstance(image, str | Path):
        with open_image(image) as opened:
            return _decode_image(opened)
    if isinstance(image, Image.Image):
        with warnings.catch_warnings(action="ignore"):
            return _decode_image(image)
    if isinstance(image, Tensor | np.ndarray):
        values: GreyValues = _decode_arrays(image[None])[0]
        return values
    raise PairsLitError(f"expected a PIL image, a tensor or an array, got {type(image).__name__}")


def _decode_image(image: Image.Image) -> GreyValues:
    """Return the grey values of a Pillow image, (H, W)."""
    image = _apply_orientation(image)
    if image.mode.startswith("I") or image.mode == "F":  # convert("L") would clip their values
        return _get_deep_values(image)
    if not image.has_transparency_data:
        return np.array(_convert_to_grey(image))
    straight = image.convert("LA") if image.mode == "La" else image  # Pillow converts La only to LA
    grey_and_opacity = np.asarray(straight.convert("RGBA").convert("LA"))
    return lay_on_paper(grey_and_opacity[..., 0], grey_and_opacity[..., 1])


def _apply_orientation(image: Image.Image) -> Image.Image:
    """Return an image turned by its EXIF orientation, or unchanged if its EXIF data are damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except (KeyError, TypeError, ValueError, SyntaxError, struct.error):
        return image


def _convert_to_grey(image: Image.Image) -> Image.Image:
    """Return an image in Pillow's mode L; modes without a direct conversion (HSV, LAB) are converted to RGB first."""
    try:
        return image.convert("L")
    except ValueError:
        return image.convert("RGB").convert("L")


def _get_deep_values(image: Image.Image) -> GreyValues:
    """Return the values of an image with more than 8 bits per pixel, as uint16, or float32 if it holds floats."""
    values, is_float = np.asarray(image), image.mode == "F"
    smallest, largest = float(values.min()), float(values.max())
    if not 0 <= smallest <= largest <= _MAX_VALUE:  # also catches not-a-number
        raise PairsLitError(
            f"an image of mode {image.mode} must hold values from 0 to {_MAX_VALUE}, got {smallest:g} to "
            f"{largest:g}. Save "
            "it with 8 or 16 bits"
        )
    deep = values.astype(np.float32 if is_float else np.uint16)
    transparent_value = image.info.get("transparency")
    return lay_on_paper(deep, (deep != transparent_value) * 255) if isinstance(transparent_value, int) else deep


def lay_on_paper(grey: GreyValues, opacity: NDArray[Any]) -> GreyValues:
    """Return an image blended with a background ("paper") where it is transparent.

    If the opaque pixels include paper already, its median brightness is the background. If only strokes are opaque, the
    background is white for dark strokes and black for light ones. Opacity that is the same everywhere is ignored,
    because some programs leave it at 0.

    Args:
        grey: (H, W), of any type of :data:`GreyValues`.
        opacity: (H, W), 0 … 255.
    """
    if opacity.min() == opacity.max():
        return grey
    top, opaque = (255 if grey.dtype == np.uint8 else _find_max_value(grey)), grey[opacity > 127.5]
    if not len(opaque):
        return np.full_like(grey, top)
    holds_paper = len(opaque) > grey.size / 2 and np.ptp(np.percentile(opaque, [5, 95])) > 64 / 255 * top
    paper = float(np.median(opaque)) if holds_paper else top * float(opaque.mean() < 128 / 255 * top)
    rows = max(1, _BLEND_PIXELS // grey.shape[1])
    starts = range(0, len(grey), rows)
    return np.concatenate([_blend(grey[at : at + rows], opacity[at : at + rows], paper) for at in starts])


def _blend(grey: GreyValues, opacity: NDArray[Any], paper: float) -> GreyValues:
    """Return grey values (H, W) blended with a background of this brightness, by their opacity, 0 … 255."""
    blended = grey * (opacity / 255) + paper * (1 - opacity / 255)
    return (blended if grey.dtype.kind == "f" else np.rint(blended)).astype(grey.dtype)


# --- arrays and tensors ---


def _decode_arrays(images: Tensor | NDArray[Any]) -> GreyValues:
    """Return the grey values of many images, (n, H, W)."""
    values, is_tensor = _to_numbers(images), isinstance(images, Tensor)
    if values.ndim == 4:
        axes = [axis for axis in ((1, 3) if is_tensor else (3, 1)) if values.shape[axis] in _CHANNEL_COUNTS]
        values = np.moveaxis(values, axes[0], 1) if axes else values[:0, :0]
    if values.ndim not in (3, 4) or 0 in values.shape[1:]:
        raise PairsLitError(f"an image must be (H, W) or have 1 to 4 channels, got the shape {tuple(images.shape)[1:]}")
    return _map_chunks(values, lambda part: _remove_channels(_to_integers(part)))


def _to_numbers(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    """Return a tensor or an array as an array of numbers.

    Raises:
        PairsLitError: If the values are not real numbers or booleans.
    """
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        values = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()  # NumPy has no bfloat16
    if values.dtype.kind not in "buif":
        raise PairsLitError(f"an image must be an array of numbers, got {values.dtype}")
    return values


def _map_chunks(values: NDArray[Any], change: Callable[[NDArray[Any]], GreyValues]) -> GreyValues:
    """Return the results of a function for chunks of an array, as one array."""
    starts = range(0, max(len(values), 1), _CHUNK_SIZE)
    return np.concatenate([change(values[start : start + _CHUNK_SIZE]) for start in starts])


def _to_integers(values: NDArray[Any]) -> GreyValues:
    """Return values of any type as uint8 or uint16.

    Raises:
        PairsLitError: If a float is not in 0 … 1, or an integer other than uint16 not in 0 … 255.
    """
    if values.dtype in (np.uint8, np.bool_):
        return values if values.dtype == np.uint8 else values.astype(np.uint8) * np.uint8(255)
    if (values.dtype.kind, values.dtype.itemsize) == ("u", 2):
        return values.astype(np.uint16)  # in native byte order
    is_float = values.dtype.kind == "f"
    if not bool(((values >= 0) & (values <= (1 if is_float else 255))).all()):
        raise PairsLitError(
            f"an image must hold floats in 0 … 1 or integers in 0 … 255, got {values.dtype} from "
            f"{values.min().item():g} to {values.max().item():g}. Scale the values"
        )
    return np.rint(values.astype(np.float64) * 255).astype(np.uint8) if is_float else values.astype(np.uint8)


def _remove_channels(values: GreyValues) -> GreyValues:
    """Return (n, H, W) or (n, C, H, W) as grey (n, H, W)."""
    if values.ndim == 3:
        return values
    if values.shape[1] not in _CHANNEL_COUNTS_WITH_OPACITY:
        return _mix_channels(values)
    top = 255 if values.dtype == np.uint8 else _find_max_value(values)
    opacity = values[:, -1] * (255 / top)
    return np.stack(
        [lay_on_paper(grey, alpha) for grey, alpha in zip(_mix_channels(values[:, :-1]), opacity, strict=True)]
    )


def _mix_channels(colours: GreyValues) -> GreyValues:
    """Return (n, 1 or 3, H, W) as grey (n, H, W), with Pillow's integers for the weights 0.299, 0.587 and 0.114."""
    if colours.shape[1] == 1:
        return colours[:, 0]
    red, green, blue = np.moveaxis(colours.astype(np.uint32 if colours.dtype == np.uint8 else np.uint64), 1, 0)
    grey: GreyValues = ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(colours.dtype)
    return grey
