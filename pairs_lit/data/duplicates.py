"""Identical images: how many of a source stand in the test and in training, or in two classes."""

from dataclasses import dataclass

import torch

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
    first, labels = source.groups, torch.cat([part.labels for part in source.parts])
    if len(torch.unique(first)) == len(first):
        return Duplicates()
    train, *validation, test = torch.split(first, [len(part.labels) for part in source.parts])
    is_contradicted = labels != labels[first]
    return Duplicates(
        test_in_train=int(torch.isin(test, train).sum()),
        validation_in_train=sum(int(torch.isin(part, train).sum()) for part in validation),
        within_train=len(train) - len(torch.unique(train)),
        in_several_classes=int(torch.isin(first, first[is_contradicted]).sum()),
    )


def describe(found: Duplicates, source: Source) -> list[str]:
    """Return what to report of identical images, a line for each kind; nothing where there are none."""
    leaks = [("test", source.test, found.test_in_train), ("validation", source.validation, found.validation_in_train)]
    lines = [
        f"WARNING: {count} of {counted(len(images.labels), f'{part} image')} {_are(count)} byte-identical to training "
        f"images, so {part} accuracies are too high. Remove the copies from one of the two"
        for part, images, count in leaks
        if images is not None and count
    ]
    if count := found.in_several_classes:
        lines.append(
            f"WARNING: {counted(count, 'image')} {_are(count)} byte-identical to images of another class, so labels "
            "contradict each other. Keep each image in one class"
        )
    return lines


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def print_notes(source: Source) -> None:
    """Print what stood out when a source was read, and how many images are identical."""
    for line in [*source.notes, *describe(find_duplicates(source), source)]:
        notice(f"{source.name}: {line}.")
