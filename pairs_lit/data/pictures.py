"""Pictures of any colour, type and size as grey bytes: (n, H, W) uint8, 0 … 255."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError

MOST_BYTES = 2**33
"""The most that the grey bytes of a part of a source may take; the network's floats take up to four times as much."""

_AT_A_TIME = 10_000  # to save memory
_CHANNELS = (1, 3, 4)


def grey(picture: object) -> Tensor:
    """Return one picture as grey bytes, (H, W) uint8.

    Args:
        picture: A PIL image of any mode; or a tensor or array (H, W), (C, H, W) or (H, W, C) with 1, 3 or 4 channels,
            see :func:`all_grey`.

    Raises:
        PairsLitError: It is something else.
    """
    if isinstance(picture, Image.Image):
        if picture.mode.startswith("I;16"):  # convert("L") would cut them off
            return torch.from_numpy((np.asarray(picture) >> 8).astype(np.uint8))
        if picture.mode not in ("I", "F"):
            return torch.from_numpy(np.array(picture.convert("L")))  # ITU-R 601
        picture = np.asarray(picture)
    if isinstance(picture, Tensor | np.ndarray):
        return all_grey(picture[None])[0]
    raise PairsLitError(f"a {type(picture).__name__} is no picture: a PIL image, a tensor or an array is needed")


def all_grey(pictures: Tensor | NDArray[np.generic]) -> Tensor:
    """Return many pictures as grey bytes, (n, H, W) uint8.

    Args:
        pictures: (n, H, W), (n, C, H, W) or (n, H, W, C), with 1, 3 or 4 channels (the fourth, opacity, is ignored).
            Bytes, other integers 0 … 255, floats 0 … 1, or truth values.

    Raises:
        PairsLitError: The shape is another, or a value lies outside.
    """
    values, is_tensor = _tensor(pictures), isinstance(pictures, Tensor)
    if values.dim() == 4:
        places = [place for place in ((1, 3) if is_tensor else (3, 1)) if values.shape[place] in _CHANNELS]
        values = values.movedim(places[0], 1) if places else values[:0, :0]
    if values.dim() not in (3, 4) or 0 in values.shape[1:]:
        raise PairsLitError(
            f"pictures of shape {tuple(pictures.shape)[1:]}: (H, W), or 1, 3 or 4 channels of it, are needed"
        )
    return _in_parts(values, _grey_bytes)


def _tensor(values: Tensor | NDArray[np.generic]) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise PairsLitError(f"an array of {values.dtype} holds no pictures: numbers are needed") from error


def _in_parts(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([change(part) for part in torch.split(values, _AT_A_TIME)])


def _grey_bytes(values: Tensor) -> Tensor:
    """Return (n, H, W) or (n, C, H, W) as grey bytes; PIL's own integers for the weights 0.299, 0.587 and 0.114."""
    values = _bytes(values)
    if values.dim() == 3 or values.shape[1] == 1:
        return values.reshape(len(values), *values.shape[-2:])
    red, green, blue = values[:, :3].int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)


def _bytes(values: Tensor) -> Tensor:
    if values.dtype == torch.uint8:
        return values
    if values.dtype == torch.bool:
        return values.to(torch.uint8) * 255
    is_float = values.is_floating_point()
    most = 1 if is_float else 255
    numbers = values.double() if is_float else values.long()
    if values.is_complex() or not bool(((numbers >= 0) & (numbers <= most)).all()):
        name = str(values.dtype).removeprefix("torch.")
        raise PairsLitError(
            f"pictures of {name} from {numbers.min().item():g} to {numbers.max().item():g}: floats must lie in 0 … 1, "
            "integers in 0 … 255"
        )
    return (numbers * 255).round().to(torch.uint8) if is_float else numbers.to(torch.uint8)


def check_memory(count: int, size: int) -> None:
    """Refuse more pictures of this height and width than :data:`MOST_BYTES` hold."""
    if count * size**2 > MOST_BYTES:
        raise PairsLitError(
            f"{count:,} pictures of {size}×{size} take {count * size**2 / 2**30:,.0f} GiB, at most "
            f"{MOST_BYTES // 2**30} are held: set data.resize to a smaller size"
        )


def resized(images: Tensor, size: int) -> Tensor:
    """Return grey bytes (n, H, W) as (n, size, size), bilinear with antialias; one that is not square is squeezed.

    Images of this size stay as they are.

    Raises:
        PairsLitError: They would take more than :data:`MOST_BYTES`.
    """
    if images.shape[1:] == (size, size):
        return images
    check_memory(len(images), size)

    def change(part: Tensor) -> Tensor:
        made = F.interpolate(part[:, None].float(), (size, size), mode="bilinear", antialias=True)
        return made[:, 0].round().clamp(0, 255).to(torch.uint8)

    return _in_parts(images, change)
