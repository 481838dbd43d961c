"""Named sources: the bundled digits, and the fallback of auto."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pairs_lit.data.labelled_images import LabelledImages
from pairs_lit.data.sources import load_source
from tests.support.mnist_files import fail_if_called, list_files


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    source = load_source("digits", Path("nowhere"), allow_unverified=False)
    assert source.name == "digits"
    assert source.validation is not None
    return source.train, source.validation, source.test


def test_bundled_digits_are_split_1197_300_300(parts: tuple[LabelledImages, ...]) -> None:
    assert [len(part.labels) for part in parts] == [1197, 300, 300]
    for part in parts:
        assert part.images.shape == (len(part.labels), 28, 28)
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)


def test_bundled_digits_use_the_range_of_mnist(parts: tuple[LabelledImages, ...]) -> None:
    images = torch.cat([part.images for part in parts])
    assert (images.min(), images.max()) == (0, 255)


def test_bundled_digits_are_split_by_class(parts: tuple[LabelledImages, ...]) -> None:
    total = np.bincount(load_digits().target)
    for part in parts:
        expected = total * len(part.labels) / 1797
        assert np.abs(np.bincount(part.labels.numpy(), minlength=10) - expected).max() < 1.5


def test_bundled_digits_are_disjoint_and_complete(parts: tuple[LabelledImages, ...]) -> None:
    images = [image.tobytes() for part in parts for image in part.images.numpy()]
    assert len(set(images)) == 1797


def bilinear_weights() -> np.ndarray:
    """Return the (28, 8) matrix of bilinear interpolation between pixel centres, edges repeated."""
    centres = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(8)))


def test_bundled_digits_are_scikit_learns_digits_enlarged(parts: tuple[LabelledImages, ...]) -> None:
    bunch, weights = load_digits(), bilinear_weights()
    enlarged = np.rint(weights @ (bunch.images * 255 / 16) @ weights.T).astype(int)
    by_label = [Counter(bunch.target), Counter(torch.cat([part.labels for part in parts]).tolist())]
    assert by_label[0] == by_label[1]
    flat = enlarged.reshape(1797, -1)
    for part in parts:
        for image, label in list(zip(part.images.numpy().astype(int), part.labels.tolist(), strict=True))[:40]:
            distance = np.abs(flat - image.ravel()).max(1)
            assert distance.min() <= 1  # rounding
            assert bunch.target[distance.argmin()] == label


def test_bundled_digits_are_the_same_every_time(parts: tuple[LabelledImages, ...]) -> None:
    torch.manual_seed(1)
    again = load_source("digits", Path("elsewhere"), allow_unverified=True)
    for part, same in zip(parts, (again.train, again.validation, again.test), strict=True):
        assert same is not None
        assert torch.equal(part.images, same.images)
        assert torch.equal(part.labels, same.labels)


def test_auto_without_network_uses_the_bundled_digits_with_a_loud_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_source("auto", tmp_path, allow_unverified=False).name == "digits"
    out, err = capsys.readouterr()
    assert out == ""
    assert "WARNING" in err
    assert "*" * 80 in err
    assert "bundled digits instead: the results are NOT those of MNIST" in err
    assert list_files(tmp_path) == []


def test_bundled_digits_never_need_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.data.mnist._is_reachable", fail_if_called)
    assert load_source("digits", tmp_path, allow_unverified=False).name == "digits"
    assert capsys.readouterr().err == ""
