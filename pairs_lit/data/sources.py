"""Sources of labelled images: MNIST, scikit-learn's bundled digits, or a custom dataset."""

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
from pairs_lit.relation import NUM_DIGITS
from pairs_lit.runs.yaml_text import load_yaml
from pairs_lit.system.console import print_notice

SourceName = Literal["auto", "mnist", "digits"]

SourceSpec = str | Mapping[str, Any]
"""A :data:`SourceName`, the import path of a dataset class, or ``{class_path: ..., init_args: {...}}`` as text or
mapping."""

_source_cache: ContextVar[dict[str, Source] | None] = ContextVar("loaded", default=None)


def check_source(source: SourceSpec) -> None:
    """Raise PairsLitError unless a source is a known name, or a dataset's class path with or without arguments."""
    path, arguments = _split_spec(source)
    if is_named_source(path) and source != path:
        raise PairsLitError(
            f"data.source: {path} is a name and must be given without class_path and arguments, got "
            f"{', '.join(arguments) or 'class_path'}. Write {path} alone."
        )
    if is_named_source(path) or (path.count(".") > 0 and all(part.isidentifier() for part in path.split("."))):
        return
    names = ", ".join(map(repr, get_args(SourceName)))
    raise PairsLitError(
        f"data.source must be {names} or a dataset's class path, such as torchvision.datasets.FashionMNIST, got "
        f"{path!r:.100}."
    )


def is_named_source(source: SourceSpec) -> bool:
    """Return whether a source is a :data:`SourceName`, so that its classes and size are known before it is loaded."""
    return source in get_args(SourceName)


def get_named_source_size(resize: int | None) -> int:
    """Return the height and width of the images of any source for which :func:`is_named` is true."""
    return resize or MNIST_SIZE


def _split_spec(source: SourceSpec) -> tuple[str, Mapping[str, Any]]:
    """Return the name or class path of a source, and its arguments."""
    spec: object = source
    if isinstance(source, str):
        if "{" not in source:
            return source, {}
        try:
            spec = load_yaml(source, "data.source")
        except yaml.YAMLError:
            spec = None
    if isinstance(spec, Mapping) and spec.keys() <= {"class_path", "init_args"}:
        path, arguments = spec.get("class_path"), spec.get("init_args") or {}
        if isinstance(path, str) and isinstance(arguments, Mapping):
            return path, arguments
    raise PairsLitError(
        f"data.source must be a name, a class path, or a mapping of class_path and init_args, got {source!r:.200}."
    )


@contextmanager
def cache_sources() -> Iterator[None]:
    """Reuse the last loaded source within this context, for many configurations with the same source."""
    token = _source_cache.set({})
    try:
        yield
    finally:
        _source_cache.reset(token)


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

    ``auto`` is MNIST if its files are under ``root`` or can be downloaded, else the bundled digits, with a loud
    warning. See :func:`~pairs_lit.data.mnist.load_mnist` for the accepted files of MNIST, and
    :func:`~pairs_lit.data.custom_dataset.load_custom_dataset` for datasets.

    Args:
        source: A name, a dataset's class path, or a class path with arguments.
        root: The folder that holds the source's files.
        allow_unverified: Whether to accept files in MNIST's format with other hashes.
        resize: The height and width to which images are resized, or None to keep their size.
        class_names: The order and names of the classes, see :func:`~pairs_lit.data.class_names.order_classes`.
        transpose: Whether to exchange rows and columns of the images.

    Raises:
        PairsLitError: If the source is not available, or its files are damaged (also with ``auto``).
    """
    cache, key = _source_cache.get(), repr((source, root, allow_unverified, resize, class_names, transpose))
    if cache is not None and key in cache:
        return cache[key]
    if is_named_source(source):
        stored = _load_named(cast(SourceName, source), root, allow_unverified=allow_unverified)
        loaded = _apply_class_names(
            _resize_source(transpose_images(stored) if transpose else stored, resize), class_names
        )
        print_notes(loaded)
    else:
        from pairs_lit.data.custom_dataset import load_custom_dataset  # imports torchvision, which is slow

        loaded = load_custom_dataset(
            *_split_spec(source), root, resize=resize, class_names=class_names, transpose=transpose
        )
    if cache is not None:
        cache.clear()  # keep only the last source to save memory
        cache[key] = loaded
    return loaded


def _load_named(name: SourceName, root: Path, *, allow_unverified: bool) -> Source:
    """Load a named source; ``auto`` falls back to the bundled digits if MNIST cannot be downloaded."""
    if name == "digits":
        return _load_bundled_digits()
    try:
        download_missing(root)
    except PairsLitError as error:
        if name == "mnist":
            raise
        line = "*" * 100
        fallback = "Using scikit-learn's bundled digits instead: the results are NOT those of MNIST."
        print_notice(f"WARNING\n{line}\n{error}\n{fallback}\n{line}")
        return _load_bundled_digits()
    return load_mnist(root, allow_unverified=allow_unverified)


def _resize_source(source: Source, size: int | None) -> Source:
    """Return a source with resized images."""
    try:
        return source.map_parts(lambda part: replace(part, images=resize_images(part.images, size)))
    except PairsLitError as error:
        raise PairsLitError(f"data.source: {source.name}: {error}.") from error


def _apply_class_names(source: Source, names: Sequence[ClassName] | None) -> Source:
    """Return a source of digits with the requested class names and order of classes."""
    if names is None:
        return source
    order, ordered_names = order_classes(range(NUM_DIGITS), {}, names, f"data.source {source.name}")
    class_numbers = torch.tensor(order).argsort()
    class_names = ordered_names if ordered_names != [str(digit) for digit in range(NUM_DIGITS)] else []
    renumbered = source.map_parts(lambda part: replace(part, labels=class_numbers[part.labels]))
    return replace(renumbered, class_names=class_names)


def _load_bundled_digits() -> Source:
    """Load scikit-learn's 1,797 digits (8×8), scaled to 0 … 255 and 28×28.

    They are split with a fixed seed into 1,197 training, 300 validation and 300 test images.
    """
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
