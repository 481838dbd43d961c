"""Sources of the user's choice: data sets by class path and folders of pictures, with K classes of their own."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from pairs_lit.data.datasets import DataSet, blame
from pairs_lit.data.folders import picture_folders
from pairs_lit.data.images import Digits, Source
from pairs_lit.data.pictures import all_grey, check_memory, grey, resized
from pairs_lit.environment import user_path
from pairs_lit.errors import PairsLitError, notice, printable

MOST_CLASSES = 100
HELD_OUT, SPLIT_SEED = 6, 0
"""A set without test images of its own loses every sixth image of each class to the test set, by this seed."""

_NOTICE_SECONDS = 10.0
_FOLDER_ARGUMENTS = ("root",)


@dataclass(frozen=True)
class Labelled:
    """A part of a data set as it was read: images (n, S, S) uint8, labels (n,) int64 of any value."""

    images: Tensor
    labels: Tensor


def load_own(path: str, arguments: Mapping[str, Any], root: Path, *, resize: int | None) -> Source:
    """Load a data set by the import path of its class.

    Args:
        path: The class, ``torchvision.datasets.FashionMNIST``; ``torchvision.datasets.ImageFolder`` is a folder of
            pictures.
        arguments: What it is made with, beside ``root``.
        root: Where its files lie.
        resize: The height and width that its pictures get; None: they must be square, of one size.

    Raises:
        PairsLitError: It cannot be read, or is no set of labelled images of 2 to 100 classes.
    """
    wanted = DataSet(path, root, arguments)
    if wanted.kind is datasets.ImageFolder:
        other = next((name for name in arguments if name not in _FOLDER_ARGUMENTS), None)
        if other is not None:
            raise PairsLitError(f"data.source: {path} takes no argument {other!r} here, only root, which is data.root.")
        found: Sequence[object] = picture_folders(user_path(str(arguments.get("root", root))))
    else:
        found = wanted.parts()
    names = _names(found[0])
    parts = [_read(part, wanted.name, resize) for part in found]
    _check_alike(parts, wanted.name)
    labels = _distinct(parts[0].labels)
    called = [names.get(label, str(label)) for label in labels]
    _check_classes(parts, called, labels, wanted.name)
    class_names = called if called != [str(place) for place in range(len(labels))] else []
    known = torch.tensor(labels)  # sorted, so that places in it number the classes 0 to K − 1
    digits = [Digits(part.images, torch.searchsorted(known, part.labels), len(labels)) for part in parts]
    if len(digits) > 1:
        train, *validation, test = digits
        return Source(wanted.name, train, validation[0] if validation else None, test, class_names)
    return _split(wanted.name, digits[0], called, class_names)


def _names(part: object) -> dict[int, str]:
    """Return what a set calls its classes, by label."""
    names = getattr(part, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return {}
    return {label: printable(name) for label, name in enumerate(names)}


def _read(part: object, name: str, resize: int | None) -> Labelled:
    """Read a part of a set: all at once where it is in memory, else picture by picture."""
    arrays = _arrays(part)
    try:
        images, labels = _all_at_once(*arrays, resize) if arrays is not None else _one_by_one(part, name, resize)
    except PairsLitError as error:
        raise PairsLitError(f"data.source: {name}: {error}.") from error.__cause__
    if len(images) == 0:
        raise PairsLitError(f"data.source: {name}: it holds no pictures.")
    return Labelled(images, labels)


def _arrays(part: object) -> tuple[Any, Any] | None:
    """Return the images and labels that a set holds in memory, if it hands them out as they are.

    A set with a ``__getitem__`` of the user's own, or with a transform, may do anything to them.
    """
    own = getattr(type(part), "__getitem__", None)
    home = getattr(own, "__module__", None) or ""  # what is made in C, such as a list's, has none
    if own is not None and not home.startswith(("torchvision.", "torch.")):
        return None
    if any(getattr(part, name, None) is not None for name in ("transform", "target_transform", "transforms")):
        return None
    data = getattr(part, "data", None)
    labels = getattr(part, "targets", getattr(part, "labels", None))
    if not isinstance(data, Tensor | np.ndarray) or not isinstance(labels, Tensor | np.ndarray | list | tuple):
        return None
    return (data, labels) if np.ndim(labels) == 1 else None


def _all_at_once(data: Any, labels: Any, resize: int | None) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - either kind
    if len(data) != len(labels):
        raise PairsLitError(f"it holds {len(data)} pictures and {len(labels)} labels")
    values = np.asarray(labels)
    if len(labels) > 0 and values.dtype.kind not in "iub":
        raise PairsLitError(f"its labels are no integers, but {values.dtype}")
    if len(data) == 0:
        return torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
    images = all_grey(data)
    images = images if resize is None else resized(images, resize)
    _check_square(images[0], "they")
    return images, torch.from_numpy(values.astype(np.int64))


def _one_by_one(part: Any, name: str, resize: int | None) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - any set
    """Read a set by its ``__getitem__``, with a notice where that takes long."""
    try:
        count, _ = len(part), type(part).__getitem__
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise PairsLitError(
            f"a {type(part).__name__} is no data set: it needs __len__ and __getitem__, which gives (picture, label), "
            "or data and targets"
        ) from error
    images, labels = torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    told = time.monotonic()
    for place in range(count):
        where = _where(part, place)
        picture, label = _item(part, place, where)
        if resize is not None:
            picture = resized(picture[None], resize)[0]
        if place == 0:
            _check_square(picture, where)
            check_memory(count, len(picture))
            images = torch.empty(count, *picture.shape, dtype=torch.uint8)
        if picture.shape != images.shape[1:]:
            raise PairsLitError(
                f"{where} is {_sides(picture)}, and {_where(part, 0)} is {_sides(images[0])}: set data.resize to the "
                "size that all shall have"
            )
        images[place], labels[place] = picture, label
        if time.monotonic() - told > _NOTICE_SECONDS:
            told = time.monotonic()
            notice(f"reading {name}: {place + 1:,} of {count:,} pictures …")
    return images, labels


def _item(part: Any, place: int, where: str) -> tuple[Tensor, int]:  # noqa: ANN401 - any set
    """Return one picture as grey bytes (H, W), and its label."""
    try:
        item = part[place]
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error
    except Exception as error:  # a damaged picture, or whatever a class of the user's raises
        raise PairsLitError(f"{where} cannot be read ({blame(error)})") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise PairsLitError(f"{where} is a {type(item).__name__}, where (picture, label) is needed")
    try:
        return grey(item[0]), _integer(item[1])
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error


def _integer(label: object) -> int:
    value = label
    if isinstance(label, Tensor | np.ndarray | np.generic) and prod(label.shape) == 1:
        value = label.item()
    if not isinstance(value, int):
        raise PairsLitError(f"its label is {printable(repr(value))[:60]}, which is no integer")
    return value


def _where(part: object, place: int) -> str:
    """Name a picture: its file, if the set knows it."""
    samples = getattr(part, "samples", None)
    if isinstance(samples, list) and place < len(samples) and isinstance(samples[place], tuple):
        return str(samples[place][0])
    return f"picture {place}"


def _sides(picture: Tensor) -> str:
    height, width = picture.shape
    return f"{height}×{width}"


def _check_square(picture: Tensor, where: str) -> None:
    height, width = picture.shape
    if height != width:
        verb = "are" if where == "they" else "is"
        raise PairsLitError(
            f"{where} {verb} {_sides(picture)} (height×width), which is not square: set data.resize to the size that "
            "all shall have"
        )


def _check_alike(parts: Sequence[Labelled], name: str) -> None:
    """Refuse parts of different sizes, and test images that are the training images."""
    sizes = list(dict.fromkeys(_sides(part.images[0]) for part in parts))
    if len(sizes) > 1:
        raise PairsLitError(
            f"data.source: {name}: training and test pictures are {' and '.join(sizes)}: set data.resize to the size "
            "that all shall have."
        )
    first, last = parts[0], parts[-1]
    if len(parts) > 1 and torch.equal(first.images, last.images):
        raise PairsLitError(
            f"data.source: {name}: the test images are the training images: give arguments that choose one part, train "
            "or split for instance, to have it split."
        )


def _check_classes(parts: Sequence[Labelled], called: Sequence[str], labels: Sequence[int], name: str) -> None:
    if not 2 <= len(called) <= MOST_CLASSES:
        one = f" ({called[0]!r})" if len(called) == 1 else ""
        raise PairsLitError(
            f"data.source: {name} has {len(called)} class{'' if one else 'es'}{one}: 2 to {MOST_CLASSES} are needed."
        )
    for part in parts[1:]:
        other = next((label for label in _distinct(part.labels) if label not in labels), None)
        if other is not None:
            raise PairsLitError(f"data.source: {name}: no training picture has the label {other} of some test picture.")


def _distinct(labels: Tensor) -> list[int]:
    return sorted(set(labels.tolist()))


def _split(name: str, whole: Digits, called: Sequence[str], class_names: Sequence[str]) -> Source:
    """Hold out a sixth for the test, each class alike, by a seed that is always the same."""
    from sklearn.model_selection import train_test_split

    counts = Counter(whole.labels.tolist())
    rarest = min(counts, key=lambda label: counts[label])
    if counts[rarest] < HELD_OUT:
        raise PairsLitError(
            f"data.source: {name}: class {called[rarest]!r} has {counts[rarest]} pictures: each class needs {HELD_OUT} "
            "or more, since a sixth is held out for the test."
        )
    places = range(len(whole.labels))
    halves = train_test_split(places, test_size=1 / HELD_OUT, random_state=SPLIT_SEED, stratify=whole.labels.numpy())
    train, test = (Digits(whole.images[part], whole.labels[part], whole.classes) for part in halves)
    return Source(name, train, None, test, class_names, f"a sixth of each class (seed {SPLIT_SEED})")
