"""Reader of user images: files, Pillow images, arrays and tensors, read like training images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from pairs_lit.data.grey_range import MAX_MASK_VALUE
from pairs_lit.data.image_reader import to_greyscale
from pairs_lit.data.resize import resize_images
from pairs_lit.errors import PairsLitError
from pairs_lit.system.deprecation import renamed_names
from pairs_lit.system.paths import expand_user_path
from pairs_lit.system.tracebacks import format_reason

GreyImage = NDArray[np.uint8]
"""Grey bytes, (H, W)."""

ImageLike = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, a Pillow image, or numbers: (H, W), (H, W, 1 … 4) or (1 … 4, H, W); integers 0 … 255 or floats 0 … 1."""


def read_grey(image: ImageLike, name: str, *, bits: int | None = None) -> GreyImage:
    """Read an image as grey bytes with the reader of training images, :mod:`pairs_lit.data.image_reader`.

    Args:
        image: A file, an image, an array or a tensor.
        name: The image's name in errors.
        bits: How many bits of 16-bit images were in use in training; by default, as many as the image's values need.

    Raises:
        PairsLitError: It is missing, a folder, not an image, nearly black, or an array of another shape or range.
    """
    readable = expand_user_path(image) if isinstance(image, str | Path) else image
    if isinstance(readable, Path) and readable.is_dir():
        raise PairsLitError(f"{name} must be an image, got a folder. Give the images in it, two for each pair.")
    try:
        grey: GreyImage = to_greyscale(readable, bits=bits).numpy()
    except PairsLitError as error:
        raise PairsLitError(f"{name}: {error}.") from error
    except FileNotFoundError as error:
        raise PairsLitError(f"{name} does not exist. Check the path.") from error
    except PermissionError as error:
        raise PairsLitError(f"{name} cannot be read ({error.strerror}). Change its permissions.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else format_reason(error)
        raise PairsLitError(
            f"{name} is not a readable image ({reason}). Give a PNG, JPEG or another file that Pillow reads."
        ) from error
    if 0 < grey.max() <= MAX_MASK_VALUE:
        raise PairsLitError(
            f"{name} must use the range 0 … 255 (whole numbers) or 0 … 1 (decimals), got grey values of at most "
            f"{grey.max()} of 255. Scale it: multiply a mask of 0 and 1 by 255, values of 0 … 16 by 255 / 16."
        )
    return grey


def resize_only(grey: GreyImage, size: int) -> NDArray[np.float32]:
    """Resize an image to (size, size) exactly as training images are resized."""
    return resize_images(torch.from_numpy(grey)[None], size)[0].numpy().astype(np.float32)


__getattr__ = renamed_names(__name__, {"Picture": "ImageLike"})
