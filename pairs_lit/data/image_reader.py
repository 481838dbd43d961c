"""The one reader of images: files, Pillow's images, arrays and tensors become grey bytes, 0 … 255.

Training and ``pairs-lit apply`` both use it, so that a file means the same to both:

- EXIF's orientation is followed.
- Transparent pixels count as paper, see :func:`lay_on_paper`.
- Colours become grey by ITU-R 601, as Pillow's ``convert("L")`` does it.
- Of a file with several frames (GIF, TIFF, APNG), the first one is read.
- 16-bit images keep the 8 highest of the bits that are in use: scanners and cameras store 10, 12 or 14 bits in 16. For
  a dataset, its largest value decides that, so that a dark image stays darker than its neighbours.
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

Values = NDArray[Any]
"""Grey values of one image (H, W) or of many (n, H, W): uint8 as they are; uint16 and float32 still to be scaled."""

_NOT_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow names but reads only with other programs or packages, or that hold no pixels."""

_TOPS = (255, 1023, 4095, 16383, 65535)
"""The largest values of 8, 10, 12, 14 and 16 bits."""

_MOST = _TOPS[-1]
_AT_A_TIME = 10_000  # to save memory
_CHANNELS = (1, 2, 3, 4)
_WITH_OPACITY = (2, 4)


def readable_endings() -> frozenset[str]:
    """Return the endings of the files that Pillow reads, in lower case with their dot."""
    formats = {*_readable_formats(), "MPO"}  # read by the plugin of JPEG
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in formats)


def _readable_formats() -> list[str]:
    Image.init()
    return sorted(Image.OPEN.keys() - _NOT_IMAGES)


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file, at its first frame; Pillow's warnings about it are silenced.

    Raises:
        OSError: It cannot be read, or holds no image. Pillow raises further errors for damaged files.
    """
    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_readable_formats()) as image:
        yield image


def to_greyscale(image: object, *, bits: int | None = None) -> Tensor:
    """Return one image as grey bytes, (H, W) uint8.

    Args:
        image: A file or an image of Pillow's, of any mode; or a tensor or array, see :meth:`GreyReader.read_arrays`.
        bits: How many bits of a 16-bit image are in use; None: the fewest of 8, 10, 12, 14 and 16 that hold its values.

    Raises:
        PairsLitError: It is something else, or holds other numbers.
        OSError: The file cannot be read, see :func:`open_image`.
    """
    values = _decode(image)
    top = _top_of(values)
    if bits is not None and values.dtype == np.uint16:
        top = max(top, 2**bits - 1)
    return _tensor(_to_bytes(values, top))


class GreyReader:
    """Reads all images of a dataset with one scale for those of 16 bits, and one for those of floats in files.

    The scale follows from the largest value, which is known once all were read: where it turns out to be another one
    than was taken for granted, :attr:`next` is the reader by which they have to be read again.

    Args:
        size: The height and width that images get; None: they keep their own.
        tops: The largest value that pixels may have, by kind of number (``u``: 16 bits, ``f``: floats).

    Attributes:
        sizes: The heights and widths of what was read, before resizing.
    """

    def __init__(self, size: int | None = None, tops: Mapping[str, float] | None = None) -> None:
        self.sizes: set[tuple[int, int]] = set()
        self._size = size
        self._tops = {"u": float(_MOST), "f": 1.0} | dict(tops or {})
        self._largest: dict[str, float] = {}

    def read(self, image: object) -> Tensor:
        """Return one image as grey bytes, (H, W) uint8; see :func:`to_greyscale`."""
        return self._scaled(_decode(image)[None])[0]

    def read_arrays(self, images: Tensor | NDArray[Any]) -> Tensor:
        """Return many images as grey bytes, (n, H, W) uint8.

        Args:
            images: (n, H, W), (n, C, H, W) or (n, H, W, C), with 1 to 4 channels: grey, grey and opacity, colours,
                colours and opacity. Bytes, other integers 0 … 255, uint16, floats 0 … 1, or truth values.

        Raises:
            PairsLitError: The shape is another, or a value lies outside.
        """
        return self._scaled(_decode_arrays(images))

    def _scaled(self, values: Values) -> Tensor:
        kind, (_, height, width) = values.dtype.kind, values.shape
        self.sizes.add((height, width))
        if values.dtype != np.uint8:
            self._largest[kind] = max(self._largest.get(kind, 0.0), float(values.max()))
        return resize_images(_tensor(_to_bytes(values, self._tops.get(kind, _MOST))), self._size)

    @property
    def next(self) -> "GreyReader | None":
        """The reader whose scale fits what was read, or None if this one's does."""
        tops = {kind: _top_for(kind, largest) for kind, largest in self._largest.items()}
        return None if tops.items() <= self._tops.items() else GreyReader(self._size, tops)

    @property
    def bits(self) -> int | None:
        """How many bits of the 16-bit images that were read are in use, or None if there were none."""
        return int(_top_for("u", self._largest["u"])).bit_length() if "u" in self._largest else None


def _top_for(kind: str, largest: float) -> float:
    return 1.0 if kind == "f" and largest <= 1 else float(next(top for top in _TOPS if largest <= top))


def _top_of(values: Values) -> float:
    return _MOST if values.dtype == np.uint8 else _top_for(values.dtype.kind, float(values.max()))


def _to_bytes(values: Values, top: float) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u":  # the highest 8 of the bits in use
        return (np.minimum(values, int(top)) >> (int(top).bit_length() - 8)).astype(np.uint8)
    return np.rint(np.minimum(values, top) * (255 / top)).astype(np.uint8)


def _tensor(values: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))  # copied where it is not so


# --- files and Pillow's images ---


def _decode(image: object) -> Values:
    """Return the grey values of one image, (H, W)."""
    if isinstance(image, str | Path):
        with open_image(image) as found:
            return _decode_image(found)
    if isinstance(image, Image.Image):
        with warnings.catch_warnings(action="ignore"):
            return _decode_image(image)
    if isinstance(image, Tensor | np.ndarray):
        values: Values = _decode_arrays(image[None])[0]
        return values
    raise PairsLitError(f"expected a PIL image, a tensor or an array, got {type(image).__name__}")


def _decode_image(image: Image.Image) -> Values:
    image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":  # convert("L") would cut these off
        return _deep_values(image)
    if not image.has_transparency_data:
        return np.array(_in_mode_l(image))
    straight = image.convert("LA") if image.mode == "La" else image  # La has no other way
    both = np.asarray(straight.convert("RGBA").convert("LA"))
    return lay_on_paper(both[..., 0], both[..., 1])


def _upright(image: Image.Image) -> Image.Image:
    """Follow EXIF's orientation; where EXIF itself is damaged, there is none."""
    try:
        return ImageOps.exif_transpose(image)
    except (KeyError, TypeError, ValueError, SyntaxError, struct.error):
        return image


def _in_mode_l(image: Image.Image) -> Image.Image:
    """Return an image in Pillow's mode L; what has no way there (HSV, LAB) goes by RGB."""
    try:
        return image.convert("L")
    except ValueError:
        return image.convert("RGB").convert("L")


def _deep_values(image: Image.Image) -> Values:
    """Return the values of an image of more than 8 bits as uint16, or of floats as float32."""
    values, is_float = np.asarray(image), image.mode == "F"
    least, largest = float(values.min()), float(values.max())
    if not 0 <= least <= largest <= _MOST:  # not-a-number, too
        raise PairsLitError(
            f"an image of mode {image.mode} must hold values from 0 to {_MOST}, got {least:g} to {largest:g}: save it "
            "with 8 or 16 bits"
        )
    deep = values.astype(np.float32 if is_float else np.uint16)
    hidden = image.info.get("transparency")  # the value that counts as transparent
    return lay_on_paper(deep, (deep != hidden) * 255) if isinstance(hidden, int) else deep


def lay_on_paper(grey: Values, opacity: NDArray[Any]) -> Values:
    """Lay an image on paper of its own brightness, or, where only strokes are opaque, of the opposite one.

    Opacity that is the same everywhere tells nothing and is ignored: some programs leave it at 0.

    Args:
        grey: (H, W), of any type that :data:`Values` may have.
        opacity: (H, W), 0 … 255.
    """
    if opacity.min() == opacity.max():
        return grey
    top, opaque = (255 if grey.dtype == np.uint8 else _top_of(grey)), grey[opacity > 127.5]
    if not len(opaque):
        return np.full_like(grey, top)
    holds_paper = len(opaque) > grey.size / 2 and np.ptp(np.percentile(opaque, [5, 95])) > 64 / 255 * top
    paper = float(np.median(opaque)) if holds_paper else top * float(opaque.mean() < 128 / 255 * top)
    laid = grey * (opacity / 255) + paper * (1 - opacity / 255)
    return (laid if grey.dtype.kind == "f" else np.rint(laid)).astype(grey.dtype)


# --- arrays and tensors ---


def _decode_arrays(images: Tensor | NDArray[Any]) -> Values:
    """Return the grey values of many images, (n, H, W)."""
    values, is_tensor = _numbers_of(images), isinstance(images, Tensor)
    if values.ndim == 4:
        places = [place for place in ((1, 3) if is_tensor else (3, 1)) if values.shape[place] in _CHANNELS]
        values = np.moveaxis(values, places[0], 1) if places else values[:0, :0]
    if values.ndim not in (3, 4) or 0 in values.shape[1:]:
        raise PairsLitError(f"images of shape {tuple(images.shape)[1:]}: (H, W), or 1 to 4 channels of it, are needed")
    return _in_parts(values, lambda part: _without_channels(_checked(part)))


def _numbers_of(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    """Return a tensor or an array as an array of numbers.

    Raises:
        PairsLitError: It holds no real numbers.
    """
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        values = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()  # NumPy has no bfloat16
    if values.dtype.kind not in "buif":
        raise PairsLitError(f"an array of {values.dtype} holds no images: numbers are needed")
    return values


def _in_parts(values: NDArray[Any], change: Callable[[NDArray[Any]], Values]) -> Values:
    starts = range(0, max(len(values), 1), _AT_A_TIME)
    return np.concatenate([change(values[start : start + _AT_A_TIME]) for start in starts])


def _checked(values: NDArray[Any]) -> Values:
    """Return numbers of any type as uint8 or uint16."""
    if values.dtype in (np.uint8, np.bool_):
        return values if values.dtype == np.uint8 else values.astype(np.uint8) * np.uint8(255)
    if (values.dtype.kind, values.dtype.itemsize) == ("u", 2):
        return values.astype(np.uint16)  # in the machine's byte order
    is_float = values.dtype.kind == "f"
    if not bool(((values >= 0) & (values <= (1 if is_float else 255))).all()):
        raise PairsLitError(
            f"images of {values.dtype} from {values.min().item():g} to {values.max().item():g}: floats must lie in "
            "0 … 1, integers in 0 … 255"
        )
    return np.rint(values.astype(np.float64) * 255).astype(np.uint8) if is_float else values.astype(np.uint8)


def _without_channels(values: Values) -> Values:
    """Return (n, H, W) or (n, C, H, W) as grey (n, H, W)."""
    if values.ndim == 3:
        return values
    if values.shape[1] not in _WITH_OPACITY:
        return _mixed(values)
    top = 255 if values.dtype == np.uint8 else _top_of(values)
    opacity = values[:, -1] * (255 / top)
    return np.stack([lay_on_paper(*each) for each in zip(_mixed(values[:, :-1]), opacity, strict=True)])


def _mixed(colours: Values) -> Values:
    """Return (n, 1 or 3, H, W) as grey (n, H, W), by Pillow's own integers for the weights 0.299, 0.587 and 0.114."""
    if colours.shape[1] == 1:
        return colours[:, 0]
    red, green, blue = np.moveaxis(colours.astype(np.uint32 if colours.dtype == np.uint8 else np.uint64), 1, 0)
    grey: Values = ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(colours.dtype)
    return grey
