"""Sources of labelled digits: MNIST, scikit-learn's bundled digits, or whichever is available."""

from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F

from pairs_lit.data.images import Digits, Source
from pairs_lit.data.mnist import download_missing, load_mnist
from pairs_lit.errors import PairsLitError, notice

SourceName = Literal["auto", "mnist", "digits"]


def load_source(name: SourceName, root: Path, *, allow_unverified: bool) -> Source:
    """Load a source by name.

    ``auto`` is MNIST where its files lie under ``root`` or can be downloaded, else the bundled digits, with a loud
    warning. See :func:`~pairs_lit.data.mnist.load_mnist` for where the files lie and what is accepted.

    Raises:
        PairsLitError: MNIST was asked for and is not available, or its files are damaged, with ``auto`` too.
    """
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


def _bundled_digits() -> Source:
    """scikit-learn's 1,797 digits (8×8), scaled to 0 … 255 and 28×28, split once: 1,197 train, 300 val, 300 test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    rest, test = train_test_split(range(1797), test_size=300, random_state=0, stratify=bunch.target)
    train, validation = train_test_split(rest, test_size=300, random_state=0, stratify=bunch.target[rest])
    small = torch.from_numpy(bunch.images)[:, None] * (255 / 16)
    images = F.interpolate(small, size=(28, 28), mode="bilinear")[:, 0].round().to(torch.uint8)
    labels = torch.from_numpy(bunch.target).long()
    parts = [Digits(images[part], labels[part]) for part in (train, validation, test)]
    return Source("digits", *parts)
