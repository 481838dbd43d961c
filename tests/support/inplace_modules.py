"""Backbones that change tensors in place, or compute the same without, depending on an option."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InPlaceBase(nn.Module):
    """Base class: two linear layers, with methods that subclasses override to change tensors before or between them.

    Args:
        shape: Shape of an image.
        writes: Whether tensors are changed in place.
    """

    def __init__(self, shape: tuple[int, int, int], writes: bool = True) -> None:
        super().__init__()
        self.writes = writes
        self.first, self.last = nn.Linear(shape[1] * shape[2], 10), nn.Linear(10, 10)
        self.relu, self.drop = nn.ReLU(inplace=writes), nn.Dropout(0.2, inplace=writes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.hidden(self.first(self.image(x).flatten(1))))

    def image(self, x: Tensor) -> Tensor:
        return x / 255

    def hidden(self, x: Tensor) -> Tensor:
        return self.drop(F.relu(x))


class Divides(InPlaceBase):
    def image(self, x: Tensor) -> Tensor:
        if not self.writes:
            return x / 255
        x /= 255
        return x


class BeginsWithRelu(InPlaceBase):
    def image(self, x: Tensor) -> Tensor:
        return self.relu(x) / 255


class Blanks(InPlaceBase):
    """Sets a part of the image to 0."""

    def image(self, x: Tensor) -> Tensor:
        if not self.writes:
            return torch.cat([torch.zeros_like(x[:, :, :3]), x[:, :, 3:]], 2) / 255
        x[:, :, :3] = 0
        return x / 255


class Clamps(InPlaceBase):
    def image(self, x: Tensor) -> Tensor:
        x = x / 255
        return x.clamp_(0.1, 0.8) if self.writes else x.clamp(0.1, 0.8)


class RectifiesByFunction(InPlaceBase):
    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.drop(x), inplace=self.writes)


class DropsByFunction(InPlaceBase):
    def hidden(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, training=self.training, inplace=self.writes).relu()


class Residual(InPlaceBase):
    def hidden(self, x: Tensor) -> Tensor:
        out = self.last(x)
        if not self.writes:
            return self.relu(out + x)
        out += x
        return self.relu(out)


class Scales(InPlaceBase):
    def hidden(self, x: Tensor) -> Tensor:
        h = x * 1
        return h.mul_(0.5).add_(x).relu_() if self.writes else (h * 0.5 + x).relu()


class WritesIntoView(InPlaceBase):
    """Cannot be traced, so that copies run in a loop; without writing, it branches on a value to the same effect."""

    def hidden(self, x: Tensor) -> Tensor:
        x = x * 1
        if self.writes:
            x[:, :5].mul_(3)
            return x.relu()
        return torch.cat([x[:, :5] * 3, x[:, 5:]], 1).relu() if x.isfinite().any() else x
