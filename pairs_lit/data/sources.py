"""Sources of labelled digits: MNIST, scikit-learn's bundled digits, or whichever can be had."""

import hashlib
import shutil
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError, notice
from pairs_lit.locks import lock_downloads
from pairs_lit.relation import DIGITS

SourceName = Literal["auto", "mnist", "digits"]

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The hashes of MNIST's four files, unpacked, as LeCun, Cortes and Burges published them."""

PROBE_SECONDS = 5.0
STALL_SECONDS = 20.0


@dataclass(frozen=True)
class Digits:
    """Labelled images.

    Attributes:
        images: (n, 28, 28) uint8, 0 … 255.
        labels: (n,) int64, 0 … 9.

    Raises:
        PairsLitError: They are not that.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Check both."""
        if self.images.dtype != torch.uint8 or self.images.shape != (len(self.labels), 28, 28):
            raise PairsLitError(
                f"images of shape {tuple(self.images.shape)} and {self.images.dtype} with {len(self.labels)} labels: "
                "(n, 28, 28) and uint8 are needed for n labels."
            )
        if self.labels.dtype != torch.int64 or self.labels.dim() != 1 or len(self.labels) == 0:
            raise PairsLitError(
                f"labels of shape {tuple(self.labels.shape)} and {self.labels.dtype}: (n,) and int64 are needed."
            )
        if self.labels.min() < 0 or self.labels.max() >= DIGITS:
            raise PairsLitError(f"labels from {self.labels.min()} to {self.labels.max()}: 0 … 9 are needed.")


@dataclass(frozen=True)
class Source:
    """Where digits come from.

    Attributes:
        name: As it stands in every table: ``mnist``, ``mnist (unverified)`` or ``digits``.
        train: What training pairs are drawn from.
        validation: What validation pairs are drawn from; None: from training images that no training pair uses.
        test: What test pairs are drawn from; only ever evaluated.
    """

    name: str
    train: Digits
    validation: Digits | None
    test: Digits


def load_source(name: SourceName, root: Path, *, allow_unverified: bool) -> Source:
    """Load a source by name.

    ``auto`` is MNIST where its files lie under ``root`` or can be downloaded, else the bundled digits, with a loud
    warning. Damaged files are an error in every case.

    Args:
        name: ``auto``, ``mnist`` or ``digits``.
        root: The folder that holds, or is to hold, ``MNIST/raw`` as torchvision lays it out.
        allow_unverified: Accept files in MNIST's format whose hashes are not MNIST's.

    Raises:
        PairsLitError: MNIST was asked for and cannot be had, or its files are damaged.
    """
    if name == "digits":
        return _bundled_digits()
    if _missing(root):
        try:
            _download(root)
        except PairsLitError as error:
            if name == "mnist":
                raise
            _warn_loudly(str(error))
            return _bundled_digits()
    return _mnist(root, allow_unverified=allow_unverified)


def _raw(root: Path) -> Path:
    return root / "MNIST" / "raw"


def _missing(root: Path) -> list[str]:
    return [name for name in MNIST_SHA256 if not (_raw(root) / name).is_file()]


def _mnist(root: Path, *, allow_unverified: bool) -> Source:
    altered = [name for name, expected in MNIST_SHA256.items() if _sha256(_raw(root) / name) != expected]
    if altered and not allow_unverified:
        raise PairsLitError(
            f"{_raw(root) / altered[0]} is not MNIST's file (truncated or altered: its SHA-256 differs). "
            "Delete it to download it anew, or set data.allow_unverified to true if the files are your own."
        )
    train, test = (_read_mnist(root, train=train) for train in (True, False))
    return Source("mnist (unverified)" if altered else "mnist", train, None, test)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_mnist(root: Path, *, train: bool) -> Digits:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    name = "train" if train else "t10k"
    images = _read(_raw(root) / f"{name}-images-idx3-ubyte", read_image_file)
    labels = _read(_raw(root) / f"{name}-labels-idx1-ubyte", read_label_file)
    try:
        return Digits(images, labels)
    except PairsLitError as error:
        raise PairsLitError(f"{_raw(root) / name}-*: {error} Replace the files.") from error


def _read(file: Path, read: Callable[[str], Tensor]) -> Tensor:
    try:
        return read(str(file))
    except (AssertionError, ValueError, RuntimeError, IndexError, KeyError, TypeError) as error:
        raise PairsLitError(f"{file} is not in MNIST's format; replace it.") from error


def _download(root: Path) -> None:
    """Fetch MNIST into a folder beside its final place and move it there, so that no part file looks whole."""
    from torchvision.datasets import MNIST

    if not _reachable(MNIST.mirrors):
        raise PairsLitError(
            f"MNIST is not in {_raw(root)} and its servers do not answer: set data.root (or PAIRS_LIT_DATA) to the "
            "folder that holds MNIST/raw, or set data.source to digits."
        )
    notice(f"downloading MNIST to {root} …")
    try:
        _raw(root).mkdir(parents=True, exist_ok=True)
        with lock_downloads(root):
            _fetch(root)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())
        raise PairsLitError(
            f"MNIST could not be downloaded to {root} ({reason}): set data.source to digits."
        ) from error


def _fetch(root: Path) -> None:
    """Download what is still missing; under the lock, since the timeout is one for all threads."""
    from torchvision.datasets import MNIST

    if not _missing(root):  # another process was first
        return
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)  # torchvision's download has no timeout of its own
    try:
        with _empty_folder(root / ".download") as folder:
            MNIST(folder, download=True)
            for name in _missing(root):
                (_raw(folder) / name).replace(_raw(root) / name)
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _empty_folder(folder: Path) -> Iterator[Path]:
    """Make a folder and delete it in the end; one that a killed process left behind makes room."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reachable(mirrors: list[str]) -> bool:
    """Ask the mirrors, all at once; looking up a name can hang for longer than any timeout, hence the threads."""
    answered = threading.Event()

    def ask(mirror: str) -> None:
        request = urllib.request.Request(mirror + "train-labels-idx1-ubyte.gz", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answered.set()
        except (OSError, ValueError, HTTPException):
            return

    threads = [threading.Thread(target=ask, args=(mirror,), daemon=True) for mirror in mirrors]
    for thread in threads:
        thread.start()
    return _any_answer(answered, threads)


def _any_answer(answered: threading.Event, threads: list[threading.Thread]) -> bool:
    step = 0.05
    for _ in range(round(PROBE_SECONDS / step)):
        if answered.wait(step) or not any(thread.is_alive() for thread in threads):
            break
    return answered.is_set()


def _warn_loudly(reason: str) -> None:
    line = "*" * 100
    notice(
        f"WARNING\n{line}\n{reason}\nUsing scikit-learn's bundled digits instead: the numbers are NOT MNIST's.\n{line}"
    )


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
