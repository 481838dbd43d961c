"""Custom datasets: read item by item, with labels, ranges and copies checked."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.sources import loaded_once
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_metadata import unlike
from tests.support.custom_datasets import pictures
from tests.support.sources import FOLDER, OWN, load, own, refused


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
    which = r"\d+" if by_own_generator else "0"  # nobody seeds its own generator: an image may be the same by chance
    assert len(re.findall(rf"returns different images each time it is read \(image {which}, for instance\)", said)) == 1
    assert "set data.augment for random changes" in said
    torch.manual_seed(0)
    if not by_own_generator:  # asking again has left the user's stream alone
        for _ in range(2 * 90):  # both parts draw
            torch.randint(99, ())
    assert torch.equal(torch.get_rng_state(), state)
    assert own("Items").deterministic


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Normalised", r"image 0: images of float32 from -.*: floats must lie in 0 … 1"),
        ("Texts", r"image 0: its label is 'two', which is no integer"),
        ("FloatTargets", r"its labels are no integers, but float64"),
        ("FewerTargets", r"it holds 90 images and 89 labels"),
        ("Alone", r"image 0 is a ndarray, where \(image, label\) is needed"),
        ("NoPictures", r"image 0: expected a PIL image, a tensor or an array, got str"),
        ("Wide", r"image 0 is 7×14 \(height×width\), which is not square"),
        ("Raising", r"image 4 cannot be read \(KeyError: 'four'"),
        ("TwoSizes", r"training and test images are 14×14 and 7×7: set data\.resize"),
        ("SameTwice", r"the test images are the training images"),
        ("OtherLabels", r"no training image has the label 3 of some test image"),
        ("Nothing", r"it holds no images"),
        ("Failing", r"tests\.support\.custom_datasets\.Failing cannot be read: OSError: the disk is gone"),
        ("Shapeless", r"a Shapeless is no dataset: it needs __len__ and __getitem__"),
        ("Maps", r"image 0: images of shape \(5, 14, 14\)"),
        ("Wrong", r"image 0: images of int64 from .* to .*: .* integers in 0 … 255"),
        ("Nope", r"has no attribute 'Nope'"),
        ("not_a_class", r"tests\.support\.custom_datasets\.not_a_class must be a dataset class, got a int"),
    ],
)
def test_a_faulty_set_is_one_line(name: str, message: str) -> None:
    refused(message, f"{OWN}.{name}")


def test_reading_that_takes_long_says_how_far_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.data.dataset_items._NOTICE_SECONDS", -1.0)
    load(FOLDER, folder)
    assert "reading ImageFolder: 12 of 36 images …" in capsys.readouterr().err


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
