"""Files in MNIST's format: folders, contents, and ways to damage them."""

import struct
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from pairs_lit.data.mnist import MNIST_SHA256
from pairs_lit.data.sources import SourceName, load_source
from pairs_lit.errors import PairsLitError

TRAIN, TEST = 40, 20
FILES = tuple(MNIST_SHA256)


def get_raw_folder(root: Path) -> Path:
    return root / "MNIST" / "raw"


def read_images(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)


def read_labels(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), np.uint8, offset=8)


def list_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]


def check_rejected(root: Path, message: str, name: SourceName = "mnist", *, allow_unverified: bool = True) -> None:
    """Check that loading MNIST from ``root`` raises PairsLitError with this message."""
    with pytest.raises(PairsLitError, match=message):
        load_source(name, root, allow_unverified=allow_unverified)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def write_html(path: Path) -> None:
    path.write_text("<html>404 not found</html>", encoding="utf-8")


def fail_if_called(*_: object) -> NoReturn:
    raise AssertionError("the network must not be used")


TINY_TRAIN, TINY_TEST = 400, 200


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes in MNIST's file format (IDX)."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, train: int = TINY_TRAIN, test: int = TINY_TEST) -> Path:
    """Write synthetic digits in MNIST's format under ``root``: ten blurred patterns with noise."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2, (10, 7, 7)).repeat(4, 1).repeat(4, 2) * 180
    for name, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        images = patterns[labels] + rng.integers(0, 70, (count, 28, 28))
        write_idx(raw / f"{name}-images-idx3-ubyte", images)
        write_idx(raw / f"{name}-labels-idx1-ubyte", labels)
    return root
