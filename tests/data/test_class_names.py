"""Class names from a dataset or from data.class_names, and the order of classes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.sources import load_source
from pairs_lit.errors import PairsLitError
from tests.support.custom_datasets import build_images
from tests.support.sources import CUSTOM_DATASETS, load_custom


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"names": "a b c", "first": 1}, ["a", "b", "c"]),
        ({"names": "x a b c", "first": 1}, ["x", "a", "b", "c"]),
        ({"names": "10 9 -1"}, ["-1", "9", "10"]),
    ],
)
def test_class_names_belong_to_their_labels(arguments: dict[str, Any], expected: list[str]) -> None:
    source = load_custom("Named", **arguments)
    assert source.class_names == expected
    images, labels = build_images(classes=len(expected))
    names = arguments["names"].split()
    name_by_image = {image.tobytes(): names[label] for image, label in zip(images, labels, strict=True)}
    for part in source.parts:
        actual = [expected[label] for label in part.labels.tolist()]
        assert actual == [name_by_image[image.tobytes()] for image in part.images.numpy()]


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
def test_names_that_do_not_match_the_labels_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        load_custom("Named", **arguments)


def test_parts_that_number_their_classes_differently_are_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"got 'a' for label 0 in training and 'b' in another part"):
        load_custom("Renumbered")


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("Items", ["low", "middle", "high"], ["low", "middle", "high"]),
        ("Items", [2, 0, 1], ["2", "0", "1"]),
        ("Named", ["c", "a", "b"], ["c", "a", "b"]),
    ],
)
def test_class_names_set_the_names_and_order_of_classes(name: str, names: list[Any], expected: list[str]) -> None:
    source = load_source(f"{CUSTOM_DATASETS}.{name}", Path("nowhere"), allow_unverified=False, class_names=names)
    assert source.class_names == expected
    images, labels = build_images()
    order = {"2": 2, "0": 0, "1": 1, "a": 0, "b": 1, "c": 2, "low": 0, "middle": 1, "high": 2}
    label_of = {image.tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}
    for image, label in zip(source.train.images.numpy(), source.train.labels.tolist(), strict=True):
        assert label_of[image.tobytes()] == order[expected[label]]


def test_class_names_of_the_digits() -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    plain, named, backwards = (
        load_source("digits", Path("nowhere"), allow_unverified=False, class_names=names)
        for names in (None, words, [*range(9, -1, -1)])
    )
    assert (list(plain.class_names), list(named.class_names)) == ([], words)
    assert named.compute_fingerprint() == plain.compute_fingerprint()
    assert torch.equal(backwards.train.labels, 9 - plain.train.labels)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], r"data\.class_names must differ from each other, got 'a' twice"),
        (["a", " "], r"data\.class_names must contain only text or numbers, got ' '"),
        ([True, "b"], r"must contain only text or numbers, got True\. Put empty names, yes, no"),
        (["a", "b"], r"data\.class_names must name the 10 digits of digits, got 2 names"),
    ],
)
def test_wrong_class_names_are_rejected_before_loading(names: list[Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        PairDataModule(seeds=[0], source="digits", class_names=names)
