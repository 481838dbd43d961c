"""Reading of image files, PIL images, arrays and tensors, which training and apply share."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from pairs_lit.data import image_reader
from pairs_lit.data.custom_dataset import load_custom_dataset
from pairs_lit.data.image_reader import GreyReader, list_readable_extensions, to_greyscale
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.user_images import read_grey
from tests.support.custom_datasets import build_images

FOLDER = "torchvision.datasets.ImageFolder"
GREY = build_images(1, 3, 16)[0][0]
ROTATED_BY_EXIF = 6  # "turn me by 90 degrees clockwise"


def build_transparent_image(strokes: int, grey: np.ndarray = GREY) -> Image.Image:
    """Return an image of one shade whose opacity shows the strokes."""
    return Image.fromarray(np.stack([np.full_like(grey, strokes)] * 3 + [grey], -1))


def write_exif_image(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = ROTATED_BY_EXIF
    Image.fromarray(GREY).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def write_frames(path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def write_palette_with_a_hole(path: Path) -> None:
    image = Image.fromarray((GREY > 127).astype(np.uint8), mode=None).convert("P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.save(path, transparency=0)


WRITERS = {
    "grey.png": lambda path: Image.fromarray(GREY).save(path),
    "colour.png": lambda path: Image.fromarray(np.stack([GREY, GREY // 2, 255 - GREY], -1)).save(path),
    "cmyk.tif": lambda path: Image.fromarray(GREY).convert("CMYK").save(path),
    "palette.gif": lambda path: Image.fromarray(GREY).save(path),
    "bits.png": lambda path: Image.fromarray(GREY > 127).save(path),
    "LA.png": lambda path: Image.merge("LA", (Image.fromarray(255 - GREY), Image.fromarray(GREY))).save(path),
    "glass.png": lambda path: build_transparent_image(0).save(path),
    "light.png": lambda path: build_transparent_image(255).save(path),
    "hole.png": write_palette_with_a_hole,
    "16 bits.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path),
    "12 bits.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 16).save(path),
    "big-endian.tif": lambda path: Image.fromarray(GREY.astype(">u2") * 257).save(path),
    "32 bits.tif": lambda path: Image.fromarray(GREY.astype(np.int32) * 257).save(path),
    "floats.tif": lambda path: Image.fromarray((GREY / 255).astype(np.float32)).save(path),
    "floats to 255.tif": lambda path: Image.fromarray(GREY.astype(np.float32)).save(path),
    "turned.png": write_exif_image,
    "turned.webp": write_exif_image,
    "turned.tif": write_exif_image,
    "frames.gif": write_frames,
    "frames.tif": write_frames,
    "UPPER.PNG": lambda path: Image.fromarray(GREY).save(path),
    "photo.jfif": lambda path: Image.fromarray(GREY).save(path, "JPEG", quality=100),
    "photo.jpe": lambda path: Image.fromarray(GREY).save(path, "JPEG", quality=100),
    "drawing.tga": lambda path: Image.fromarray(GREY).save(path),
    "drawing.ico": lambda path: Image.fromarray(GREY).save(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_training_and_apply_read_a_file_in_the_same_way(name: str, tmp_path: Path) -> None:
    for label in "01":
        for number in range(6):
            (tmp_path / label).mkdir(exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 256, (16, 16)).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / label / f"{number}{label}.png")
    file = tmp_path / "0" / name
    WRITERS[name](file)
    source = load_custom_dataset(FOLDER, {}, tmp_path, resize=None)
    training_images = [image.tobytes() for part in source.parts for image in part.images.numpy()]
    applied = read_grey(file, "it").astype(np.uint8)
    assert applied.tobytes() in training_images
    with Image.open(file) as image:
        np.testing.assert_array_equal(to_greyscale(image).numpy(), applied)


PLAIN = [name for name in WRITERS if not name.startswith(("colour", "bits", "LA", "glass", "light", "hole"))]


@pytest.mark.parametrize("name", PLAIN)
def test_a_grey_image_is_the_same_in_every_file_format(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    tolerance = 3 if name.startswith(("photo", "turned.webp")) else 0
    actual = to_greyscale(tmp_path / name).numpy().astype(int)
    assert actual.shape == GREY.shape
    assert np.abs(actual - GREY).max() <= (40 if name == "turned.webp" else tolerance)  # WebP loses more than JPEG


def test_transparent_pixels_become_paper_of_the_opposite_brightness() -> None:
    np.testing.assert_array_equal(to_greyscale(build_transparent_image(0)).numpy(), 255 - GREY)
    np.testing.assert_array_equal(to_greyscale(build_transparent_image(255)).numpy(), GREY)
    for image in (
        build_transparent_image(0),
        np.asarray(build_transparent_image(0)),
        to_tensor(build_transparent_image(0)),
        np.asarray(build_transparent_image(0)).astype(np.int64),
    ):
        np.testing.assert_array_equal(to_greyscale(image).numpy(), 255 - GREY)
    two_channels = np.stack([np.zeros_like(GREY), GREY], -1)
    np.testing.assert_array_equal(to_greyscale(two_channels).numpy(), 255 - GREY)
    np.testing.assert_array_equal(
        GreyReader().read_arrays(np.stack([two_channels] * 3)).numpy(), np.stack([255 - GREY] * 3)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("pixels", [1, 50, 2**18])
def test_a_blend_does_not_depend_on_its_parts(dtype: type, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    grey, opacity = rng.integers(0, 200, (19, 7)).astype(dtype), rng.integers(0, 100, (19, 7))
    opacity[:2] = 255  # the only opaque pixels, on average darker than half of the largest value
    grey[:2] = 5
    top = 255 if dtype is not np.float32 else 255.0
    expected = grey * (opacity / 255) + top * (1 - opacity / 255)
    monkeypatch.setattr(image_reader, "_BLEND_PIXELS", pixels)
    expected = expected.astype(dtype) if dtype is np.float32 else np.rint(expected).astype(dtype)
    np.testing.assert_array_equal(image_reader.lay_on_paper(grey, opacity), expected)


@pytest.mark.parametrize("opacity", [0, 3, 255])
def test_uniform_opacity_is_ignored(opacity: int) -> None:
    image = Image.merge("LA", (Image.fromarray(GREY), Image.new("L", (16, 16), opacity)))
    np.testing.assert_array_equal(to_greyscale(image).numpy(), GREY)


def test_the_transparent_value_of_a_16_bit_png_becomes_paper(tmp_path: Path) -> None:
    strokes = GREY > 127
    Image.fromarray(np.where(strokes, 1, 60000).astype(np.uint16)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    chunk = b"tRNS" + struct.pack(">H", 60000)  # Pillow reads it from 10.1 on, and writes it from 10.3 on
    full_chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content[:33] + full_chunk + content[33:])  # after the signature and the header
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["transparency"] == 60000
    np.testing.assert_array_equal(to_greyscale(tmp_path / "a.png").numpy() > 127, ~strokes)


@pytest.mark.parametrize("mode", ["HSV", "LAB", "YCbCr", "PA", "La", "RGBa", "RGBX"])
def test_rare_modes_of_pillow_are_read(mode: str) -> None:
    image = Image.fromarray(GREY).convert("RGB")
    if mode in ("PA", "La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "L"}[mode])
        image = image.convert("P") if mode == "PA" else image
    image = image.convert(mode)
    assert np.abs(to_greyscale(image).numpy().astype(int) - GREY).max() <= 2


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (10, 1000), (12, 4095), (14, 9000), (16, 16384)])
def test_16_bit_images_keep_the_highest_bits_in_use(bits: int, top: int) -> None:
    values = np.linspace(0, top, 256).astype(np.uint16).reshape(16, 16)
    for image in (values, Image.fromarray(values), torch.from_numpy(values), values.astype(">u2")):
        np.testing.assert_array_equal(to_greyscale(image).numpy(), values >> (bits - 8))
    np.testing.assert_array_equal(to_greyscale(values, bits=16).numpy(), values >> 8)
    reader = GreyReader()
    reader.read(values // 4)
    reader.read(values)
    assert reader.bits == bits
    rescaled = reader.rescaled_reader or reader
    np.testing.assert_array_equal(rescaled.read(values // 4).numpy(), (values // 4) >> (bits - 8))


def test_colours_of_16_bits_become_grey() -> None:
    colours = np.stack([GREY.astype(np.uint16) * 257] * 3, -1)
    np.testing.assert_array_equal(to_greyscale(colours).numpy(), GREY)


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.int16, torch.int64, torch.uint16, torch.bool],
)
def test_tensors_of_any_type(dtype: torch.dtype) -> None:
    black_and_white = np.where(GREY > 127, 255, 0)
    values = torch.from_numpy(black_and_white // (255 if dtype.is_floating_point or dtype == torch.bool else 1)).to(
        dtype
    )
    np.testing.assert_array_equal(to_greyscale(values).numpy(), black_and_white)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(np.full((4, 4), -1, np.int32)), "an image of mode I must hold values from 0 to 65535, got -1"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), "must hold values from 0 to 65535, got 70000"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "an image of mode F must hold .* got nan"),
        (np.ones((4, 4), complex), "an image must be an array of numbers, got complex128"),
        (b"image", "expected a PIL image, a tensor or an array, got bytes"),
    ],
)
def test_other_values_are_rejected(image: object, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        to_greyscale(image)
    with pytest.raises(PairsLitError, match=f"^it: .*{message}"):
        read_grey(image, "it")  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [1, 15, 16])
def test_apply_rejects_unscaled_masks_and_4_bit_values(top: int) -> None:
    array = (GREY / 255 * top).round().astype(np.uint8)
    for image in (array, Image.fromarray(array), array.astype(np.int64), array / 255):
        with pytest.raises(
            PairsLitError, match=rf"it must use the range 0 … 255 .* at most {array.max()} of 255\. Scale"
        ):
            read_grey(image, "it")


def test_damaged_exif_does_not_hide_the_image() -> None:
    image = Image.fromarray(GREY)
    image.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03"
    np.testing.assert_array_equal(to_greyscale(image).numpy(), GREY)


def test_only_formats_that_pillow_reads_without_other_programs_are_images() -> None:
    extensions = list_readable_extensions()
    assert {".png", ".jpg", ".jpe", ".jfif", ".gif", ".tga", ".ico", ".tif", ".webp", ".bmp", ".mpo"} <= extensions
    assert not {".pdf", ".eps", ".mpg", ".h5", ".heic", ".txt", ""} & extensions
