"""Augmentation: training images warped at random, anew in each epoch, all rounds in one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, pi

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data.warps import enlarged
from pairs_lit.errors import PairsLitError

_LIMITS = {"rotate": 180.0, "dilate": 1.0, "erode": 1.0}
_FINEST = 64
_AT_A_TIME = 2**20  # pixels of enlarged images: more would leave the caches, and of large images need much memory


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images, drawn anew for each image in each epoch from the round's own seed.

    An image is enlarged to twice its size such that average pooling gives it back, changed there with bicubic
    interpolation (outside is what is at the edge), and pooled again. Each amount is a limit: what an image gets is
    drawn evenly from −limit … limit, but for ``elastic``. 0 or nothing switches a change off. Pixels are those of the
    image that the network sees.

    Args:
        shift: Pixels, along each axis.
        rotate: Degrees.
        shear: Pixels to the side for each pixel upwards.
        log_scale: The logarithm of the size: 0.1 allows factors from 1/1.105 to 1.105.
        anisotropy: The logarithm by which an image becomes wider and flatter, or narrower and taller.
        elastic: For grids of G × G points over the image: the standard deviation, in pixels, of how far each point
            is moved; the pixels between them follow smoothly. ``{4: 0.4, 7: 0.2}`` has two fields at once.
        dilate: How far strokes may become thicker: the share of the image's 3×3 maximum (at double size) that
            replaces it, drawn from −erode … dilate.
        erode: How far strokes may become thinner, likewise by the 3×3 minimum.
        originals: Warp the source's images in their own size before they are pooled to ``data.image_size``: more
            than the task's images tell, so every table names them beside the source.

    Raises:
        PairsLitError: A value is negative or too large, or nothing is changed at all.
    """

    shift: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    log_scale: float = 0.0
    anisotropy: float = 0.0
    elastic: Mapping[int, float] = field(default_factory=dict)
    dilate: float = 0.0
    erode: float = 0.0
    originals: bool = False

    def __post_init__(self) -> None:
        """Check the amounts."""
        amounts = {name: getattr(self, name) for name in _AMOUNTS}
        amounts |= {f"elastic[{grid}]": amount for grid, amount in self.elastic.items()}
        for name, amount in amounts.items():
            most = _LIMITS.get(name, float("inf"))
            if not (isfinite(amount) and 0 <= amount <= most):
                allowed = "a finite number, 0 or more" if most == float("inf") else f"0 or more, at most {most:g}"
                raise PairsLitError(f"data.augment.{name} is {amount}: it must be {allowed}.")
        for grid in self.elastic:
            if not 2 <= grid <= _FINEST:
                raise PairsLitError(
                    f"data.augment.elastic has a grid of {grid} × {grid} points: it must have 2 to {_FINEST}."
                )
        if not any(amounts.values()):
            raise PairsLitError(
                "data.augment changes nothing: set an amount, such as data.augment.rotate to 8, or augment to null."
            )

    @property
    def warps(self) -> bool:
        """Whether pixels are moved."""
        moving = (self.shift, self.rotate, self.shear, self.log_scale, self.anisotropy, *self.elastic.values())
        return any(moving)


_EVEN = 7  # random numbers of an image: thickness, shift across and down, rotation, shear, size, anisotropy
_AMOUNTS = ("shift", "rotate", "shear", "log_scale", "anisotropy", "dilate", "erode")


class Augmenter:
    """Changes batches of images.

    Args:
        settings: What is drawn.
        size: H = W of what the network sees.
        top: The largest grey value; the smallest is 0.
    """

    def __init__(self, settings: Augmentation, size: int, top: float) -> None:
        self.settings = settings
        self._size = size
        self._top = top
        self._lengths = [2 * grid**2 for grid in settings.elastic]
        self._bases: dict[int, Tensor] = {}

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Change images of R rounds, each by what its own generator draws.

        Args:
            images: (R, M, S, S) float32; S a multiple of H, and larger only if ``originals`` are asked for.
            generators: One for each round, in the epoch's state.

        Returns:
            (R, M, H, W), between 0 and the largest grey value.
        """
        rounds, count, *_ = images.shape
        drawn = torch.stack([self._draws(count, each) for each in generators]).flatten(0, 1)
        side = images.shape[-1] * (1 if self.settings.originals else 2)
        at_a_time = max(1, _AT_A_TIME // side**2)
        parts = zip(torch.split(images.flatten(0, 1), at_a_time), torch.split(drawn, at_a_time), strict=True)
        changed = []
        for part, own in parts:  # (N, S, S) and their random numbers (N, …)
            large = part if self.settings.originals else enlarged(part)
            large = self._warped(self._thickened(large, own[:, 0]), own)
            changed.append(F.avg_pool2d(large[:, None], large.shape[-1] // self._size).clamp(0, self._top))
        return torch.cat(changed).view(rounds, count, self._size, self._size)

    def _draws(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the random numbers of a round's next images: 7 that are even in 0 … 1, then normal ones."""
        even = torch.rand(count, _EVEN, generator=generator)
        normal = torch.randn(count, sum(self._lengths), generator=generator)
        return torch.cat([even, normal], 1)

    def _thickened(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Mix each image (N, S, S) with its 3×3 maximum or minimum."""
        thin, thick = self.settings.erode, self.settings.dilate
        if thin == thick == 0:
            return images
        share = ((thin + thick) * drawn - thin)[:, None, None]
        sign = torch.where(share < 0, -1.0, 1.0)
        signed = images * sign  # the minimum is the maximum of the negative
        return sign * torch.lerp(signed, _maximum(signed), share.abs())

    def _warped(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Look up each pixel of the images (N, S, S) where the warp has it from."""
        if not self.settings.warps:
            return images
        size, normal = images.shape[-1], drawn[:, _EVEN:]
        points = [values.view(len(images), 2, -1) for values in torch.split(normal, self._lengths, 1)]
        places = torch.cat([self._affine(drawn[:, 1:_EVEN]), *points], 2).flatten(0, 1) @ self._basis(size)
        grid = places.view(-1, 2, size, size).permute(0, 2, 3, 1)
        return F.grid_sample(images[:, None], grid, mode="bicubic", padding_mode="border", align_corners=False)[:, 0]

    def _affine(self, even: Tensor) -> Tensor:
        """Return the matrices (N, 2, 3) that map places in the new image, −1 … 1, to places in the old one."""
        settings = self.settings
        limits = (
            *(settings.shift * 2 / self._size,) * 2,
            settings.rotate * pi / 180,
            settings.shear,
            settings.log_scale,
            settings.anisotropy,
        )
        across, down, turn, shear, log_scale, flatness = ((2 * even - 1) * even.new_tensor(limits)).unbind(1)
        wide, high = (log_scale + flatness).exp(), (log_scale - flatness).exp()
        cos, sin = turn.cos(), turn.sin()
        first = torch.stack([cos * wide, (cos * shear - sin) * high, across], 1)
        second = torch.stack([sin * wide, (sin * shear + cos) * high, down], 1)
        return torch.stack([first, second], 1)

    def _basis(self, size: int) -> Tensor:
        """Return what the place of each of S × S pixels is made of, (3 + Σ G², S·S): its own, and all points' moves."""
        if size not in self._bases:
            line = (2 * torch.arange(size) + 1) / size - 1  # −1 … 1 from edge to edge
            down, across = torch.meshgrid(line, line, indexing="ij")
            parts = [torch.stack([across.flatten(), down.flatten(), torch.ones(size**2)])]
            for grid, amount in self.settings.elastic.items():  # what is at a grid's points, spread over all pixels
                points = torch.eye(grid**2).view(grid**2, 1, grid, grid)
                spread = F.interpolate(points, size=(size, size), mode="bicubic", align_corners=True)
                parts.append(spread.view(grid**2, size**2) * (amount * 2 / self._size))
            self._bases[size] = torch.cat(parts)
        return self._bases[size]


def _maximum(images: Tensor) -> Tensor:
    """Return the 3×3 maximum around each pixel of (N, S, S)."""
    for axis in (1, 2):
        padded = F.pad(images, (1, 1) if axis == 2 else (0, 0, 1, 1), value=-float("inf"))
        before, here, after = (padded.narrow(axis, start, images.shape[axis]) for start in range(3))
        images = torch.maximum(torch.maximum(before, here), after)
    return images
