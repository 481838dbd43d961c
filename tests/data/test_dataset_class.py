"""Datasets by class path: torchvision's in MNIST's format and others, their arguments and downloads."""

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
from tests.support.custom_datasets import pictures
from tests.support.images import write_like_mnist
from tests.support.mnist_files import write_idx
from tests.support.sources import OWN, SETS, load, refused


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST", "MNIST"])
def test_sets_in_mnists_format_are_read_as_they_were_written(tmp_path: Path, name: str, packed: bool) -> None:
    raw = write_like_mnist(tmp_path, name) / name / "raw"
    if packed:
        for file in list(raw.iterdir()):
            Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    source = load(f"{SETS}.{name}", tmp_path)
    images, labels = pictures(60, 10, 28)
    np.testing.assert_array_equal(source.train.images.numpy(), images)
    np.testing.assert_array_equal(source.train.labels.numpy(), labels)
    np.testing.assert_array_equal(source.test.images.numpy(), 255 - pictures(30, 10, 28)[0])
    assert (source.name, source.held_out) == (name, None)
    assert source.class_names == getattr(datasets, name).classes
    assert not packed or {path.suffix for path in raw.iterdir()} == {".gz"}


def test_emnist_takes_its_split_has_both_parts_and_is_upright(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_like_mnist(tmp_path, "EMNIST", "emnist-letters-", "test", first=1)
    source = load({"class_path": f"{SETS}.EMNIST", "init_args": {"split": "letters"}}, tmp_path)
    assert (source.name, len(source.train.labels), len(source.test.labels)) == ("EMNIST (split letters)", 60, 30)
    assert source.class_names == list("abcdefghij")
    images = pictures(60, 10, 28)[0]
    np.testing.assert_array_equal(source.train.images.numpy(), images.swapaxes(1, 2))  # as torchvision stores them
    assert source.transposed
    letters = {"class_path": f"{SETS}.EMNIST", "init_args": {"split": "letters"}}
    again = load_source(letters, tmp_path, allow_unverified=False, transpose=True)
    assert again.fingerprint() == source.fingerprint()
    assert "EMNIST is always read upright: data.transpose changes nothing" in capsys.readouterr().err
    assert source.train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_qmnist_has_its_class_among_other_labels(tmp_path: Path) -> None:
    raw = tmp_path / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 60), ("test", 30)):
        images, labels = pictures(count, 10, 28)
        write_idx(raw / f"qmnist-{part}-images-idx3-ubyte", images if part == "train" else 255 - images)
        every = np.full((count, 8), 77, ">i4")
        every[:, 0] = labels
        header = struct.pack(">HBB2I", 0, 0x0C, 2, count, 8)
        (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(header + every.tobytes())
    source = load(f"{SETS}.QMNIST", tmp_path)
    assert source.test.labels.tolist() == [*range(10)] * 3
    np.testing.assert_array_equal(source.train.images.numpy(), pictures(60, 10, 28)[0])


def fake_svhn(self: Any, root: Path, split: str = "train", download: bool = False) -> None:  # noqa: ANN401
    count = {"train": 60, "test": 30}[datasets.utils.verify_str_arg(split, "split", ("train", "test", "extra"))]
    images, self.labels = pictures(count, 10, 32)
    images = images if split == "train" else 255 - images
    self.data = np.stack([images, images // 2, images // 3], 1)
    self.transform = self.target_transform = None


def test_sets_with_split_and_colours_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.SVHN, "__init__", fake_svhn)
    source = load(f"{SETS}.SVHN")
    images, _ = pictures(60, 10, 32)
    colours = np.stack([images, images // 2, images // 3], 3)
    wanted = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in colours])
    np.testing.assert_array_equal(source.train.images.numpy(), wanted)
    assert (len(source.test.labels), source.class_names) == (30, [])
    chosen = load({"class_path": f"{SETS}.SVHN", "init_args": {"split": "train"}})
    assert (len(chosen.train.labels), len(chosen.test.labels)) == (50, 10)
    assert (chosen.name, chosen.held_out) == ("SVHN (split train)", "a sixth of each class (seed 0)")


def test_damaged_files_are_one_line_and_left_alone(fashion: Path, tmp_path: Path) -> None:
    root = shutil.copytree(fashion, tmp_path / "own")
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    before = file.read_bytes()
    refused(rf"FashionMNIST cannot be read from {root}: ", f"{SETS}.FashionMNIST", root)
    assert file.read_bytes() == before


def test_without_a_network_a_set_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [])
    refused(
        rf"FashionMNIST is not in {tmp_path} and cannot be downloaded \(.*set data\.root",
        f"{SETS}.FashionMNIST",
        tmp_path,
    )
    assert [path.name for path in tmp_path.rglob("*") if path.name != ".lock"] == []


def test_a_set_is_downloaded_where_it_is_absent_only(
    fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def download(self: Any) -> None:  # noqa: ANN401 - torchvision's
        asked.append(self.raw_folder)
        shutil.copytree(fashion / "FashionMNIST" / "raw", self.raw_folder, dirs_exist_ok=True)

    monkeypatch.setattr(datasets.FashionMNIST, "download", download)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-labels-idx1-ubyte").write_bytes((fashion / "FashionMNIST/raw/t10k-labels-idx1-ubyte").read_bytes())
    (raw / "t10k-labels-idx1-ubyte").chmod(0o444)
    assert load(f"{SETS}.FashionMNIST", tmp_path).fingerprint() == load(f"{SETS}.FashionMNIST", fashion).fingerprint()
    assert len(asked) == 1
    assert not Path(asked[0]).is_relative_to(raw)
    assert not (tmp_path / ".download").exists()
    assert "downloading torchvision.datasets.FashionMNIST" in capsys.readouterr().err


def test_a_set_that_knows_its_own_place_is_downloaded_there(tmp_path: Path) -> None:
    assert load(f"{OWN}.Fetched", tmp_path).train.classes == 3


def test_arguments_are_part_of_the_name() -> None:
    source = load({"class_path": f"{OWN}.Items", "init_args": {"classes": 5}})
    assert (source.name, source.train.classes) == (f"{OWN}.Items (classes 5)", 5)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.Set", r"nowhere\.Set: ModuleNotFoundError: No module named 'nowhere'"),
        (
            {"class_path": f"{OWN}.Items", "init_args": {"colour": 1}},
            r"takes no argument 'colour': it takes classes, count",
        ),
        ({"class_path": f"{OWN}.Items", "init_args": {"classes": 1}}, r"has 1 class \('0'\): 2 to 100 are needed"),
        ({"class_path": f"{OWN}.Items", "init_args": {"classes": 101, "count": 808}}, r"has 101 classes: 2 to 100"),
        (
            {"class_path": f"{OWN}.Items", "init_args": {"count": "x"}},
            r"cannot be read: (TypeError|ValueError|.*UFunc)",
        ),
        ("torch.nn.Linear", r"torch\.nn\.Linear cannot be read: TypeError"),
        (f"{SETS}.EMNIST", r"EMNIST cannot be read from nowhere: TypeError: .*'split'"),
    ],
)
def test_a_class_path_that_gives_no_set_is_one_line(source: SourceSpec, message: str) -> None:
    refused(message, source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("FashionMNIST", r"data\.source is 'FashionMNIST': it must be one of .*, or a dataset's class path"),
        ("a b.c", r"data\.source is 'a b\.c'"),
        ({"class_path": "mnist"}, r"data\.source is mnist with no arguments: it takes none, write mnist alone"),
        ("{class_path: mnist", r"a name, a class path, or class_path with init_args, a mapping, is needed"),
        ({"split": "digits"}, r"a name, a class path, or class_path with init_args, a mapping, is needed"),
        ({"class_path": "a.B", "init_args": 3}, r"with init_args, a mapping, is needed"),
        ({"class_path": "a.B", "other": 3}, r"with init_args, a mapping, is needed"),
    ],
)
def test_what_is_no_source_is_refused_at_once(source: SourceSpec, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        PairDataModule(seeds=[0], source=source)
