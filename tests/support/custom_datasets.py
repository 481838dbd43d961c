"""Custom datasets for ``data.source``, some of them faulty."""

from typing import Any

import numpy as np
import torch
from PIL import Image

COUNT = 90


def build_images(count: int = COUNT, classes: int = 3, size: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, S, S) uint8, one noisy pattern per class, and the numbers of their classes."""
    rng, labels = np.random.default_rng(0), np.arange(count) % classes
    patterns = np.random.default_rng(classes).integers(0, 2, (classes, size, size)) * 180
    return (patterns[labels] + rng.integers(0, 70, (count, size, size))).astype(np.uint8), labels


class Items:
    """Images and labels, read item by item."""

    def __init__(self, classes: int = 3, count: int = COUNT) -> None:
        self.images, self.labels = build_images(count, classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[place], int(self.labels[place])


class Arrays:
    """Images and labels as arrays, without ``__getitem__``; the labels are not consecutive."""

    classes = ["none", "ace", "none", "two", "none", "none", "none", "seven"]  # noqa: RUF012 - like torchvision

    def __init__(self) -> None:
        images, labels = build_images()
        self.data, self.targets = torch.from_numpy(images), [(7, 1, 3)[label] for label in labels]


class Inverted(Items):
    """Dataset whose ``__getitem__`` returns other images and labels than its arrays hold."""

    def __init__(self) -> None:
        super().__init__()
        self.data, self.targets = self.images, self.labels

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return 255 - self.images[place], torch.tensor(2 - self.labels[place])


class Halves(Items):
    """Dataset with an argument ``split`` and two parts of different lengths."""

    def __init__(self, root: str, split: str = "train") -> None:
        if split not in ("train", "test"):
            raise ValueError(f"no split {split}")
        super().__init__(count=60 if split == "train" else 30)
        if split == "test":
            self.images = 255 - self.images


class Floats(Items):
    """Tensors of floats in 0 … 1 with a channel dimension."""

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return torch.from_numpy(self.images[place])[None] / 255, np.int32(self.labels[place])


class Normalised(Floats):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        image, label = super().__getitem__(place)
        return (image - 0.5) / 0.5, label


class Scaled(Items):
    """Integer images in 0 … ``top``: 1 gives unscaled masks, 16 is scikit-learn's range."""

    def __init__(self, top: int = 1, train: bool = True) -> None:
        super().__init__()
        self.top = top if train else 255
        self.images = self.images if train else self.images[:, ::-1].copy()

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return (self.images[place] / 250 * self.top).round().astype(np.int64), int(self.labels[place])


class Deep(Items):
    """16-bit arrays or Pillow images with ``bits`` bits in use; the first image is dark."""

    def __init__(self, bits: int = 12, pillow: bool = False) -> None:
        super().__init__()
        self.images = self.images.copy()
        self.images[0] //= 8
        self.bits, self.pillow = bits, pillow

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        values = self.images[place].astype(np.uint16) << (self.bits - 8)
        return Image.fromarray(values) if self.pillow else values, int(self.labels[place])


class Alike(Items):
    """Dataset that returns the same image for every index."""

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[0], int(self.labels[place])


class Glass(Items):
    """Black images with an opacity channel that shows the strokes."""

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        opacity = self.images[place]
        return np.stack([np.zeros_like(opacity)] * 3 + [opacity], -1), int(self.labels[place])


class Turning(Items):
    """Images rolled at random by torch's global generator, or (``own``) by an unseeded one."""

    def __init__(self, own: bool = False, train: bool = True) -> None:
        super().__init__()
        self.images = self.images if train else 255 - self.images
        self.own, self.random = own, train

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        turns = np.random.default_rng().integers(1, 99) if self.own else torch.randint(99, ()).item()
        return np.roll(self.images[place], int(turns) if self.random else 0, 0), int(self.labels[place])


class Named(Items):
    """Dataset with class names."""

    def __init__(self, names: str = "a b c", first: int = 0, step: int = 1) -> None:
        self.classes = names.split()
        super().__init__(len(self.classes))
        self.labels = first + step * self.labels


class Renumbered(Items):
    """Dataset whose parts number different classes from 0, like one ImageFolder per part."""

    def __init__(self, train: bool = True) -> None:
        super().__init__()
        self.images = self.images if train else 255 - self.images
        self.classes = ["a", "b", "c"] if train else ["b", "c", "d"]


class Copies(Items):
    """Dataset with several copies of each image."""

    def __init__(self, copies: int = 2) -> None:
        super().__init__()
        self.images, self.labels = np.repeat(self.images, copies, 0), np.repeat(self.labels, copies)


class Texts(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[place], "two"


class FloatTargets(Arrays):
    def __init__(self) -> None:
        super().__init__()
        self.targets = [label + 0.5 for label in self.targets]


class FewerTargets(Arrays):
    def __init__(self) -> None:
        super().__init__()
        self.targets = self.targets[:-1]


class Alone(Items):
    def __getitem__(self, place: int) -> Any:  # noqa: ANN401 - deliberately wrong
        return self.images[place]


class NoPictures(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return "a.png", 3


class Wide(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[place][:7], int(self.labels[place])


class Raising(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        if place == 4:
            raise KeyError("four")
        return super().__getitem__(place)


class TwoSizes(Items):
    def __init__(self, train: bool = True) -> None:
        super().__init__()
        self.images = self.images if train else self.images[:, :7, :7]


class SameTwice(Items):
    def __init__(self, train: bool = True) -> None:
        super().__init__()


class OtherLabels(Items):
    def __init__(self, train: bool = True) -> None:
        super().__init__()
        if not train:
            self.images, self.labels = 255 - self.images, self.labels + 1


class Nothing(Items):
    def __init__(self) -> None:
        super().__init__(count=0)


class Failing:
    def __init__(self) -> None:
        raise OSError("the disk is gone")


class Fetched(Items):
    """Dataset that exists only after ``download=True``, and has no argument ``root``."""

    fetched = False

    def __init__(self, download: bool = False) -> None:
        type(self).fetched |= download
        if not self.fetched:
            raise RuntimeError("not found, use download=True")
        super().__init__()


class Shapeless:
    """Class that is no dataset."""


class Maps(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return torch.zeros(5, 14, 14, dtype=torch.uint8), 0


class Wrong(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[place].astype(int) + 200, int(self.labels[place])


def made(classes: int = 3) -> Items:
    """Return a dataset, for tests with a function instead of a class."""
    return Items(classes)


def listed() -> list[tuple[Any, Any]]:
    """Return a dataset that is a list."""
    return [made()[place] for place in range(COUNT)]


def tensors() -> torch.utils.data.TensorDataset:
    """Return a dataset that is torch's TensorDataset."""
    images, labels = build_images()
    return torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))


not_a_class = 3
