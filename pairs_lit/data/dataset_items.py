"""Items of a dataset: its images as grey bytes and its labels, read at once from memory, else one by one."""

import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset
from torchvision import datasets

from pairs_lit.data.dataset_class import describe_error
from pairs_lit.data.image_folder import ImageFolder
from pairs_lit.data.image_reader import GreyReader
from pairs_lit.data.resize import check_memory
from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import generators_kept
from pairs_lit.system.console import notice
from pairs_lit.text import printable

_ASKED_AGAIN = 32
"""How many images of a dataset are read twice, to see whether they are the same again."""

_NOTICE_SECONDS = 10.0


@dataclass(frozen=True)
class DatasetItems:
    """The items of a part of a dataset.

    Attributes:
        images: (n, S, S) uint8.
        labels: (n,) int64 of any value.
        changed: Which image was another one when it was asked for again, or None if none was.
    """

    images: Tensor
    labels: Tensor
    changed: str | None = None


def read_items(part: object, name: str, reader: GreyReader) -> DatasetItems:
    """Read a part of a dataset.

    Args:
        part: The dataset.
        name: What to call it in notices and errors.
        reader: Reads its images.

    Raises:
        PairsLitError: It holds no images, or something else.
    """
    arrays = _arrays_of(part)
    try:
        items = _read_arrays(*arrays, reader) if arrays else _read_one_by_one(part, name, reader)
    except PairsLitError as error:
        raise PairsLitError(f"data.source: {name}: {error}.") from error.__cause__
    if len(items.images) == 0:
        raise PairsLitError(f"data.source: {name}: it holds no images.")
    return items


def stores_transposed(part: object) -> bool:
    """Return whether a part hands out EMNIST's images as torchvision stores them, with rows and columns exchanged."""
    while isinstance(part, Subset):
        part = part.dataset
    if not isinstance(part, datasets.EMNIST) or _has_transform(part):
        return False
    return type(part).__getitem__ is datasets.EMNIST.__getitem__


def _has_transform(part: object) -> bool:
    return any(getattr(part, name, None) is not None for name in ("transform", "target_transform", "transforms"))


def _arrays_of(part: object) -> tuple[Any, Any] | None:
    """Return the images and labels that a dataset holds in memory, if it hands them out unchanged.

    A dataset with a ``__getitem__`` of the user's own, or with a transform, may do anything to them.
    """
    own = getattr(type(part), "__getitem__", None)
    home = getattr(own, "__module__", None) or ""  # what is made in C, such as a list's, has none
    is_changed = own is not None and not home.startswith(("torchvision.", "torch."))
    if is_changed or _has_transform(part):
        return None
    data = getattr(part, "data", None)
    labels = getattr(part, "targets", getattr(part, "labels", None))
    if not isinstance(data, Tensor | np.ndarray) or not isinstance(labels, Tensor | np.ndarray | list | tuple):
        return None
    return (data, labels) if np.ndim(labels) == 1 else None


def _read_arrays(data: Any, labels: Any, reader: GreyReader) -> DatasetItems:  # noqa: ANN401 - either kind
    if len(data) != len(labels):
        raise PairsLitError(f"it holds {len(data)} images and {len(labels)} labels")
    values = np.asarray(labels)
    if len(labels) == 0:
        return DatasetItems(torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    if values.dtype.kind not in "iub":
        raise PairsLitError(f"its labels are no integers, but {values.dtype}")
    images = reader.read_arrays(data)
    _check_square(images[0], "they are")
    return DatasetItems(images, torch.from_numpy(values.astype(np.int64)))


def _read_one_by_one(part: Any, name: str, reader: GreyReader) -> DatasetItems:  # noqa: ANN401 - any dataset
    """Read a dataset by its ``__getitem__``, with a notice where that takes long."""
    count, told = _length(part), time.monotonic()
    images, labels = torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    for place in range(count):
        image, labels[place] = _read_item(part, place, reader)
        if place == 0:
            _check_square(image, f"{_where(part, 0)} is")
            check_memory(count, len(image))
            images = torch.empty(count, *image.shape, dtype=torch.uint8)
        if image.shape != images.shape[1:]:
            raise PairsLitError(
                f"{_where(part, place)} is {sides_of(image)}, and {_where(part, 0)} is {sides_of(images[0])}: set "
                "data.resize to the size that all shall have"
            )
        images[place] = image
        if time.monotonic() - told > _NOTICE_SECONDS:
            told = time.monotonic()
            notice(f"reading {name}: {place + 1:,} of {count:,} images …")
    changed = None if isinstance(part, ImageFolder) else _find_change(part, images, labels, reader)
    return DatasetItems(images, labels, changed)


def _length(part: Any) -> int:  # noqa: ANN401 - any dataset
    try:
        count, _ = len(part), type(part).__getitem__
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise PairsLitError(
            f"a {type(part).__name__} is no dataset: it needs __len__ and __getitem__, which gives (image, label), "
            "or data and targets"
        ) from error
    return count


def _find_change(part: object, images: Tensor, labels: Tensor, reader: GreyReader) -> str | None:
    """Ask for some images again, and return which one is now another one or has another label, or None if none is."""
    places = sorted(set(np.linspace(0, len(images) - 1, _ASKED_AGAIN).round().astype(int).tolist()))
    with generators_kept():
        for place in places if len(images) else []:
            again, label = _read_item(part, place, reader)
            if not torch.equal(again, images[place]) or label != labels[place]:
                return _where(part, place)
    return None


def _read_item(part: Any, place: int, reader: GreyReader) -> tuple[Tensor, int]:  # noqa: ANN401 - any dataset
    """Return one image as grey bytes (S, S), and its label."""
    where = _where(part, place)
    try:
        item = part[place]
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error
    except Exception as error:  # a damaged image, or whatever a class of the user's raises
        raise PairsLitError(f"{where} cannot be read ({describe_error(error)})") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise PairsLitError(f"{where} is a {type(item).__name__}, where (image, label) is needed")
    if isinstance(item[0], str | Path):  # a file is read by whoever knows its folder
        raise PairsLitError(f"{where}: expected a PIL image, a tensor or an array, got {type(item[0]).__name__}")
    try:
        return reader.read(item[0]), _integer(item[1])
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error
    except (OSError, SyntaxError) as error:  # Pillow reads the file of an image only now
        raise PairsLitError(f"{where} cannot be read ({describe_error(error)})") from error


def _integer(label: object) -> int:
    value = label
    if isinstance(label, Tensor | np.ndarray | np.generic) and prod(label.shape) == 1:
        value = label.item()
    if not isinstance(value, int):
        raise PairsLitError(f"its label is {printable(repr(value))[:60]}, which is no integer")
    if not -(2**63) <= value < 2**63:
        raise PairsLitError(f"its label is {value}, which has more than 64 bits")
    return value


def _where(part: object, place: int) -> str:
    """Name an image: its file, if the dataset knows it."""
    samples = getattr(part, "samples", None)
    if isinstance(samples, list) and place < len(samples) and isinstance(samples[place], tuple):
        return str(samples[place][0])
    return f"image {place}"


def sides_of(image: Tensor) -> str:
    """Return height × width of an image, (H, W), in words."""
    return "×".join(map(str, image.shape))


def _check_square(image: Tensor, what: str) -> None:
    height, width = image.shape
    if height != width:
        raise PairsLitError(
            f"{what} {sides_of(image)} (height×width), which is not square: set data.resize to the size that "
            "all shall have"
        )
