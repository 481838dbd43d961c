"""MNIST: search for its four files under their usual names, verification by SHA-256, and download."""

import gzip
import hashlib
import queue
import shutil
import tempfile
import threading
import time
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

from pairs_lit.data.download import download_folder
from pairs_lit.data.labelled_images import LabelledImages, Source
from pairs_lit.errors import PairsLitError
from pairs_lit.system.console import print_notice
from pairs_lit.system.files import replace_file
from pairs_lit.text import replace_control_characters

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The SHA-256 of MNIST's four unpacked files as published by LeCun, Cortes and Burges."""

MNIST_SIZE = 28
"""The height and width of MNIST's images."""

PROBE_SECONDS = 5.0
"""The time within which a mirror must answer before a download is started."""


def load_mnist(root: Path, *, allow_unverified: bool) -> Source:
    """Load MNIST from its files.

    The four files may be in ``root/MNIST/raw`` (torchvision's layout), in ``root/raw`` or in ``root``. They may be
    packed (``.gz``), have a hyphen or a dot in their names (``train-images.idx3-ubyte``), or each be in a folder with
    the file's name. ``allow_unverified`` accepts files in MNIST's format with other hashes.

    Raises:
        PairsLitError: If files are damaged, or their hashes are not MNIST's.
    """
    paths = {name: path for name in MNIST_SHA256 if (path := _find_file(root, name)) is not None}
    with tempfile.TemporaryDirectory(prefix="pairs_lit-") as folder:
        files = {name: unpack_file(path, Path(folder) / name) for name, path in paths.items()}
        hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
        altered = [name for name, sha256 in hashes.items() if sha256 != MNIST_SHA256[name]]
        if altered and not allow_unverified:
            raise PairsLitError(
                f"{paths[altered[0]]} is not MNIST's file: its SHA-256 differs, so it is truncated or altered. "
                "Delete it to download it again, or set data.allow_unverified to true to use your own data in MNIST's "
                "format."
            )
        train, test = (_read_part(root, files, part) for part in ("train", "t10k"))
    name, size = "mnist (unverified)" if altered else "mnist", f"{MNIST_SIZE}x{MNIST_SIZE}"
    return Source(name, train, None, test, original_size=size)


def _list_folders(root: Path) -> list[Path]:
    """Return the folders that may hold MNIST's files; if the root is a file, its folder is the root."""
    base = root.parent if root.is_file() else root
    return [base / "MNIST" / "raw", base / "raw", base]


def _find_file(root: Path, name: str) -> Path | None:
    """Return the path of one of MNIST's four files, or None if it is missing.

    Some archives hold each file in a folder with the file's name.
    """
    spellings = (name, name.replace("-idx", ".idx"))
    candidates = [f"{spelling}{extension}" for extension in ("", ".gz") for spelling in spellings]
    candidates += [f"{spelling}/{spelling}" for spelling in spellings]
    paths = (folder / candidate for folder in _list_folders(root) for candidate in candidates)
    return next((path for path in paths if path.is_file()), None)


def _get_download_folder(root: Path) -> Path:
    """Return the folder for downloads: the one that already holds some of the files, else ``root/MNIST/raw``."""
    folders = _list_folders(root)
    used_folders = (path.parent for name in MNIST_SHA256 if (path := _find_file(root, name)) is not None)
    return next((folder for folder in used_folders if folder in folders), folders[0])


def _list_missing(root: Path) -> list[str]:
    """Return the names of those of MNIST's files that are missing."""
    return [name for name in MNIST_SHA256 if _find_file(root, name) is None]


def unpack_file(file: Path, copy: Path) -> Path:
    """Return a file unchanged, or unpacked to ``copy`` if its content is packed.

    The file name is not reliable, because some browsers pack or unpack a download without renaming it.

    Raises:
        PairsLitError: If the file is damaged.
    """
    with file.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return file
    try:
        with gzip.open(file) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PairsLitError(f"{file} is damaged and cannot be unpacked. Replace it.") from error
    return copy


def _read_part(root: Path, files: dict[str, Path], part: str) -> LabelledImages:
    """Read images and labels of a part, ``train`` or ``t10k``, and check that they match."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    tensors = []
    for name, read in ((f"{part}-images-idx3-ubyte", read_image_file), (f"{part}-labels-idx1-ubyte", read_label_file)):
        try:
            tensors.append(read(str(files[name])))
        except (AssertionError, ValueError, RuntimeError, IndexError, KeyError, TypeError) as error:
            raise PairsLitError(f"{_find_file(root, name)} is not in MNIST's format. Replace it.") from error
    try:
        images = LabelledImages(*tensors)
        if images.size != MNIST_SIZE:
            raise PairsLitError(f"images must be 28×28, got {images.size}×{images.size}.")
        return images
    except PairsLitError as error:
        raise PairsLitError(f"{_get_download_folder(root) / part}-*: {error} Replace the files.") from error


def download_missing(root: Path) -> None:
    """Download those of MNIST's files that are missing under ``root``.

    Raises:
        PairsLitError: If they cannot be downloaded; the message lists the files that were found instead.
    """
    from torchvision.datasets import MNIST

    if not _list_missing(root):
        return
    if not _is_reachable(MNIST.mirrors):
        raise PairsLitError(
            f"MNIST is not in {_get_download_folder(root)}{_describe_files_found(root)} and its servers do not "
            "answer. Set data.root (or "
            "PAIRS_LIT_DATA) to the folder that holds MNIST/raw, or set data.source to digits."
        )
    print_notice(f"downloading MNIST to {root} …")
    try:
        _get_download_folder(root).mkdir(parents=True, exist_ok=True)
        _download_files(root)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())
        raise PairsLitError(
            f"MNIST could not be downloaded to {root} ({reason}). Try again later, or set data.source to digits."
        ) from error


def _describe_files_found(root: Path) -> str:
    """Return a text about the files in MNIST's possible folders and the missing ones; empty if there are no files."""
    names = {path.name for folder in _list_folders(root) if folder.is_dir() for path in folder.iterdir()}
    visible = sorted(name for name in names if not name.startswith("."))
    listing = ", ".join(visible[:4]) + (f" and {len(visible) - 4} more" if len(visible) > 4 else "")
    missing = ", ".join(f"{name}[.gz]" for name in _list_missing(root))
    return f" (found: {replace_control_characters(listing)}; missing: {missing})" if visible else ""


def _download_files(root: Path) -> None:
    """Download the files that are still missing."""
    from torchvision.datasets import MNIST

    with download_folder(root) as folder:
        if not _list_missing(root):  # another process has downloaded them meanwhile
            return
        MNIST(folder, download=True)
        for name in _list_missing(root):
            replace_file(folder / "MNIST" / "raw" / name, _get_download_folder(root) / name)


def _is_reachable(mirrors: list[str]) -> bool:
    """Return whether any mirror answers within :data:`PROBE_SECONDS`.

    Each mirror is probed in a thread, because resolving a host name can take longer than the timeout of a request.
    """
    answers = queue.SimpleQueue[bool]()

    def ask(mirror: str) -> None:
        request = urllib.request.Request(mirror + "train-labels-idx1-ubyte.gz", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answers.put(True)
        except (OSError, ValueError, HTTPException):
            answers.put(False)

    for mirror in mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    deadline = time.monotonic() + PROBE_SECONDS
    try:
        return any(answers.get(timeout=max(0, deadline - time.monotonic())) for _ in mirrors)
    except queue.Empty:
        return False
