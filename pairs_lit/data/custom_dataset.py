"""Custom datasets: a dataset class with its arguments, or a folder of images, loaded as a source of K classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from pairs_lit.data.class_names import ClassName, describe_order, join_names, order_classes
from pairs_lit.data.dataset_class import DatasetSpec
from pairs_lit.data.dataset_items import DatasetItems, format_size, is_stored_transposed, read_items
from pairs_lit.data.duplicates import print_notes
from pairs_lit.data.grey_range import check_grey_range
from pairs_lit.data.image_folder import ImageFolder, describe_ignored_entries, find_parts
from pairs_lit.data.image_reader import GreyReader
from pairs_lit.data.labelled_images import LabelledImages, Source, transpose_images
from pairs_lit.data.splits import hold_out_test
from pairs_lit.errors import PairsLitError
from pairs_lit.system.paths import expand_user_path
from pairs_lit.text import replace_control_characters

MAX_CLASSES = 100


def load_custom_dataset(
    path: str,
    arguments: Mapping[str, Any],
    root: Path,
    *,
    resize: int | None,
    class_names: Sequence[ClassName] | None = None,
    transpose: bool = False,
) -> Source:
    """Load a dataset by the import path of its class, and print notices about unusual properties.

    Args:
        path: The import path, such as ``torchvision.datasets.FashionMNIST``. ``torchvision.datasets.ImageFolder``
            stands for a folder of images, which :class:`~pairs_lit.data.image_folder.ImageFolder` reads.
        arguments: The arguments of the class except ``root``.
        root: The folder that holds the dataset's files.
        resize: The height and width of the returned images. If None, all images must be square and of the same size.
        class_names: The order and names of the classes, see :func:`~pairs_lit.data.class_names.order_classes`.
        transpose: Whether to exchange rows and columns of the images. EMNIST's images are always transposed, so that
            they are upright.

    Raises:
        PairsLitError: If the dataset cannot be read, or does not hold labelled images of 2 to 100 classes.
    """
    dataset = DatasetSpec(path, root, arguments)
    parts, notes = _open_parts(dataset)
    items, reader = _read_parts(parts, dataset.name, resize)
    is_emnist = is_stored_transposed(parts[0])
    _check_parts(items, dataset.name)
    notes += ["EMNIST is always read upright, so data.transpose has no effect"] * (transpose and is_emnist)
    notes += [note for part in items for note in check_grey_range(part.images, dataset.name)]
    labels, ordered_names = _order_classes(parts, items, class_names, dataset.name)
    _check_classes(items, ordered_names, labels, dataset.name)
    source = _build_source(dataset.name, items, labels, ordered_names)
    notes += [note for part in parts if isinstance(part, ImageFolder) for note in part.describe_contents()]
    notes += _describe_change(items)
    if class_names is None:
        notes += describe_order(ordered_names, is_folder=isinstance(parts[0], ImageFolder))
    source = replace(
        transpose_images(source) if transpose or is_emnist else source,
        original_size=_describe_sizes(reader.sizes),
        bits=reader.bits,
        deterministic=all(part.changed_item is None for part in items),
        notes=notes,
    )
    print_notes(source)
    return source


def _open_parts(dataset: DatasetSpec) -> tuple[Sequence[object], list[str]]:
    """Return the training, validation and test parts of a dataset as far as they exist, and notices about them."""
    if dataset.factory is not datasets.ImageFolder:
        return dataset.load_parts(), []
    unknown = next((name for name in dataset.arguments if name != "root"), None)
    if unknown is not None:
        raise PairsLitError(
            f"data.source: the only argument of {dataset.path} must be root, got {unknown!r}. Remove it; root is "
            "data.root by default."
        )
    folder = expand_user_path(str(dataset.arguments.get("root", dataset.root)))
    return find_parts(folder), describe_ignored_entries(folder)


def _read_parts(parts: Sequence[object], name: str, resize: int | None) -> tuple[list[DatasetItems], GreyReader]:
    """Return the items of all parts, read with the same grey scale, and the reader that read them."""
    reader = GreyReader(resize)
    items = [read_items(part, name, reader) for part in parts]
    rescaled = reader.rescaled_reader
    return (items, reader) if rescaled is None else ([read_items(part, name, rescaled) for part in parts], rescaled)


def _describe_sizes(sizes: set[tuple[int, int]]) -> str:
    """Return the size of the images (``30x20``), or the flattest and the narrowest size (``20x30 to 60x40``)."""
    first, *others = sorted(sizes, key=lambda size: (size[0] / size[1], size[0]))
    return " to ".join(f"{height}x{width}" for height, width in (first, *others[-1:]))


def _order_classes(
    parts: Sequence[object], items: Sequence[DatasetItems], class_names: Sequence[ClassName] | None, name: str
) -> tuple[list[int], list[str]]:
    """Return the labels in the order of the classes, and the class names in the same order."""
    labels = _list_labels(items[0])
    names = _get_class_names(parts[0], labels, name)
    for part, part_items in zip(parts[1:], items[1:], strict=True):
        part_names = _get_class_names(part, labels, name)
        different = next(
            (label for label in _list_labels(part_items) if part_names.get(label) != names.get(label)), None
        )
        if part_names and different is not None:
            raise PairsLitError(
                f"data.source: {name}: all parts must name their classes alike, got "
                f"{names.get(different, different)!r} for label {different} in training and "
                f"{part_names.get(different, different)!r} in another part. Number the classes alike."
            )
    return order_classes(labels, names, class_names, f"data.source: {name}")


def _get_class_names(part: object, labels: Sequence[int], name: str) -> dict[int, str]:
    """Return a dataset's class names by label, or an empty mapping if it has no names."""
    numbers, names = getattr(part, "class_to_idx", None), getattr(part, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(class_name, str) for class_name in names):
        return {}
    by_label = {label: replace_control_characters(class_name) for label, class_name in enumerate(names)}
    if isinstance(numbers, Mapping) and {str(class_name) for class_name in numbers} == set(by_label.values()):
        by_label = {
            label: replace_control_characters(str(text)) for text, label in numbers.items() if isinstance(label, int)
        }
    if set(labels) <= by_label.keys():
        return by_label
    if list(labels) == list(range(1, len(names) + 1)):
        return {label: replace_control_characters(class_name) for label, class_name in enumerate(names, 1)}
    raise PairsLitError(
        f"data.source: {name}: its classes must name each label, got {len(names)} names ({join_names(names)}) for the "
        f"labels {join_names([str(label) for label in labels])}. Number labels from 0, in the order of the names."
    )


def _build_source(
    name: str, items: Sequence[DatasetItems], labels: Sequence[int], ordered_names: Sequence[str]
) -> Source:
    """Build a source whose classes are numbered from 0 in their order; a single part is split into two."""
    ascending, class_numbers = torch.tensor(sorted(labels)), torch.tensor(labels).argsort()
    numbered = [
        LabelledImages(part.images, class_numbers[torch.searchsorted(ascending, part.labels)], len(labels))
        for part in items
    ]
    class_names = ordered_names if list(ordered_names) != [str(number) for number in range(len(labels))] else []
    if len(numbered) == 1:
        return hold_out_test(Source(name, numbered[0], None, numbered[0], class_names), ordered_names)
    train, *validation, test = numbered
    return Source(name, train, validation[0] if validation else None, test, class_names)


def _describe_change(items: Sequence[DatasetItems]) -> list[str]:
    """Return a notice if the dataset returns other images when it is read again, else an empty list."""
    changed = next((part.changed_item for part in items if part.changed_item is not None), None)
    if changed is None:
        return []
    return [
        f"it returns different images each time it is read (for instance {changed}). Each image is read only once, so "
        "a random transform does not vary during a fit, and test and predict may see other images than the fit. Remove "
        "the transform, and set data.augment to change training images at random"
    ]


def _check_parts(items: Sequence[DatasetItems], name: str) -> None:
    """Raise PairsLitError if images of the parts differ in size, or test and training images are the same."""
    sizes = list(dict.fromkeys(format_size(part.images[0]) for part in items))
    if len(sizes) > 1:
        raise PairsLitError(
            f"data.source: {name}: training and test images must have the same size, got {' and '.join(sizes)}. Set "
            "data.resize to the size that all images should have."
        )
    if len(items) > 1 and torch.equal(items[0].images, items[-1].images):
        raise PairsLitError(
            f"data.source: {name}: test images must differ from the training images, got the same images. To split one "
            "part into training and test images, choose it by an argument such as train or split."
        )


def _check_classes(items: Sequence[DatasetItems], class_names: Sequence[str], labels: Sequence[int], name: str) -> None:
    """Raise PairsLitError if there are too few or too many classes, or a class has no training images."""
    if not 2 <= len(class_names) <= MAX_CLASSES:
        only = f" ({class_names[0]!r})" if len(class_names) == 1 else ""
        fix = "Merge some of them." if len(class_names) > MAX_CLASSES else "Add images of other classes."
        raise PairsLitError(
            f"data.source: {name} must have 2 to {MAX_CLASSES} classes, got {len(class_names)}{only}. {fix}"
        )
    for part in items[1:]:
        unknown = next((label for label in _list_labels(part) if label not in labels), None)
        if unknown is not None:
            raise PairsLitError(
                f"data.source: {name}: every label of a test image must occur in training, got label {unknown} in the "
                "test only. Add training images with this label, or remove its test images."
            )


def _list_labels(items: DatasetItems) -> list[int]:
    """Return the labels that occur, ascending."""
    return sorted(set(items.labels.tolist()))
