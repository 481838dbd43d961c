"""Identical images within a source: in both test and training, or in several classes."""

from dataclasses import dataclass

import torch

from pairs_lit.data.labelled_images import Source
from pairs_lit.system.console import print_notice
from pairs_lit.text import format_count


@dataclass(frozen=True)
class Duplicates:
    """Numbers of images in a source that are byte-identical to others after reading.

    Attributes:
        test_in_train: Test images that also occur in training.
        validation_in_train: Validation images that also occur in training; 0 if the source has no validation part.
        within_train: Training images that repeat an earlier training image.
        in_several_classes: Images of any part that also occur in another class.
    """

    test_in_train: int = 0
    validation_in_train: int = 0
    within_train: int = 0
    in_several_classes: int = 0


def count_duplicates(source: Source) -> Duplicates:
    """Count the images of a source that are identical to others."""
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


def describe_duplicates(duplicates: Duplicates, source: Source) -> list[str]:
    """Return a warning for each kind of harmful duplicates, or an empty list if there are none."""
    leaks = [
        ("test", source.test, duplicates.test_in_train),
        ("validation", source.validation, duplicates.validation_in_train),
    ]
    lines = [
        f"WARNING: {count} of {format_count(len(images.labels), f'{part} image')} {_get_verb(count)} "
        "byte-identical to training "
        f"images, so {part} accuracies are too high. Remove the copies from one of the two"
        for part, images, count in leaks
        if images is not None and count
    ]
    if count := duplicates.in_several_classes:
        lines.append(
            f"WARNING: {format_count(count, 'image')} {_get_verb(count)} byte-identical to images of another "
            "class, so labels "
            "contradict each other. Keep each image in one class"
        )
    return lines


def _get_verb(count: int) -> str:
    return "is" if count == 1 else "are"


def print_notes(source: Source) -> None:
    """Print the notices from reading a source, and warnings about its identical images."""
    for line in [*source.notes, *describe_duplicates(count_duplicates(source), source)]:
        print_notice(f"{source.name}: {line}.")
