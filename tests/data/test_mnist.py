"""Files in MNIST's format: reading, verification by hash, and rejection of damaged files."""

import hashlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs_lit.data.sources import SourceName, load_source
from tests.support.mnist_files import (
    FILES,
    TEST,
    TRAIN,
    check_rejected,
    empty_file,
    fail_if_called,
    get_raw_folder,
    read_images,
    read_labels,
    truncate,
    write_html,
    write_idx,
    write_mnist,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_mnist(tmp_path, TRAIN, TEST)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_files_are_read_exactly(root: Path, name: SourceName) -> None:
    source = load_source(name, root, allow_unverified=True)
    assert source.name == "mnist (unverified)"
    assert source.validation is None
    for digits, prefix, count in ((source.train, "train", TRAIN), (source.test, "t10k", TEST)):
        assert (digits.images.shape, digits.images.dtype) == ((count, 28, 28), torch.uint8)
        assert (digits.labels.shape, digits.labels.dtype) == ((count,), torch.int64)
        np.testing.assert_array_equal(
            digits.images.numpy(), read_images(get_raw_folder(root) / f"{prefix}-images-idx3-ubyte")
        )
        np.testing.assert_array_equal(
            digits.labels.numpy(), read_labels(get_raw_folder(root) / f"{prefix}-labels-idx1-ubyte")
        )


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_the_error_of_altered_files_names_one(root: Path, name: SourceName) -> None:
    message = r"train-images-idx3-ubyte is not MNIST's file: .* set data\.allow_unverified to true"
    check_rejected(root, message, name, allow_unverified=False)


@pytest.mark.parametrize("altered", FILES)
def test_a_single_altered_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, altered: str) -> None:
    hashes = {name: hashlib.sha256((get_raw_folder(root) / name).read_bytes()).hexdigest() for name in FILES}
    monkeypatch.setattr("pairs_lit.data.mnist.MNIST_SHA256", hashes)
    assert load_source("mnist", root, allow_unverified=False).name == "mnist"
    with (get_raw_folder(root) / altered).open("ab") as file:
        file.write(b"\0")
    check_rejected(root, rf"{altered} is not MNIST's file", allow_unverified=False)


def keep_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:16])


def write_wrong_magic(path: Path) -> None:
    path.write_bytes(b"\x12\x34\x56\x78" + path.read_bytes()[4:])


def write_unknown_type(path: Path) -> None:
    path.write_bytes(b"\0\0\x0a" + path.read_bytes()[3:])


def write_signed_type(path: Path) -> None:
    path.write_bytes(b"\0\0\x09" + path.read_bytes()[3:])


def remove_some_items(path: Path) -> None:
    write_idx(path, np.zeros((7, 28, 28)) if "images" in path.name else np.zeros(7))


def remove_all_items(path: Path) -> None:
    write_idx(path, np.zeros((0, 28, 28)) if "images" in path.name else np.zeros(0))


def write_small_images(path: Path) -> None:
    write_idx(path, np.zeros((TRAIN if "train" in path.name else TEST, 14, 14)))


def write_other_dimensions(path: Path) -> None:
    write_idx(path, np.zeros((TRAIN, 28)))


def write_non_numbers(path: Path) -> None:
    count = TRAIN if "train" in path.name else TEST
    header = struct.pack(">HBB3I", 0, 0x0D, 3, count, 28, 28)  # 0x0D: float32
    path.write_bytes(header + np.full((count, 28, 28), np.nan, ">f4").tobytes())


def write_eleven_classes(path: Path) -> None:
    write_idx(path, np.arange(TRAIN if "train" in path.name else TEST) % 11)


FORMAT, CLASSES = "ubyte is not in MNIST's format", "labels must be from 0 to 9"
COUNT, SIZE = "uint8 for n labels, got", "images must be 28×28, got 14×14"


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("images-idx3", truncate, FORMAT),
        ("images-idx3", empty_file, FORMAT),
        ("images-idx3", keep_header, FORMAT),
        ("images-idx3", write_wrong_magic, FORMAT),
        ("images-idx3", write_unknown_type, FORMAT),
        ("images-idx3", write_signed_type, FORMAT),
        ("images-idx3", write_html, FORMAT),
        ("images-idx3", write_non_numbers, FORMAT),
        ("images-idx3", remove_all_items, FORMAT),
        ("images-idx3", write_other_dimensions, FORMAT),
        ("images-idx3", remove_some_items, COUNT),
        ("images-idx3", write_small_images, SIZE),
        ("labels-idx1", truncate, FORMAT),
        ("labels-idx1", empty_file, FORMAT),
        ("labels-idx1", write_wrong_magic, FORMAT),
        ("labels-idx1", write_signed_type, FORMAT),
        ("labels-idx1", remove_some_items, COUNT),
        ("labels-idx1", write_eleven_classes, CLASSES),
    ],
)
def test_damaged_files_are_rejected_even_if_unverified_files_are_allowed(
    root: Path, name: SourceName, split: str, kind: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(get_raw_folder(root) / f"{split}-{kind}-ubyte")
    check_rejected(root, f"MNIST/raw.*{split}.*{message}", name)


def test_files_without_any_image_are_rejected(root: Path) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        remove_all_items(get_raw_folder(root) / name)
    check_rejected(root, f"{FORMAT}|{CLASSES}")


@settings(deadline=None, max_examples=40)
@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_truncated_file_is_rejected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str) -> None:
    root = write_mnist(tmp_path_factory.mktemp("cut"), 4, 4)
    content = (get_raw_folder(root) / name).read_bytes()
    (get_raw_folder(root) / name).write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    check_rejected(root, "Replace the files|Replace it")


@pytest.mark.parametrize("flipped", [1, 2, 4, 128])
@pytest.mark.parametrize("place", range(16))
def test_an_image_file_with_a_changed_header_is_rejected(tmp_path: Path, place: int, flipped: int) -> None:
    root = write_mnist(tmp_path, 4, 4)
    changed = bytearray((get_raw_folder(root) / "train-images-idx3-ubyte").read_bytes())
    changed[place] ^= flipped
    (get_raw_folder(root) / "train-images-idx3-ubyte").write_bytes(changed)
    check_rejected(root, "Replace the files|Replace it")


def test_torchvisions_old_cache_is_ignored(root: Path) -> None:
    (root / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        old = (torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
        torch.save(old, root / "MNIST" / "processed" / name)
    source = load_source("mnist", root, allow_unverified=True)
    np.testing.assert_array_equal(
        source.train.images.numpy(), read_images(get_raw_folder(root) / "train-images-idx3-ubyte")
    )


def test_real_mnist_passes_its_hashes(mnist_root: Path) -> None:
    source = load_source("auto", mnist_root, allow_unverified=False)
    assert source.name == "mnist"
    assert source.validation is None
    assert source.train.images.shape == (60000, 28, 28)
    assert source.test.images.shape == (10000, 28, 28)
    assert source.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert source.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_one_changed_byte_of_real_mnist_is_rejected(mnist_root: Path, tmp_path: Path) -> None:
    shutil.copytree(get_raw_folder(mnist_root), get_raw_folder(tmp_path))
    path = get_raw_folder(tmp_path) / "t10k-labels-idx1-ubyte"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")
    check_rejected(tmp_path, "t10k-labels-idx1-ubyte is not MNIST's file", "auto", allow_unverified=False)


def test_files_that_are_present_never_need_the_network(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs_lit.data.mnist._is_reachable", fail_if_called)
    assert load_source("auto", root, allow_unverified=True).name == "mnist (unverified)"
