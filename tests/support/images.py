"""Images for training and for apply."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from tests.support.custom_datasets import build_images
from tests.support.mnist_files import write_idx


def draw_seven(size: int = 280, ink: int = 0, paper: int = 255) -> Image.Image:
    """Return the image of a seven that is not centred."""
    image = Image.new("L", (size, size), paper)
    points = [(size * x, size * y) for x, y in ((0.15, 0.2), (0.55, 0.2), (0.3, 0.8))]
    ImageDraw.Draw(image).line(points, fill=ink, width=size // 12, joint="curve")
    return image


def write_images(root: Path, names: Sequence[str], count: int = 12, size: int = 14) -> Path:
    """Write ``count`` PNG files per class; the pattern of an image depends on the number of its class."""
    images, labels = build_images(count * len(names), len(names), size)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / names[label] / f"{place}.png")
    return root


def write_like_mnist(root: Path, name: str, prefix: str = "", test: str = "t10k", first: int = 0) -> Path:
    """Write 60 training and 30 test images of ten classes in MNIST's format and torchvision's layout."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 60), (test, 30)):
        images, labels = build_images(count, 10, 28)
        images = images if part == "train" else 255 - images
        write_idx(raw / f"{prefix}{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{prefix}{part}-labels-idx1-ubyte", labels + first)
    return root


def write_image_of_another_size(root: Path) -> None:
    """Replace an image by one of another size."""
    Image.new("L", (20, 20)).save(root / "b" / "1.png")
