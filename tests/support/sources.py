"""Helpers for custom sources: class paths, loading, and checks of errors."""

from pathlib import Path
from typing import Any

import pytest

from pairs_lit.data.labelled_images import Source
from pairs_lit.data.sources import SourceSpec, load_source
from pairs_lit.errors import PairsLitError

CUSTOM_DATASETS, SETS = "tests.support.custom_datasets", "torchvision.datasets"
FOLDER = f"{SETS}.ImageFolder"
COUNTS = {"data.train_pairs": 30, "data.val_pairs": 10, "data.test_pairs": 10}
OPTIONS = COUNTS | {"rounds.count": 2, "trainer.max_epochs": 2, "trainer.devices": 1}


def load(source: SourceSpec, root: Path = Path("nowhere"), resize: int | None = None) -> Source:
    return load_source(source, root, allow_unverified=False, resize=resize)


def check_rejected(message: str, source: SourceSpec, root: Path = Path("nowhere"), resize: int | None = None) -> None:
    """Check that loading a source raises PairsLitError with this message, in one line."""
    with pytest.raises(PairsLitError, match=message) as caught:
        load(source, root, resize)
    assert "\n" not in str(caught.value)


def load_custom(name: str, **arguments: Any) -> Source:  # noqa: ANN401 - of any type
    """Load a dataset of :mod:`tests.support.custom_datasets` with these arguments."""
    return load({"class_path": f"{CUSTOM_DATASETS}.{name}", "init_args": arguments})
