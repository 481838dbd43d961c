"""Datasets of the user's choice: a class path and its arguments, or a folder of images, as a source of K classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from pairs_lit.data.class_names import ClassName, join_names, note_order, order_classes
from pairs_lit.data.dataset_class import DatasetSpec
from pairs_lit.data.dataset_items import DatasetItems, read_items, sides_of, stores_transposed
from pairs_lit.data.duplicates import print_notes
from pairs_lit.data.grey_range import check_grey_range
from pairs_lit.data.image_folder import ImageFolder, find_parts, notes_beside_parts
from pairs_lit.data.image_reader import GreyReader
from pairs_lit.data.labelled_images import LabelledImages, Source, transpose_images
from pairs_lit.data.splits import hold_out_test
from pairs_lit.errors import PairsLitError
from pairs_lit.system.paths import user_path
from pairs_lit.text import printable

MOST_CLASSES = 100


def load_custom_dataset(
    path: str,
    arguments: Mapping[str, Any],
    root: Path,
    *,
    resize: int | None,
    class_names: Sequence[ClassName] | None = None,
    transpose: bool = False,
) -> Source:
    """Load a dataset by the import path of its class, and print what stands out.

    The other arguments are those of :func:`pairs_lit.data.sources.load_source`; EMNIST's images are transposed anyway.

    Args:
        path: The class, ``torchvision.datasets.FashionMNIST``; ``torchvision.datasets.ImageFolder`` is a folder of
            images.
        arguments: The arguments of the class, ``root`` aside.
        root: The folder that holds its files.
        resize: Without it, images must be square and of one size.
        class_names: The order and names of its classes.
        transpose: Whether its images are stored transposed.

    Raises:
        PairsLitError: It cannot be read, or is no set of labelled images of 2 to 100 classes.
    """
    dataset = DatasetSpec(path, root, arguments)
    parts, notes = _open_parts(dataset)
    items, reader = _read_parts(parts, dataset.name, resize)
    is_emnist = stores_transposed(parts[0])
    _check_alike(items, dataset.name)
    notes += ["EMNIST is always read upright: data.transpose changes nothing"] * (transpose and is_emnist)
    notes += [note for part in items for note in check_grey_range(part.images, dataset.name)]
    labels, called = _order_classes(parts, items, class_names, dataset.name)
    _check_classes(items, called, labels, dataset.name)
    source = _source_of(dataset.name, items, labels, called)
    notes += [note for part in parts if isinstance(part, ImageFolder) for note in part.notes()]
    notes += _note_change(items)
    if class_names is None:
        notes += note_order(called, is_folder=isinstance(parts[0], ImageFolder))
    source = replace(
        transpose_images(source) if transpose or is_emnist else source,
        original_size=_describe_sizes(reader.sizes),
        bits=reader.bits,
        deterministic=all(part.changed is None for part in items),
        notes=notes,
    )
    print_notes(source)
    return source


def _open_parts(dataset: DatasetSpec) -> tuple[Sequence[object], list[str]]:
    """Return the parts of a dataset, and what to tell of them."""
    if dataset.factory is not datasets.ImageFolder:
        return dataset.parts(), []
    other = next((name for name in dataset.arguments if name != "root"), None)
    if other is not None:
        raise PairsLitError(
            f"data.source: {dataset.path} takes no argument {other!r} here, only root, which is data.root."
        )
    folder = user_path(str(dataset.arguments.get("root", dataset.root)))
    return find_parts(folder), notes_beside_parts(folder)


def _read_parts(parts: Sequence[object], name: str, resize: int | None) -> tuple[list[DatasetItems], GreyReader]:
    """Read all parts of a dataset by one scale, and return the reader, too."""
    reader = GreyReader(resize)
    items = [read_items(part, name, reader) for part in parts]
    fitting = reader.next
    return (items, reader) if fitting is None else ([read_items(part, name, fitting) for part in parts], fitting)


def _describe_sizes(sizes: set[tuple[int, int]]) -> str:
    """Return the sizes of all images, from the flattest to the narrowest: ``30x20`` or ``20x30 to 60x40``."""
    first, *others = sorted(sizes, key=lambda size: (size[0] / size[1], size[0]))
    return " to ".join(f"{height}x{width}" for height, width in (first, *others[-1:]))


def _order_classes(
    parts: Sequence[object], items: Sequence[DatasetItems], class_names: Sequence[ClassName] | None, name: str
) -> tuple[list[int], list[str]]:
    """Return the labels in the order of the classes, and what these are called."""
    labels = _distinct(items[0])
    names = _names(parts[0], labels, name)
    for part, read in zip(parts[1:], items[1:], strict=True):
        others = _names(part, labels, name)
        other = next((label for label in _distinct(read) if others.get(label) != names.get(label)), None)
        if others and other is not None:
            raise PairsLitError(
                f"data.source: {name}: all parts must name their classes alike, got {names.get(other, other)!r} for "
                f"label {other} in training and {others.get(other, other)!r} in another part. Number the classes alike."
            )
    return order_classes(labels, names, class_names, f"data.source: {name}")


def _names(part: object, labels: Sequence[int], name: str) -> dict[int, str]:
    """Return what a dataset calls its classes, by label."""
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
        f"data.source: {name}: its classes must name each label, got {len(names)} names ({join_names(names)}) for the "
        f"labels {join_names([str(label) for label in labels])}. Number labels from 0, in the order of the names."
    )


def _source_of(name: str, items: Sequence[DatasetItems], labels: Sequence[int], called: Sequence[str]) -> Source:
    """Return a source whose classes are numbered in their order."""
    known, order = torch.tensor(sorted(labels)), torch.tensor(labels).argsort()
    numbered = [
        LabelledImages(part.images, order[torch.searchsorted(known, part.labels)], len(labels)) for part in items
    ]
    class_names = called if list(called) != [str(place) for place in range(len(labels))] else []
    if len(numbered) == 1:
        return hold_out_test(Source(name, numbered[0], None, numbered[0], class_names), called)
    train, *validation, test = numbered
    return Source(name, train, validation[0] if validation else None, test, class_names)


def _note_change(items: Sequence[DatasetItems]) -> list[str]:
    changed = next((part.changed for part in items if part.changed is not None), None)
    if changed is None:
        return []
    return [
        f"it returns different images each time it is read ({changed}, for instance). Each image is read only once, so "
        "a random transform stays as it was drawn for the whole fit, and test and predict may read other images. "
        "Remove it, and set data.augment for random changes of training images"
    ]


def _check_alike(items: Sequence[DatasetItems], name: str) -> None:
    """Raise PairsLitError if parts have different sizes, or the test images are the training images."""
    sizes = list(dict.fromkeys(sides_of(part.images[0]) for part in items))
    if len(sizes) > 1:
        raise PairsLitError(
            f"data.source: {name}: training and test images are {' and '.join(sizes)}: set data.resize to the size "
            "that all shall have."
        )
    if len(items) > 1 and torch.equal(items[0].images, items[-1].images):
        raise PairsLitError(
            f"data.source: {name}: the test images are the training images: give arguments that choose one part, train "
            "or split for instance, to have it split."
        )


def _check_classes(items: Sequence[DatasetItems], called: Sequence[str], labels: Sequence[int], name: str) -> None:
    if not 2 <= len(called) <= MOST_CLASSES:
        one = f" ({called[0]!r})" if len(called) == 1 else ""
        raise PairsLitError(
            f"data.source: {name} has {len(called)} class{'' if one else 'es'}{one}: 2 to {MOST_CLASSES} are needed."
        )
    for part in items[1:]:
        other = next((label for label in _distinct(part) if label not in labels), None)
        if other is not None:
            raise PairsLitError(f"data.source: {name}: no training image has the label {other} of some test image.")


def _distinct(items: DatasetItems) -> list[int]:
    return sorted(set(items.labels.tolist()))
