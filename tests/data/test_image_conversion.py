"""Images of any kind become grey bytes of one size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.image_reader import GreyReader, to_greyscale
from pairs_lit.data.resize import resize_images
from pairs_lit.data.sources import load_source
from pairs_lit.errors import PairsLitError
from tests.support.custom_datasets import pictures
from tests.support.images import another_size, write_pictures
from tests.support.sources import FOLDER, OWN, load, refused


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_pictures_become_grey_as_pils_own_do(mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    picture = Image.fromarray(colours).convert(mode)
    np.testing.assert_array_equal(to_greyscale(picture).numpy(), np.asarray(picture.convert("L")))


def test_arrays_become_grey_as_pils_pictures_do() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), np.uint8)
    wanted = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in colours])
    first = np.moveaxis(colours, 3, 1)
    for values in (colours, first, torch.from_numpy(colours), torch.from_numpy(first.copy())):
        np.testing.assert_array_equal(GreyReader().read_arrays(values).numpy(), wanted)
    opaque = np.concatenate([colours, np.full((5, 9, 7, 1), 3, np.uint8)], 3)
    np.testing.assert_array_equal(GreyReader().read_arrays(opaque).numpy(), wanted)
    np.testing.assert_array_equal(to_greyscale(torch.from_numpy(first[0].copy())).numpy(), wanted[0])


def test_numbers_of_other_types_become_bytes() -> None:
    values = np.arange(256).reshape(1, 16, 16)
    for given in (values, values.astype(">i4"), values[:, ::-1][:, ::-1], values / 255, torch.from_numpy(values / 255)):
        np.testing.assert_array_equal(GreyReader().read_arrays(given).numpy(), values)
    np.testing.assert_array_equal(GreyReader().read_arrays(values > 100).numpy(), (values > 100) * 255)
    deep = Image.fromarray((values[0] * 257).astype(np.uint16))
    assert deep.mode == "I;16"
    np.testing.assert_array_equal(to_greyscale(deep).numpy(), values[0])


@pytest.mark.parametrize("size", [5, 14, 28, 40])
def test_resizing_is_bilinear_with_antialias_as_pils(size: int) -> None:
    images, _ = pictures(6, 3, 28)
    wanted = np.stack([Image.fromarray(each).resize((size, size), Image.Resampling.BILINEAR) for each in images])
    found = resize_images(torch.from_numpy(images), size).numpy()
    assert found.shape == (6, size, size)
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 4, 4, 4, 4), np.uint8), r"images of shape \(4, 4, 4, 4\): \(H, W\), or 1 to 4 channels"),
        (np.zeros((1, 5, 6, 7), np.uint8), r"images of shape \(5, 6, 7\)"),
        (np.full((1, 4, 4), 1.5), r"images of float64 from 1\.5 to 1\.5: floats must lie in 0 … 1"),
        (torch.full((1, 4, 4), torch.nan), r"images of float32 from nan to nan"),
        (np.full((1, 4, 4), 256), r"images of int64 from 256 to 256: .* integers in 0 … 255"),
        (np.full((1, 4, 4), -1), r"images of int64 from -1"),
        (np.full((1, 4, 4), "a"), r"an array of <U1 holds no images"),
    ],
)
def test_what_is_no_picture_is_refused(given: Any, message: str) -> None:  # noqa: ANN401 - either kind
    with pytest.raises(PairsLitError, match=message):
        GreyReader().read_arrays(given)


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
    with pytest.raises(PairsLitError, match=r"data\.image_size must be 1 or more, got 0"):
        PairDataModule(seeds=[0], image_size=0)
    with pytest.raises(PairsLitError, match=r"data\.resize must be 1 or more, got 0"):
        PairDataModule(seeds=[0], resize=0)
    with pytest.raises(PairsLitError, match=r"data\.resize is 1025: it must be 1024 or less"):
        PairDataModule(seeds=[0], resize=1025)


def test_the_digits_can_be_resized() -> None:
    data = PairDataModule(seeds=[0], source="digits", resize=20, image_size=10)
    assert data.bank.images.shape == (1797, 10, 10)
    assert data.settings.resize == 20


def test_more_pictures_than_memory_holds_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs_lit.data.resize.MOST_BYTES", 2**13)
    refused(r"300 images of 20×20 take .* GiB, at most .* set data\.resize to a smaller size", "digits", resize=20)
    refused(r"36 images of 20×20 take", FOLDER, folder, resize=20)
    assert load(FOLDER, folder).train.classes == 3
