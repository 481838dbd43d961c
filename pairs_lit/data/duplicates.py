"""Identical images: how many of a source stand in the test and in training, or in two classes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pairs_lit.data.labelled_images import Source
from pairs_lit.system.console import notice
from pairs_lit.text import counted


@dataclass(frozen=True)
class Duplicates:
    """How many images of a source are identical to others, byte for byte, as they were read.

    Attributes:
        test_in_train: Test images that are training images, too.
        validation_in_train: Likewise, validation images of the source's own; 0 where it has none.
        within_train: Training images that repeat another one.
        in_several_classes: Images of any part that stand in another class, too.
    """

    test_in_train: int = 0
    validation_in_train: int = 0
    within_train: int = 0
    in_several_classes: int = 0


def find_duplicates(source: Source) -> Duplicates:
    """Return how many images of a source are identical to others."""
    parts, first = source.parts, source.groups
    groups = torch.split(first, [len(part.labels) for part in parts])
    if len(torch.unique(first)) == len(first):
        return Duplicates()
    train, test = groups[0], groups[-1]
    return Duplicates(
        test_in_train=int(torch.isin(test, train).sum()),
        validation_in_train=int(torch.isin(groups[1], train).sum()) if len(groups) > 2 else 0,
        within_train=len(train) - len(torch.unique(train)),
        in_several_classes=_count_conflicts(first, torch.cat([part.labels for part in parts])),
    )


def _count_conflicts(first: Tensor, labels: Tensor) -> int:
    """Return how many images stand in another class, too."""
    other = labels != labels[first]
    return int(torch.isin(first, first[other]).sum())


def describe(found: Duplicates, source: Source) -> list[str]:
    """Return what to report of identical images, a line for each kind; nothing where there are none."""
    tests, validations = len(source.test.labels), 0 if source.validation is None else len(source.validation.labels)
    return [
        *_describe_leak(found.test_in_train, tests, "test"),
        *_describe_leak(found.validation_in_train, validations, "validation"),
        *_describe_conflicts(found.in_several_classes),
    ]


def _describe_leak(count: int, of: int, part: str) -> list[str]:
    if not count:
        return []
    return [
        f"WARNING: {count} of {counted(of, f'{part} image')} {'is' if count == 1 else 'are'} byte-identical to "
        f"training images, so {part} accuracies are too high. Remove the copies from one of the two"
    ]


def _describe_conflicts(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"WARNING: {counted(count, 'image')} {'is' if count == 1 else 'are'} byte-identical to images of another "
        "class, so labels contradict each other. Keep each image in one class"
    ]


def print_notes(source: Source) -> None:
    """Print what stood out when a source was read, and how many images are identical."""
    for line in [*source.notes, *describe(find_duplicates(source), source)]:
        notice(f"{source.name}: {line}.")
