"""Conversion of images to grey bytes, resizing and pooling."""

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
from tests.support.custom_datasets import build_images
from tests.support.images import write_image_of_another_size, write_images
from tests.support.sources import CUSTOM_DATASETS, FOLDER, check_rejected, load


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_pil_images_become_grey_like_with_pil(mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    image = Image.fromarray(colours).convert(mode)
    np.testing.assert_array_equal(to_greyscale(image).numpy(), np.asarray(image.convert("L")))


def test_arrays_become_grey_like_pil_images() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), np.uint8)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in colours])
    channels_first = np.moveaxis(colours, 3, 1)
    for values in (colours, channels_first, torch.from_numpy(colours), torch.from_numpy(channels_first.copy())):
        np.testing.assert_array_equal(GreyReader().read_arrays(values).numpy(), expected)
    opaque = np.concatenate([colours, np.full((5, 9, 7, 1), 3, np.uint8)], 3)
    np.testing.assert_array_equal(GreyReader().read_arrays(opaque).numpy(), expected)
    np.testing.assert_array_equal(to_greyscale(torch.from_numpy(channels_first[0].copy())).numpy(), expected[0])


def test_numbers_of_other_types_become_bytes() -> None:
    values = np.arange(256).reshape(1, 16, 16)
    equivalent = (values, values.astype(">i4"), values[:, ::-1][:, ::-1], values / 255, torch.from_numpy(values / 255))
    for images in equivalent:
        np.testing.assert_array_equal(GreyReader().read_arrays(images).numpy(), values)
    np.testing.assert_array_equal(GreyReader().read_arrays(values > 100).numpy(), (values > 100) * 255)
    deep = Image.fromarray((values[0] * 257).astype(np.uint16))
    assert deep.mode == "I;16"
    np.testing.assert_array_equal(to_greyscale(deep).numpy(), values[0])


@pytest.mark.parametrize("size", [5, 14, 28, 40])
def test_resizing_agrees_with_pils_bilinear_filter(size: int) -> None:
    images, _ = build_images(6, 3, 28)
    expected = np.stack([Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images])
    actual = resize_images(torch.from_numpy(images), size).numpy()
    assert actual.shape == (6, size, size)
    assert np.abs(actual.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((1, 4, 4, 4, 4), np.uint8),
            r"must be \(H, W\) or have 1 to 4 channels, got the shape \(4, 4, 4, 4\)",
        ),
        (np.zeros((1, 5, 6, 7), np.uint8), r"got the shape \(5, 6, 7\)"),
        (np.full((1, 4, 4), 1.5), r"must hold floats in 0 … 1 .*, got float64 from 1\.5 to 1\.5"),
        (torch.full((1, 4, 4), torch.nan), r"got float32 from nan to nan"),
        (np.full((1, 4, 4), 256), r"integers in 0 … 255, got int64 from 256 to 256"),
        (np.full((1, 4, 4), -1), r"got int64 from -1"),
        (np.full((1, 4, 4), "a"), r"an image must be an array of numbers, got <U1"),
    ],
)
def test_wrong_arrays_are_rejected(images: Any, message: str) -> None:  # noqa: ANN401 - arrays or tensors
    with pytest.raises(PairsLitError, match=message):
        GreyReader().read_arrays(images)


def test_transpose_exchanges_rows_and_columns(folder: Path) -> None:
    for source in ("digits", f"{CUSTOM_DATASETS}.Items", f"{CUSTOM_DATASETS}.Arrays", FOLDER):
        plain = load_source(source, folder, allow_unverified=False)
        transposed = load_source(source, folder, allow_unverified=False, transpose=True)
        assert torch.equal(transposed.train.images, plain.train.images.transpose(1, 2))
        assert (plain.transposed, transposed.transposed) == (False, True)
    assert PairDataModule(seeds=[0], source="digits", transpose=True).reading["transpose"]


def test_the_size_before_resizing_is_recorded(folder: Path, tmp_path: Path) -> None:
    assert load(FOLDER, folder, resize=28).original_size == "14x14"
    assert load("digits", resize=14).original_size == "28x28"
    root = write_images(tmp_path, ["a", "b"])
    write_image_of_another_size(root)
    assert load(FOLDER, root, resize=28).original_size == "14x14 to 20x20"


@pytest.mark.parametrize("size", [1, 2, 4, 7, 14, 28])
def test_images_are_pooled_to_any_divisor_of_their_size(size: int) -> None:
    data = PairDataModule(seeds=[0], source="digits", image_size=size)
    source, step = load("digits"), 28 // size
    images = torch.cat([part.images for part in source.parts]).numpy().reshape(-1, size, step, size, step)
    np.testing.assert_allclose(data.bank.images.numpy(), images.mean((2, 4)), rtol=1e-6)


def test_an_image_size_that_is_no_divisor_is_rejected(folder: Path) -> None:
    with pytest.raises(PairsLitError, match=r"data\.image_size must be one of 1, 2, .* for images of 28×28, got 5"):
        PairDataModule(seeds=[0], source="mnist", image_size=5)
    with pytest.raises(PairsLitError, match=r"data\.image_size must be one of 1, 2, 7, 14 for images of 14×14, got 28"):
        _ = PairDataModule(seeds=[0], source=FOLDER, root=str(folder), image_size=28).classes
    with pytest.raises(PairsLitError, match=r"data\.image_size must be 1 or more, got 0"):
        PairDataModule(seeds=[0], image_size=0)
    with pytest.raises(PairsLitError, match=r"data\.resize must be 1 or more, got 0"):
        PairDataModule(seeds=[0], resize=0)
    with pytest.raises(PairsLitError, match=r"data\.resize must be 1024 or less, got 1025"):
        PairDataModule(seeds=[0], resize=1025)


def test_bundled_digits_can_be_resized() -> None:
    data = PairDataModule(seeds=[0], source="digits", resize=20, image_size=10)
    assert data.bank.images.shape == (1797, 10, 10)
    assert data.settings.resize == 20


def test_images_that_take_too_much_memory_are_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs_lit.data.resize.MAX_BYTES", 2**13)
    check_rejected(
        r"images must take at most .*, got 300 of 20×20, .* GiB\. Set data\.resize to a smaller size",
        "digits",
        resize=20,
    )
    check_rejected(r"got 36 of 20×20", FOLDER, folder, resize=20)
    assert load(FOLDER, folder).train.classes == 3
