"""Sources of labelled images: MNIST, scikit-learn's bundled digits, or a dataset of the user's choice."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
import yaml
from torch.nn import functional as F

from pairs_lit.data.class_names import ClassName, order_classes
from pairs_lit.data.duplicates import print_notes
from pairs_lit.data.labelled_images import LabelledImages, Source, transpose_images
from pairs_lit.data.mnist import MNIST_SIZE, download_missing, load_mnist
from pairs_lit.data.resize import resize_images
from pairs_lit.errors import PairsLitError
from pairs_lit.relation import DIGITS
from pairs_lit.runs.yaml_text import load
from pairs_lit.system.console import notice

SourceName = Literal["auto", "mnist", "digits"]

SourceSpec = str | Mapping[str, Any]
"""A :data:`SourceName`, the import path of a dataset's class, or ``{class_path: ..., init_args: {...}}``, as a text or
as a mapping."""

_loaded: ContextVar[dict[str, Source] | None] = ContextVar("loaded", default=None)


def check_source(source: SourceSpec) -> None:
    """Check that a source is a known name, or the class path of a dataset with its arguments.

    Raises:
        PairsLitError: It is something else.
    """
    path, arguments = _parts(source)
    if is_named(path) and source != path:
        raise PairsLitError(
            f"data.source is {path} with {', '.join(arguments) or 'no arguments'}: it takes none, write {path} alone."
        )
    if is_named(path) or (path.count(".") > 0 and all(part.isidentifier() for part in path.split("."))):
        return
    names = ", ".join(map(repr, get_args(SourceName)))
    raise PairsLitError(
        f"data.source is {path!r:.100}: it must be one of {names}, or a dataset's class path, such as "
        "torchvision.datasets.FashionMNIST."
    )


def is_named(source: SourceSpec) -> bool:
    """Return whether a source has a name: then its classes and size are known before it is loaded."""
    return source in get_args(SourceName)


def known_size(resize: int | None) -> int:
    """Return the height and width of the images of a source that has a name."""
    return resize or MNIST_SIZE


def _parts(source: SourceSpec) -> tuple[str, Mapping[str, Any]]:
    """Return class path and arguments."""
    given: object = source
    if isinstance(source, str):
        if "{" not in source:
            return source, {}
        try:
            given = load(source, "data.source")
        except yaml.YAMLError:
            given = None
    if isinstance(given, Mapping) and given.keys() <= {"class_path", "init_args"}:
        path, arguments = given.get("class_path"), given.get("init_args") or {}
        if isinstance(path, str) and isinstance(arguments, Mapping):
            return path, arguments
    raise PairsLitError(
        f"data.source is {source!r:.200}: a name, a class path, or class_path with init_args, a mapping, is needed."
    )


@contextmanager
def loaded_once() -> Iterator[None]:
    """Load the same source only once within this context: for many configurations that are read one by one."""
    token = _loaded.set({})
    try:
        yield
    finally:
        _loaded.reset(token)


def load_source(
    source: SourceSpec,
    root: Path,
    *,
    allow_unverified: bool,
    resize: int | None = None,
    class_names: Sequence[ClassName] | None = None,
    transpose: bool = False,
) -> Source:
    """Load a source by name or class path.

    ``auto`` is MNIST where its files lie under ``root`` or can be downloaded, else the bundled digits, with a loud
    warning. See :func:`~pairs_lit.data.mnist.load_mnist` for where MNIST's files lie and what is accepted, and
    :func:`~pairs_lit.data.custom_dataset.load_custom_dataset` for datasets.

    Args:
        source: Its name, or the class path of a dataset, or both class path and arguments.
        root: Where its files lie.
        allow_unverified: Accept files in MNIST's format that are not MNIST's.
        resize: The height and width to give the images; None: as they are.
        class_names: The order and names of the classes, see :func:`~pairs_lit.data.class_names.order_classes`; None: as
            they are.
        transpose: Exchange rows and columns of the images, which are stored so.

    Raises:
        PairsLitError: It was asked for and is not available, or its files are damaged, with ``auto`` too.
    """
    kept, key = _loaded.get(), repr((source, root, allow_unverified, resize, class_names, transpose))
    if kept is not None and key in kept:
        return kept[key]
    if is_named(source):
        named = _load_named(cast(SourceName, source), root, allow_unverified=allow_unverified)
        found = _with_classes(_resized(transpose_images(named) if transpose else named, resize), class_names)
        print_notes(found)
    else:
        from pairs_lit.data.custom_dataset import load_custom_dataset  # imports torchvision, which takes its time

        found = load_custom_dataset(*_parts(source), root, resize=resize, class_names=class_names, transpose=transpose)
    if kept is not None:
        kept.clear()  # only the last one: they take memory
        kept[key] = found
    return found


def _load_named(name: SourceName, root: Path, *, allow_unverified: bool) -> Source:
    if name == "digits":
        return _bundled_digits()
    try:
        download_missing(root)
    except PairsLitError as error:
        if name == "mnist":
            raise
        line = "*" * 100
        instead = "Using scikit-learn's bundled digits instead: the numbers are NOT MNIST's."
        notice(f"WARNING\n{line}\n{error}\n{instead}\n{line}")
        return _bundled_digits()
    return load_mnist(root, allow_unverified=allow_unverified)


def _resized(source: Source, size: int | None) -> Source:
    try:
        return source.with_parts(lambda part: replace(part, images=resize_images(part.images, size)))
    except PairsLitError as error:
        raise PairsLitError(f"data.source: {source.name}: {error}.") from error


def _with_classes(source: Source, names: Sequence[ClassName] | None) -> Source:
    """Return a source whose ten digits have other names, or another order."""
    if names is None:
        return source
    order, called = order_classes(range(DIGITS), {}, names, f"data.source {source.name}")
    number_of = torch.tensor(order).argsort()
    named = called if called != [str(digit) for digit in range(DIGITS)] else []
    return replace(source.with_parts(lambda part: replace(part, labels=number_of[part.labels])), class_names=named)


def _bundled_digits() -> Source:
    """scikit-learn's 1,797 digits (8×8), scaled to 0 … 255 and 28×28, split once: 1,197 train, 300 val, 300 test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    rest, test = train_test_split(range(1797), test_size=300, random_state=0, stratify=bunch.target)
    train, validation = train_test_split(rest, test_size=300, random_state=0, stratify=bunch.target[rest])
    small = torch.from_numpy(bunch.images)[:, None] * (255 / 16)
    size = (MNIST_SIZE, MNIST_SIZE)
    images = F.interpolate(small, size=size, mode="bilinear")[:, 0].round().to(torch.uint8)
    labels = torch.from_numpy(bunch.target).long()
    parts = [LabelledImages(images[part], labels[part]) for part in (train, validation, test)]
    return Source("digits", parts[0], parts[1], parts[2], original_size=f"{MNIST_SIZE}x{MNIST_SIZE}")
