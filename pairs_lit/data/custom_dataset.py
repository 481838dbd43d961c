"""Sources of the user's choice: data sets by class path and folders of pictures, with K classes of their own."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset
from torchvision import datasets

from pairs_lit.data.class_names import ClassName, note_order, order_classes, shown
from pairs_lit.data.datasets import DataSet, blame
from pairs_lit.data.duplicates import tell
from pairs_lit.data.grey_range import check_grey_range
from pairs_lit.data.image_conversion import check_memory, resized
from pairs_lit.data.image_folder import PictureFolder, notes_beside_parts, picture_folders
from pairs_lit.data.image_reader import GreyReader
from pairs_lit.data.labelled_images import Digits, Source
from pairs_lit.data.splits import hold_out_test
from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import generators_kept
from pairs_lit.system.console import notice
from pairs_lit.system.paths import user_path
from pairs_lit.text import printable

MOST_CLASSES = 100
_ASKED_AGAIN = 32
"""How many images of a dataset are read twice, to see whether they are the same again."""

_NOTICE_SECONDS = 10.0
_FOLDER_ARGUMENTS = ("root",)


@dataclass(frozen=True)
class Labelled:
    """A part of a dataset as it was read.

    Attributes:
        images: (n, S, S) uint8.
        labels: (n,) int64 of any value.
        sizes: The heights and widths that there were before ``data.resize``.
        changed: Which image was another one when it was asked for again, or None if none was.
    """

    images: Tensor
    labels: Tensor
    sizes: frozenset[str]
    changed: str | None = None


def load_own(
    path: str,
    arguments: Mapping[str, Any],
    root: Path,
    *,
    resize: int | None,
    class_names: Sequence[ClassName] | None = None,
    transpose: bool = False,
) -> Source:
    """Load a data set by the import path of its class, and tell what stands out.

    Args:
        path: The class, ``torchvision.datasets.FashionMNIST``; ``torchvision.datasets.ImageFolder`` is a folder of
            pictures.
        arguments: What it is made with, beside ``root``.
        root: Where its files lie.
        resize: The height and width that its pictures get; None: they must be square, of one size.
        class_names: The order and names of its classes, see :func:`~pairs_lit.data.class_names.order_classes`.
        transpose: Exchange rows and columns of its images, which are stored so; EMNIST's are exchanged anyway.

    Raises:
        PairsLitError: It cannot be read, or is no set of labelled images of 2 to 100 classes.
    """
    wanted = DataSet(path, root, arguments)
    found, notes = _find_parts(wanted, arguments, root)
    parts, bits = _read_parts(found, wanted.name, resize)
    is_emnist = _is_emnist(found[0])
    if transpose or is_emnist:
        parts = [replace(part, images=part.images.transpose(1, 2).contiguous()) for part in parts]
    if transpose and is_emnist:
        notes.append("EMNIST is always read upright: data.transpose changes nothing")
    _check_alike(parts, wanted.name)
    notes += [note for part in parts for note in check_grey_range(part.images, wanted.name)]
    labels, called = _order_classes(found, parts, class_names, wanted.name)
    _check_classes(parts, called, labels, wanted.name)
    source = replace(
        _source_of(wanted.name, parts, labels, called),
        transposed=transpose or is_emnist,
        original_size=_describe_sizes(parts),
        bits=bits,
        deterministic=all(part.changed is None for part in parts),
    )
    notes += [note for part in found if isinstance(part, PictureFolder) for note in part.notes()]
    notes += _note_change(parts)
    if class_names is None:
        notes += note_order(called, is_folder=isinstance(found[0], PictureFolder))
    source = replace(source, notes=notes)
    tell(source)
    return source


def _find_parts(wanted: DataSet, arguments: Mapping[str, Any], root: Path) -> tuple[Sequence[object], list[str]]:
    """Return the parts of a dataset, and what to tell of them."""
    if wanted.kind is not datasets.ImageFolder:
        return wanted.parts(), []
    other = next((name for name in arguments if name not in _FOLDER_ARGUMENTS), None)
    if other is not None:
        raise PairsLitError(
            f"data.source: {wanted.path} takes no argument {other!r} here, only root, which is data.root."
        )
    folder = user_path(str(arguments.get("root", root)))
    return picture_folders(folder), notes_beside_parts(folder)


def _read_parts(found: Sequence[object], name: str, resize: int | None) -> tuple[list[Labelled], int | None]:
    """Read all parts of a dataset by one scale, and return how many bits of 16-bit images are in use."""
    reader = GreyReader()
    parts = [_read(part, name, resize, reader) for part in found]
    fitting = reader.next
    if fitting is not None:
        parts = [_read(part, name, resize, fitting) for part in found]
    return parts, reader.bits


def _is_emnist(part: object) -> bool:
    """Return whether a part hands out EMNIST's images as torchvision stores them, with rows and columns exchanged."""
    while isinstance(part, Subset):
        part = part.dataset
    is_stored = type(part).__getitem__ is datasets.EMNIST.__getitem__ if isinstance(part, datasets.EMNIST) else False
    return is_stored and not _has_transform(part)


def _has_transform(part: object) -> bool:
    return any(getattr(part, name, None) is not None for name in ("transform", "target_transform", "transforms"))


def _describe_sizes(parts: Sequence[Labelled]) -> str:
    """Return the sizes of all images, from the flattest to the narrowest: ``30x20`` or ``20x30 to 60x40``."""

    def shape(size: str) -> tuple[float, int]:
        height, width = map(int, size.split("x"))
        return height / width, height

    sizes = sorted(frozenset[str]().union(*(part.sizes for part in parts)), key=shape)
    return " to ".join(dict.fromkeys([sizes[0], sizes[-1]]))


def _order_classes(
    found: Sequence[object], parts: Sequence[Labelled], class_names: Sequence[ClassName] | None, name: str
) -> tuple[list[int], list[str]]:
    """Return the labels in the order of the classes, and what these are called."""
    labels = _distinct(parts[0].labels)
    names = _names(found[0], labels, name)
    for part, read in zip(found[1:], parts[1:], strict=True):
        others = _names(part, labels, name)
        other = next((label for label in _distinct(read.labels) if others.get(label) != names.get(label)), None)
        if others and other is not None:
            raise PairsLitError(
                f"data.source: {name}: all parts must name their classes alike, got {names.get(other, other)!r} for "
                f"label {other} in training and {others.get(other, other)!r} in another part. Number the classes alike."
            )
    return order_classes(labels, names, class_names, f"data.source: {name}")


def _names(part: object, labels: Sequence[int], name: str) -> dict[int, str]:
    """Return what a set calls its classes, by label."""
    numbers, names = getattr(part, "class_to_idx", None), getattr(part, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        return {}
    by_label = {label: printable(each) for label, each in enumerate(names)}
    if isinstance(numbers, Mapping) and {str(each) for each in numbers} == set(by_label.values()):
        by_label = {label: printable(str(each)) for each, label in numbers.items() if isinstance(label, int)}
    if set(labels) <= by_label.keys():
        return by_label
    if list(labels) == list(range(1, len(names) + 1)):
        return {label: printable(each) for label, each in enumerate(names, 1)}
    raise PairsLitError(
        f"data.source: {name}: its classes must name each label, got {len(names)} names ({shown(names)}) for the "
        f"labels {shown([str(label) for label in labels])}. Number labels from 0, in the order of the names."
    )


def _source_of(name: str, parts: Sequence[Labelled], labels: Sequence[int], called: Sequence[str]) -> Source:
    """Return a source whose classes are numbered in their order."""
    known, order = torch.tensor(sorted(labels)), torch.tensor(labels).argsort()
    digits = [Digits(part.images, order[torch.searchsorted(known, part.labels)], len(labels)) for part in parts]
    class_names = called if list(called) != [str(place) for place in range(len(labels))] else []
    if len(digits) == 1:
        return hold_out_test(Source(name, digits[0], None, digits[0], class_names), called)
    train, *validation, test = digits
    return Source(name, train, validation[0] if validation else None, test, class_names)


def _note_change(parts: Sequence[Labelled]) -> list[str]:
    changed = next((part.changed for part in parts if part.changed is not None), None)
    if changed is None:
        return []
    return [
        f"it returns different images each time it is read ({changed}, for instance). Each image is read only once, so "
        "a random transform stays as it was drawn for the whole fit, and test and predict may read other images. "
        "Remove it, and set data.augment for random changes of training images"
    ]


def _read(part: object, name: str, resize: int | None, reader: GreyReader) -> Labelled:
    """Read a part of a set: all at once where it is in memory, else picture by picture."""
    arrays = _arrays(part)
    try:
        read = _all_at_once(*arrays, resize, reader) if arrays else _one_by_one(part, name, resize, reader)
    except PairsLitError as error:
        raise PairsLitError(f"data.source: {name}: {error}.") from error.__cause__
    if len(read.images) == 0:
        raise PairsLitError(f"data.source: {name}: it holds no pictures.")
    return read


def _arrays(part: object) -> tuple[Any, Any] | None:
    """Return the images and labels that a set holds in memory, if it hands them out as they are.

    A set with a ``__getitem__`` of the user's own, or with a transform, may do anything to them.
    """
    own = getattr(type(part), "__getitem__", None)
    home = getattr(own, "__module__", None) or ""  # what is made in C, such as a list's, has none
    if own is not None and not home.startswith(("torchvision.", "torch.")):
        return None
    if _has_transform(part):
        return None
    data = getattr(part, "data", None)
    labels = getattr(part, "targets", getattr(part, "labels", None))
    if not isinstance(data, Tensor | np.ndarray) or not isinstance(labels, Tensor | np.ndarray | list | tuple):
        return None
    return (data, labels) if np.ndim(labels) == 1 else None


def _all_at_once(data: Any, labels: Any, resize: int | None, reader: GreyReader) -> Labelled:  # noqa: ANN401 - either kind
    if len(data) != len(labels):
        raise PairsLitError(f"it holds {len(data)} pictures and {len(labels)} labels")
    values = np.asarray(labels)
    if len(labels) > 0 and values.dtype.kind not in "iub":
        raise PairsLitError(f"its labels are no integers, but {values.dtype}")
    if len(data) == 0:
        return Labelled(torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), frozenset())
    images = reader.read_arrays(data)
    sizes = frozenset([_size(images[0])])
    images = images if resize is None else resized(images, resize)
    _check_square(images[0], "they")
    return Labelled(images, torch.from_numpy(values.astype(np.int64)), sizes)


def _one_by_one(part: Any, name: str, resize: int | None, reader: GreyReader) -> Labelled:  # noqa: ANN401 - any set
    """Read a set by its ``__getitem__``, with a notice where that takes long."""
    count = _length(part)
    images, labels = torch.zeros(0, 1, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    told, sizes = time.monotonic(), set[str]()
    for place in range(count):
        where = _where(part, place)
        original, label = _item(part, place, where, reader)
        sizes.add(_size(original))
        picture = original if resize is None else resized(original[None], resize)[0]
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
    changed = None if isinstance(part, PictureFolder) else _find_change(part, images, labels, resize, reader)
    return Labelled(images, labels, frozenset(sizes), changed)


def _length(part: Any) -> int:  # noqa: ANN401 - any set
    try:
        count, _ = len(part), type(part).__getitem__
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise PairsLitError(
            f"a {type(part).__name__} is no data set: it needs __len__ and __getitem__, which gives (picture, label), "
            "or data and targets"
        ) from error
    return count


def _find_change(part: object, images: Tensor, labels: Tensor, resize: int | None, reader: GreyReader) -> str | None:
    """Ask for some images again, and return which one is now another one, or has another label; None: none."""
    places = sorted(set(np.linspace(0, len(images) - 1, _ASKED_AGAIN).round().astype(int).tolist()))
    with generators_kept():
        for place in places if len(images) else []:
            again, label = _item(part, place, _where(part, place), reader)
            again = again if resize is None else resized(again[None], resize)[0]
            if not torch.equal(again, images[place]) or label != labels[place]:
                return _where(part, place)
    return None


def _item(part: Any, place: int, where: str, reader: GreyReader) -> tuple[Tensor, int]:  # noqa: ANN401 - any set
    """Return one picture as grey bytes (H, W), and its label."""
    try:
        item = part[place]
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error
    except Exception as error:  # a damaged picture, or whatever a class of the user's raises
        raise PairsLitError(f"{where} cannot be read ({blame(error)})") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise PairsLitError(f"{where} is a {type(item).__name__}, where (picture, label) is needed")
    if isinstance(item[0], str | Path):  # a file is read by whoever knows its folder
        raise PairsLitError(
            f"{where}: a {type(item[0]).__name__} is no picture: a PIL image, a tensor or an array is needed"
        )
    try:
        return reader.read(item[0]), _integer(item[1])
    except PairsLitError as error:
        raise PairsLitError(f"{where}: {error}") from error
    except (OSError, SyntaxError) as error:  # Pillow reads the file of an image only now
        raise PairsLitError(f"{where} cannot be read ({blame(error)})") from error


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
    """Name a picture: its file, if the set knows it."""
    samples = getattr(part, "samples", None)
    if isinstance(samples, list) and place < len(samples) and isinstance(samples[place], tuple):
        return str(samples[place][0])
    return f"picture {place}"


def _sides(picture: Tensor) -> str:
    height, width = picture.shape
    return f"{height}×{width}"


def _size(picture: Tensor) -> str:
    return "x".join(map(str, picture.shape))


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
