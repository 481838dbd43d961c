"""Custom datasets: items, labels, grey ranges, duplicates and errors."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.sources import cache_sources
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_metadata import find_differing_settings
from tests.support.custom_datasets import build_images
from tests.support.sources import CUSTOM_DATASETS, FOLDER, check_rejected, load, load_custom


def test_a_dataset_is_read_item_by_item() -> None:
    images, labels = build_images()
    for name in ("Items", "Floats", "made", "listed", "tensors"):
        source = load(f"{CUSTOM_DATASETS}.{name}")
        label_by_image = {
            image.tobytes(): label
            for part in source.parts
            for image, label in zip(part.images.numpy(), part.labels.tolist(), strict=True)
        }
        assert label_by_image == {image.tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}
        assert (source.name, source.class_names) == (f"{CUSTOM_DATASETS}.{name}", [])


def test_labels_are_renumbered_in_ascending_order_and_keep_their_names() -> None:
    source = load(f"{CUSTOM_DATASETS}.Arrays")
    assert source.class_names == ["ace", "two", "seven"]
    images, labels = build_images()
    number = dict(zip((image.tobytes() for image in images), [(2, 0, 1)[label] for label in labels], strict=True))
    for part in source.parts:
        assert [number[image.tobytes()] for image in part.images.numpy()] == part.labels.tolist()


def test_a_custom_getitem_takes_precedence_over_arrays() -> None:
    images, labels = build_images()
    number = {(255 - image).tobytes(): 2 - label for image, label in zip(images, labels, strict=True)}
    for part in load(f"{CUSTOM_DATASETS}.Inverted").parts:
        assert [number[image.tobytes()] for image in part.images.numpy()] == part.labels.tolist()


def test_a_dataset_with_the_argument_split_has_two_parts(tmp_path: Path) -> None:
    source = load(f"{CUSTOM_DATASETS}.Halves", tmp_path)
    assert (len(source.train.labels), len(source.test.labels), source.held_out) == (60, 30, None)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("pillow", [False, True])
def test_all_16_bit_images_of_a_dataset_have_the_same_scale(bits: int, pillow: bool) -> None:
    images, _ = build_images()
    images[0] //= 8  # a dark image must stay dark
    source = load_custom("Deep", bits=bits, pillow=pillow)
    actual = {image.tobytes() for part in source.parts for image in part.images.numpy()}
    assert actual == {image.tobytes() for image in images}
    assert source.bits == bits


def test_transparent_arrays_are_laid_on_paper() -> None:
    actual = {image.tobytes() for part in load_custom("Glass").parts for image in part.images.numpy()}
    assert actual == {(255 - image).tobytes() for image in build_images()[0]}


@pytest.mark.parametrize("top", [1, 15, 16, 31])
def test_too_small_a_range_of_grey_values_is_rejected(top: int) -> None:
    with pytest.raises(
        PairsLitError, match=rf"must use the range 0 … 255 .* only 0 to {top} of 255 in all 90\. Multiply"
    ):
        load_custom("Scaled", top=top, train=True)
    with pytest.raises(PairsLitError, match=r"must use the range"):
        load_custom("Scaled", top=top)  # only the test images use the whole range


def test_dark_images_are_accepted_with_a_notice(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_custom("Scaled", top=50, train=True).train.classes == 3
    assert "its 90 images use only grey values from 0 to 50 of 255" in capsys.readouterr().err


def test_identical_images_are_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"images must differ from each other, got 90 that are all identical"):
        load_custom("Alike")


@pytest.mark.parametrize("by_own_generator", [False, True])
def test_a_dataset_that_changes_is_reported_once(by_own_generator: bool, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    source = load_custom("Turning", own=by_own_generator)
    state = torch.get_rng_state()
    assert not source.deterministic
    output = capsys.readouterr().err
    position = r"\d+" if by_own_generator else "0"  # with an unseeded generator, an image may be equal by chance
    message = rf"returns different images each time it is read \(for instance image {position}\)"
    assert len(re.findall(message, output)) == 1
    assert "set data.augment to change training images at random" in output
    torch.manual_seed(0)
    if not by_own_generator:  # the second reading must not advance the global generator
        for _ in range(2 * 90):  # one number for each image of both parts
            torch.randint(99, ())
    assert torch.equal(torch.get_rng_state(), state)
    assert load_custom("Items").deterministic


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Normalised", r"image 0: an image must hold floats in 0 … 1 .*, got float32 from -"),
        ("Texts", r"image 0: labels must be integers, got 'two'"),
        ("FloatTargets", r"labels must be integers, got float64"),
        ("FewerTargets", r"each image must have a label, got 90 images and 89 labels"),
        ("Alone", r"image 0 must be \(image, label\), got a ndarray"),
        ("NoPictures", r"image 0: expected a PIL image, a tensor or an array, got str"),
        ("Wide", r"image 0 must be square, got 7×14 \(height×width\)\. Set data\.resize"),
        ("Raising", r"image 4 cannot be read \(KeyError: 'four'"),
        ("TwoSizes", r"training and test images must have the same size, got 14×14 and 7×7\. Set data\.resize"),
        ("SameTwice", r"test images must differ from the training images, got the same images"),
        ("OtherLabels", r"label of a test image must occur in training, got label 3 in the test only"),
        ("Nothing", r"Nothing must hold images, got an empty dataset"),
        ("Failing", r"tests\.support\.custom_datasets\.Failing cannot be read: OSError: the disk is gone"),
        ("Shapeless", r"a dataset must have __len__ and a __getitem__ .*, got a Shapeless"),
        ("Maps", r"image 0: an image must be \(H, W\) or have 1 to 4 channels, got the shape \(5, 14, 14\)"),
        ("Wrong", r"image 0: an image must hold .* integers in 0 … 255, got int64 from .* to .*"),
        ("Nope", r"has no attribute 'Nope'"),
        ("not_a_class", r"tests\.support\.custom_datasets\.not_a_class must be a dataset class, got a int"),
    ],
)
def test_the_error_of_a_faulty_dataset_is_one_line(name: str, message: str) -> None:
    check_rejected(message, f"{CUSTOM_DATASETS}.{name}")


def test_slow_reading_prints_its_progress(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.data.dataset_items._NOTICE_SECONDS", -1.0)
    load(FOLDER, folder)
    assert "reading ImageFolder: 12 of 36 images …" in capsys.readouterr().err


def test_the_number_of_classes_of_a_named_source_needs_no_files(tmp_path: Path) -> None:
    assert PairDataModule(seeds=[0], source="mnist", root=str(tmp_path)).classes == 10


def test_the_fingerprint_depends_on_images_and_labels(folder: Path) -> None:
    source = load(FOLDER, folder)
    digest = hashlib.sha256()
    for part in (source.train, source.test):
        images, labels = part.images.numpy(), part.labels.numpy()
        digest.update(str(images.shape).encode() + images.tobytes() + labels.astype("<i8").tobytes())
    assert source.compute_fingerprint() == digest.hexdigest()


def test_a_source_is_loaded_once_for_many_configs(folder: Path) -> None:
    with cache_sources():
        first = load(FOLDER, folder)
        assert load(FOLDER, folder) is first
        assert load(FOLDER, folder, resize=7) is not first
    assert load(FOLDER, folder) is not first


def test_settings_that_earlier_runs_did_not_record_do_not_differ() -> None:
    earlier = {"source": "mnist", "relation": "le"}
    later = earlier | {"resize": None, "classes": 10, "held_out": None, "fingerprint": "a"}
    assert find_differing_settings(earlier, later) == []
    assert find_differing_settings(later, later | {"fingerprint": "b"}) == ["fingerprint"]
    assert find_differing_settings(earlier, later | {"resize": 28, "relation": "lt"}) == ["resize", "relation"]
