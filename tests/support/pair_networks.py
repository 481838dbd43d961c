"""Typical whole pair networks of course projects, and some with unsupported outputs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Siamese(nn.Module):
    """belhadj's CNN_aux: shared weights, digit logits and one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 8, 3)
        self.fc1, self.fc2 = nn.Linear(32, 10), nn.Linear(10, 10)
        self.compare = nn.Linear(20, 1)

    def code(self, image: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(image), 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.view(-1, 32))))

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        digits = torch.stack([self.code(pairs[:, :1]), self.code(pairs[:, 1:])], 1)
        return self.compare(digits.relu().flatten(1)), digits


class OneLogit(nn.Module):
    """No digit logits, and an output (N,) without a last dimension."""

    def __init__(self, shape: tuple[int, int, int], *, width: int = 8) -> None:
        super().__init__()
        assert shape[0] == 2
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(2 * shape[1] * shape[2], width), nn.Tanh())
        self.answer = nn.Linear(width, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        return self.answer(self.layers(pairs / 255)).squeeze(1)


class TwoLogits(OneLogit):
    """Runs in a loop, because it branches on a value."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.answer = nn.Linear(8, 2)

    def forward(self, pairs: Tensor) -> Tensor:
        if bool(pairs.max() > 1e6):
            raise ValueError("too bright")
        return self.answer(self.layers(pairs / 255))


class MapsOfDigits(Siamese):
    """Returns an output of an unsupported shape."""

    def forward(self, pairs: Tensor) -> Tensor:
        return super().forward(pairs)[1]


class NineDigits(Siamese):
    """Returns digit logits of the wrong width."""

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        output, digits = super().forward(pairs)
        return output, digits[..., :9]


def built(width: int = 8) -> nn.Module:
    """Return a network, like torchvision's functions."""
    return OneLogit((2, 14, 14), width=width)


def no_module() -> int:
    """Return an integer instead of a module."""
    return 3


siamese = Siamese()
