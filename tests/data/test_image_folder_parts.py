"""Folders of images: classes, training and test parts, and what is wrong with a folder."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.errors import PairsLitError
from tests.support.images import another_size, write_pictures
from tests.support.sources import FOLDER, load, refused


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
    (root / "b" / "1.png").write_bytes(b"no image")


def truncated(root: Path) -> None:
    file = root / "b" / "1.png"
    file.write_bytes(file.read_bytes()[:-60])


def empty_file(root: Path) -> None:
    (root / "b" / "1.png").write_bytes(b"")


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
        (no_pictures, r"/b holds no images \(\.jpg"),
        (too_few, r"class 'b' has 5 images: each class needs 6 or more, since a sixth is held out"),
        (nothing, r"which holds no folders: a folder of images has a sub-folder for each class"),
        (absent, r"there is no such folder; name one with a sub-folder for each class"),
        (corrupt, r"/b/1\.png cannot be read \(UnidentifiedImageError"),
        (truncated, r"/b/1\.png cannot be read \(.*truncated"),
        (empty_file, r"/b/1\.png cannot be read"),
        (another_size, r"/b/1\.png is 20×20, and .*/a/0\.png is 14×14: set data\.resize"),
        (not_square, r"/a/0\.png is 14×20 \(height×width\), which is not square: set data\.resize"),
        (train_only, r"which holds train: test with a sub-folder for each class is missing there"),
        (parts_without_classes, r"which holds test and train: train with a sub-folder for each class is missing"),
        (another_test_class, r"/test/c is a class that the training images lack: remove it"),
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


def test_a_folder_of_the_current_one_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert PairDataModule(seeds=[0], source=FOLDER, root=".").classes == 3
