"""Datasets given by class path: torchvision's datasets, arguments, downloads and errors."""

import gzip
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.sources import SourceSpec, load_source
from pairs_lit.errors import PairsLitError
from tests.support.custom_datasets import build_images
from tests.support.images import write_like_mnist
from tests.support.mnist_files import write_idx
from tests.support.sources import CUSTOM_DATASETS, SETS, check_rejected, load


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST", "MNIST"])
def test_datasets_in_mnists_format_are_read_exactly(tmp_path: Path, name: str, packed: bool) -> None:
    raw = write_like_mnist(tmp_path, name) / name / "raw"
    if packed:
        for file in list(raw.iterdir()):
            Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    source = load(f"{SETS}.{name}", tmp_path)
    images, labels = build_images(60, 10, 28)
    np.testing.assert_array_equal(source.train.images.numpy(), images)
    np.testing.assert_array_equal(source.train.labels.numpy(), labels)
    np.testing.assert_array_equal(source.test.images.numpy(), 255 - build_images(30, 10, 28)[0])
    assert (source.name, source.held_out) == (name, None)
    assert source.class_names == getattr(datasets, name).classes
    assert not packed or {path.suffix for path in raw.iterdir()} == {".gz"}


def test_emnist_has_both_parts_of_its_split_and_is_upright(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_like_mnist(tmp_path, "EMNIST", "emnist-letters-", "test", first=1)
    source = load({"class_path": f"{SETS}.EMNIST", "init_args": {"split": "letters"}}, tmp_path)
    assert (source.name, len(source.train.labels), len(source.test.labels)) == ("EMNIST (split letters)", 60, 30)
    assert source.class_names == list("abcdefghij")
    images = build_images(60, 10, 28)[0]
    np.testing.assert_array_equal(source.train.images.numpy(), images.swapaxes(1, 2))  # as torchvision stores them
    assert source.transposed
    letters = {"class_path": f"{SETS}.EMNIST", "init_args": {"split": "letters"}}
    again = load_source(letters, tmp_path, allow_unverified=False, transpose=True)
    assert again.compute_fingerprint() == source.compute_fingerprint()
    assert "EMNIST is always read upright, so data.transpose has no effect" in capsys.readouterr().err
    assert source.train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_qmnist_is_read_with_the_class_as_its_only_label(tmp_path: Path) -> None:
    raw = tmp_path / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 60), ("test", 30)):
        images, labels = build_images(count, 10, 28)
        write_idx(raw / f"qmnist-{part}-images-idx3-ubyte", images if part == "train" else 255 - images)
        all_labels = np.full((count, 8), 77, ">i4")
        all_labels[:, 0] = labels
        header = struct.pack(">HBB2I", 0, 0x0C, 2, count, 8)
        (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(header + all_labels.tobytes())
    source = load(f"{SETS}.QMNIST", tmp_path)
    assert source.test.labels.tolist() == [*range(10)] * 3
    np.testing.assert_array_equal(source.train.images.numpy(), build_images(60, 10, 28)[0])


def fake_svhn(self: Any, root: Path, split: str = "train", download: bool = False) -> None:  # noqa: ANN401
    count = {"train": 60, "test": 30}[datasets.utils.verify_str_arg(split, "split", ("train", "test", "extra"))]
    images, self.labels = build_images(count, 10, 32)
    images = images if split == "train" else 255 - images
    self.data = np.stack([images, images // 2, images // 3], 1)
    self.transform = self.target_transform = None


def test_a_dataset_with_split_and_colour_arrays_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.SVHN, "__init__", fake_svhn)
    source = load(f"{SETS}.SVHN")
    images, _ = build_images(60, 10, 32)
    colours = np.stack([images, images // 2, images // 3], 3)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in colours])
    np.testing.assert_array_equal(source.train.images.numpy(), expected)
    assert (len(source.test.labels), source.class_names) == (30, [])
    chosen = load({"class_path": f"{SETS}.SVHN", "init_args": {"split": "train"}})
    assert (len(chosen.train.labels), len(chosen.test.labels)) == (50, 10)
    assert (chosen.name, chosen.held_out) == ("SVHN (split train)", "a sixth of each class (seed 0)")


def test_damaged_files_give_a_one_line_error_and_are_not_changed(fashion: Path, tmp_path: Path) -> None:
    root = shutil.copytree(fashion, tmp_path / "own")
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    before = file.read_bytes()
    check_rejected(rf"FashionMNIST cannot be read from {root}: ", f"{SETS}.FashionMNIST", root)
    assert file.read_bytes() == before


def test_a_missing_dataset_without_network_gives_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [])
    check_rejected(
        rf"FashionMNIST is not in {tmp_path} and cannot be downloaded \(.*Set data\.root",
        f"{SETS}.FashionMNIST",
        tmp_path,
    )
    assert [path.name for path in tmp_path.rglob("*") if path.name != ".lock"] == []


def test_only_missing_files_of_a_dataset_are_downloaded(
    fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []

    def download(self: Any) -> None:  # noqa: ANN401 - torchvision's
        folders.append(self.raw_folder)
        shutil.copytree(fashion / "FashionMNIST" / "raw", self.raw_folder, dirs_exist_ok=True)

    monkeypatch.setattr(datasets.FashionMNIST, "download", download)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-labels-idx1-ubyte").write_bytes((fashion / "FashionMNIST/raw/t10k-labels-idx1-ubyte").read_bytes())
    (raw / "t10k-labels-idx1-ubyte").chmod(0o444)
    assert (
        load(f"{SETS}.FashionMNIST", tmp_path).compute_fingerprint()
        == load(f"{SETS}.FashionMNIST", fashion).compute_fingerprint()
    )
    assert len(folders) == 1
    assert not Path(folders[0]).is_relative_to(raw)
    assert not (tmp_path / ".download").exists()
    assert "downloading torchvision.datasets.FashionMNIST" in capsys.readouterr().err


def test_a_dataset_without_root_downloads_itself(tmp_path: Path) -> None:
    assert load(f"{CUSTOM_DATASETS}.Fetched", tmp_path).train.classes == 3


def test_arguments_are_part_of_the_dataset_name() -> None:
    source = load({"class_path": f"{CUSTOM_DATASETS}.Items", "init_args": {"classes": 5}})
    assert (source.name, source.train.classes) == (f"{CUSTOM_DATASETS}.Items (classes 5)", 5)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.Set", r"nowhere\.Set: ModuleNotFoundError: No module named 'nowhere'"),
        (
            {"class_path": f"{CUSTOM_DATASETS}.Items", "init_args": {"colour": 1}},
            r"arguments of .*Items must be among classes, count, got 'colour'",
        ),
        (
            {"class_path": f"{CUSTOM_DATASETS}.Items", "init_args": {"classes": 1}},
            r"must have 2 to 100 classes, got 1 \('0'\)",
        ),
        (
            {"class_path": f"{CUSTOM_DATASETS}.Items", "init_args": {"classes": 101, "count": 808}},
            r"must have 2 to 100 classes, got 101\. Merge",
        ),
        (
            {"class_path": f"{CUSTOM_DATASETS}.Items", "init_args": {"count": "x"}},
            r"cannot be read: (TypeError|ValueError|.*UFunc)",
        ),
        ("torch.nn.Linear", r"torch\.nn\.Linear cannot be read: TypeError"),
        (f"{SETS}.EMNIST", r"EMNIST cannot be read from nowhere: TypeError: .*'split'"),
    ],
)
def test_the_error_of_a_wrong_class_path_is_one_line(source: SourceSpec, message: str) -> None:
    check_rejected(message, source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("FashionMNIST", r"data\.source must be .* or a dataset's class path, .*, got 'FashionMNIST'"),
        ("a b.c", r"data\.source must be .*, got 'a b\.c'"),
        ({"class_path": "mnist"}, r"mnist is a name and must be given without .*, got class_path\. Write mnist alone"),
        ("{class_path: mnist", r"must be a name, a class path, or a mapping of class_path and init_args, got"),
        ({"split": "digits"}, r"must be a name, a class path, or a mapping of class_path and init_args, got"),
        ({"class_path": "a.B", "init_args": 3}, r"or a mapping of class_path and init_args, got"),
        ({"class_path": "a.B", "other": 3}, r"or a mapping of class_path and init_args, got"),
    ],
)
def test_a_wrong_source_is_rejected_before_loading(source: SourceSpec, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        PairDataModule(seeds=[0], source=source)
