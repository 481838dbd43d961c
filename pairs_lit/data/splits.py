"""Images held out for the test or for validation; identical images stay on one side."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pairs_lit.data.labelled_images import LabelledImages, Source, group_identical
from pairs_lit.errors import PairsLitError

HELD_OUT, SPLIT_SEED = 6, 0
"""A set without test images of its own loses every sixth image of each class to the test set, by this seed."""


def hold_out_test(whole: Source, called: Sequence[str]) -> Source:
    """Return a source whose training images are split: a sixth of each class becomes the test.

    Args:
        whole: A source without test images of its own: its training images are all that there are.
        called: What its classes are called, for errors.

    Raises:
        PairsLitError: A class has too few images, or too few different ones.
    """
    train = whole.train
    counts = train.labels.bincount(minlength=train.classes)
    if counts.min() < HELD_OUT:
        raise PairsLitError(
            f"data.source: {whole.name}: class {called[int(counts.argmin())]!r} has {int(counts.min())} images: each "
            f"class needs {HELD_OUT} or more, since a sixth is held out for the test."
        )
    halves = _split_classes(train)
    first, test = (LabelledImages(train.images[part], train.labels[part], train.classes) for part in halves)
    for part, what in ((first, "training"), (test, "test")):
        lacking = next((name for label, name in enumerate(called) if label not in part.labels), None)
        if lacking is not None:
            raise PairsLitError(
                f"data.source: {whole.name}: class {lacking!r} must have different images for training and test, got "
                f"so many identical ones that none is left for the {what}. Remove the copies, or add images."
            )
    held_out = f"a sixth of each class (seed {SPLIT_SEED})"
    return replace(whole, train=first, test=test, held_out=held_out)


def _split_classes(whole: LabelledImages) -> tuple[Tensor, Tensor]:
    """Return which images are for training and which for the test, as positions."""
    from sklearn.model_selection import train_test_split

    places, labels = range(len(whole.labels)), whole.labels
    halves = train_test_split(places, test_size=1 / HELD_OUT, random_state=SPLIT_SEED, stratify=labels.numpy())
    train, test = map(torch.tensor, halves)
    groups = group_identical(whole.images)
    if not torch.isin(groups[test], groups[train]).any():
        return train, test
    chosen = _choose_groups(torch.cat([test, train]), groups, labels, labels[test].bincount(minlength=whole.classes))
    order = torch.cat([train, test])
    is_test = torch.isin(groups[order], chosen)
    return order[~is_test], order[is_test]


def _choose_groups(order: Tensor, groups: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Choose groups of identical images for the test, in this order, until each class has as many images as wanted."""
    sizes = groups.bincount(minlength=len(groups))
    chosen, left = dict[int, None](), wanted.clone()
    for place in order.tolist():
        group, label = int(groups[place]), int(labels[place])
        if group not in chosen and sizes[group] <= left[label]:
            chosen[group] = None
            left -= labels[groups == group].bincount(minlength=len(left))
    for label in (left == wanted).nonzero().flatten().tolist():  # all its groups are large: the smallest one
        own = torch.unique(groups[labels == label])
        chosen[int(own[sizes[own].argmin()])] = None
    return torch.tensor(list(chosen))


def hold_out(order: Tensor, count: int, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Split images, given in random order, into the first ``count`` and the others; identical ones stay together.

    Where none are identical, this cuts the order in two. Else images are taken in groups of identical ones; a group
    that does not fit any more is left to the others. Only where nothing else is left, a group is cut.

    Args:
        order: (n,) positions of images.
        count: How many to hold out.
        groups: (N,) for each position, the first one of an identical image.
    """
    own = groups[order]
    if not torch.isin(own[:count], own[count:]).any():
        return order[:count], order[count:]
    members: dict[int, list[int]] = {}
    for place, group in zip(order.tolist(), own.tolist(), strict=True):
        members.setdefault(group, []).append(place)
    held, rest = list[int](), list[int]()
    for together in members.values():
        (held if len(held) + len(together) <= count else rest).extend(together)
    missing = count - len(held)
    return torch.tensor(held + rest[:missing]), torch.tensor(rest[missing:])
