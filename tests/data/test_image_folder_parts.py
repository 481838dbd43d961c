"""Folders of images: classes, training and test parts, and errors."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.errors import PairsLitError
from tests.support.images import write_image_of_another_size, write_images
from tests.support.sources import FOLDER, check_rejected, load


def test_classes_of_a_folder_are_sorted_by_their_numbers(folder: Path) -> None:
    source = load(FOLDER, folder)
    assert (source.name, source.class_names, source.train.classes) == ("ImageFolder", ["1", "2", "10"], 3)
    expected = {
        np.asarray(Image.open(file)).tobytes(): number
        for number, name in enumerate(["1", "2", "10"])
        for file in (folder / name).iterdir()
    }
    actual = [
        (image.tobytes(), label)
        for part in source.parts
        for image, label in zip(part.images.numpy(), part.labels.tolist(), strict=True)
    ]
    assert dict(actual) == expected
    assert len(actual) == 36


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a10", "a2", "a1"], ["a1", "a2", "a10"]),
        (["Zebra", "ape", "010", "9"], ["9", "010", "ape", "Zebra"]),
        (["x", "1x", "12", "1"], ["1", "1x", "12", "x"]),
    ],
)
def test_natural_order(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    assert load(FOLDER, write_images(tmp_path, names)).class_names == expected


def test_a_sixth_of_each_class_is_held_out_if_there_are_no_test_images(tmp_path: Path) -> None:
    root = write_images(tmp_path, ["a", "b"], 60)
    for file in list((root / "b").iterdir())[30:]:
        file.unlink()
    first, again = load(FOLDER, root), load(FOLDER, root)
    assert Counter(first.test.labels.tolist()) == {0: 10, 1: 5}
    assert Counter(first.train.labels.tolist()) == {0: 50, 1: 25}
    assert first.validation is None
    assert first.held_out == "a sixth of each class (seed 0)"
    assert first.compute_fingerprint() == again.compute_fingerprint()
    train, test = ({image.tobytes() for image in part.images.numpy()} for part in (first.train, first.test))
    assert train.isdisjoint(test)
    assert len(train | test) == 90


def test_train_and_test_folders_are_the_parts(tmp_path: Path) -> None:
    write_images(tmp_path / "train", ["1", "2", "10"], 5)
    write_images(tmp_path / "test", ["2", "10"], 2)
    source = load(FOLDER, tmp_path)
    assert (len(source.train.labels), source.validation, source.held_out) == (15, None, None)
    assert sorted(source.test.labels.tolist()) == [1, 1, 2, 2]
    write_images(tmp_path / "val", ["1", "2"], 3)
    validation = load(FOLDER, tmp_path).validation
    assert validation is not None
    assert sorted(validation.labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_hidden_and_system_files_are_ignored(tmp_path: Path) -> None:
    root = write_images(tmp_path, ["a", "b"])
    expected = load(FOLDER, root).compute_fingerprint()
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (root / name).mkdir()
    (root / "a" / ".DS_Store").write_bytes(b"x")
    (root / "a" / "._0.png").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    assert load(FOLDER, root).compute_fingerprint() == expected


def keep_one_class(root: Path) -> None:
    shutil.rmtree(root / "b")


def remove_images(root: Path) -> None:
    for file in (root / "b").iterdir():
        file.unlink()


def keep_too_few_images(root: Path) -> None:
    for file in list((root / "b").iterdir())[5:]:
        file.unlink()


def remove_everything(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def remove_root(root: Path) -> None:
    shutil.rmtree(root)


def corrupt_image(root: Path) -> None:
    (root / "b" / "1.png").write_bytes(b"no image")


def truncate_image(root: Path) -> None:
    file = root / "b" / "1.png"
    file.write_bytes(file.read_bytes()[:-60])


def empty_file(root: Path) -> None:
    (root / "b" / "1.png").write_bytes(b"")


def write_wide_image(root: Path) -> None:
    for file in root.glob("*/*.png"):
        Image.open(file).resize((20, 14)).save(file)


def keep_train_only(root: Path) -> None:
    for name in ("a", "b"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)


def write_parts_without_classes(root: Path) -> None:
    (root / "a").rename(root / "train")
    (root / "b").rename(root / "test")


def add_test_class(root: Path) -> None:
    keep_train_only(root)
    shutil.copytree(root / "train" / "a", root / "test" / "c")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (keep_one_class, r"ImageFolder must have 2 to 100 classes, got 1 \('a'\)"),
        (remove_images, r"/b must hold images of its class \(\.jpg.*, got none"),
        (
            keep_too_few_images,
            r"each class must have 6 or more images, because a sixth is held out .*, got 5 of class 'b'",
        ),
        (remove_everything, r"must be a folder with a sub-folder for each class, got .*, which has no sub-folders"),
        (remove_root, r"must be a folder with a sub-folder for each class, got .*, which is not a folder"),
        (corrupt_image, r"/b/1\.png cannot be read \(UnidentifiedImageError"),
        (truncate_image, r"/b/1\.png cannot be read \(.*truncated"),
        (empty_file, r"/b/1\.png cannot be read"),
        (
            write_image_of_another_size,
            r"must have the same size, got 14×14 for .*/a/0\.png and 20×20 for .*/b/1\.png\. Set data\.resize",
        ),
        (write_wide_image, r"/a/0\.png must be square, got 14×20 \(height×width\)\. Set data\.resize"),
        (keep_train_only, r"must hold train and test, .*, which holds train and no such test\. Add it"),
        (write_parts_without_classes, r"must hold train and test, .*, which holds test and train and no such train"),
        (add_test_class, r"every class must have training images, got the class .*/test/c without any\. Remove"),
    ],
)
def test_the_error_of_a_faulty_folder_is_one_line(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    root = write_images(tmp_path / "own", ["a", "b"])
    damage(root)
    check_rejected(message, FOLDER, root)


@pytest.mark.parametrize("damage", [write_image_of_another_size, write_wide_image])
def test_resize_accepts_images_of_any_size(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    root = write_images(tmp_path / "own", ["a", "b"])
    damage(root)
    assert load(FOLDER, root, resize=10).train.images.shape == (20, 10, 10)


def test_a_folder_takes_no_other_arguments(folder: Path) -> None:
    check_rejected(
        r"the only argument of .*ImageFolder must be root, got 'loader'",
        {"class_path": FOLDER, "init_args": {"loader": "x"}},
    )
    assert load({"class_path": FOLDER, "init_args": {"root": str(folder)}}).train.classes == 3
    with pytest.raises(PairsLitError, match=r"data\.root must be the folder that holds the data, got an empty string"):
        PairDataModule(seeds=[0], source=FOLDER, root="")


def test_the_current_folder_can_be_the_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert PairDataModule(seeds=[0], source=FOLDER, root=".").classes == 3
