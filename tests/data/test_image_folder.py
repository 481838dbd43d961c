"""Folders of images: files and links of a class, names of parts, order of classes, and notices."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairs_lit.data.custom_dataset import load_custom_dataset
from pairs_lit.data.labelled_images import Source
from pairs_lit.errors import PairsLitError
from tests.support.images import write_images
from tests.support.sources import FOLDER

NAMES = ["0", "1", "2"]


def load(root: Path, class_names: list[str | int | float] | None = None) -> Source:
    return load_custom_dataset(FOLDER, {}, root, resize=None, class_names=class_names)


def count_labels(source: Source) -> list[int]:
    counter = Counter(label for part in source.parts for label in part.labels.tolist())
    return [counter[label] for label in range(source.train.classes)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_images(tmp_path / "own", NAMES)


# --- links ---


def link_to_itself(root: Path) -> None:
    (root / "1" / "again").symlink_to(".")


def link_to_another_class(root: Path) -> None:
    (root / "1" / "again").symlink_to("../2")


def link_to_the_parent(root: Path) -> None:
    (root / "1" / "again").symlink_to("..")


def link_to_what_holds_everything(root: Path) -> None:
    (root / "1" / "again").symlink_to("/")


def link_to_a_file_of_its_class(root: Path) -> None:
    file = next((root / "1").iterdir())
    (root / "1" / "again.png").symlink_to(file.name)


def link_to_a_file_of_another_class(root: Path) -> None:
    file = next((root / "2").iterdir())
    (root / "1" / "0 again.png").symlink_to(Path("..") / "2" / file.name)


def hard_link(root: Path) -> None:
    os.link(next((root / "1").iterdir()), root / "1" / "again.png")


@pytest.mark.parametrize(
    "link",
    [
        link_to_itself,
        link_to_another_class,
        link_to_the_parent,
        link_to_what_holds_everything,
        link_to_a_file_of_its_class,
        link_to_a_file_of_another_class,
        hard_link,
    ],
)
def test_each_file_counts_once(link: Callable[[Path], None], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = load(root).compute_fingerprint()
    assert capsys.readouterr().err == ""
    link(root)
    source = load(root)
    assert (count_labels(source), source.compute_fingerprint()) == ([12, 12, 12], expected)
    assert "class 1: 1 link ignored, because the same files are counted already" in capsys.readouterr().err


@pytest.mark.parametrize("target", [".", "1", "1/.."])
def test_a_link_to_a_class_or_to_the_folder_is_ignored(
    target: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "3").symlink_to(target)
    assert count_labels(load(root)) == [12, 12, 12]
    assert "folder links ignored (3), because they lead to this folder itself or to another" in capsys.readouterr().err


def test_links_to_other_places_are_read(root: Path, tmp_path: Path) -> None:
    expected = load(root).compute_fingerprint()
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "0").symlink_to(root / "0")
    for name in ("1", "2"):
        (linked / name).mkdir()
        for file in (root / name).iterdir():
            (linked / name / file.name).symlink_to(file)
    assert load(linked).compute_fingerprint() == expected


def test_a_file_in_two_classes_is_rejected(root: Path) -> None:
    os.link(next((root / "1").iterdir()), root / "2" / "again.png")
    with pytest.raises(
        PairsLitError, match=r"belong to one class only, got .*/1/\S+ and .*/2/again\.png, which are the same file"
    ):
        load(root)


def test_a_broken_link_is_named(root: Path) -> None:
    (root / "1" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(PairsLitError, match=r"/1/gone\.png cannot be read \(FileNotFoundError"):
        load(root)


# --- files ---


def test_files_that_pillow_does_not_read_are_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in sorted((root / "2").iterdir())[:2]:
        file.rename(file.with_suffix(".HEIC"))
    (root / "0" / "README").write_text("x")
    source = load(root)
    assert count_labels(source) == [12, 12, 10]
    notice = "class 0: 1 of 13 files skipped (no extension); class 2: 2 of 12 files skipped (.heic)"
    assert capsys.readouterr().err.count(notice) == 1
    assert any(notice in note for note in source.notes)


def test_a_class_with_only_such_files_is_rejected(root: Path) -> None:
    for file in (root / "2").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(PairsLitError, match=r"/2 must hold images .*, got only 12 other files \(\.heic\)\. Add"):
        load(root)


def test_other_formats_and_extensions_in_capitals_count(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = load(root).compute_fingerprint()
    for number, file in enumerate(sorted((root / "1").iterdir())):
        extension = [".gif", ".tga", ".BMP", ".PNG"][number % 4]
        Image.open(file).save(file.with_suffix(extension))
        file.unlink() if extension != ".PNG" else file.replace(file.with_suffix(".PNG"))
    assert count_labels(load(root)) == [12, 12, 12]
    assert load(root).compute_fingerprint() == expected
    assert capsys.readouterr().err == ""


def test_only_the_first_of_several_frames_is_read_with_a_notice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sorted((root / "1").iterdir())[0]
    expected = load(root).compute_fingerprint()
    image = Image.open(file)
    image.save(file.with_suffix(".gif"), save_all=True, append_images=[Image.new("L", image.size)])
    file.unlink()
    assert load(root).compute_fingerprint() == expected
    assert "own: 1 file with several frames, of which only the first is read" in capsys.readouterr().err


def test_classes_that_differ_in_case_only_are_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, other in (("0", "a"), ("1", "A")):
        (root / name).rename(root / other)
    assert count_labels(load(root)) == [12, 12, 12]
    assert "own: A and a differ in case only, so a copy of this folder on Windows" in capsys.readouterr().err


def test_the_error_of_a_file_with_a_wrong_extension_is_one_line(root: Path) -> None:
    (root / "1" / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(PairsLitError, match=r"/1/page\.jpg cannot be read \(UnidentifiedImageError") as caught:
        load(root)
    assert "\n" not in str(caught.value)


def test_images_in_sub_folders_count_unless_they_are_hidden(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = load(root).compute_fingerprint()
    shutil.copytree(root / "1", root / "1" / ".ipynb_checkpoints")
    assert load(root).compute_fingerprint() == expected
    (root / "1" / "more").mkdir()
    Image.new("L", (14, 14), 200).save(root / "1" / "more" / "a.png")
    assert count_labels(load(root)) == [12, 13, 12]
    assert "class 1: 1 of 13 images in its sub-folders (more), which count as images of the class" in (
        capsys.readouterr().err
    )


def test_a_class_folder_of_folders_is_rejected(root: Path) -> None:
    with pytest.raises(
        PairsLitError, match=r"/own must hold the images of a class, got only folders \(0, 1, 2\)\. Set d"
    ):
        load(root.parent)
    write_images(root.parent, ["more"])
    with pytest.raises(
        PairsLitError, match=r"got only folders \(0, 1, 2\)\. If they are parts .*, call them train, .*, dev"
    ):
        load(root.parent)


def test_images_outside_the_class_folders_are_ignored_with_a_notice(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (14, 14)).save(root / "stray.png")
    assert count_labels(load(root)) == [12, 12, 12]
    assert "own: 1 image outside the class folders ignored" in capsys.readouterr().err


# --- parts ---


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Train", "Val", "TEST"),
        ("training", "validation", "testing"),
        ("trainingSet", "validationSet", "testSet"),
        ("train_set", "valid", "test_set"),
        ("train-data", "dev", "test-images"),
        ("Training Set", "Dev_Set", "tests"),
    ],
)
def test_parts_are_recognised_in_all_spellings(train: str, validation: str, test: str, tmp_path: Path) -> None:
    for count, name in ((6, train), (2, validation), (3, test)):
        write_images(tmp_path / name, NAMES, count)
    source = load(tmp_path)
    assert [len(part.labels) for part in source.parts] == [18, 6, 9]
    assert source.held_out is None


def test_two_folders_for_one_part_are_rejected(tmp_path: Path) -> None:
    for name in ("train", "val", "valid", "test"):
        write_images(tmp_path / name, NAMES)
    with pytest.raises(PairsLitError, match=r"with val and valid, which are names of the same part"):
        load(tmp_path)


def test_folders_that_belong_to_no_part_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "train", NAMES, 6)
    write_images(tmp_path / "test", ["0", "2"], 3)
    write_images(tmp_path / "extra", NAMES, 3)
    load(tmp_path)
    output = capsys.readouterr().err
    assert "folders ignored (extra), because they are not named like parts of a dataset" in output
    assert "test: classes without a folder (1), so this part has no images of them" in output


# --- order and names ---


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["-2", "-1", "0", "1", "2"], ["-2", "-1", "0", "1", "2"]),
        (["10", "0.5", "2", "-1.5"], ["-1.5", "0.5", "2", "10"]),
        (["1e3", "20", "+3"], ["+3", "20", "1e3"]),
        (["−1", "0", "-2"], ["-2", "−1", "0"]),
        (["digit 10", "digit 9"], ["digit 9", "digit 10"]),
    ],
)
def test_numbers_are_sorted_by_value(
    names: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load(write_images(tmp_path, names)).class_names == expected
    assert capsys.readouterr().err == ""


def test_the_order_of_other_names_is_reported_and_can_be_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_images(tmp_path, ["zero", "one", "two"])
    assert load(root).class_names == ["one", "two", "zero"]
    notice = (
        "the class names are not numbers, so the relation compares classes in the alphabetical order of the folders: "
    )
    assert f"{notice}one < two < zero. To use another order, set data.class_names" in capsys.readouterr().err
    source = load(root, ["zero", "one", "two"])
    assert source.class_names == ["zero", "one", "two"]
    assert capsys.readouterr().err == ""
    number = {
        np.asarray(Image.open(f)).tobytes(): n
        for n, c in enumerate(["zero", "one", "two"])
        for f in (root / c).iterdir()
    }
    for part in source.parts:
        assert [number[image.tobytes()] for image in part.images.numpy()] == part.labels.tolist()


def test_class_names_may_be_numbers(tmp_path: Path) -> None:
    assert load(write_images(tmp_path, ["1.00", "2", "-3"]), [2, 1.0, "-3"]).class_names == ["2", "1.00", "-3"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["zero", "one", "tow"],
            r"must name the 3 classes of .*ImageFolder \(one, two, zero\), got 3 names: 'tow' is not"
            r" one of them: did you mean two",
        ),
        (["zero", "one"], r"got 2 names: 'two' is missing"),
        (["zero", "one", "two", "three"], r"got 4 names: 'three' is not one of them"),
    ],
)
def test_class_names_that_do_not_match_are_rejected(
    names: list[str | int | float], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PairsLitError, match=message):
        load(write_images(tmp_path, ["zero", "one", "two"]), names)
