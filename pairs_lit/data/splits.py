"""Splits that hold out images for test or validation, and keep identical images on the same side."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pairs_lit.data.labelled_images import LabelledImages, Source, group_identical_images
from pairs_lit.errors import PairsLitError

HOLD_OUT_DIVISOR, SPLIT_SEED = 6, 0
"""A source without a test part holds out one of every ``HELD_OUT`` images of each class, drawn with this seed."""


def hold_out_test(whole: Source, class_names: Sequence[str]) -> Source:
    """Return a source in which a sixth of each class's training images becomes the test part.

    Args:
        whole: A source without a test part, whose training images are all its images.
        class_names: The names of its classes in errors.

    Raises:
        PairsLitError: If a class has too few images, or too few different ones.
    """
    train = whole.train
    counts = train.labels.bincount(minlength=train.classes)
    if counts.min() < HOLD_OUT_DIVISOR:
        raise PairsLitError(
            f"data.source: {whole.name}: each class must have {HOLD_OUT_DIVISOR} or more images, because a sixth "
            "is held out "
            f"for the test, got {int(counts.min())} of class {class_names[int(counts.argmin())]!r}. Add images."
        )
    positions = _split_classes(train)
    rest, test = (LabelledImages(train.images[part], train.labels[part], train.classes) for part in positions)
    for part, part_name in ((rest, "training"), (test, "test")):
        missing = next((name for label, name in enumerate(class_names) if label not in part.labels), None)
        if missing is not None:
            raise PairsLitError(
                f"data.source: {whole.name}: class {missing!r} must have different images for training and test, got "
                f"so many identical ones that none are left for {part_name}. Remove the copies, or add images."
            )
    held_out = f"a sixth of each class (seed {SPLIT_SEED})"
    return replace(whole, train=rest, test=test, held_out=held_out)


def _split_classes(whole: LabelledImages) -> tuple[Tensor, Tensor]:
    """Return the positions of the images for training and of those for the test."""
    from sklearn.model_selection import train_test_split

    positions, labels = range(len(whole.labels)), whole.labels
    parts = train_test_split(
        positions, test_size=1 / HOLD_OUT_DIVISOR, random_state=SPLIT_SEED, stratify=labels.numpy()
    )
    train, test = map(torch.tensor, parts)
    groups = group_identical_images(whole.images)
    if not torch.isin(groups[test], groups[train]).any():
        return train, test
    chosen = _choose_groups(torch.cat([test, train]), groups, labels, labels[test].bincount(minlength=whole.classes))
    order = torch.cat([train, test])
    is_test = torch.isin(groups[order], chosen)
    return order[~is_test], order[is_test]


def _choose_groups(order: Tensor, groups: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Return groups of identical images that together hold about ``counts`` test images of each class.

    Groups are chosen in the given order if they still fit. If no group of a class fits, its smallest one is chosen.
    """
    sizes = groups.bincount(minlength=len(groups))
    chosen, remaining = dict[int, None](), counts.clone()
    for position in order.tolist():
        group, label = int(groups[position]), int(labels[position])
        if group not in chosen and sizes[group] <= remaining[label]:
            chosen[group] = None
            remaining -= labels[groups == group].bincount(minlength=len(remaining))
    for label in (remaining == counts).nonzero().flatten().tolist():
        class_groups = torch.unique(groups[labels == label])
        chosen[int(class_groups[sizes[class_groups].argmin()])] = None
    return torch.tensor(list(chosen))


def hold_out(order: Tensor, count: int, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Split images in random order into ``count`` held-out images and the rest, and keep identical images together.

    Without identical images, the first ``count`` are held out. Otherwise groups of identical images are held out in
    order, and a group that no longer fits goes to the rest. A group is divided only if ``count`` cannot be reached
    otherwise.

    Args:
        order: (n,) positions of images.
        count: The number of images to hold out.
        groups: (N,) for each position, that of the first identical image.
    """
    ordered_groups = groups.index_select(0, order)  # five times faster than groups[order]
    is_held_out = torch.zeros(len(groups), dtype=torch.bool).index_fill_(0, ordered_groups[:count], value=True)
    if not is_held_out.index_select(0, ordered_groups[count:]).any():  # torch.isin would sort, which takes 2 ms
        return order[:count], order[count:]
    members: dict[int, list[int]] = {}
    for position, group in zip(order.tolist(), ordered_groups.tolist(), strict=True):
        members.setdefault(group, []).append(position)
    held_out, rest = list[int](), list[int]()
    for positions in members.values():
        (held_out if len(held_out) + len(positions) <= count else rest).extend(positions)
    missing = count - len(held_out)
    return torch.tensor(held_out + rest[:missing]), torch.tensor(rest[missing:])
