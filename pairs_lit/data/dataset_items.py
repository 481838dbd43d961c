"""Images (as grey bytes) and labels of a dataset, read from its arrays in memory or item by item."""

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
from pairs_lit.seeds import preserve_rng_state
from pairs_lit.system.console import print_notice
from pairs_lit.text import replace_control_characters

_NUM_REREAD = 32
"""The number of images that are read a second time, to check that the dataset returns the same images again."""

_NOTICE_SECONDS = 10.0  # between two notices of progress


@dataclass(frozen=True)
class DatasetItems:
    """Images and labels of one part of a dataset.

    Attributes:
        images: (n, S, S) uint8.
        labels: (n,) int64 of any value.
        changed_item: The description of an item that differed when it was read again, or None if all were the same.
    """

    images: Tensor
    labels: Tensor
    changed_item: str | None = None


def read_items(part: object, name: str, reader: GreyReader) -> DatasetItems:
    """Read the items of a part of a dataset.

    Args:
        part: The part, a dataset as torch or torchvision defines it.
        name: The dataset's name in notices and errors.
        reader: The reader of its images.

    Raises:
        PairsLitError: If the part is empty, or holds anything else than square images of one size with integer labels.
    """
    arrays = _get_arrays(part)
    try:
        items = _read_arrays(*arrays, reader) if arrays else _read_one_by_one(part, name, reader)
    except PairsLitError as error:
        raise PairsLitError(f"data.source: {name}: {error}.") from error.__cause__
    if len(items.images) == 0:
        raise PairsLitError(
            f"data.source: {name} must hold images, got an empty dataset. Check data.root and the arguments."
        )
    return items


def is_stored_transposed(part: object) -> bool:
    """Return whether a part returns EMNIST's images as torchvision stores them, with rows and columns exchanged."""
    while isinstance(part, Subset):
        part = part.dataset
    if not isinstance(part, datasets.EMNIST) or _has_transform(part):
        return False
    return type(part).__getitem__ is datasets.EMNIST.__getitem__


def _has_transform(part: object) -> bool:
    return any(getattr(part, name, None) is not None for name in ("transform", "target_transform", "transforms"))


def _get_arrays(part: object) -> tuple[Any, Any] | None:
    """Return the arrays of images and labels that a dataset holds in memory, or None if its items must be read singly.

    A custom ``__getitem__`` or a transform may change the images or labels, so the arrays would be wrong.
    """
    get_item = getattr(type(part), "__getitem__", None)
    module = getattr(get_item, "__module__", None) or ""  # methods written in C, such as a list's, have no module
    is_custom = get_item is not None and not module.startswith(("torchvision.", "torch."))
    if is_custom or _has_transform(part):
        return None
    data = getattr(part, "data", None)
    labels = getattr(part, "targets", getattr(part, "labels", None))
    if not isinstance(data, Tensor | np.ndarray) or not isinstance(labels, Tensor | np.ndarray | list | tuple):
        return None
    return (data, labels) if np.ndim(labels) == 1 else None


def _read_arrays(data: Any, labels: Any, reader: GreyReader) -> DatasetItems:  # noqa: ANN401 - tensors or arrays
    if len(data) != len(labels):
        raise PairsLitError(f"each image must have a label, got {len(data)} images and {len(labels)} labels")
    values = np.asarray(labels)
    if len(labels) == 0:
        return DatasetItems(torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    if values.dtype.kind not in "iub":
        raise PairsLitError(f"labels must be integers, got {values.dtype}")
    images = reader.read_arrays(data)
    _check_square(images[0], "images")
    return DatasetItems(images, torch.from_numpy(values.astype(np.int64)))


def _read_one_by_one(part: Any, name: str, reader: GreyReader) -> DatasetItems:  # noqa: ANN401 - any dataset
    """Read a dataset by its ``__getitem__``, and print the progress every :data:`_NOTICE_SECONDS`."""
    count, last_notice = _get_length(part), time.monotonic()
    images, labels = torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    for index in range(count):
        image, labels[index] = _read_item(part, index, reader)
        if index == 0:
            _check_square(image, _describe_item(part, 0))
            check_memory(count, len(image))
            images = torch.empty(count, *image.shape, dtype=torch.uint8)
        if image.shape != images.shape[1:]:
            raise PairsLitError(
                f"all images must have the same size, got {format_size(images[0])} for {_describe_item(part, 0)} and "
                f"{format_size(image)} for {_describe_item(part, index)}. Set data.resize to the size that all "
                "images should have"
            )
        images[index] = image
        if time.monotonic() - last_notice > _NOTICE_SECONDS:
            last_notice = time.monotonic()
            print_notice(f"reading {name}: {index + 1:,} of {count:,} images …")
    changed = None if isinstance(part, ImageFolder) else _find_change(part, images, labels, reader)
    return DatasetItems(images, labels, changed)


def _get_length(part: Any) -> int:  # noqa: ANN401 - any dataset
    """Return the number of items; raise PairsLitError if the object is no dataset."""
    try:
        count, _ = len(part), type(part).__getitem__
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise PairsLitError(
            f"a dataset must have __len__ and a __getitem__ that returns (image, label), or data and targets, got a "
            f"{type(part).__name__}. Add these methods to its class"
        ) from error
    return count


def _find_change(part: object, images: Tensor, labels: Tensor, reader: GreyReader) -> str | None:
    """Read some items again, and return a description of the first one that differs, or None if all are the same."""
    indices = sorted(set(np.linspace(0, len(images) - 1, _NUM_REREAD).round().astype(int).tolist()))
    with preserve_rng_state():
        for index in indices if len(images) else []:
            image, label = _read_item(part, index, reader)
            if not torch.equal(image, images[index]) or label != labels[index]:
                return _describe_item(part, index)
    return None


def _read_item(part: Any, index: int, reader: GreyReader) -> tuple[Tensor, int]:  # noqa: ANN401 - any dataset
    """Return one image as grey bytes (H, W), and its label."""
    where = _describe_item(part, index)
    try:
        item = part[index]
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error
    except Exception as error:  # a damaged image, or any exception of a custom class
        raise PairsLitError(f"{where} cannot be read ({describe_error(error)})") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise PairsLitError(f"{where} must be (image, label), got a {type(item).__name__}")
    if isinstance(item[0], str | Path):  # only the dataset knows the folder of a relative path
        raise PairsLitError(f"{where}: expected a PIL image, a tensor or an array, got {type(item[0]).__name__}")
    try:
        return reader.read(item[0]), _to_integer(item[1])
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error
    except (OSError, SyntaxError) as error:  # Pillow reads an image file only when its pixels are needed
        raise PairsLitError(f"{where} cannot be read ({describe_error(error)})") from error


def _to_integer(label: object) -> int:
    """Return a label (int, or a tensor or array with one integer) as int; raise PairsLitError for others."""
    value = label
    if isinstance(label, Tensor | np.ndarray | np.generic) and prod(label.shape) == 1:
        value = label.item()
    if not isinstance(value, int):
        raise PairsLitError(f"labels must be integers, got {replace_control_characters(repr(value))[:60]}")
    if not -(2**63) <= value < 2**63:
        raise PairsLitError(f"labels must be integers of 64 bits or fewer, got {value}")
    return value


def _describe_item(part: object, index: int) -> str:
    """Return the path of an image's file if the dataset lists it, else ``image`` with the item's position."""
    samples = getattr(part, "samples", None)
    if isinstance(samples, list) and index < len(samples) and isinstance(samples[index], tuple):
        return str(samples[index][0])
    return f"image {index}"


def format_size(image: Tensor) -> str:
    """Return the size of an image, (H, W), as text: ``H×W``."""
    return "×".join(map(str, image.shape))


def _check_square(image: Tensor, subject: str) -> None:
    height, width = image.shape
    if height != width:
        raise PairsLitError(
            f"{subject} must be square, got {format_size(image)} (height×width). Set data.resize to the size that all "
            "images should have"
        )
