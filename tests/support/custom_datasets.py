"""Data sets of a user's own, some of them faulty, as ``data.source`` names them."""

from typing import Any

import numpy as np
import torch
from PIL import Image

COUNT = 90


def pictures(count: int = COUNT, classes: int = 3, size: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes (n, S, S) of as many patterns as there are classes, with noise, and the numbers of the classes."""
    rng, labels = np.random.default_rng(0), np.arange(count) % classes
    patterns = np.random.default_rng(classes).integers(0, 2, (classes, size, size)) * 180
    return (patterns[labels] + rng.integers(0, 70, (count, size, size))).astype(np.uint8), labels


class Items:
    """Pictures and labels one by one."""

    def __init__(self, classes: int = 3, count: int = COUNT) -> None:
        self.images, self.labels = pictures(count, classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[place], int(self.labels[place])


class Arrays:
    """Pictures and labels in memory, without a way to ask for one; 3 labels of any numbers."""

    classes = ["none", "ace", "none", "two", "none", "none", "none", "seven"]  # noqa: RUF012 - as torchvision's

    def __init__(self) -> None:
        images, labels = pictures()
        self.data, self.targets = torch.from_numpy(images), [(7, 1, 3)[label] for label in labels]


class Inverted(Items):
    """Has data, too, but gives something else: what it gives counts."""

    def __init__(self) -> None:
        super().__init__()
        self.data, self.targets = self.images, self.labels

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return 255 - self.images[place], torch.tensor(2 - self.labels[place])


class Halves(Items):
    """Takes ``split``; its parts differ in size."""

    def __init__(self, root: str, split: str = "train") -> None:
        if split not in ("train", "test"):
            raise ValueError(f"no split {split}")
        super().__init__(count=60 if split == "train" else 30)
        if split == "test":
            self.images = 255 - self.images


class Floats(Items):
    """Tensors of floats 0 … 1 with a channel."""

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return torch.from_numpy(self.images[place])[None] / 255, np.int32(self.labels[place])


class Normalised(Floats):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        picture, label = super().__getitem__(place)
        return (picture - 0.5) / 0.5, label


class Scaled(Items):
    """Items by another factor, as whole numbers: 1 gives truth values as numbers, 16 is scikit-learn's range."""

    def __init__(self, top: int = 1, train: bool = True) -> None:
        super().__init__()
        self.top = top if train else 255
        self.images = self.images if train else self.images[:, ::-1].copy()

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return (self.images[place] / 250 * self.top).round().astype(np.int64), int(self.labels[place])


class Deep(Items):
    """16-bit arrays of as many bits, or images of Pillow's; the first one is dark."""

    def __init__(self, bits: int = 12, pillow: bool = False) -> None:
        super().__init__()
        self.images = self.images.copy()
        self.images[0] //= 8
        self.bits, self.pillow = bits, pillow

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        values = self.images[place].astype(np.uint16) << (self.bits - 8)
        return Image.fromarray(values) if self.pillow else values, int(self.labels[place])


class Alike(Items):
    """The same image over and over."""

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[0], int(self.labels[place])


class Glass(Items):
    """Black strokes whose shape is in their opacity alone."""

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        opacity = self.images[place]
        return np.stack([np.zeros_like(opacity)] * 3 + [opacity], -1), int(self.labels[place])


class Turning(Items):
    """Turned at random by torch's global generator, or by a generator of its own."""

    def __init__(self, own: bool = False, train: bool = True) -> None:
        super().__init__()
        self.images = self.images if train else 255 - self.images
        self.own, self.random = own, train

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        turns = np.random.default_rng().integers(1, 99) if self.own else torch.randint(99, ()).item()
        return np.roll(self.images[place], int(turns) if self.random else 0, 0), int(self.labels[place])


class Named(Items):
    """Has names for its classes."""

    def __init__(self, names: str = "a b c", first: int = 0, step: int = 1) -> None:
        self.classes = names.split()
        super().__init__(len(self.classes))
        self.labels = first + step * self.labels


class Renumbered(Items):
    """Its parts number their classes by their own names, as an ImageFolder for each part does."""

    def __init__(self, train: bool = True) -> None:
        super().__init__()
        self.images = self.images if train else 255 - self.images
        self.classes = ["a", "b", "c"] if train else ["b", "c", "d"]


class Copies(Items):
    """Each image stands in it several times."""

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
    def __getitem__(self, place: int) -> Any:  # noqa: ANN401 - what is wrong
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
    """Is not there until it was downloaded, to a place of its own."""

    fetched = False

    def __init__(self, download: bool = False) -> None:
        type(self).fetched |= download
        if not self.fetched:
            raise RuntimeError("not found, use download=True")
        super().__init__()


class Shapeless:
    """No dataset at all."""


class Maps(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return torch.zeros(5, 14, 14, dtype=torch.uint8), 0


class Wrong(Items):
    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.images[place].astype(int) + 200, int(self.labels[place])


def made(classes: int = 3) -> Items:
    """Return a set, as some files have functions for it."""
    return Items(classes)


def listed() -> list[tuple[Any, Any]]:
    """Return a plain list."""
    return [made()[place] for place in range(COUNT)]


def tensors() -> torch.utils.data.TensorDataset:
    """Return torch's own set of images and labels."""
    images, labels = pictures()
    return torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))


not_a_class = 3
