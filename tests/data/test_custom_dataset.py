"""Data of the user's choice: data sets by class path, folders of pictures, classes of their own."""

import gzip
import hashlib
import json
import re
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision import datasets

import pairs_lit
from pairs_lit.checkpoints.files import check_match
from pairs_lit.cli import main
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.identical import group_identical
from pairs_lit.data.image_conversion import all_grey, grey, resized
from pairs_lit.data.labelled_images import Source
from pairs_lit.data.sources import SourceSpec, load_source, loaded_once
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_metadata import unlike
from tests.conftest import CONFIGS, write_idx
from tests.support.custom_datasets import pictures

OWN, SETS = "tests.support.custom_datasets", "torchvision.datasets"
FOLDER = f"{SETS}.ImageFolder"
COUNTS = {"data.train_pairs": 30, "data.val_pairs": 10, "data.test_pairs": 10}
OPTIONS = COUNTS | {"rounds.count": 2, "trainer.max_epochs": 2, "trainer.devices": 1}


def load(source: SourceSpec, root: Path = Path("nowhere"), resize: int | None = None) -> Source:
    return load_source(source, root, allow_unverified=False, resize=resize)


def refused(message: str, source: SourceSpec, root: Path = Path("nowhere"), resize: int | None = None) -> None:
    with pytest.raises(PairsLitError, match=message) as caught:
        load(source, root, resize)
    assert "\n" not in str(caught.value)


def write_pictures(root: Path, names: Sequence[str], count: int = 12, size: int = 14) -> Path:
    """Write PNGs, ``count`` a class, with the number of the class, in the order of the names, as their pattern."""
    images, labels = pictures(count * len(names), len(names), size)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / names[label] / f"{place}.png")
    return root


def write_like_mnist(root: Path, name: str, prefix: str = "", test: str = "t10k", first: int = 0) -> Path:
    """Write 60 training and 30 test images of ten classes as torchvision lays out sets in MNIST's format."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 60), (test, 30)):
        images, labels = pictures(count, 10, 28)
        images = images if part == "train" else 255 - images
        write_idx(raw / f"{prefix}{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{prefix}{part}-labels-idx1-ubyte", labels + first)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), ["1", "2", "10"])


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_like_mnist(tmp_path_factory.mktemp("fashion"), "FashionMNIST")


# --- pictures ---


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_pictures_become_grey_as_pils_own_do(mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    picture = Image.fromarray(colours).convert(mode)
    np.testing.assert_array_equal(grey(picture).numpy(), np.asarray(picture.convert("L")))


def test_arrays_become_grey_as_pils_pictures_do() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), np.uint8)
    wanted = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in colours])
    first = np.moveaxis(colours, 3, 1)
    for values in (colours, first, torch.from_numpy(colours), torch.from_numpy(first.copy())):
        np.testing.assert_array_equal(all_grey(values).numpy(), wanted)
    opaque = np.concatenate([colours, np.full((5, 9, 7, 1), 3, np.uint8)], 3)
    np.testing.assert_array_equal(all_grey(opaque).numpy(), wanted)
    np.testing.assert_array_equal(grey(torch.from_numpy(first[0].copy())).numpy(), wanted[0])


def test_numbers_of_other_types_become_bytes() -> None:
    values = np.arange(256).reshape(1, 16, 16)
    for given in (values, values.astype(">i4"), values[:, ::-1][:, ::-1], values / 255, torch.from_numpy(values / 255)):
        np.testing.assert_array_equal(all_grey(given).numpy(), values)
    np.testing.assert_array_equal(all_grey(values > 100).numpy(), (values > 100) * 255)
    deep = Image.fromarray((values[0] * 257).astype(np.uint16))
    assert deep.mode == "I;16"
    np.testing.assert_array_equal(grey(deep).numpy(), values[0])


@pytest.mark.parametrize("size", [5, 14, 28, 40])
def test_resizing_is_bilinear_with_antialias_as_pils(size: int) -> None:
    images, _ = pictures(6, 3, 28)
    wanted = np.stack([Image.fromarray(each).resize((size, size), Image.Resampling.BILINEAR) for each in images])
    found = resized(torch.from_numpy(images), size).numpy()
    assert found.shape == (6, size, size)
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 4, 4, 4, 4), np.uint8), r"pictures of shape \(4, 4, 4, 4\): \(H, W\), or 1, 3 or 4 channels"),
        (np.zeros((1, 5, 6, 7), np.uint8), r"pictures of shape \(5, 6, 7\)"),
        (np.full((1, 4, 4), 1.5), r"pictures of float64 from 1\.5 to 1\.5: floats must lie in 0 … 1"),
        (torch.full((1, 4, 4), torch.nan), r"pictures of float32 from nan to nan"),
        (np.full((1, 4, 4), 256), r"pictures of int64 from 256 to 256: .* integers in 0 … 255"),
        (np.full((1, 4, 4), -1), r"pictures of int64 from -1"),
        (np.full((1, 4, 4), "a"), r"an array of <U1 holds no pictures"),
    ],
)
def test_what_is_no_picture_is_refused(given: Any, message: str) -> None:  # noqa: ANN401 - either kind
    with pytest.raises(PairsLitError, match=message):
        all_grey(given)


# --- folders ---


def test_classes_of_a_folder_are_sorted_as_people_count(folder: Path) -> None:
    source = load(FOLDER, folder)
    assert (source.name, source.class_names, source.train.classes) == ("ImageFolder", ["1", "2", "10"], 3)
    wanted = {
        np.asarray(Image.open(file)).tobytes(): number
        for number, name in enumerate(["1", "2", "10"])
        for file in (folder / name).iterdir()
    }
    found = [
        (image.tobytes(), label)
        for part in source.parts
        for image, label in zip(part.images.numpy(), part.labels.tolist(), strict=True)
    ]
    assert dict(found) == wanted
    assert len(found) == 36


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a10", "a2", "a1"], ["a1", "a2", "a10"]),
        (["Zebra", "ape", "010", "9"], ["9", "010", "ape", "Zebra"]),
        (["x", "1x", "12", "1"], ["1", "1x", "12", "x"]),
    ],
)
def test_natural_order(tmp_path: Path, names: list[str], wanted: list[str]) -> None:
    assert load(FOLDER, write_pictures(tmp_path, names)).class_names == wanted


def test_a_folder_without_test_pictures_loses_a_sixth_of_each_class_to_them(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, ["a", "b"], 60)
    for file in list((root / "b").iterdir())[30:]:
        file.unlink()
    first, again = load(FOLDER, root), load(FOLDER, root)
    assert Counter(first.test.labels.tolist()) == {0: 10, 1: 5}
    assert Counter(first.train.labels.tolist()) == {0: 50, 1: 25}
    assert first.validation is None
    assert first.held_out == "a sixth of each class (seed 0)"
    assert first.fingerprint() == again.fingerprint()
    train, test = ({image.tobytes() for image in part.images.numpy()} for part in (first.train, first.test))
    assert train.isdisjoint(test)
    assert len(train | test) == 90


def test_train_and_test_folders_are_the_parts(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", ["1", "2", "10"], 5)
    write_pictures(tmp_path / "test", ["2", "10"], 2)
    source = load(FOLDER, tmp_path)
    assert (len(source.train.labels), source.validation, source.held_out) == (15, None, None)
    assert sorted(source.test.labels.tolist()) == [1, 1, 2, 2]
    write_pictures(tmp_path / "val", ["1", "2"], 3)
    validation = load(FOLDER, tmp_path).validation
    assert validation is not None
    assert sorted(validation.labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_what_systems_leave_behind_is_no_class_and_no_picture(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, ["a", "b"])
    wanted = load(FOLDER, root).fingerprint()
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (root / name).mkdir()
    (root / "a" / ".DS_Store").write_bytes(b"x")
    (root / "a" / "._0.png").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    assert load(FOLDER, root).fingerprint() == wanted


def one_class(root: Path) -> None:
    shutil.rmtree(root / "b")


def no_pictures(root: Path) -> None:
    for file in (root / "b").iterdir():
        file.unlink()


def too_few(root: Path) -> None:
    for file in list((root / "b").iterdir())[5:]:
        file.unlink()


def nothing(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def absent(root: Path) -> None:
    shutil.rmtree(root)


def corrupt(root: Path) -> None:
    (root / "b" / "1.png").write_bytes(b"no picture")


def truncated(root: Path) -> None:
    file = root / "b" / "1.png"
    file.write_bytes(file.read_bytes()[:-60])


def empty_file(root: Path) -> None:
    (root / "b" / "1.png").write_bytes(b"")


def another_size(root: Path) -> None:
    Image.new("L", (20, 20)).save(root / "b" / "1.png")


def not_square(root: Path) -> None:
    for file in root.glob("*/*.png"):
        Image.open(file).resize((20, 14)).save(file)


def train_only(root: Path) -> None:
    for name in ("a", "b"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)


def parts_without_classes(root: Path) -> None:
    (root / "a").rename(root / "train")
    (root / "b").rename(root / "test")


def another_test_class(root: Path) -> None:
    train_only(root)
    shutil.copytree(root / "train" / "a", root / "test" / "c")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_class, r"ImageFolder has 1 class \('a'\): 2 to 100 are needed"),
        (no_pictures, r"/b holds no pictures \(\.jpg"),
        (too_few, r"class 'b' has 5 pictures: each class needs 6 or more, since a sixth is held out"),
        (nothing, r"which holds no folders: a folder of pictures has a sub-folder for each class"),
        (absent, r"there is no such folder; name one with a sub-folder for each class"),
        (corrupt, r"/b/1\.png cannot be read \(UnidentifiedImageError"),
        (truncated, r"/b/1\.png cannot be read \(.*truncated"),
        (empty_file, r"/b/1\.png cannot be read"),
        (another_size, r"/b/1\.png is 20×20, and .*/a/0\.png is 14×14: set data\.resize"),
        (not_square, r"/a/0\.png is 14×20 \(height×width\), which is not square: set data\.resize"),
        (train_only, r"which holds train: test with a sub-folder for each class is missing there"),
        (parts_without_classes, r"which holds test and train: train with a sub-folder for each class is missing"),
        (another_test_class, r"/test/c is a class that the training pictures lack: remove it"),
    ],
)
def test_a_faulty_folder_is_one_line(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    root = write_pictures(tmp_path / "own", ["a", "b"])
    damage(root)
    refused(message, FOLDER, root)


@pytest.mark.parametrize("damage", [another_size, not_square])
def test_resize_makes_pictures_of_any_size_alike(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    root = write_pictures(tmp_path / "own", ["a", "b"])
    damage(root)
    assert load(FOLDER, root, resize=10).train.images.shape == (20, 10, 10)


def test_a_folder_takes_no_other_arguments(folder: Path) -> None:
    refused(
        r"ImageFolder takes no argument 'loader' here, only root", {"class_path": FOLDER, "init_args": {"loader": "x"}}
    )
    assert load({"class_path": FOLDER, "init_args": {"root": str(folder)}}).train.classes == 3
    with pytest.raises(PairsLitError, match=r"data\.root is empty: name the folder that holds the data"):
        PairDataModule(seeds=[0], source=FOLDER, root="")


# --- torchvision's sets ---


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
    assert not (tmp_path / ".download-set").exists()
    assert "downloading torchvision.datasets.FashionMNIST" in capsys.readouterr().err


def test_a_set_that_knows_its_own_place_is_downloaded_there(tmp_path: Path) -> None:
    assert load(f"{OWN}.Fetched", tmp_path).train.classes == 3


# --- sets of the user's own ---


def test_a_set_is_read_item_by_item() -> None:
    images, labels = pictures()
    for name in ("Items", "Floats", "made", "listed", "tensors"):
        source = load(f"{OWN}.{name}")
        found = {
            image.tobytes(): label
            for part in source.parts
            for image, label in zip(part.images.numpy(), part.labels.tolist(), strict=True)
        }
        assert found == {image.tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}
        assert (source.name, source.class_names) == (f"{OWN}.{name}", [])


def test_labels_are_numbered_in_their_order_and_keep_their_names() -> None:
    source = load(f"{OWN}.Arrays")
    assert source.class_names == ["ace", "two", "seven"]
    images, labels = pictures()
    number = dict(zip((image.tobytes() for image in images), [(2, 0, 1)[label] for label in labels], strict=True))
    for part in source.parts:
        assert [number[image.tobytes()] for image in part.images.numpy()] == part.labels.tolist()


def test_what_a_set_gives_counts_not_what_it_holds() -> None:
    images, labels = pictures()
    number = {(255 - image).tobytes(): 2 - label for image, label in zip(images, labels, strict=True)}
    for part in load(f"{OWN}.Inverted").parts:
        assert [number[image.tobytes()] for image in part.images.numpy()] == part.labels.tolist()


def test_a_set_that_takes_split_has_two_parts(tmp_path: Path) -> None:
    source = load(f"{OWN}.Halves", tmp_path)
    assert (len(source.train.labels), len(source.test.labels), source.held_out) == (60, 30, None)


def own(name: str, **arguments: Any) -> Source:  # noqa: ANN401 - of a class
    return load({"class_path": f"{OWN}.{name}", "init_args": arguments})


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("pillow", [False, True])
def test_a_set_of_16_bit_images_has_one_scale(bits: int, pillow: bool) -> None:
    images, _ = pictures()
    images[0] //= 8  # a dark image is not stretched to the brightness of the others
    source = own("Deep", bits=bits, pillow=pillow)
    found = {image.tobytes() for part in source.parts for image in part.images.numpy()}
    assert found == {image.tobytes() for image in images}
    assert source.bits == bits


def test_transparent_arrays_are_laid_on_paper() -> None:
    found = {image.tobytes() for part in own("Glass").parts for image in part.images.numpy()}
    assert found == {(255 - image).tobytes() for image in pictures()[0]}


@pytest.mark.parametrize("top", [1, 15, 16, 31])
def test_a_small_part_of_the_range_is_rejected(top: int) -> None:
    with pytest.raises(PairsLitError, match=rf"must use the range 0 … 255 .* only 0 to {top} of 255 in all 90\. Scale"):
        own("Scaled", top=top, train=True)
    with pytest.raises(PairsLitError, match=r"must use the range"):
        own("Scaled", top=top)  # the test images alone are well


def test_dark_images_are_read_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert own("Scaled", top=50, train=True).train.classes == 3
    assert "its 90 images use only the grey values 0 to 50 of 255" in capsys.readouterr().err


def test_images_that_are_all_the_same_are_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"images must differ from each other, got 90 that are all identical"):
        own("Alike")


@pytest.mark.parametrize("by_own_generator", [False, True])
def test_a_set_that_changes_is_told_once(by_own_generator: bool, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    source = own("Turning", own=by_own_generator)
    state = torch.get_rng_state()
    assert not source.deterministic
    said = capsys.readouterr().err
    assert said.count("returns different images each time it is read (picture 0, for instance)") == 1
    assert "set data.augment for random changes" in said
    torch.manual_seed(0)
    if not by_own_generator:  # asking again has left the user's stream alone
        for _ in range(2 * 90):  # both parts draw
            torch.randint(99, ())
    assert torch.equal(torch.get_rng_state(), state)
    assert own("Items").deterministic


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"names": "a b c", "first": 1}, ["a", "b", "c"]),
        ({"names": "x a b c", "first": 1}, ["x", "a", "b", "c"]),
        ({"names": "10 9 -1"}, ["-1", "9", "10"]),
    ],
)
def test_names_of_classes_stand_at_their_labels(arguments: dict[str, Any], wanted: list[str]) -> None:
    source = own("Named", **arguments)
    assert source.class_names == wanted
    images, labels = pictures(classes=len(wanted))
    names = arguments["names"].split()
    called = {image.tobytes(): names[label] for image, label in zip(images, labels, strict=True)}
    for part in source.parts:
        found = [wanted[label] for label in part.labels.tolist()]
        assert found == [called[image.tobytes()] for image in part.images.numpy()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 3}, r"its classes must name each label, got 3 names \(a, b, c\) for the labels 3, 4, 5"),
        ({"step": 2}, r"got 3 names \(a, b, c\) for the labels 0, 2, 4"),
        (
            {"names": "a b a"},
            r"class names must differ from each other, got 'a' for labels 0 and 2",
        ),
    ],
)
def test_names_that_fit_no_labels_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        own("Named", **arguments)


def test_parts_that_number_their_classes_otherwise_are_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"got 'a' for label 0 in training and 'b' in another part"):
        own("Renumbered")


@pytest.mark.parametrize(
    ("name", "names", "wanted"),
    [
        ("Items", ["low", "middle", "high"], ["low", "middle", "high"]),
        ("Items", [2, 0, 1], ["2", "0", "1"]),
        ("Named", ["c", "a", "b"], ["c", "a", "b"]),
    ],
)
def test_class_names_order_and_name_the_classes_of_a_set(name: str, names: list[Any], wanted: list[str]) -> None:
    source = load_source(f"{OWN}.{name}", Path("nowhere"), allow_unverified=False, class_names=names)
    assert source.class_names == wanted
    images, labels = pictures()
    order = {"2": 2, "0": 0, "1": 1, "a": 0, "b": 1, "c": 2, "low": 0, "middle": 1, "high": 2}
    label_of = {image.tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}
    for image, label in zip(source.train.images.numpy(), source.train.labels.tolist(), strict=True):
        assert label_of[image.tobytes()] == order[wanted[label]]


def test_class_names_of_the_digits() -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    plain, named, backwards = (
        load_source("digits", Path("nowhere"), allow_unverified=False, class_names=names)
        for names in (None, words, [*range(9, -1, -1)])
    )
    assert (list(plain.class_names), list(named.class_names)) == ([], words)
    assert named.fingerprint() == plain.fingerprint()
    assert torch.equal(backwards.train.labels, 9 - plain.train.labels)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], r"data\.class_names must differ from each other, got 'a' twice"),
        (["a", " "], r"data\.class_names must be texts or numbers, got ' '"),
        ([True, "b"], r"must be texts or numbers, got True\. Put empty names, yes, no"),
        (["a", "b"], r"data\.class_names must name the 10 digits of digits, got 2 names"),
    ],
)
def test_unclear_class_names_are_rejected_at_once(names: list[Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        PairDataModule(seeds=[0], source="digits", class_names=names)


def test_transpose_exchanges_rows_and_columns(folder: Path) -> None:
    for source in ("digits", f"{OWN}.Items", f"{OWN}.Arrays", FOLDER):
        plain = load_source(source, folder, allow_unverified=False)
        turned = load_source(source, folder, allow_unverified=False, transpose=True)
        assert torch.equal(turned.train.images, plain.train.images.transpose(1, 2))
        assert (plain.transposed, turned.transposed) == (False, True)
    assert PairDataModule(seeds=[0], source="digits", transpose=True).reading["transpose"]


def test_the_size_before_resizing_is_known(folder: Path, tmp_path: Path) -> None:
    assert load(FOLDER, folder, resize=28).original_size == "14x14"
    assert load("digits", resize=14).original_size == "28x28"
    root = write_pictures(tmp_path, ["a", "b"])
    another_size(root)
    assert load(FOLDER, root, resize=28).original_size == "14x14 to 20x20"


# --- identical images ---


def test_copies_stay_on_one_side_of_a_split() -> None:
    for copies in (2, 3, 5):
        source = own("Copies", copies=copies)
        train, test = ({image.tobytes() for image in part.images.numpy()} for part in (source.train, source.test))
        assert train.isdisjoint(test)
        assert len(train | test) == 90
        count = 90 * copies // 6
        assert 0 < len(source.test.labels) <= count
        assert len(source.test.labels) > count - 3 * copies


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, ["a", "b"])
    for file in sorted((root / "b").iterdir())[1:]:
        shutil.copy(sorted((root / "b").iterdir())[0], file)
    refused(r"class 'b' must have different images for training and test, got so many identical", FOLDER, root)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies_stay_on_one_side_of_each_rounds_validation(copies: int) -> None:
    source = {"class_path": f"{OWN}.Copies", "init_args": {"copies": copies}}
    counts = {"train_pairs": 20, "val_pairs": 15, "test_pairs": 5}
    bank = PairDataModule(seeds=[0, 1], source=source, image_size=14, **counts).bank
    for r in range(2):
        train, val = (
            {image.numpy().tobytes() for image in bank.images[bank.pairs[split].index[r].flatten()]}
            for split in ("train", "val")
        )
        assert train.isdisjoint(val)


def test_test_images_among_training_images_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_pictures(tmp_path / "train", ["0", "1", "2"]).parent
    for part, count in (("test", 2), ("val", 1)):
        for name in "012":
            (root / part / name).mkdir(parents=True)
            for file in sorted((root / "train" / name).iterdir())[:count]:
                shutil.copy(file, root / part / name / f"copy {file.name}")
            Image.fromarray(np.random.default_rng(count).integers(0, 255, (14, 14), np.uint8)).save(
                root / part / name / "new.png"
            )
    shutil.copy(sorted((root / "train" / "0").iterdir())[5], root / "train" / "1" / "conflict.png")
    load(FOLDER, root)
    said = capsys.readouterr().err
    assert "WARNING: 6 of 9 test images are byte-identical to training images, so test accuracies are too high" in said
    assert "WARNING: 3 of 6 validation images are byte-identical to training images" in said
    assert re.search(r"WARNING: \d+ images are byte-identical to images of another class, so labels contradict", said)


def test_identical_images_are_found_exactly() -> None:
    images = torch.randint(2, (400, 2, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = [image.numpy().tobytes() for image in images]
    assert group_identical(images).tolist() == [rows.index(row) for row in rows]
    assert len(set(rows)) < 400


def test_arguments_are_part_of_the_name() -> None:
    source = load({"class_path": f"{OWN}.Items", "init_args": {"classes": 5}})
    assert (source.name, source.train.classes) == (f"{OWN}.Items (classes 5)", 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Normalised", r"picture 0: pictures of float32 from -.*: floats must lie in 0 … 1"),
        ("Texts", r"picture 0: its label is 'two', which is no integer"),
        ("FloatTargets", r"its labels are no integers, but float64"),
        ("FewerTargets", r"it holds 90 pictures and 89 labels"),
        ("Alone", r"picture 0 is a ndarray, where \(picture, label\) is needed"),
        ("NoPictures", r"picture 0: a str is no picture: a PIL image, a tensor or an array is needed"),
        ("Wide", r"picture 0 is 7×14 \(height×width\), which is not square"),
        ("Raising", r"picture 4 cannot be read \(KeyError: 'four'"),
        ("TwoSizes", r"training and test pictures are 14×14 and 7×7: set data\.resize"),
        ("SameTwice", r"the test images are the training images"),
        ("OtherLabels", r"no training picture has the label 3 of some test picture"),
        ("Nothing", r"it holds no pictures"),
        ("Failing", r"tests\.support\.custom_datasets\.Failing cannot be read: OSError: the disk is gone"),
        ("Shapeless", r"a Shapeless is no data set: it needs __len__ and __getitem__"),
        ("Maps", r"picture 0: pictures of shape \(5, 14, 14\)"),
        ("Wrong", r"picture 0: pictures of int64 from .* to .*: .* integers in 0 … 255"),
        ("Nope", r"has no attribute 'Nope'"),
        ("not_a_class", r"tests\.support\.custom_datasets\.not_a_class is no class of data sets, but a int"),
    ],
)
def test_a_faulty_set_is_one_line(name: str, message: str) -> None:
    refused(message, f"{OWN}.{name}")


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
        ("FashionMNIST", r"data\.source is 'FashionMNIST': it must be one of .*, or a data set's class path"),
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


# --- sizes and settings ---


@pytest.mark.parametrize("size", [1, 2, 4, 7, 14, 28])
def test_images_are_pooled_to_any_size_that_divides_theirs(size: int) -> None:
    data = PairDataModule(seeds=[0], source="digits", image_size=size)
    source, step = load("digits"), 28 // size
    images = torch.cat([part.images for part in source.parts]).numpy().reshape(-1, size, step, size, step)
    np.testing.assert_allclose(data.bank.images.numpy(), images.mean((2, 4)), rtol=1e-6)


def test_an_image_size_that_does_not_divide_theirs_is_refused(folder: Path) -> None:
    with pytest.raises(PairsLitError, match=r"data\.image_size is 5, but the images are 28×28: it must be one of 1, 2"):
        PairDataModule(seeds=[0], source="mnist", image_size=5)
    with pytest.raises(
        PairsLitError, match=r"data\.image_size is 28, but the images are 14×14: it must be one of 1, 2, 7"
    ):
        _ = PairDataModule(seeds=[0], source=FOLDER, root=str(folder), image_size=28).classes
    with pytest.raises(PairsLitError, match=r"data\.image_size is 0: it must be 1 or more"):
        PairDataModule(seeds=[0], image_size=0)
    with pytest.raises(PairsLitError, match=r"data\.resize is 0: it must be 1 or more"):
        PairDataModule(seeds=[0], resize=0)
    with pytest.raises(PairsLitError, match=r"data\.resize is 1025: it must be 1024 or less"):
        PairDataModule(seeds=[0], resize=1025)


def test_the_digits_can_be_resized() -> None:
    data = PairDataModule(seeds=[0], source="digits", resize=20, image_size=10)
    assert data.bank.images.shape == (1797, 10, 10)
    assert data.settings.resize == 20


def test_more_pictures_than_memory_holds_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs_lit.data.image_conversion.MOST_BYTES", 2**13)
    refused(r"300 pictures of 20×20 take .* GiB, at most .* set data\.resize to a smaller size", "digits", resize=20)
    refused(r"36 pictures of 20×20 take", FOLDER, folder, resize=20)
    assert load(FOLDER, folder).train.classes == 3


def test_a_folder_of_the_current_one_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert PairDataModule(seeds=[0], source=FOLDER, root=".").classes == 3


def test_reading_that_takes_long_says_how_far_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.data.custom_dataset._NOTICE_SECONDS", -1.0)
    load(FOLDER, folder)
    assert "reading ImageFolder: 12 of 36 pictures …" in capsys.readouterr().err


def test_a_source_with_a_name_is_not_loaded_for_its_classes(tmp_path: Path) -> None:
    assert PairDataModule(seeds=[0], source="mnist", root=str(tmp_path)).classes == 10


def test_a_fingerprint_is_that_of_images_and_labels(folder: Path) -> None:
    source = load(FOLDER, folder)
    found = hashlib.sha256()
    for part in (source.train, source.test):
        images, labels = part.images.numpy(), part.labels.numpy()
        found.update(str(images.shape).encode() + images.tobytes() + labels.astype("<i8").tobytes())
    assert source.fingerprint() == found.hexdigest()


def test_a_source_is_loaded_once_for_many_configurations(folder: Path) -> None:
    with loaded_once():
        first = load(FOLDER, folder)
        assert load(FOLDER, folder) is first
        assert load(FOLDER, folder, resize=7) is not first
    assert load(FOLDER, folder) is not first


def test_earlier_runs_differ_in_nothing_that_they_did_not_record() -> None:
    earlier = {"source": "mnist", "relation": "le"}
    later = earlier | {"resize": None, "classes": 10, "held_out": None, "fingerprint": "a"}
    assert unlike(earlier, later) == []
    assert unlike(later, later | {"fingerprint": "b"}) == ["fingerprint"]
    assert unlike(earlier, later | {"resize": 28, "relation": "lt"}) == ["resize", "relation"]


# --- whole fits ---

NETWORK = {"model.backbone.widths": [10, 3]}


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    own = {
        "data.source": FOLDER,
        "data.root": str(folder),
        "trainer.default_root_dir": str(tmp_path_factory.mktemp("r")),
    }
    return pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | NETWORK | own)


def summary_of(run: pairs_lit.Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "summary.json").read_text())
    return found


def test_a_folder_of_three_classes_is_trained(run: pairs_lit.Run, folder: Path) -> None:
    summary = summary_of(run)
    assert {name: summary["data"][name] for name in ("source", "classes", "held_out")} == {
        "source": "ImageFolder",
        "classes": 3,
        "held_out": "a sixth of each class (seed 0)",
    }
    assert summary["data"]["fingerprint"] == load(FOLDER, folder).fingerprint()
    assert summary["class_names"] == ["1", "2", "10"]
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["data"]["source"] == FOLDER
    assert run.network(0).branches[0][-1].out_features == 3


def test_the_digit_accuracy_is_that_of_the_plain_network_on_the_files(run: pairs_lit.Run, folder: Path) -> None:
    number = {
        np.asarray(Image.open(file)).astype(np.float32).tobytes(): place
        for place, name in enumerate(["1", "2", "10"])
        for file in (folder / name).iterdir()
    }
    counts = {name.removeprefix("data."): count for name, count in COUNTS.items()}
    data = PairDataModule(seeds=[0, 1], source=FOLDER, root=str(folder), **counts)
    for r, result in enumerate(run.rounds):
        pairs = data.bank.images[data.bank.pairs["test"].index[r]]
        digits = np.array([[number[image.numpy().tobytes()] for image in pair] for pair in pairs])
        with torch.no_grad():
            probability, logits = run.network(result.seed)(pairs)
        assert result.test_digit_accuracy == pytest.approx((logits.argmax(-1).numpy() == digits).mean())
        holds = digits[:, 0] <= digits[:, 1]
        assert result.test_accuracy == pytest.approx(((probability > 0.5).numpy() == holds).mean())


def test_a_fit_reports_copies_and_names_below_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_pictures(tmp_path / "train", ["low", "middle", "high"]).parent
    for name in ("low", "middle", "high"):
        shutil.copytree(root / "train" / name, root / "test" / name)
        (root / "test" / name / sorted(path.name for path in (root / "test" / name).iterdir())[0]).unlink()
    own = {"data.source": FOLDER, "data.root": root, "data.val_pairs": 4, "data.train_pairs": 10}
    own |= {"data.class_names": "[low, middle, high]", "trainer.default_root_dir": tmp_path / "runs"}
    arguments = [f"--{name}={value}" for name, value in (OPTIONS | own).items()]
    widths = ["--model.backbone.widths", "[10, 3]"]
    assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *arguments, *widths]) == 0
    out, err = capsys.readouterr()
    said = "WARNING: 33 of 33 test images are byte-identical to training images, so test accuracies are too high"
    assert (out.count(said), err.count(said)) == (1, 1)
    assert out.index(said) > out.index("test accuracy")
    assert "0 = 'low', 1 = 'middle', 2 = 'high'" in out
    run = pairs_lit.Run.load(next((tmp_path / "runs").rglob("summary.json")).parent)
    summary = summary_of(run)
    assert summary["duplicates"] == {
        "test_in_train": 33,
        "validation_in_train": 0,
        "within_train": 0,
        "in_several_classes": 0,
    }
    assert summary["class_names"] == ["low", "middle", "high"]
    assert summary["data_notes"] == []
    assert main(arguments_of("test", run)) == 0
    assert said in capsys.readouterr().out


def test_the_test_of_a_run_on_changing_images_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {
        "data.source": {"class_path": f"{OWN}.Turning", "init_args": {"own": True}},
        "model.backbone.widths": [10, 3],
    }
    changing = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | own | {"trainer.default_root_dir": str(tmp_path)})
    assert summary_of(changing)["deterministic"] is False
    assert "returns different images each time it is read" in summary_of(changing)["data_notes"][0]
    assert main(arguments_of("test", changing)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert (
        "Turning (own True) returns different images each time it is read, so those of the run cannot be read" in said
    )
    assert "data.root" not in said


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("mnist", r"Set data\.root to the data that the run was trained on\.$"),
        (
            "EMNIST (split letters)",
            r"if an earlier release trained it, which read EMNIST with rows and columns exchanged",
        ),
        ("my_data.Own", r"; if the dataset draws random numbers when it is made, give it a fixed seed\.$"),
    ],
)
def test_other_images_are_explained(source: str, advice: str) -> None:
    saved = {"source": source, "fingerprint": "a"}
    with pytest.raises(PairsLitError, match=advice):
        check_match(saved, saved | {"fingerprint": "b"})
    check_match(saved, saved | {"deterministic": False, "transpose": False})


def test_the_test_of_a_run_on_transposed_images_needs_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"data.source": "digits", "data.transpose": True, "trainer.default_root_dir": str(tmp_path)}
    run = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | own)
    assert main(arguments_of("test", run)) == 0
    assert main([*arguments_of("test", run), "--data.transpose", "false"]) == 2
    assert "transpose is True in the checkpoint and False in the config" in capsys.readouterr().err


def test_a_run_is_opened_where_its_pictures_are_gone(run: pairs_lit.Run, folder: Path) -> None:
    away = folder.with_name("away")
    folder.rename(away)
    try:
        assert pairs_lit.open_run(run.folder).network(1).branches[0][-1].out_features == 3
    finally:
        away.rename(folder)


def arguments_of(command: str, run: pairs_lit.Run) -> list[str]:
    last = run.folder / "checkpoints" / "last.ckpt"
    return [command, "--config", str(run.folder / "config.yaml"), "--ckpt_path", str(last)]


def test_other_pictures_are_refused(
    run: pairs_lit.Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    Image.new("L", (14, 14)).save(other / "1" / "0.png")
    before = sorted(path.name for path in run.folder.iterdir())
    for command in ("test", "predict", "fit"):
        assert main([*arguments_of(command, run), "--data.root", str(other), "--trainer.max_epochs", "3"]) == 2
        message = "the checkpoint does not match the data: the SHA-256 of all images and labels of ImageFolder is"
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in run.folder.iterdir()) == before
    assert main([*arguments_of("test", run), "--data.root", str(shutil.copytree(folder, tmp_path / "same"))]) == 0


def test_runs_on_other_pictures_are_compared_only_on_demand(
    run: pairs_lit.Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(run.folder, tmp_path / "other" / "20260101-120000-1")
    summary = summary_of(run)
    summary["data"]["fingerprint"] = "0" * 64
    (other / "summary.json").write_text(json.dumps(summary))
    folders = [str(run.folder), str(other)]
    assert main(["compare", *folders]) == 2
    assert (
        "the runs differ in their images or labels, though their source has one name (SHA-256 "
        in capsys.readouterr().err
    )
    assert main(["compare", *folders, "--allow-different"]) == 0
    assert "unpaired" in capsys.readouterr().out
    del summary["data"]["fingerprint"]
    (other / "summary.json").write_text(json.dumps(summary))
    assert main(["compare", *folders]) == 0
    assert "paired by seed" in capsys.readouterr().out


def test_a_checkpoint_of_before_is_tested_and_gone_on_with(tmp_path: Path) -> None:
    own = {"data.source": "digits", "trainer.default_root_dir": str(tmp_path)}
    earlier = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | own)
    last = earlier.folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    for name in ("resize", "classes", "held_out", "fingerprint"):
        del checkpoint["pairs_lit"][name]
    torch.save(checkpoint, last)
    assert main(arguments_of("test", earlier)) == 0
    assert pairs_lit.open_run(earlier.folder).network(0).branches[0][-1].out_features == 10
    assert main([*arguments_of("fit", earlier), "--trainer.max_epochs", "3"]) == 0
    assert pairs_lit.Run.load(earlier.folder).curves.epochs == 3


def test_fashion_mnist_is_trained_and_its_classes_named(
    fashion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = OPTIONS | {"data.source": f"{SETS}.FashionMNIST", "data.root": fashion, "data.val_pairs": 5}
    arguments = [f"--{name}={value}" for name, value in (options | {"trainer.default_root_dir": tmp_path}).items()]
    assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *arguments, "--data.train_pairs", "20"]) == 0
    shown = capsys.readouterr().out
    assert "data: FashionMNIST, 20 training pairs" in shown
    assert "relation le: first ≤ second by the number of the class, of 10: 0 = 'T-shirt/top', 1 = 'Trouser'" in shown


FOUR = {"class_path": f"{OWN}.Items", "init_args": {"classes": 4}}
THREE = FOUR | {"init_args": {"classes": 3}}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data.source", f"{OWN}.Items", "--data.source.classes", "4"],
        ["--data.source.classes=4", f"--data.source={OWN}.Items"],
        ["--data.source.init_args.classes", "4", "--data.source.class_path", f"{OWN}.Items"],
        [f"--data.source={json.dumps(FOUR)}"],
        [f"--data.source={json.dumps(THREE)}", f"--data.source={json.dumps(FOUR)}"],
        [f"--data.source={json.dumps(THREE)}", "--data.source.classes", "4"],
        ["--config", json.dumps({"data": {"source": FOUR}})],
        ["--config", json.dumps({"data": {"source": THREE}}), "--data.source.classes", "4"],
        ["--config", json.dumps({"data": {"source": THREE}}), "--config", json.dumps({"data": {"source": FOUR}})],
        ["--config", json.dumps({"data": {"source": f"{OWN}.Items"}}), "--data.source.classes", "4"],
        ["--data", json.dumps({"source": THREE}), "--data.source.classes", "4"],
        ["--data", "own.yaml"],
        ["--config", json.dumps({"data": "own.yaml"})],
        ["--data", "own.yaml", "--data", json.dumps({"source": FOUR})],
    ],
)
@pytest.mark.quick(5)
def test_a_set_is_named_with_its_arguments_in_any_place(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"source": FOUR}))
    wrong = ["--model.backbone.widths", "[10, 5]"]  # shows how many classes there are, and ends
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), *arguments, *wrong]) == 2
    assert "needs a code of width 4, but the backbone's is 5" in capsys.readouterr().err


def test_a_config_of_a_set_with_arguments_is_read_again(tmp_path: Path) -> None:
    network = {"model.backbone.widths": [10, 4], "trainer.default_root_dir": str(tmp_path)}
    run = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | network | {"data.source": FOUR})
    assert summary_of(run)["data"]["source"] == f"{OWN}.Items (classes 4)"
    assert main(arguments_of("test", run)) == 0
    assert main([*arguments_of("test", run), "--data.source.count", "100"]) == 2


def test_an_argument_of_no_set_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), "--data.source.split", "digits"]) == 2
    assert "--data.source.split=digits: name the data set's class, too" in capsys.readouterr().err


def test_a_network_for_ten_classes_says_what_to_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--data.source", FOLDER, "--data.root", str(folder)]
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), *own]) == 2
    message = (
        "which needs a code of width 3, but the backbone's is 10: change its last width to 3, the number of classes"
    )
    assert message in capsys.readouterr().err
    head = ["--model.head", "pairs_lit.nn.heads.PowerHead", "--model.loss.target", "mse", "--model.readout", "none"]
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), *own, *head, "--model.loss.digits", "none"]) == 2
    assert "needs a width of 6 for both images, got 20: give the backbone 3 outputs" in capsys.readouterr().err
    assert (
        main(
            [
                "fit",
                "--config",
                str(CONFIGS / "fc.yaml"),
                *own,
                "--model.network",
                "tests.support.pair_networks.Siamese",
            ]
        )
        == 2
    )
    assert "(answer, digit logits (N, 2, 3)); Siamese gave (2, 1) and (2, 2, 10)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_over_a_folder_of_pictures(folder: Path, tmp_path: Path) -> None:
    own = {"data.source": FOLDER, "data.root": str(folder), "trainer.default_root_dir": str(tmp_path)}
    space = {"space": {"model.loss.aux_weight": [0.1, 1.0]}, "rounds": {"count": 2}}
    found = pairs_lit.sweep(str(CONFIGS / "fc_aux.yaml"), space, OPTIONS | NETWORK | own)
    assert len(found.trials) == 2
    assert found.best.data["classes"] == 3


@pytest.mark.parametrize("head", ["SoftmaxHead", "PowerHead", "ArgmaxHead"])
def test_probability_heads_have_as_many_classes_as_the_data(folder: Path, tmp_path: Path, head: str) -> None:
    own = {"data.source": FOLDER, "data.root": str(folder), "trainer.default_root_dir": str(tmp_path)}
    own |= {"model.head": f"pairs_lit.nn.heads.{head}", "model.code_activation": "none"}
    own |= {"model.loss.target": "none" if head == "ArgmaxHead" else "ce", "model.loss.digits": "mse"}
    made = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | NETWORK | own)
    assert made.network(0)(torch.rand(4, 2, 14, 14))[1].shape == (4, 2, 3)
