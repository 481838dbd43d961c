"""Custom backbones in a user file."""

import torch
from torch import Tensor, nn


class TwoPaths(nn.Module):
    """Defines a forward with two paths, one of them with dropout."""

    def __init__(self, shape: tuple[int, int, int], *, width: int = 10) -> None:
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.straight = nn.Linear(pixels, width)
        self.around = nn.Sequential(nn.Linear(pixels, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, width))

    def forward(self, images: Tensor) -> Tensor:
        rows = images.flatten(1) / 255
        return self.straight(rows) + self.around(rows)


class BreaksForSeedOne(nn.Sequential):
    """Has infinite weights if it is built from seed 1."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))
        if torch.initial_seed() == 1:
            nn.init.constant_(self[1].weight, torch.inf)


class DeadForSeedOne(nn.Sequential):
    """Has an embedding that is always 0 if it is built from seed 1; otherwise, it learns in a few steps."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.ReLU())
        if torch.initial_seed() == 1:
            nn.init.constant_(self[1].bias, -1e9)


class Resting(nn.Sequential):
    """Leaves a layer in evaluation mode."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.Dropout(0.5).eval())


class KeepsImages(nn.Module):
    """Returns images instead of embeddings, so it cannot be a backbone."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        return images


class Branching(nn.Sequential):
    """Branches on a value, so that it is trained as copies in a loop."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = super().forward(images)
        return embedding if float(embedding.detach().abs().max()) < 1e9 else -embedding


class Scaled(nn.Sequential):
    """Has a number that its ``repr`` does not show."""

    def __init__(self, shape: tuple[int, int, int], scale: float = 1.0) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = super().forward(images)
        return embedding * self.scale
