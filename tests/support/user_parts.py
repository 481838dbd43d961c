"""What a user might write: backbones in a file of their own."""

import torch
from torch import Tensor, nn


class TwoPaths(nn.Module):
    """A class with a forward of its own, and dropout inside."""

    def __init__(self, shape: tuple[int, int, int], *, width: int = 10) -> None:
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.straight = nn.Linear(pixels, width)
        self.around = nn.Sequential(nn.Linear(pixels, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, width))

    def forward(self, images: Tensor) -> Tensor:
        rows = images.flatten(1) / 255
        return self.straight(rows) + self.around(rows)


class BreaksForSeedOne(nn.Sequential):
    """Its weights overflow where it was built from seed 1."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))
        if torch.initial_seed() == 1:
            nn.init.constant_(self[1].weight, torch.inf)


class DeadForSeedOne(nn.Sequential):
    """Its code is 0, and stays so, where it was built from seed 1; else it learns in a few steps."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.ReLU())
        if torch.initial_seed() == 1:
            nn.init.constant_(self[1].bias, -1e9)


class Resting(nn.Sequential):
    """Leaves a layer in evaluation mode."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.Dropout(0.5).eval())


class KeepsImages(nn.Module):
    """Not a backbone: its output is no code."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        return images


class Branching(nn.Sequential):
    """Looks at a value, so that it is trained as copies in a loop."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))

    def forward(self, images: Tensor) -> Tensor:
        code: Tensor = super().forward(images)
        return code if float(code.detach().abs().max()) < 1e9 else -code


class Scaled(nn.Sequential):
    """Has a number that its printed form does not show."""

    def __init__(self, shape: tuple[int, int, int], scale: float = 1.0) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        code: Tensor = super().forward(images)
        return code * self.scale
